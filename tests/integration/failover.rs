//! Nodes die under load; clients of the others do not notice.
//!
//! GETs may be repeated on another node, so none may be lost. POSTs may be lost
//! when their node dies with them, but must never arrive twice.

use std::time::Duration;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::load::{Load, Report};

use crate::support::{member, wait_for_state};

/// How long requests go on before and after the blow.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(10);

/// The reports of what was sent through the proxy of node 1 around the blow.
struct Traffic {
    gets: Report,
    posts: Report,
}

async fn traffic_around(cluster: &Cluster, blow: &[&str]) -> Traffic {
    let gets = Load::get(&cluster.proxy(1, "/whoami"))
        .unwrap()
        .per_second(100)
        .start();
    let posts = Load::post(&cluster.proxy(1, "/count"))
        .unwrap()
        .per_second(50)
        .start();
    tokio::time::sleep(BEFORE).await;
    cluster.command(blow).await.unwrap();
    tokio::time::sleep(AFTER).await;
    let (gets, posts) = tokio::join!(gets.stop(), posts.stop());
    eprintln!("{}\nGET: {gets}\nPOST: {posts}", blow.join(" "));
    Traffic { gets, posts }
}

impl Traffic {
    fn assert_no_get_was_lost(&self) {
        let failures = self.gets.failures();
        assert!(
            failures.is_empty(),
            "{} GETs were lost: {failures:?}",
            failures.len()
        );
        // Node 2 answered before it was hit, or the test would show nothing.
        assert!(
            self.gets.answers_by_node().contains_key("n2"),
            "{}",
            self.gets
        );
    }

    /// Asks the servers that still have their counts.
    async fn assert_no_post_came_twice(&self, cluster: &Cluster, servers: &[u16]) {
        let client = Client::default();
        assert!(!self.posts.outcomes.is_empty());
        for outcome in &self.posts.outcomes {
            let mut count = 0;
            for server in servers {
                let url = cluster.app(*server, &format!("/count/{}", outcome.id));
                count += client.get(&url).await.unwrap().json()["count"]
                    .as_u64()
                    .unwrap();
            }
            assert!(
                count <= 1,
                "{} was sent {count} times: {outcome:?}",
                outcome.id
            );
        }
    }
}

#[tokio::test]
async fn killing_a_node_loses_no_get() {
    let cluster = Cluster::up("kill-node", 3).await.unwrap();
    let traffic = traffic_around(&cluster, &["kill", "2"]).await;
    traffic.assert_no_get_was_lost();
    traffic.assert_no_post_came_twice(&cluster, &[1, 3]).await;
    for observer in [1, 3] {
        wait_for_state(&cluster, observer, "n2", "failed").await;
    }
}

#[tokio::test]
async fn killing_only_the_server_of_a_node_loses_no_get() {
    let cluster = Cluster::up("kill-server", 3).await.unwrap();
    let traffic = traffic_around(&cluster, &["kill", "2", "--app"]).await;
    traffic.assert_no_get_was_lost();
    traffic.assert_no_post_came_twice(&cluster, &[1, 3]).await;

    // Two facts, kept apart: the agent lives, its server does not.
    let client = Client::default();
    let node = member(&client, &cluster.api(1, ""), "n2").await.unwrap();
    assert_eq!(node["app"]["healthy"], false, "{node}");
    assert_ne!(node["state"], "failed", "{node}");

    cluster.command(&["restart", "2"]).await.unwrap();
    wait_for_server(&cluster, "n2").await;
}

#[tokio::test]
async fn killing_only_the_agent_of_a_node_loses_no_get() {
    let cluster = Cluster::up("kill-agent", 3).await.unwrap();
    let traffic = traffic_around(&cluster, &["kill", "2", "--agent"]).await;
    traffic.assert_no_get_was_lost();
    traffic
        .assert_no_post_came_twice(&cluster, &[1, 2, 3])
        .await;
    wait_for_state(&cluster, 1, "n2", "failed").await;
}

/// Waits until the proxy of node 1 gives requests to this node.
async fn wait_for_server(cluster: &Cluster, id: &str) {
    let client = Client::default();
    let url = cluster.proxy(1, "/whoami");
    basic_tests::harness::wait::wait_until(
        format!("{id} to answer through node 1"),
        crate::support::LIMIT,
        || async {
            let answer = client.get(&url).await.map_err(|error| error.to_string())?;
            match answer.header("basic-node") {
                Some(node) if node == id => Ok(()),
                other => Err(format!("{other:?} answered")),
            }
        },
    )
    .await
    .unwrap();
}
