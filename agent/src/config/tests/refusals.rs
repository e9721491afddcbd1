//! Every refusal with its exact words.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::super::*;
use super::Given;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[track_caller]
fn file_is_refused(contents: &str, problems: &[&str]) {
    assert_eq!(Given::nothing().file(contents).problems(), problems);
}

#[track_caller]
fn set_is_refused(assignment: &str, problem: &str) {
    assert_eq!(
        Given::nothing().flag("--set", assignment).problems(),
        [problem]
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    file_is_refused(
        "[node]\nid = \"n1\"\n\n[peer]\nlisten = \"127.0.0.1:1\"\n\nadvertize = \"127.0.0.1:1\"\n",
        &["agent.toml:7:1: [peer] advertize: unknown key; did you mean \"advertise\"?"],
    );
}

#[test]
fn an_unknown_key_that_another_table_has_is_sent_there() {
    file_is_refused(
        "[node]\n  listen = \"127.0.0.1:1\"\n",
        &["agent.toml:2:3: [node] listen: unknown key; did you mean \"[peer] listen\"?"],
    );
}

#[test]
fn an_unknown_key_like_no_other_is_refused_with_all_there_are() {
    file_is_refused(
        "[gossip]\ncolour = 1\n",
        &["agent.toml:2:1: [gossip] colour: unknown key; [gossip] takes interval, phi"],
    );
}

#[test]
fn an_unknown_table_is_refused_with_the_nearest_one() {
    file_is_refused(
        "[prozy]\n",
        &["agent.toml:1:1: [prozy]: unknown table; did you mean \"[proxy]\"?"],
    );
    file_is_refused(
        "zebra = { a = 1 }\n",
        &[
            "agent.toml:1:1: [zebra]: unknown table; the tables are [node], [peer], [gossip], [app], [api], [proxy], [replication], [sync], [events], [log], [collections]",
        ],
    );
}

#[test]
fn a_key_outside_of_any_table_is_sent_to_one() {
    file_is_refused(
        "cluster = \"c\"\n",
        &["agent.toml:1:1: cluster: a key outside of any table; did you mean \"[node] cluster\"?"],
    );
    file_is_refused(
        "listen = \"127.0.0.1:1\"\n",
        &[
            "agent.toml:1:1: listen: a key outside of any table; there are [peer] listen, [api] listen, [proxy] listen",
        ],
    );
}

#[test]
fn something_else_than_a_table_is_refused() {
    file_is_refused(
        "peer = 5\n",
        &["agent.toml:1:1: [peer]: expected a table, found an integer"],
    );
    file_is_refused(
        "[[api]]\n",
        &["agent.toml:1:3: [api]: expected a table, found an array of tables"],
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    for (line, fault) in [
        (
            "[node]\ncluster = 5",
            "[node] cluster: expected a name of 1 to 64 letters, digits, \".\", \"_\" or \"-\" of ASCII, found an integer",
        ),
        (
            "[node]\ndata_dir = []",
            "[node] data_dir: expected a path, found an array",
        ),
        (
            "[node]\nlabels = \"zone\"",
            "[node] labels: expected a table of strings such as { zone = \"a\" }, found a string",
        ),
        (
            "[node]\nlabels = { zone = 1 }",
            "[node] labels: expected a string for every label, found an integer",
        ),
        (
            "[peer]\nlisten = 9400",
            "[peer] listen: expected an address and port such as \"127.0.0.1:9400\" or \"[::1]:9400\", found an integer",
        ),
        (
            "[peer]\nseeds = \"a:1\"",
            "[peer] seeds: expected an array of host:port such as [\"10.0.0.2:9400\", \"basic.example.org:9400\"], found a string",
        ),
        (
            "[peer]\nseeds = [1]",
            "[peer] seeds: expected host:port such as \"10.0.0.2:9400\" or \"basic.example.org:9400\", found an integer",
        ),
        (
            "[peer]\ninsecure = \"true\"",
            "[peer] insecure: expected true or false, found a string",
        ),
        (
            "[gossip]\ninterval = 200",
            "[gossip] interval: expected a duration such as \"200ms\" or \"1m 30s\", found an integer",
        ),
        (
            "[gossip]\nphi = \"8\"",
            "[gossip] phi: expected a number such as 8.0, found a string",
        ),
        (
            "[app]\nweight = 1.5",
            "[app] weight: expected an integer from 0 to 65535, found a float",
        ),
        (
            "[app]\nurl = true",
            "[app] url: expected a URL such as \"http://127.0.0.1:8080\", found a boolean",
        ),
        (
            "[proxy]\nretry_body_max = 65536",
            "[proxy] retry_body_max: expected a size such as \"64MiB\", found an integer",
        ),
        (
            "[log]\nformat = 1979-05-27",
            "[log] format: expected \"text\" or \"json\", found a date",
        ),
        (
            "[log]\nlevel = {}",
            "[log] level: expected a level (off, error, warn, info, debug, trace) or directives such as \"info,basic_sync=debug\", found a table",
        ),
    ] {
        file_is_refused(line, &[&format!("agent.toml:2:1: {fault}")]);
    }
}

#[test]
fn labels_that_are_too_long_together_are_refused() {
    let label = |n| format!("l{n} = \"{}\"", "x".repeat(120));
    let labels = |count| (0..count).map(label).collect::<Vec<_>>().join(", ");
    let file = |count| format!("[node]\nlabels = {{ {} }}\n", labels(count));
    let config = Given::nothing().file(file(7)).config();
    assert_eq!(config.node.labels.len(), 7);
    file_is_refused(
        &file(9),
        &["agent.toml:2:1: [node] labels: its entries take 1153 bytes together, 1024 are allowed"],
    );
}

#[test]
fn a_value_that_means_nothing_is_refused() {
    for (assignment, fault) in [
        (
            "node.cluster=a b",
            "\"a b\" is not a name of 1 to 64 letters, digits, \".\", \"_\" or \"-\" of ASCII",
        ),
        (
            "node.id=",
            "\"\" is not a name of 1 to 64 letters, digits, \".\", \"_\" or \"-\" of ASCII",
        ),
        ("node.data_dir=", "\"\" is not a path"),
        ("node.labels=zone", "\"zone\" is not a label such as zone=a"),
        (
            "node.labels=a b=c",
            "\"a b\" is not a label name of 1 to 63 letters, digits, \".\", \"_\", \"-\" or \"/\" of ASCII",
        ),
        (
            "peer.listen=localhost",
            "\"localhost\" is not an address and port such as \"127.0.0.1:9400\" or \"[::1]:9400\"",
        ),
        (
            "peer.seeds=a:1,b",
            "\"b\" is not host:port such as \"10.0.0.2:9400\" or \"basic.example.org:9400\"",
        ),
        ("peer.insecure=yes", "\"yes\" is not true or false"),
        (
            "gossip.interval=200 parsecs",
            "\"200 parsecs\" is not a duration such as \"200ms\" or \"1m 30s\"",
        ),
        ("gossip.phi=eight", "\"eight\" is not a number such as 8.0"),
        ("app.weight=-1", "\"-1\" is not an integer from 0 to 65535"),
        (
            "app.url=https://a",
            "\"https://a\" is not an http URL, and only these are supported",
        ),
        (
            "app.url=http://a/b",
            "\"http://a/b\" has a path, but only host and port are wanted; leave it out",
        ),
        (
            "app.health=health",
            "\"health\" is not a path such as \"/health\"",
        ),
        (
            "app.advertise=10.0.0.1",
            "\"10.0.0.1\" is not host:port such as \"10.0.0.2:9400\" or \"basic.example.org:9400\"",
        ),
        (
            "proxy.strategy=round-robbin",
            "\"round-robbin\" is not a strategy such as \"round-robin\"; did you mean \"round-robin\"?",
        ),
        (
            "proxy.retry_body_max=much",
            "\"much\" is not a size such as \"64MiB\"",
        ),
        (
            "log.level=inof",
            "\"inof\" is not a level (off, error, warn, info, debug, trace) or directives such as \"info,basic_sync=debug\"; did you mean \"info\"?",
        ),
        (
            "log.level=basic_sync=loud",
            "\"basic_sync=loud\" is not a level (off, error, warn, info, debug, trace) or directives such as \"info,basic_sync=debug\"",
        ),
        ("log.format=xml", "\"xml\" is not \"text\" or \"json\""),
    ] {
        let (path, _) = assignment.split_once('=').unwrap();
        let (table, name) = path.split_once('.').unwrap();
        set_is_refused(
            assignment,
            &format!("flag --set {path}: [{table}] {name}: {fault}"),
        );
    }
}

#[test]
fn a_value_beyond_its_limits_is_refused_with_the_limits() {
    for (assignment, fault) in [
        (
            "gossip.interval=49ms",
            "49ms is out of range: from 50ms to 1s",
        ),
        (
            "gossip.interval=1001ms",
            "1s 1ms is out of range: from 50ms to 1s",
        ),
        ("gossip.phi=0.5", "0.5 is out of range: from 1.0 to 32.0"),
        ("gossip.phi=nan", "NaN is out of range: from 1.0 to 32.0"),
        (
            "app.probe_timeout=0s",
            "0s is out of range: from 50ms to 1m",
        ),
        ("proxy.workers=1025", "1025 is out of range: from 0 to 1024"),
        (
            "proxy.retry_body_max=17MiB",
            "17MiB is out of range: from 0B to 16MiB",
        ),
        (
            "replication.push_buffer=1000B",
            "1000B is out of range: from 8MiB to 4GiB",
        ),
        (
            "replication.tombstone_age=10ms",
            "10ms is out of range: from 1s to 1year",
        ),
        (
            "replication.absent_max=24h",
            "1day is not more than [replication] tombstone_age, 1day; a node that was away must have at least as long as deletions are remembered",
        ),
    ] {
        let (path, _) = assignment.split_once('=').unwrap();
        let (table, name) = path.split_once('.').unwrap();
        set_is_refused(
            assignment,
            &format!("flag --set {path}: [{table}] {name}: {fault}"),
        );
    }
    file_is_refused(
        "[app]\nweight = 65536\n",
        &["agent.toml:2:1: [app] weight: 65536 is out of range: from 0 to 65535"],
    );
}

#[test]
fn too_many_entries_are_refused() {
    let labels: Vec<_> = (0..17).map(|i| format!("l{i}=x")).collect();
    set_is_refused(
        &format!("node.labels={}", labels.join(",")),
        "flag --set node.labels: [node] labels: 17 entries are more than the 16 allowed",
    );
    let seeds: Vec<_> = (1..=257).map(|port| format!("a:{port}")).collect();
    set_is_refused(
        &format!("peer.seeds={}", seeds.join(",")),
        "flag --set peer.seeds: [peer] seeds: 257 entries are more than the 256 allowed",
    );
}

#[test]
fn a_long_value_is_shown_shortened_and_escaped() {
    let value = format!("\u{1b}[31m{}", "x".repeat(300));
    let shown = format!("\\u{{1b}}[31m{}…", "x".repeat(75));
    set_is_refused(
        &format!("app.health={value}"),
        &format!(
            "flag --set app.health: [app] health: \"{shown}\" is not a path such as \"/health\""
        ),
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_line_and_column() {
    let problems = Given::nothing().file("[node]\nid = n1\n").problems();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("agent.toml:2:6: not valid TOML: "),
        "{problems:?}"
    );
    let problems = Given::nothing()
        .file("[node]\nid = \"梁\" id = \"b\"\n")
        .problems();
    assert!(
        problems[0].starts_with("agent.toml:2:10: not valid TOML: "),
        "{problems:?}"
    );
    let problems = Given::nothing()
        .file("[node]\nid = \"a\"\nid = \"b\"\n")
        .problems();
    assert!(
        problems[0].starts_with("agent.toml:3:1: not valid TOML: duplicate key"),
        "{problems:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let mut given = Given::nothing();
    given.sources.file = Some(given.dir.path().join("missing.toml"));
    assert_eq!(
        given.problems(),
        ["missing.toml:1:1: no such file; `basic-agent config default` prints one to begin with"]
    );
    given.sources.file = Some(given.dir.path().to_owned());
    let problem = given.load().unwrap_err().problems()[0].to_string();
    assert!(
        problem.ends_with(":1:1: is a directory; name the file in it"),
        "{problem}"
    );

    let given = Given::nothing().file(b"[node]\nid = \"\xff\"\n");
    assert_eq!(
        given.problems(),
        ["agent.toml:2:7: not UTF-8 from here on; save the file as UTF-8"]
    );

    let given = Given::nothing().file(vec![b'#'; 1024 * 1024 + 1]);
    assert_eq!(
        given.problems(),
        ["agent.toml:1:1: larger than 1 MiB, so it is hardly a configuration file"]
    );
}

#[test]
fn the_file_named_by_the_environment_has_to_exist() {
    let mut given = Given::nothing();
    let missing = given.dir.path().join("missing.toml");
    let variable = ("BASIC_AGENT_CONFIG".into(), missing.into_os_string());
    given.sources.environment = [variable].into_iter().collect();
    assert_eq!(
        given.problems(),
        ["missing.toml:1:1: no such file; `basic-agent config default` prints one to begin with"]
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_one() {
    let given = Given::nothing()
        .environment(&[("BASIC_AGENT_PEER_LISTN", "x"), ("BASIC_AGENT_ZEBRA", "x")]);
    assert_eq!(
        given.problems(),
        [
            "environment BASIC_AGENT_PEER_LISTN: unknown variable; did you mean \"BASIC_AGENT_PEER_LISTEN\"?",
            "environment BASIC_AGENT_ZEBRA: unknown variable; a variable is named BASIC_AGENT_TABLE_KEY, and `basic-agent config default` lists the keys",
        ]
    );
}

#[test]
fn a_misspelt_variable_of_the_secret_is_refused_without_its_value() {
    let given = Given::nothing().environment(&[("BASIC_AGENT_PEER_SECRETS", SECRET)]);
    assert_eq!(
        given.problems(),
        [
            "environment BASIC_AGENT_PEER_SECRETS: unknown variable; did you mean \"BASIC_AGENT_PEER_SECRET\"?"
        ]
    );
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let mut given = Given::nothing();
    let variable = (
        "BASIC_AGENT_NODE_ID".into(),
        OsStr::from_bytes(b"n\xff").to_owned(),
    );
    given.sources.environment = [variable].into_iter().collect();
    assert_eq!(
        given.problems(),
        ["environment BASIC_AGENT_NODE_ID: [node] id: the value is not UTF-8"]
    );
}

#[test]
fn a_set_flag_without_key_and_value_is_refused() {
    for argument in ["x", "node.id", "id=n1"] {
        set_is_refused(
            argument,
            &format!("flag --set: \"{argument}\" is not of the form table.key=value"),
        );
    }
    set_is_refused(
        "nodes.id=n1",
        "flag --set nodes.id: [nodes]: unknown table; did you mean \"[node]\"?",
    );
    set_is_refused(
        "node.di=n1",
        "flag --set node.di: [node] di: unknown key; did you mean \"id\"?",
    );
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    file_is_refused(
        "[api]\nlisten = \"127.0.0.1:9402\"\n",
        &[
            "[proxy] listen: 127.0.0.1:9402 is also the address of [api] listen; give each a port of its own",
        ],
    );
    let given = Given::nothing().file("[proxy]\nlisten = \"0.0.0.0:9401\"\n");
    assert_eq!(
        given.problems(),
        [
            "agent.toml:2:1: [proxy] listen: 0.0.0.0:9401 is also the address of [api] listen; give each a port of its own"
        ]
    );
}

#[test]
fn listeners_on_ports_that_the_system_chooses_do_not_conflict() {
    Given::nothing()
        .file("[peer]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\n[proxy]\nlisten = \"127.0.0.1:0\"\n")
        .config();
}

#[test]
fn an_app_that_is_the_agent_itself_is_refused() {
    file_is_refused(
        "[app]\nurl = \"http://localhost:9402\"\n",
        &[
            "agent.toml:2:1: [app] url: http://localhost:9402 is this agent's own [proxy] listen; name the server beside it",
        ],
    );
}

#[test]
fn listening_everywhere_without_an_address_to_tell_is_refused() {
    let given = Given::nothing()
        .file("[peer]\nlisten = \"0.0.0.0:9400\"\n")
        .environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
    assert_eq!(
        given.problems(),
        [
            "agent.toml:2:1: [peer] listen: 0.0.0.0:9400 stands for every interface, which other agents cannot be told; set [peer] advertise to the address at which they reach this node"
        ]
    );
}

#[test]
fn an_advertised_address_that_nobody_can_connect_to_is_refused() {
    for address in ["0.0.0.0:9400", "127.0.0.1:0", "[fe80::1%2]:9400"] {
        let given = Given::nothing()
            .flag("--advertise", address)
            .environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
        assert_eq!(
            given.problems(),
            [format!(
                "flag --advertise: [peer] advertise: {address} cannot be connected to; give the address and port at which other agents reach this node"
            )]
        );
    }
}

#[test]
fn a_peer_port_beyond_loopback_without_a_shared_secret_is_refused() {
    let file = "[peer]\nlisten = \"10.0.0.1:9400\"\n[app]\nadvertise = \"10.0.0.1:8080\"\n";
    file_is_refused(
        file,
        &[
            "agent.toml:2:1: [peer] listen: 10.0.0.1:9400 can be reached from other hosts, and no shared secret protects it; put the same string of 32 characters or more on every node into BASIC_AGENT_PEER_SECRET or into a file named by [peer] secret_file, or pass --insecure where nobody else is on the network",
        ],
    );
    Given::nothing()
        .file(file)
        .flag("--insecure", "true")
        .config();
    Given::nothing()
        .file(file)
        .environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)])
        .config();
    Given::nothing()
        .file(file)
        .flag("--secret-file", "/run/secrets/peer")
        .config();
}

#[test]
fn an_advertised_address_beyond_loopback_needs_a_shared_secret_too() {
    let given = Given::nothing()
        .flag("--advertise", "10.0.0.1:9400")
        .flag("--app-advertise", "10.0.0.1:8080");
    let problems = given.problems();
    assert_eq!(problems.len(), 1);
    let start = "flag --advertise: [peer] advertise: 10.0.0.1:9400 can be reached from other hosts";
    assert!(problems[0].starts_with(start), "{problems:?}");
}

#[test]
fn an_api_beyond_loopback_is_refused() {
    let file = "[api]\nlisten = \"0.0.0.0:9401\"\n";
    file_is_refused(
        file,
        &[
            "agent.toml:2:1: [api] listen: 0.0.0.0:9401 can be reached from other hosts, and the API asks nobody who they are; listen on 127.0.0.1, or pass --insecure where nobody else is on the network",
        ],
    );
    Given::nothing()
        .file(file)
        .flag("--insecure", "true")
        .config();
}

#[test]
fn seeds_that_a_loopback_socket_cannot_reach_are_refused() {
    file_is_refused(
        "[peer]\nseeds = [\"127.0.0.1:9410\", \"10.0.0.2:9400\"]\n",
        &[
            "agent.toml:2:1: [peer] seeds: 10.0.0.2:9400 cannot be reached from 127.0.0.1:9400, which is this host alone; set [peer] listen to an address of this node that other hosts reach",
        ],
    );
}

#[test]
fn an_app_that_other_nodes_would_take_for_their_own_is_refused() {
    let given = Given::nothing()
        .file("[peer]\nlisten = \"10.0.0.1:9400\"\n")
        .environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
    assert_eq!(
        given.problems(),
        [
            "[app] url: other nodes would be told 127.0.0.1:8080, which is themselves; set [app] advertise to the host:port at which they reach this node's server"
        ]
    );
}

#[test]
fn a_refused_value_is_not_compared_with_others() {
    let given = Given::nothing()
        .file("[api]\nlisten = \"127.0.0.1:9400\"\n[peer]\nlisten = \"nonsense\"\n");
    let problems = given.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("agent.toml:4:1: [peer] listen: \"nonsense\" is not"),
        "{problems:?}"
    );
}

#[test]
fn a_wrong_value_is_refused_even_if_a_later_source_overrides_it() {
    let given = Given::nothing()
        .file("[gossip]\nphi = 99\n")
        .flag("--set", "gossip.phi=8");
    assert_eq!(
        given.problems(),
        ["agent.toml:2:1: [gossip] phi: 99.0 is out of range: from 1.0 to 32.0"]
    );
}

#[test]
fn all_problems_of_all_sources_are_told_at_once_in_their_order() {
    let given = Given::nothing()
        .file("[log]\nformat = \"xml\"\n[peer]\nseed = []\n[gossip]\nphi = 0\n")
        .environment(&[("BASIC_AGENT_APP_WEIGHT", "heavy")])
        .flag("--set", "node.id=a b");
    let problems = given.problems();
    let starts = [
        "agent.toml:2:1: [log] format: ",
        "agent.toml:4:1: [peer] seed: ",
        "agent.toml:6:1: [gossip] phi: ",
        "environment BASIC_AGENT_APP_WEIGHT: [app] weight: ",
        "flag --set node.id: [node] id: ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(
            problem.starts_with(start),
            "{problem} does not start with {start}"
        );
    }
    let told = given.load().unwrap_err().to_string();
    assert!(
        told.starts_with("the configuration has 5 problems, so nothing was started:\n  "),
        "{told}"
    );
    assert_eq!(told.lines().count(), 6);
}

#[test]
fn of_very_many_problems_only_the_first_are_told() {
    let file: String = (0..1000).map(|i| format!("k{i} = 1\n")).collect();
    let told = Given::nothing()
        .file(format!("[node]\n{file}"))
        .load()
        .unwrap_err()
        .to_string();
    assert_eq!(told.lines().count(), 52);
    assert!(told.ends_with("\n  and 950 more"), "{told}");
}

#[test]
fn a_fault_says_what_it_is_to_a_program_too() {
    let errors = Given::nothing()
        .file("[gossip]\nphi = 99\n")
        .load()
        .unwrap_err();
    let Fault::Value(ValueError::OutOfRange { max, .. }) = &errors.problems()[0].fault else {
        panic!("{errors}");
    };
    assert_eq!(max, "32.0");
}

#[test]
fn a_certificate_without_its_key_and_authorities_is_refused() {
    file_is_refused(
        "[peer]\ntls_cert = \"n1.pem\"\ntls_ca = \"ca.pem\"\n",
        &[
            "agent.toml:2:1: [peer] tls_cert: a certificate of your own needs [peer] tls_cert, tls_key and tls_ca together; [peer] tls_key is not set",
        ],
    );
}
