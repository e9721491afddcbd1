//! Secrets: a cluster set up by hand in three commands, and its keys rotated under load.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use basic_tests::harness::cluster::{Cluster, Output};
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::NodeLayout;
use basic_tests::harness::load::Load;
use basic_tests::harness::node::{Service, agent_command_with};
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, put, wait_for_document, wait_for_state};

/// Runs the agent's command line; only the variables given here reach it.
fn agent(cluster: &Cluster, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = agent_call(cluster, arguments, variables);
    command.output().unwrap().into()
}

fn agent_call(cluster: &Cluster, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(cluster.binaries().agent());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BASIC_AGENT_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null());
    command
}

/// A rotation by a node of the cluster that is under way when this returns; it ends with its new key as JSON.
fn rotating(cluster: &Cluster, node: u16) -> Child {
    let api = cluster.api(node, "");
    let variables = [("BASIC_AGENT_API", api.as_str())];
    let mut command = agent_call(cluster, &["keys", "rotate", "--json"], &variables);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn succeeded(output: Output) -> Output {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    output
}

/// A command about a running node of the cluster, which must succeed.
fn asked(cluster: &Cluster, node: u16, arguments: &[&str]) -> Output {
    let api = cluster.api(node, "");
    succeeded(agent(cluster, arguments, &[("BASIC_AGENT_API", &api)]))
}

/// The flags that put a node on its ports; everything else is left to the command.
fn placed(node: &NodeLayout, file: &Path) -> Vec<String> {
    [
        ("--config", file.display().to_string()),
        ("--id", node.id()),
        ("--data-dir", node.data_directory().display().to_string()),
        ("--advertise", node.peer().to_string()),
        ("--api-listen", node.api().to_string()),
        ("--proxy-listen", node.proxy().to_string()),
        ("--app", format!("http://{}", node.app())),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn words(first: &[&str], rest: &[String]) -> Vec<String> {
    let first = first.iter().map(ToString::to_string);
    first.chain(rest.iter().cloned()).collect()
}

fn run(cluster: &Cluster, arguments: &[String], variables: &[(&str, &str)]) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    agent(cluster, &arguments, variables)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn keys(client: &Client, cluster: &Cluster, node: u16) -> Result<Value, String> {
    let answer = client.get(&cluster.api(node, "/v1/keys")).await;
    answer
        .map(|answer| answer.json())
        .map_err(|error| error.to_string())
}

/// Waits until a node uses this key, has so many, and sees all live members use it.
async fn wait_for_key(client: &Client, cluster: &Cluster, node: u16, key: &str, count: usize) {
    wait_until(format!("node {node} to use {key}"), LIMIT, || async {
        let view = keys(client, cluster, node).await?;
        let live = view["members"].as_array().into_iter().flatten();
        let mut live = live.filter(|member| member["live"] == true);
        let settled = view["in_use"] == key
            && view["keys"].as_array().map(Vec::len) == Some(count)
            && live.all(|member| member["in_use"] == key);
        if settled {
            Ok(())
        } else {
            Err(view.to_string())
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn three_commands_bring_up_a_node_a_token_and_a_second_node() {
    let cluster = Cluster::prepare("join", 2).unwrap();
    let directory = cluster.layout().directory().join("by-hand");
    let files = [1, 2].map(|n| directory.join(format!("n{n}.toml")));
    let nodes = [1, 2].map(|n| cluster.node(n));
    for node in &nodes {
        fs::create_dir_all(node.directory()).unwrap();
    }

    let first = words(
        &["init", "--cluster", "by-hand"],
        &placed(&nodes[0], &files[0]),
    );
    let set_up = succeeded(run(&cluster, &first, &[]));
    let token = set_up.stdout.trim().to_owned();
    assert!(
        token.starts_with("ba1.") && !token.contains('\n'),
        "{token}"
    );
    for next in ["basic-agent run --config", "basic-agent join"] {
        assert!(set_up.stderr.contains(next), "{}", set_up.stderr);
    }
    assert_eq!(mode(&files[0]), 0o600);
    assert_eq!(mode(&nodes[0].data_directory()), 0o700);
    assert_eq!(mode(&nodes[0].data_directory().join("peer.secret")), 0o600);

    let again = run(&cluster, &first, &[]);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);

    let start = |n: usize| {
        let mut command = agent_command_with(&cluster.binaries().agent(), &files[n]);
        Service::start(&mut command, nodes[n].agent_log()).unwrap()
    };
    let _first = start(0);
    wait_for_state(&cluster, 1, "n1", "active").await;
    assert_eq!(mode(&nodes[0].data_directory().join("keys.json")), 0o600);
    let config = files[0].display().to_string();
    let printed = succeeded(agent(&cluster, &["token", "--config", &config], &[]));
    assert_eq!(
        printed.stdout.trim(),
        token,
        "the same token as at the beginning"
    );

    // Without a name, the file is the usual one where the command is called.
    fs::copy(&files[0], directory.join("basic-agent.toml")).unwrap();
    let mut command = agent_call(&cluster, &["token"], &[]);
    let printed = command.current_dir(&directory).output().unwrap();
    let printed = succeeded(printed.into());
    assert_eq!(printed.stdout.trim(), token);

    let second = words(&["join"], &placed(&nodes[1], &files[1]));
    let mut beside = second.clone();
    let advertise = beside.iter().position(|word| word == "--advertise");
    beside[advertise.unwrap() + 1] = nodes[0].peer().to_string();
    let refused = run(&cluster, &beside, &[("BASIC_AGENT_JOIN_TOKEN", &token)]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let reason = "the address of n1, and this node advertises it too";
    assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    let second = words(&["--force"], &second[1..]);
    let second = words(&["join"], &second);
    let joined = succeeded(run(
        &cluster,
        &second,
        &[("BASIC_AGENT_JOIN_TOKEN", &token)],
    ));
    assert!(
        joined
            .stdout
            .contains("reached n1, which has the same secret"),
        "{}",
        joined.stdout
    );
    assert!(
        joined.stdout.contains("basic-agent run --config"),
        "{}",
        joined.stdout
    );
    assert!(!joined.stdout.contains("ba1."), "{}", joined.stdout);
    let _second = start(1);
    wait_for_state(&cluster, 1, "n2", "active").await;
    wait_for_state(&cluster, 2, "n1", "active").await;

    let elsewhere = directory.join("n3.toml").display().to_string();
    let data = directory.join("n3").display().to_string();
    let third = [
        "join",
        &token,
        "--config",
        &elsewhere,
        "--data-dir",
        &data,
        "--json",
    ];
    let joined = succeeded(agent(&cluster, &third, &[]));
    let answer: Value = serde_json::from_str(&joined.stdout).unwrap();
    assert_eq!(answer["attempts"][0]["result"], "reached", "{answer}");
    assert!(joined.stderr.contains("history"), "{}", joined.stderr);
}

#[tokio::test]
async fn a_token_of_another_secret_or_a_stopped_cluster_is_told_apart() {
    let cluster = Cluster::prepare("join-refused", 2).unwrap();
    let directory = cluster.layout().directory().join("by-hand");
    let node = cluster.node(1);
    fs::create_dir_all(node.directory()).unwrap();
    let set_up = |name: &str, cluster_name: &str| {
        let mut node_flags = placed(&node, &directory.join(format!("{name}.toml")));
        let data = directory.join(name).display().to_string();
        let place = node_flags
            .iter()
            .position(|flag| flag == "--data-dir")
            .unwrap()
            + 1;
        node_flags[place] = data;
        let arguments = words(&["init", "--cluster", cluster_name], &node_flags);
        succeeded(run(&cluster, &arguments, &[]))
            .stdout
            .trim()
            .to_owned()
    };
    let running = set_up("running", "c1");
    let stranger = set_up("stranger", "c1");
    let mut command =
        agent_command_with(&cluster.binaries().agent(), &directory.join("running.toml"));
    let agent_process = Service::start(&mut command, node.agent_log()).unwrap();
    wait_for_state(&cluster, 1, "n1", "active").await;

    let join = |name: &str, token: &str| {
        let file = directory.join(format!("{name}.toml")).display().to_string();
        let data = directory.join(name).display().to_string();
        agent(
            &cluster,
            &["join", token, "--config", &file, "--data-dir", &data],
            &[],
        )
    };
    let refused = join("a", &stranger);
    assert_eq!(
        refused.code,
        Some(1),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert!(
        refused.stderr.contains("does not share our peer secret"),
        "{}",
        refused.stderr
    );
    succeeded(join("b", &running));
    drop(agent_process);
    let away = succeeded(join("c", &running));
    assert!(
        away.stdout.contains("nothing listens on"),
        "{}",
        away.stdout
    );
    assert!(away.stdout.contains("goes on trying"), "{}", away.stdout);
}

#[tokio::test]
async fn a_bad_token_is_refused_with_a_word_for_each_way_to_be_bad() {
    let cluster = Cluster::prepare("bad-token", 1).unwrap();
    let directory = cluster.layout().directory().join("by-hand");
    let file = directory.join("good.toml").display().to_string();
    let data = directory.join("good").display().to_string();
    let made = ["init", "--config", &file, "--data-dir", &data];
    let token = succeeded(agent(&cluster, &made, &[]))
        .stdout
        .trim()
        .to_owned();
    let middle = token.len() / 2;
    let swapped = if token.as_bytes()[middle] == b'x' {
        "y"
    } else {
        "x"
    };
    let mistyped = format!("{}{swapped}{}", &token[..middle], &token[middle + 1..]);
    for (bad, says) in [
        (token[..middle].to_owned(), "cut off"),
        (mistyped, "typing error"),
        (format!("{token}AAAA"), "too many"),
        (token.replacen("ba1.", "ba7.", 1), "newer agent (ba7"),
        ("hello".to_owned(), "not a join token"),
        (String::new(), "empty"),
    ] {
        let file = directory.join("bad.toml");
        let place = file.display().to_string();
        let refused = agent(&cluster, &["join", &bad, "--config", &place], &[]);
        assert_eq!(refused.code, Some(2), "{bad}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{says}: {}", refused.stderr);
        assert!(!file.exists(), "nothing is written");
    }
    let none = agent(&cluster, &["join"], &[]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(
        none.stderr.contains("BASIC_AGENT_JOIN_TOKEN"),
        "{}",
        none.stderr
    );
}

/// Watches the members of a node until told to stop; what was seen in any state but active.
fn watch_states(
    cluster: &Cluster,
    observer: u16,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Vec<String>> {
    let url = cluster.api(observer, "/v1/members");
    tokio::spawn(async move {
        let client = Client::default();
        let mut odd = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let members = client.get(&url).await.unwrap().json();
            for member in members["members"].as_array().into_iter().flatten() {
                if member["id"] != "n3" && member["state"] != "active" {
                    odd.push(member.to_string());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        odd
    })
}

#[tokio::test]
async fn keys_rotate_under_load_with_a_node_away_and_the_old_one_is_retired() {
    let cluster = Cluster::up("rotate", 3).await.unwrap();
    let client = Client::default();
    let first = keys(&client, &cluster, 1).await.unwrap()["in_use"].clone();
    let first = first.as_str().unwrap().to_owned();
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &first, 1).await;
    }

    // All three are there.
    let gets = Load::get(&cluster.proxy(1, "/whoami")).unwrap().start();
    let stop = Arc::new(AtomicBool::new(false));
    let states = [1, 2].map(|n| watch_states(&cluster, n, stop.clone()));
    let writing = {
        let (url, stop) = (cluster.api(2, "/v1/data/load"), stop.clone());
        tokio::spawn(async move {
            let client = Client::default();
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                put(
                    &client,
                    &format!("{url}/{written}"),
                    &json!({ "n": written }),
                )
                .await;
                written += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            written
        })
    };
    let rotated = asked(
        &cluster,
        1,
        &["keys", "rotate", "--why", "a test", "--json"],
    );
    let second: Value = serde_json::from_str(&rotated.stdout).unwrap();
    assert_eq!(second["previous"], first, "{second}");
    assert_eq!(second["in_use_on"], json!(["n1", "n2", "n3"]));
    let second = second["id"].as_str().unwrap().to_owned();
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &second, 2).await;
    }

    // The third is away during the next rotation, and gets in by itself.
    cluster.command(&["leave", "3"]).await.unwrap();
    let rotated = asked(&cluster, 2, &["keys", "rotate", "--json"]);
    let third: Value = serde_json::from_str(&rotated.stdout).unwrap();
    let third = third["id"].as_str().unwrap().to_owned();
    let refused = agent(
        &cluster,
        &["keys", "retire", &second],
        &[("BASIC_AGENT_API", &cluster.api(1, ""))],
    );
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("n3 may have no newer key"),
        "{}",
        refused.stderr
    );
    cluster.command(&["restart", "3"]).await.unwrap();
    wait_for_state(&cluster, 1, "n3", "active").await;
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &third, 3).await;
    }

    asked(&cluster, 3, &["keys", "retire", &first]);
    asked(&cluster, 1, &["keys", "retire", &second]);
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &third, 1).await;
    }
    put(
        &client,
        &cluster.api(3, "/v1/data/load/last"),
        &json!({ "of": "n3" }),
    )
    .await;
    wait_for_document(&client, &cluster.api(1, "/v1/data/load/last")).await;

    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0, "every write was acknowledged");
    for states in states {
        assert_eq!(states.await.unwrap(), Vec::<String>::new());
    }
    let report = gets.stop().await;
    eprintln!("GETs during three rotations: {report}");
    assert!(report.failures().is_empty(), "{:?}", report.failures());

    let view = asked(&cluster, 1, &["keys", "list"]);
    assert!(
        view.stdout.contains("retired") && view.stdout.contains(&third),
        "{}",
        view.stdout
    );
    let audit = client
        .get(&cluster.api(3, "/v1/audit"))
        .await
        .unwrap()
        .text();
    assert!(
        audit.contains("rotate-keys") && audit.contains("retire-key"),
        "{audit}"
    );
}

#[tokio::test]
async fn a_node_killed_during_a_rotation_comes_back_and_takes_part_by_itself() {
    let cluster = Cluster::up("rotate-killed", 3).await.unwrap();
    let client = Client::default();
    let first = keys(&client, &cluster, 1).await.unwrap()["in_use"].clone();
    let first = first.as_str().unwrap().to_owned();

    let rotation = rotating(&cluster, 1);
    cluster.command(&["kill", "3", "--agent"]).await.unwrap();
    // It waits for the node until the others have noticed, and no longer.
    let rotated = succeeded(rotation.wait_with_output().unwrap().into());
    let rotated: Value = serde_json::from_str(&rotated.stdout).unwrap();
    let second = rotated["id"].as_str().unwrap().to_owned();
    cluster.command(&["restart", "3"]).await.unwrap();
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &second, 2).await;
    }
    asked(&cluster, 3, &["keys", "retire", &first]);
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, &second, 1).await;
    }
    // Every connection has been made anew.
    put(
        &client,
        &cluster.api(3, "/v1/data/rotated/by-3"),
        &json!({ "by": 3 }),
    )
    .await;
    wait_for_document(&client, &cluster.api(1, "/v1/data/rotated/by-3")).await;
}

#[tokio::test]
async fn two_rotations_at_once_end_with_one_key_on_all_nodes() {
    let cluster = Cluster::up("rotate-twice", 3).await.unwrap();
    let client = Client::default();
    let rotations = [1, 2].map(|n| rotating(&cluster, n));
    let mut made = Vec::new();
    for rotation in rotations {
        let output: Output = rotation.wait_with_output().unwrap().into();
        // The one that comes a moment later may find the other under way, and is refused.
        if output.code == Some(0) {
            made.push(serde_json::from_str::<Value>(&output.stdout).unwrap());
        } else {
            assert!(
                output.stderr.contains("is not complete"),
                "{}",
                output.stderr
            );
        }
    }
    assert!(!made.is_empty());
    let last = keys(&client, &cluster, 1).await.unwrap()["newest"].clone();
    assert!(
        made.iter().any(|rotation| rotation["id"] == last),
        "{made:?}"
    );
    for rotation in &made {
        let superseded_by = &rotation["superseded_by"];
        assert!(
            superseded_by.is_null() || *superseded_by == last,
            "{rotation}"
        );
    }
    for n in 1..=3 {
        wait_for_key(&client, &cluster, n, last.as_str().unwrap(), 1 + made.len()).await;
    }
}

#[tokio::test]
async fn a_node_with_only_a_retired_key_is_refused_on_both_sides_and_a_token_brings_it_back() {
    let cluster = Cluster::up("locked-out", 2).await.unwrap();
    let client = Client::default();
    let first = keys(&client, &cluster, 1).await.unwrap()["in_use"].clone();
    let first = first.as_str().unwrap().to_owned();
    cluster.command(&["leave", "2"]).await.unwrap();
    asked(&cluster, 1, &["keys", "rotate"]);
    asked(&cluster, 1, &["keys", "retire", &first, "--force"]);

    // Its agent alone: `restart` would wait for a cluster that does not let it in.
    let node = cluster.node(2);
    let mut command = agent_command_with(&cluster.binaries().agent(), &node.config_file());
    let mut alone = Service::start(&mut command, node.directory().join("alone.log")).unwrap();
    let refused_log = |log: String| {
        let warned = |line: &str| line.contains("WARN") && line.contains("peer secret");
        if log.lines().any(warned) {
            Ok(())
        } else {
            Err(log)
        }
    };
    wait_until("node 2 to say that it is refused", LIMIT, || {
        std::future::ready(refused_log(alone.output()))
    })
    .await
    .unwrap();
    wait_until("node 1 to say that it refuses", LIMIT, || {
        let log = fs::read_to_string(cluster.node(1).agent_log()).unwrap_or_default();
        std::future::ready(refused_log(log))
    })
    .await
    .unwrap();
    alone
        .signal(basic_tests::harness::process::Signal::TERM)
        .unwrap();
    alone.exit(LIMIT).await.unwrap();

    let config = cluster.node(1).config_file().display().to_string();
    let token = succeeded(agent(&cluster, &["token", "--config", &config], &[])).stdout;
    // The secret of this cluster lies outside of the data directory, so the file has to be written anew.
    let file = node.directory().join("rejoined.toml");
    let back = words(&["join"], &placed(&node, &file));
    let joined = succeeded(run(
        &cluster,
        &back,
        &[("BASIC_AGENT_JOIN_TOKEN", token.trim())],
    ));
    assert!(joined.stdout.contains("reached n1"), "{}", joined.stdout);
    let mut command = agent_command_with(&cluster.binaries().agent(), &file);
    let _back = Service::start(&mut command, node.directory().join("back.log")).unwrap();
    wait_for_state(&cluster, 1, "n2", "active").await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_ends_the_start_with_its_file() {
    let cluster = Cluster::prepare("bad-certificate", 1).unwrap();
    cluster.layout().write().unwrap();
    let node = cluster.node(1);
    let settings = fs::read_to_string(node.config_file()).unwrap();
    let missing = node.directory().join("n1.pem").display().to_string();
    let files =
        format!("[peer]\ntls_cert = {missing:?}\ntls_key = {missing:?}\ntls_ca = {missing:?}");
    fs::write(node.config_file(), settings.replace("[peer]", &files)).unwrap();
    let mut command = agent_command_with(&cluster.binaries().agent(), &node.config_file());
    let mut process = Service::start(&mut command, node.agent_log()).unwrap();
    let status = process.exit(LIMIT).await.unwrap();
    let output = process.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("[peer] tls_cert") && output.contains(&missing),
        "{output}"
    );
}
