//! How far the copies are apart can be seen, and since when.

use std::process::Command;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, put};

const WRITES: u64 = 20;

/// What an agent tells of a peer.
async fn peer(client: &Client, cluster: &Cluster, node: u16, id: &str) -> Result<Value, String> {
    let answer = client.get(&cluster.api(node, "/v1/sync/peers")).await;
    let answer = answer.map_err(|error| error.to_string())?.json();
    let mut peers = answer["peers"].as_array().into_iter().flatten();
    let found = peers.find(|peer| peer["id"] == id).cloned();
    found.ok_or_else(|| format!("no {id}: {answer}"))
}

fn sync_status(cluster: &Cluster, node: u16) -> String {
    let mut command = Command::new(cluster.binaries().agent());
    command.args(["sync", "status", "--api", &cluster.api(node, "")]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    text
}

/// Waits until `sync status` of a node says this.
async fn wait_for_words(cluster: &Cluster, node: u16, words: &str) -> String {
    wait_until(format!("node {node} to say {words:?}"), LIMIT, || async {
        let text = sync_status(cluster, node);
        match text.contains(words) {
            true => Ok(text),
            false => Err(text),
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_a_stopped_peer_lacks_is_shown_with_its_age_until_it_has_it() {
    let cluster = Cluster::up("lag", 3).await.unwrap();
    let client = Client::default();
    put(&client, &cluster.api(1, "/v1/data/lag/first"), &json!(0)).await;
    wait_for_words(&cluster, 1, "every copy has all that is known of").await;
    cluster.command(&["stop", "3", "--agent"]).await.unwrap();
    for number in 0..WRITES {
        let url = cluster.api(1, &format!("/v1/data/lag/k{number}"));
        put(&client, &url, &json!(number)).await;
    }
    // All of one key: the age is that of the first write, which no longer exists.
    let url = cluster.api(1, "/v1/data/lag/k0");
    let late = wait_until("the lag to be three seconds", LIMIT, || async {
        put(&client, &url, &json!("again")).await;
        let peer = peer(&client, &cluster, 1, "n3").await?;
        match peer["unacknowledged_ms"].as_u64() {
            Some(3_000..) => Ok(peer),
            _ => Err(peer.to_string()),
        }
    })
    .await
    .unwrap();
    assert!(late["unacknowledged"].as_u64() > Some(WRITES), "{late}");
    let well = peer(&client, &cluster, 1, "n2").await.unwrap();
    assert!(
        well["unacknowledged_ms"].as_u64().unwrap_or(0) < 3_000,
        "{well}"
    );

    let text = wait_for_words(&cluster, 1, "n3 is linked but was last heard").await;
    let lacks = text.lines().find(|line| line.starts_with("n3 lacks "));
    let lacks = lacks.unwrap_or_else(|| panic!("{text}"));
    assert!(
        lacks.contains("writes of this node, the oldest of them made"),
        "{text}"
    );
    let status = client.get(&cluster.api(1, "/v1/status")).await.unwrap();
    let told = status.json()["sync"]["peers"].clone();
    let told = told
        .as_array()
        .unwrap()
        .iter()
        .find(|peer| peer["id"] == "n3")
        .cloned();
    assert!(told.unwrap()["unacknowledged_ms"].as_u64() >= Some(3_000));
    // The last write may still be on its way to node 2.
    let stats = wait_until("node 3 alone to be behind", LIMIT, || async {
        let stats = client.get(&cluster.api(1, "/v1/sync/stats")).await;
        let stats = stats.map_err(|error| error.to_string())?.json();
        match (stats["peers"].as_u64(), stats["peers_behind"].as_u64()) {
            (Some(2), Some(1)) => Ok(stats),
            _ => Err(stats.to_string()),
        }
    })
    .await
    .unwrap();
    let written = stats["counters"]["written"].as_u64();
    assert!(written > Some(WRITES), "{stats}");

    let all = client
        .get(&cluster.api(1, "/v1/sync/peers"))
        .await
        .unwrap()
        .json();
    let own = all["origins"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["origin"] == all["origin"]);
    let own = own.unwrap_or_else(|| panic!("{all}"));
    assert_eq!(own["node"], "n1");
    assert_eq!(own["here"]["contiguous"], all["written"]);
    assert_eq!(own["peers"]["n2"], own["here"], "{own}");
    let there = own["peers"]["n3"]["contiguous"].as_u64().unwrap();
    assert!(there + WRITES < all["written"].as_u64().unwrap(), "{own}");

    cluster.command(&["cont", "3", "--agent"]).await.unwrap();
    wait_for_words(&cluster, 1, "every copy has all that is known of").await;
    let level = peer(&client, &cluster, 1, "n3").await.unwrap();
    assert_eq!(level["unacknowledged_ms"], Value::Null, "{level}");
}
