//! What is taken, which source wins, and where a value is said to come from.

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use proptest::prelude::*;

use super::super::schema::{self, Initial, KEYS};
use super::super::value::{Raw, Setting};
use super::super::*;
use super::Given;

/// A file in which every key has another value than its default.
const EVERY_KEY: &str = r#"
[node]
cluster = "c1"
id = "n1"
data_dir = "data"
labels = { zone = "a", rack = "3" }
[peer]
listen = "127.0.0.1:1"
advertise = "127.0.0.2:1"
seeds = ["[::1]:2", "localhost:3"]
secret_file = "secret"
tls_cert = "n1.pem"
tls_key = "n1.key"
tls_ca = "ca.pem"
insecure = true
[gossip]
interval = "1s"
phi = 10
[app]
url = "http://[::1]:4"
health = "/up?deep=1"
weight = 7
advertise = "app.example.org:5"
probe_interval = "2s"
probe_timeout = "500ms"
[api]
listen = "127.0.0.1:6"
watches_max = 5
[proxy]
listen = "0.0.0.0:7"
strategy = "round-robin"
workers = 2
connect_timeout = "3s"
response_timeout = "1m 30s"
retry_body_max = "0B"
[replication]
pull_interval = "5s"
push_buffer = "1GiB"
tombstone_age = "2h"
absent_max = "3h"
[sync]
workers = 3
queue_max = 50
retries = 0
retry_interval = "200ms"
task_timeout = "2s"
[events]
command = ["/bin/notify", "a,b"]
webhook = "https://hooks.example.org/x?y=z"
on = ["failed", "left"]
hooks_on = "every-node"
[log]
level = "warn,basic_sync=trace"
format = "json"
"#;

#[test]
fn without_any_source_the_defaults_are_in_force() {
    let config = Given::nothing().config();
    assert_eq!(config.node.cluster.as_str(), "jobfirst-cluster-1");
    assert_eq!(config.node.id, None);
    assert_eq!(config.peer.listen.to_string(), "127.0.0.1:9400");
    assert_eq!(
        config.peer.advertised(config.peer.listen),
        config.peer.listen
    );
    assert_eq!(config.gossip.interval, Duration::from_millis(200));
    assert_eq!(config.gossip.phi, 8.0);
    assert_eq!(config.app.advertised().to_string(), "127.0.0.1:8080");
    assert_eq!(config.app.weight, 100);
    assert_eq!(config.proxy.response_timeout, Duration::from_secs(60));
    assert_eq!(config.proxy.retry_body_max, ByteSize::kib(64));
    assert_eq!(config.replication.push_buffer, ByteSize::mib(64));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(config.replication.tombstone_age, day);
    assert_eq!(config.replication.absent_max, 7 * day);
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn every_key_is_read_from_a_file() {
    let config = Given::nothing().file(EVERY_KEY).config();
    assert_eq!(config.node.cluster.as_str(), "c1");
    assert_eq!(config.node.id.as_ref().map(NodeName::as_str), Some("n1"));
    assert_eq!(config.node.labels["zone"], "a");
    assert_eq!(config.peer.advertise.unwrap().to_string(), "127.0.0.2:1");
    assert_eq!(config.peer.seeds[1].host(), "localhost");
    assert!(config.peer.insecure);
    assert_eq!(config.gossip.phi, 10.0);
    assert_eq!(config.app.url.to_string(), "http://[::1]:4");
    assert_eq!(config.app.health.as_str(), "/up?deep=1");
    assert_eq!(config.app.advertised().to_string(), "app.example.org:5");
    assert_eq!(config.proxy.workers, 2);
    assert_eq!(config.proxy.response_timeout, Duration::from_secs(90));
    assert_eq!(config.log.level.as_str(), "warn,basic_sync=trace");
}

#[test]
fn what_show_prints_loads_to_the_same_settings() {
    let loaded = Given::nothing().file(EVERY_KEY).load().unwrap();
    for with_origin in [false, true] {
        let printed = loaded.to_toml(with_origin);
        assert_eq!(
            Given::nothing().file(&printed).config(),
            loaded.config,
            "{printed}"
        );
    }
}

#[test]
fn the_default_file_loads_to_the_defaults() {
    let text = default_file();
    assert_eq!(
        Given::nothing().file(&text).config(),
        Given::nothing().config(),
        "{text}"
    );
    for key in KEYS {
        let name = key.id().name;
        assert!(
            text.lines().any(|line| line
                .trim_start_matches("# ")
                .starts_with(&format!("{name} = "))),
            "{name}"
        );
    }
}

#[test]
fn the_default_file_with_its_examples_loads_too() {
    let examples = default_file()
        .replace("# id =", "id =")
        .replace("# advertise =", "advertise =");
    let examples = examples.replace("# secret_file =", "secret_file =");
    let config = Given::nothing().file(examples).config();
    assert_eq!(config.peer.advertise.unwrap().to_string(), "10.0.0.1:9400");
    assert_eq!(config.app.advertise.unwrap().to_string(), "10.0.0.1:8080");
}

#[test]
fn every_default_and_example_of_the_schema_is_valid() {
    for key in KEYS {
        let (Initial::Default(text) | Initial::Unset { example: text }) = key.initial();
        let checked = key.check(&Raw::Text(text.to_owned()));
        let checked = checked.unwrap_or_else(|error| panic!("{}: {error}", key.id()));
        assert!(key.check(&Raw::Toml(checked)).is_ok(), "{}", key.id());
    }
}

#[test]
fn keys_variables_and_flags_are_each_unique() {
    let ids: BTreeSet<_> = KEYS.iter().map(|key| key.id()).collect();
    let variables: BTreeSet<_> = KEYS.iter().map(|key| key.id().variable()).collect();
    let flags: Vec<_> = KEYS.iter().filter_map(|key| key.flag()).collect();
    assert_eq!(ids.len(), KEYS.len());
    assert_eq!(variables.len(), KEYS.len());
    assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
    assert!(schema::tables().iter().collect::<BTreeSet<_>>().len() == schema::tables().len());
}

#[test]
fn every_key_of_the_schema_is_in_force_once_it_is_set() {
    let loaded = Given::nothing().file(EVERY_KEY).load().unwrap();
    for key in KEYS {
        let origin = loaded.origins.of(key.id().table, key.id().name);
        assert!(
            matches!(origin, Some(Origin::File { .. })),
            "{}: {origin:?}",
            key.id()
        );
    }
}

#[test]
fn the_later_source_wins_and_is_named_as_the_origin() {
    let given =
        Given::nothing().file("[app]\nweight = 1\n[node]\n\nid = \"from-file\"\ncluster = \"c\"\n");
    let given = given.environment(&[
        ("BASIC_AGENT_APP_WEIGHT", "2"),
        ("BASIC_AGENT_NODE_ID", "from-env"),
    ]);
    let given = given.flag("--weight", "3").flag("--set", "app.weight=4");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.app.weight, 4);
    let origin = |table, name| loaded.origins.of(table, name).map(ToString::to_string);
    let file = given.sources.file.as_ref().unwrap().display();
    assert_eq!(
        origin("app", "weight").as_deref(),
        Some("flag --set app.weight")
    );
    assert_eq!(
        origin("node", "id").as_deref(),
        Some("environment BASIC_AGENT_NODE_ID")
    );
    assert_eq!(origin("node", "cluster"), Some(format!("file {file}:6")));
    assert_eq!(origin("gossip", "phi").as_deref(), Some("default"));
    assert_eq!(origin("app", "advertise"), None);
}

#[test]
fn of_two_flags_for_one_key_the_later_wins() {
    let given = Given::nothing()
        .flag("--set", "app.weight=4")
        .flag("--weight", "3");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.app.weight, 3);
    assert_eq!(
        loaded
            .origins
            .of("app", "weight")
            .map(ToString::to_string)
            .as_deref(),
        Some("flag --weight")
    );
}

#[test]
fn lists_and_labels_of_variables_and_flags_are_separated_by_commas() {
    let given =
        Given::nothing().environment(&[("BASIC_AGENT_PEER_SEEDS", "localhost:1, [::1]:2 ,")]);
    let config = given.flag("--label", "zone=a,note=x=y").config();
    let seeds: Vec<_> = config.peer.seeds.iter().map(ToString::to_string).collect();
    assert_eq!(seeds, ["localhost:1", "[::1]:2"]);
    assert_eq!(config.node.labels["note"], "x=y");
}

#[test]
fn a_table_may_be_written_inline_dotted_or_under_a_header_of_its_own() {
    for file in [
        "node = { labels = { zone = \"a\" } }",
        "node.labels.zone = \"a\"",
        "[node.labels]\nzone = \"a\"",
        "[node]\nlabels.zone = \"a\"",
    ] {
        assert_eq!(
            Given::nothing().file(file).config().node.labels["zone"],
            "a",
            "{file}"
        );
    }
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_of_our_name_are_passed_over() {
    Given::nothing()
        .environment(&[
            ("BASIC_AGENT_SERVICE_HOST", "10.0.0.1"),
            ("BASIC_AGENT_SERVICE_PORT", "9401"),
            ("BASIC_AGENT_SERVICE_PORT_API", "9401"),
            ("BASIC_AGENT_PORT", "tcp://10.0.0.1:9401"),
            ("BASIC_AGENT_PORT_9401_TCP_ADDR", "10.0.0.1"),
            ("OTHER_VARIABLE", "x"),
        ])
        .config();
}

#[test]
fn the_file_named_on_the_command_line_goes_before_the_one_of_the_environment() {
    let given = Given::nothing().file("[node]\nid = \"n1\"\n");
    let given = given.environment(&[("BASIC_AGENT_CONFIG", "/nonexistent/agent.toml")]);
    assert_eq!(given.config().node.id.unwrap().as_str(), "n1");
}

#[test]
fn a_client_needs_only_the_address_of_the_api() {
    let given = Given::nothing()
        .file("[peer]\nlisten = \"10.0.0.1:9400\"\n[api]\nlisten = \"127.0.0.1:5\"\n");
    assert!(given.load().is_err(), "an agent would need a secret");
    assert_eq!(
        given.sources.api_listen().unwrap().to_string(),
        "127.0.0.1:5"
    );
    let given = Given::nothing().file("[api]\nlisten = 5\n");
    assert!(given.sources.api_listen().is_err());
}

#[test]
fn show_as_json_has_values_with_their_types_and_origins() {
    let loaded = Given::nothing()
        .flag("--label", "zone=a")
        .flag("--seed", "a:1")
        .load()
        .unwrap();
    let json = loaded.to_json(false);
    assert_eq!(json["node"]["labels"]["zone"], "a");
    assert_eq!(json["peer"]["seeds"][0], "a:1");
    assert_eq!(json["gossip"]["phi"], 8.0);
    assert_eq!(json["app"]["weight"], 100);
    let json = loaded.to_json(true);
    assert_eq!(json["peer"]["seeds"]["origin"], "flag --seed");
    assert_eq!(json["peer"]["insecure"]["value"], false);
}

proptest! {
    #[test]
    fn arbitrary_bytes_as_a_file_never_panic(bytes: Vec<u8>) {
        let _ = Given::nothing().file(bytes).load();
    }

    #[test]
    fn arbitrary_lines_with_real_names_never_panic(
        lines in proptest::collection::vec(
            (r"(\[|\[\[|)(node|peer|app|x|)(\.labels|)(\]|)", r"(listen|seeds|labels|url| |\n)= ?.{0,12}"), 0..6),
    ) {
        let text: String = lines.iter().map(|(a, b)| format!("{a}\n{b}\n")).collect();
        if let Err(errors) = Given::nothing().file(&text).load() {
            prop_assert!(!errors.problems().is_empty());
        }
    }

    #[test]
    fn arbitrary_values_of_flags_never_panic(flag in r"(--set|--seed|--label|--app-url)", value: String) {
        let _ = Given::nothing().flag(&flag, &value).load();
    }

    #[test]
    fn sizes_are_written_as_they_are_read(bytes: u64) {
        let size = ByteSize::b(bytes);
        prop_assert_eq!(ByteSize::from_text(&size.to_text()), Ok(size));
    }

    #[test]
    fn durations_are_written_as_they_are_read(nanoseconds in 0..=u64::MAX) {
        let duration = Duration::from_nanos(nanoseconds);
        prop_assert_eq!(Duration::from_text(&duration.to_text()), Ok(duration));
    }

    #[test]
    fn hosts_are_written_as_they_are_read(text in r"([a-z0-9._:\[\]-]{1,20}):[0-9]{1,5}") {
        if let Ok(host) = HostPort::from_text(&text) {
            prop_assert_eq!(HostPort::from_text(&host.to_text()), Ok(host));
        }
    }
}
