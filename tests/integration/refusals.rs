//! What an agent refuses to start with, and what it says then.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::node::{Service, agent_command_with};

use crate::support::LIMIT;

/// A cluster that is written down but not started, with one edit to the
/// configuration of its node.
fn edited(name: &str, edit: impl Fn(String) -> String) -> Cluster {
    let cluster = Cluster::prepare(name, 1).unwrap();
    cluster.layout().write().unwrap();
    let config = cluster.node(1).config_file();
    let settings = edit(fs::read_to_string(&config).unwrap());
    fs::write(&config, settings).unwrap();
    cluster
}

/// The number of the first line that contains `text`, from 1.
fn line_of(config: &Path, text: &str) -> usize {
    let settings = fs::read_to_string(config).unwrap();
    settings
        .lines()
        .position(|line| line.contains(text))
        .unwrap()
        + 1
}

/// Runs the agent, which must end by itself, and returns its code and words.
async fn refusal(cluster: &Cluster, config: &Path) -> (Option<i32>, String) {
    let log = cluster.layout().directory().join("refusal.log");
    let mut command = agent_command_with(&cluster.binaries().agent(), config);
    let mut agent = Service::start(&mut command, log).unwrap();
    let status = agent.exit(LIMIT).await.unwrap();
    (status.code(), agent.output())
}

fn assert_says(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "{part:?} is missing in:\n{output}");
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let cluster = edited("unknown-key", |text| {
        text.replace("advertise =", "advertize =")
    });
    let config = cluster.node(1).config_file();
    let (code, output) = refusal(&cluster, &config).await;
    assert_eq!(code, Some(2), "{output}");
    let place = format!("{}:{}", config.display(), line_of(&config, "advertize"));
    assert_says(&output, &[&place, "advertize", "\"advertise\""]);
    assert!(
        !cluster.node(1).data_directory().exists(),
        "refused before anything starts"
    );
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused_with_its_line() {
    let cluster = edited("wrong-type", |text| {
        text.replace("[app]", "[app]\nweight = \"heavy\"")
    });
    let config = cluster.node(1).config_file();
    let (code, output) = refusal(&cluster, &config).await;
    assert_eq!(code, Some(2), "{output}");
    let place = format!("{}:{}", config.display(), line_of(&config, "heavy"));
    assert_says(&output, &[&place, "weight"]);
}

#[tokio::test]
async fn all_mistakes_of_a_file_are_told_at_once() {
    let cluster = edited("all-mistakes", |text| {
        text.replace("advertise =", "advertize =")
            .replace("[proxy]", "[proxi]")
    });
    let (code, output) = refusal(&cluster, &cluster.node(1).config_file()).await;
    assert_eq!(code, Some(2), "{output}");
    assert_says(
        &output,
        &["advertize", "\"advertise\"", "[proxi]", "[proxy]"],
    );
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let cluster = edited("missing-file", |text| text);
    let missing = cluster.layout().directory().join("nowhere.toml");
    let (code, output) = refusal(&cluster, &missing).await;
    assert_eq!(code, Some(2), "{output}");
    assert_says(&output, &[&missing.display().to_string()]);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let cluster = edited("port-in-use", |text| text);
    let node = cluster.node(1);
    let settings = [
        (node.peer(), "[peer] listen"),
        (node.api(), "[api] listen"),
        (node.proxy(), "[proxy] listen"),
    ];
    for (address, setting) in settings {
        let _taken = TcpListener::bind(address).unwrap();
        assert_names(&cluster, address, setting).await;
    }
    let _taken = UdpSocket::bind(node.peer()).unwrap();
    assert_names(&cluster, node.peer(), "[peer] listen").await;
}

async fn assert_names(cluster: &Cluster, address: SocketAddr, setting: &str) {
    let log = cluster.layout().directory().join("refusal.log");
    let _ = fs::remove_file(log);
    let (code, output) = refusal(cluster, &cluster.node(1).config_file()).await;
    assert_eq!(code, Some(1), "{output}");
    assert_says(&output, &[&address.to_string(), setting]);
}
