//! The commands of `basic-agent` against a running cluster.

use std::net::TcpListener;

use basic_tests::harness::cluster::{Cluster, Output};
use serde_json::{Value, json};

async fn agent(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command.args(arguments).output().await.unwrap().into()
}

async fn printed(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = agent(cluster, arguments).await;
    assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
    output.stdout
}

#[tokio::test]
async fn data_and_members_are_at_hand_from_the_command_line() {
    let cluster = Cluster::up("command-line", 3).await.unwrap();
    let api = cluster.api(1, "");
    let document = r#"{"name":"梁鑫"}"#;
    printed(
        &cluster,
        &["data", "put", "users", "u1", document, "--api", &api],
    )
    .await;
    let got = printed(&cluster, &["data", "get", "users", "u1", "--api", &api]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&got).unwrap(),
        json!({ "name": "梁鑫" })
    );
    let list = printed(&cluster, &["data", "list", "users", "--api", &api]).await;
    assert!(list.contains("u1"), "{list}");

    let members = printed(&cluster, &["members", "--json", "--api", &api]).await;
    let members: Value = serde_json::from_str(&members).unwrap();
    assert_eq!(
        members["members"].as_array().map(Vec::len),
        Some(3),
        "{members}"
    );
    let status = printed(&cluster, &["status", "--api", &api]).await;
    assert!(status.contains("n1"), "{status}");

    printed(&cluster, &["data", "delete", "users", "u1", "--api", &api]).await;
    let gone = agent(&cluster, &["data", "get", "users", "u1", "--api", &api]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_told_by_exit_code_3() {
    let cluster = Cluster::prepare("nobody", 1).unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let api = format!("http://{free}");
    for command in [
        &["status"][..],
        &["members"],
        &["data", "get", "users", "u1"],
        &["leave"],
    ] {
        let output = agent(&cluster, &[command, &["--api", &api]].concat()).await;
        assert_eq!(output.code, Some(3), "{command:?}: {output:?}");
        assert!(output.stderr.contains(&free.to_string()), "{output:?}");
    }
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_wrong_usage() {
    let cluster = Cluster::prepare("usage", 1).unwrap();
    let output = agent(&cluster, &["frobnicate"]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
}
