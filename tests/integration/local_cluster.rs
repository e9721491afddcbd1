//! `scripts/cluster` itself: what it answers when things are not as expected.

use std::net::TcpListener;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;

#[tokio::test]
async fn up_twice_finds_the_cluster_running() {
    let cluster = Cluster::up("up-twice", 2).await.unwrap();
    let before = cluster.command(&["env"]).await.unwrap().stdout;
    let again = cluster.start().await.unwrap();
    assert!(again.stdout.contains("runs already"), "{again:?}");
    assert_eq!(
        cluster.command(&["env"]).await.unwrap().stdout,
        before,
        "nothing was restarted"
    );

    let other = cluster.attempt(&["up", "-n", "1"]).await.unwrap();
    assert_eq!(other.code, Some(1), "another size: {other:?}");
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_stays_behind() {
    let cluster = Cluster::prepare("taken-port", 2).unwrap();
    let proxy = cluster.node(2).proxy();
    let _taken = TcpListener::bind(proxy).unwrap();
    let nodes = [
        "-n",
        "2",
        "--base-port",
        &cluster.layout().base_port().to_string(),
    ];
    let up = cluster
        .attempt(&[&["up"][..], &nodes].concat())
        .await
        .unwrap();
    assert_eq!(up.code, Some(1), "{up:?}");
    let named = format!("port {} is taken: the proxy of node 2", proxy.port());
    assert!(up.stderr.contains(&named), "{up:?}");
    assert_eq!(cluster.attempt(&["status"]).await.unwrap().code, Some(3));
}

#[tokio::test]
async fn a_paused_node_is_shown_and_goes_on() {
    let cluster = Cluster::up("pause", 2).await.unwrap();
    cluster.command(&["stop", "2", "--agent"]).await.unwrap();
    let paused = cluster.attempt(&["status"]).await.unwrap();
    assert_eq!(paused.code, Some(1), "{paused:?}");
    assert!(paused.stdout.contains("paused"), "{paused:?}");
    let refused = cluster.attempt(&["restart", "2"]).await.unwrap();
    assert!(refused.stderr.contains("cont 2"), "{refused:?}");
    cluster.command(&["cont", "2"]).await.unwrap();
    cluster.command(&["status"]).await.unwrap();
}

#[tokio::test]
async fn env_names_the_processes_and_down_ends_them() {
    let cluster = Cluster::up("env", 1).await.unwrap();
    let env = cluster.command(&["env"]).await.unwrap();
    let proxy = env.variable("PROXY_1").unwrap().to_owned();
    let whoami = Client::default()
        .get(&format!("{proxy}/whoami"))
        .await
        .unwrap()
        .json();
    assert_eq!(
        env.variable("APP_PID_1"),
        Some(whoami["pid"].to_string().as_str())
    );
    let logs = cluster.command(&["logs", "1"]).await.unwrap();
    assert!(!logs.stdout.is_empty());

    cluster.command(&["down"]).await.unwrap();
    assert!(Client::default().get(&proxy).await.unwrap_err().is_unsent());
    for command in ["status", "env", "down"] {
        let output = cluster.attempt(&[command]).await.unwrap();
        assert_eq!(output.code, Some(3), "{command}: {output:?}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_exist_is_wrong_usage() {
    let cluster = Cluster::up("no-such-node", 1).await.unwrap();
    for command in ["kill", "restart", "leave", "logs"] {
        let output = cluster.attempt(&[command, "7"]).await.unwrap();
        assert_eq!(output.code, Some(2), "{command}: {output:?}");
    }
}
