//! `basic-agent doctor`, beside agents that run and for one that does not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use basic_tests::harness::cluster::{Cluster, Output};
use basic_tests::harness::node::Node;
use basic_tests::harness::wait::wait_until;
use serde_json::Value;

use crate::support::LIMIT;

/// Examines what a node's configuration describes.
pub(crate) async fn doctor(cluster: &Cluster, node: u16) -> (Output, Value) {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    let config = cluster.node(node).config_file();
    let command = command.args(["doctor", "--json", "--config"]).arg(config);
    let output: Output = command.output().await.unwrap().into();
    let report = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    (output, report)
}

/// The check of this name.
pub(crate) fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// Waits until a check comes to a verdict with this word in its fact.
async fn wait_for_fact(cluster: &Cluster, node: u16, name: &str, verdict: &str, word: &str) {
    wait_until(format!("{name} to say {word:?}"), LIMIT, || async {
        let (_, report) = doctor(cluster, node).await;
        let check = check(&report, name);
        let fact = check["fact"].as_str().unwrap_or_default();
        match check["verdict"] == verdict && fact.contains(word) {
            true => Ok(()),
            false => Err(format!("it says {check}")),
        }
    })
    .await
    .unwrap();
}

/// Takes a port away as a server that knows no path but `/`, until the test ends.
pub(crate) fn strange_server(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
}

#[tokio::test]
async fn beside_a_running_agent_all_is_found_to_be_its_own() {
    let cluster = Cluster::up("doctor-running", 2).await.unwrap();
    // Others reach it, and clocks have been compared, within a few rounds.
    wait_for_fact(&cluster, 1, "advertised address", "ok", "others reach it").await;
    wait_for_fact(&cluster, 1, "clocks", "ok", "1 compared").await;
    let (output, report) = doctor(&cluster, 1).await;
    assert_eq!(output.code, Some(0), "{report:#}");
    let seed = format!("seed {}", cluster.node(2).peer());
    for (name, word) in [
        ("configuration", "valid"),
        ("secret", "usable"),
        ("agent", "running: n1"),
        ("store", "open in this agent"),
        ("peer port (UDP)", "held by this agent"),
        ("peer port (TCP)", "held by this agent"),
        ("API port", "held by this agent"),
        ("proxy port", "held by this agent"),
        ("app", "200 OK"),
        (seed.as_str(), "n2 at"),
    ] {
        let check = check(&report, name);
        assert_eq!(check["verdict"], "ok", "{check}");
        let fact = check["fact"].as_str().unwrap();
        assert!(fact.contains(word), "{check}");
    }

    cluster.command(&["kill", "1", "--app"]).await.unwrap();
    let (output, report) = doctor(&cluster, 1).await;
    assert_eq!(output.code, Some(1), "{report:#}");
    let app = check(&report, "app");
    assert!(
        app["fact"].as_str().unwrap().contains("does not run"),
        "{app}"
    );
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_is_named_and_nothing_is_touched() {
    let cluster = Cluster::prepare("doctor-conflicts", 1).unwrap();
    cluster.layout().write().unwrap();
    let node = cluster.node(1);
    strange_server(node.app());
    let _taken = TcpListener::bind(node.proxy()).unwrap();
    let (output, report) = doctor(&cluster, 1).await;
    assert_eq!(output.code, Some(1), "{report:#}");
    let app = check(&report, "app");
    assert_eq!(app["verdict"], "failure", "{app}");
    assert!(
        app["fact"].as_str().unwrap().contains("another server"),
        "{app}"
    );
    let holder = format!("process {}", std::process::id());
    let proxy = check(&report, "proxy port");
    assert!(proxy["fact"].as_str().unwrap().contains(&holder), "{proxy}");
    assert_eq!(check(&report, "API port")["verdict"], "ok");
    assert!(!node.data_directory().exists(), "nothing was made");
    let secret = fs::read_to_string(cluster.layout().secret_file()).unwrap();
    assert!(!output.stdout.contains(secret.trim()), "{report:#}");
}

#[tokio::test]
async fn a_seed_with_another_secret_and_an_agent_on_the_same_ports_are_told() {
    let cluster = Cluster::prepare("doctor-strangers", 2).unwrap();
    cluster.layout().write().unwrap();
    let other = cluster.node(2).directory().join("other.secret");
    fs::write(&other, "another secret of more than 32 characters").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = cluster.node(2).settings(&other, &[]);
    let settings = settings.replace("jobfirst-cluster-1", "another-cluster");
    fs::write(cluster.node(2).config_file(), settings).unwrap();
    let _stranger = Node::start(cluster.binaries(), cluster.node(2)).unwrap();
    let seed = format!("seed {}", cluster.node(2).peer());
    wait_for_fact(&cluster, 1, &seed, "failure", "another peer secret").await;

    // Node 1 on the ports of node 2: another cluster's agent has them all.
    let secret = cluster.layout().secret_file();
    let mut settings = cluster.node(2).settings(&secret, &[]);
    settings = settings.replace("\"n2\"", "\"n1\"");
    let own_data = cluster.node(1).data_directory();
    let their_data = cluster.node(2).data_directory();
    let settings = settings.replace(their_data.to_str().unwrap(), own_data.to_str().unwrap());
    fs::write(cluster.node(1).config_file(), settings).unwrap();
    wait_for_fact(&cluster, 1, "agent", "failure", "cluster another-cluster").await;
    let (_, report) = doctor(&cluster, 1).await;
    for name in ["peer port (UDP)", "API port", "proxy port"] {
        assert_eq!(check(&report, name)["verdict"], "failure", "{report:#}");
    }
}
