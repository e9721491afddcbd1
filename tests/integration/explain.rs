//! Bad inputs: each ends in a clear message and a defined state, as `status` tells it.

use std::fs;
use std::net::UdpSocket;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::{Node, Service, agent_command_with};
use basic_tests::harness::wait::wait_until;
use serde_json::Value;

use crate::clocks::faketime;
use crate::doctor::{check, doctor, strange_server};
use crate::support::{LIMIT, wait_for_state};

/// A cluster that is written down and not started, with an edit to the configuration of one node.
fn edited(name: &str, nodes: u16, node: u16, edit: impl Fn(&Cluster, String) -> String) -> Cluster {
    let cluster = Cluster::prepare(name, nodes).unwrap();
    cluster.layout().write().unwrap();
    let config = cluster.node(node).config_file();
    let settings = edit(&cluster, fs::read_to_string(&config).unwrap());
    fs::write(&config, settings).unwrap();
    cluster
}

/// Waits until an agent's status has a finding with this code, and returns it.
async fn wait_for_finding(cluster: &Cluster, node: u16, codes: &[&str]) -> Value {
    let client = Client::default();
    wait_until(format!("node {node} to find {codes:?}"), LIMIT, || async {
        let url = cluster.api(node, "/v1/status");
        let answer = client.get(&url).await.map_err(|error| error.to_string())?;
        let status = answer.json();
        let mut findings = status["findings"].as_array().into_iter().flatten();
        let found = findings.find(|found| codes.iter().any(|code| found["code"] == *code));
        found
            .cloned()
            .ok_or_else(|| format!("it finds {}", status["findings"]))
    })
    .await
    .unwrap()
}

/// `status` for people, which ends with this code.
async fn status(cluster: &Cluster, node: u16, code: i32) -> String {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    let api = cluster.api(node, "");
    let output = command.args(["status", "--api", &api]).output().await;
    let output = basic_tests::harness::cluster::Output::from(output.unwrap());
    assert_eq!(output.code, Some(code), "{output:?}");
    output.stdout
}

/// Runs an agent that must end by itself: its code and its words.
async fn refusal(cluster: &Cluster, node: u16) -> (Option<i32>, String) {
    let log = cluster.layout().directory().join("refusal.log");
    let config = cluster.node(node).config_file();
    let mut command = agent_command_with(&cluster.binaries().agent(), &config);
    let mut agent = Service::start(&mut command, log).unwrap();
    let ended = agent.exit(LIMIT).await.unwrap();
    (ended.code(), agent.output())
}

#[tokio::test]
async fn a_seed_that_never_answers_leaves_a_node_that_works_alone_and_says_so() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seed = silent.local_addr().unwrap().to_string();
    let cluster = edited("silent-seed", 1, 1, |cluster, text| {
        let own = format!("seeds = [\"{}\"]", cluster.node(1).peer());
        assert!(text.contains(&own), "{text}");
        text.replace(&own, &format!("seeds = [\"{seed}\"]"))
    });
    let _node = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
    wait_for_state_of_itself(&cluster, 1, "active").await;
    let found = wait_for_finding(&cluster, 1, &["alone"]).await;
    assert!(
        found["evidence"].as_str().unwrap().contains(&seed),
        "{found}"
    );
    let text = status(&cluster, 1, 1).await;
    assert!(text.contains("no other member was found"), "{text}");
}

#[tokio::test]
async fn an_advertised_address_that_stands_for_all_is_refused_at_the_start() {
    let cluster = edited("advertise-all", 1, 1, |cluster, text| {
        let peer = cluster.node(1).peer();
        text.replace(
            &format!("advertise = \"{peer}\""),
            &format!("advertise = \"0.0.0.0:{}\"", peer.port()),
        )
    });
    let (code, words) = refusal(&cluster, 1).await;
    assert_eq!(code, Some(2), "{words}");
    for word in ["[peer] advertise", "0.0.0.0", "cannot be connected to"] {
        assert!(words.contains(word), "{words}");
    }
    let (output, report) = doctor(&cluster, 1).await;
    assert_eq!(output.code, Some(1), "{report:#}");
    assert!(!cluster.node(1).data_directory().exists());
}

#[tokio::test]
async fn the_advertised_address_of_another_node_is_found_out() {
    let cluster = edited("advertise-other", 2, 2, |cluster, text| {
        let [first, second] = [1, 2].map(|node| cluster.node(node).peer());
        text.replace(
            &format!("advertise = \"{second}\""),
            &format!("advertise = \"{first}\""),
        )
    });
    let _nodes = [1, 2].map(|node| Node::start(cluster.binaries(), cluster.node(node)).unwrap());
    // Whoever it tries to speak to answers to the wrong address.
    wait_for_finding(&cluster, 2, &["alone", "not-reached"]).await;
    status(&cluster, 2, 1).await;
    let (output, report) = doctor(&cluster, 2).await;
    assert_eq!(output.code, Some(1), "{report:#}");
    let advertised = check(&report, "advertised address");
    let fact = advertised["fact"].as_str().unwrap();
    assert!(fact.contains("the address of agent n1"), "{advertised}");
    // The node whose address it is goes on as if nothing were.
    wait_for_state_of_itself(&cluster, 1, "active").await;
}

#[tokio::test]
async fn a_label_that_is_too_long_for_gossip_is_refused_at_the_start() {
    let cluster = edited("label", 1, 1, |_, text| {
        let label = "x".repeat(4000);
        text.replace(
            "[peer]",
            &format!("labels = {{ zone = \"{label}\" }}\n\n[peer]"),
        )
    });
    let (code, words) = refusal(&cluster, 1).await;
    assert_eq!(code, Some(2), "{words}");
    for word in ["agent.toml:", "[node] labels", "at most 128 bytes"] {
        assert!(words.contains(word), "{words}");
    }
    assert!(
        words.len() < 4000,
        "the value is not repeated in full: {words}"
    );
}

#[tokio::test]
async fn another_service_on_the_apps_port_is_told_and_gets_no_requests() {
    let cluster = edited("app-port", 1, 1, |_, text| text);
    strange_server(cluster.node(1).app());
    let log = cluster.node(1).agent_log();
    let config = cluster.node(1).config_file();
    let mut command = agent_command_with(&cluster.binaries().agent(), &config);
    let _agent = Service::start(&mut command, log).unwrap();
    let found = wait_for_finding(&cluster, 1, &["app-mistaken"]).await;
    assert_eq!(found["severity"], "error", "{found}");
    assert!(
        found["evidence"].as_str().unwrap().contains("404"),
        "{found}"
    );
    let text = status(&cluster, 1, 1).await;
    assert!(text.contains("basic-agent doctor"), "{text}");
}

#[tokio::test]
async fn a_clock_an_hour_off_is_told_by_both_sides_and_keeps_nobody_out() {
    let Some(library) = faketime() else { return };
    let cluster = Cluster::prepare("clock", 2).unwrap();
    cluster.layout().write().unwrap();
    let _right = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
    wait_for_state_of_itself(&cluster, 1, "active").await;
    let _wrong = Node::start_by(cluster.binaries(), cluster.node(2), |mut command| {
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME", "+3600")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    })
    .unwrap();
    for (node, word) in [(1, "ahead of"), (2, "behind")] {
        let found = wait_for_finding(&cluster, node, &["clock-off"]).await;
        assert_eq!(found["severity"], "error", "{found}");
        assert!(found["fact"].as_str().unwrap().contains(word), "{found}");
        let text = status(&cluster, node, 1).await;
        assert!(text.contains("NTP"), "{text}");
    }
    let (_, report) = doctor(&cluster, 1).await;
    assert_eq!(check(&report, "clocks")["verdict"], "failure", "{report:#}");
    wait_for_state_of_itself(&cluster, 1, "active").await;
}

async fn wait_for_state_of_itself(cluster: &Cluster, node: u16, state: &str) {
    let id = cluster.node(node).id();
    wait_for_state(cluster, node, &id, state).await;
}
