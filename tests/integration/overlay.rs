//! Beyond the full mesh, with real processes: nodes link to few others, and writes reach
//! all.

use std::time::Instant;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use http::Method;
use serde_json::Value;

use crate::support::{LIMIT, wait_for_document};

/// One more than a node links to in a full mesh, and itself.
const NODES: u16 = 66;

/// The peers of a node, and to how many of them it is linked.
async fn links(client: &Client, cluster: &Cluster, node: u16) -> (Vec<Value>, usize) {
    let answer = client.get(&cluster.api(node, "/v1/sync/peers")).await;
    let peers = answer.unwrap().json()["peers"].as_array().unwrap().clone();
    let linked = peers.iter().filter(|peer| peer["linked"] == true).count();
    (peers, linked)
}

async fn wait_for_all(client: &Client, cluster: &Cluster, name: &str, but: &[u16]) {
    for node in (1..=NODES).filter(|node| !but.contains(node)) {
        wait_for_document(
            client,
            &cluster.api(node, &format!("/v1/data/users/{name}")),
        )
        .await;
    }
}

/// Writes as soon as the node takes writes. While so many agents start on few processors, what
/// they tell each other takes so long that clocks seem to be wrong.
async fn write(client: &Client, cluster: &Cluster, node: u16, path: &str) -> Value {
    let url = cluster.api(node, &format!("/v1/data/users/{path}"));
    wait_until(format!("node {node} to take a write"), LIMIT, || async {
        let answer = client.call(Method::PUT, &url, "{}".into()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 => Ok(answer.json()),
            status => Err(format!("{status}: {}", answer.text())),
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn writes_reach_more_nodes_than_a_mesh_has_over_few_links_also_when_some_are_killed() {
    let cluster = Cluster::up("overlay", NODES).await.unwrap();
    let client = Client::default();
    for node in [1, 30, NODES] {
        wait_until(format!("node {node} to be linked"), LIMIT, || async {
            let (peers, linked) = links(&client, &cluster, node).await;
            match peers.len() == usize::from(NODES) - 1 && (3..=20).contains(&linked) {
                true => Ok(()),
                false => Err(format!("{linked} of {} are linked", peers.len())),
            }
        })
        .await
        .unwrap();
    }
    write(&client, &cluster, 1, "first").await;
    let began = Instant::now();
    wait_for_all(&client, &cluster, "first", &[]).await;
    println!(
        "{NODES} nodes had a write, asked one after the other, after {:?}",
        began.elapsed()
    );

    // Who is not linked to counts too.
    let began = Instant::now();
    let answer = write(&client, &cluster, 33, "everywhere?acks=all").await;
    assert_eq!(answer["acks"], NODES - 1, "{answer}");
    println!("all had acknowledged another after {:?}", began.elapsed());

    // Three of those by whom the first node's writes go on.
    let (peers, _) = links(&client, &cluster, 1).await;
    let near = peers
        .iter()
        .filter(|peer| peer["linked"] == true && peer["lazy"] == false);
    let near = near.filter_map(|peer| peer["id"].as_str()?.strip_prefix('n')?.parse().ok());
    let killed: Vec<u16> = near.take(3).collect();
    assert!(!killed.is_empty(), "{peers:?}");
    for node in &killed {
        let node = node.to_string();
        cluster.command(&["kill", &node, "--agent"]).await.unwrap();
    }
    write(&client, &cluster, 1, "without-them").await;
    wait_for_all(&client, &cluster, "without-them", &killed).await;

    for node in &killed {
        cluster
            .command(&["restart", &node.to_string()])
            .await
            .unwrap();
    }
    wait_for_all(&client, &cluster, "without-them", &[]).await;
}
