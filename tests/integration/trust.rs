//! Agents that do not belong together say so, and stay apart.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::wait::wait_until;
use serde_json::json;

use crate::support::{LIMIT, put};

/// Starts two nodes of which the second was made a stranger, waits until both
/// logs have a warning with `word`, and checks that neither took the other in.
async fn assert_both_refuse(cluster: &Cluster, word: &str) {
    let nodes = [1, 2].map(|number| Node::start(cluster.binaries(), cluster.node(number)).unwrap());
    let client = Client::default();
    for node in &nodes {
        wait_until(
            format!("{} to warn of the {word}", node.layout.id()),
            LIMIT,
            || async {
                let log = node.agent.output();
                let warned = log.lines().any(|line| {
                    (line.contains("WARN") || line.contains("ERROR")) && line.contains(word)
                });
                if warned {
                    Ok(())
                } else {
                    Err(format!("it says:\n{log}"))
                }
            },
        )
        .await
        .unwrap();
    }
    put(
        &client,
        &cluster.api(1, "/v1/data/users/secret"),
        &json!({ "of": "n1" }),
    )
    .await;
    for node in &nodes {
        let api = format!("http://{}", node.layout.api());
        let members = client
            .get(&format!("{api}/v1/members"))
            .await
            .unwrap()
            .json();
        let known = members["members"].as_array().map(Vec::len);
        assert_eq!(
            known,
            Some(1),
            "{} knows only itself: {members}",
            node.layout.id()
        );
    }
    let leaked = client
        .get(&cluster.api(2, "/v1/data/users/secret"))
        .await
        .unwrap();
    assert_eq!(leaked.status, 404, "{}", leaked.text());
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_both_sides_and_said() {
    let cluster = Cluster::prepare("wrong-secret", 2).unwrap();
    cluster.layout().write().unwrap();
    let other = cluster.node(2).directory().join("other.secret");
    fs::write(&other, "another secret of more than 32 characters").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = cluster.node(2).settings(&other, &cluster.layout().seeds());
    fs::write(cluster.node(2).config_file(), settings).unwrap();
    assert_both_refuse(&cluster, "secret").await;
}

#[tokio::test]
async fn a_wrong_cluster_name_is_refused_by_both_sides_and_said() {
    let cluster = Cluster::prepare("wrong-name", 2).unwrap();
    cluster.layout().write().unwrap();
    let config = cluster.node(2).config_file();
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        settings.replace("jobfirst-cluster-1", "another-cluster"),
    )
    .unwrap();
    assert_both_refuse(&cluster, "cluster").await;
}
