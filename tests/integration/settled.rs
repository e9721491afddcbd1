//! Deletions are let go of, and nodes that were away for too long come back by a snapshot.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use basic_tests::harness::cluster::{Cluster, Output};
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, put, wait_for_document, wait_for_state};

/// Writes the files of the nodes, with deletions remembered for two seconds.
fn write_settings(cluster: &Cluster, absent_max: &str) {
    cluster.layout().write().unwrap();
    for node in cluster.layout().iter() {
        let file = fs::File::options().append(true).open(node.config_file());
        write!(
            file.unwrap(),
            "\n[replication]\ntombstone_age = \"2s\"\nabsent_max = \"{absent_max}\"\n"
        )
        .unwrap();
    }
}

fn start(cluster: &Cluster, number: u16) -> Node {
    Node::start(cluster.binaries(), cluster.node(number)).unwrap()
}

async fn start_all(cluster: &Cluster, count: u16) -> Vec<Node> {
    let nodes = (1..=count).map(|number| start(cluster, number)).collect();
    for observer in 1..=count {
        for number in 1..=count {
            wait_for_state(cluster, observer, &format!("n{number}"), "active").await;
        }
    }
    nodes
}

async fn kill(node: &mut Node) {
    assert!(node.agent.signal(Signal::KILL).unwrap());
    node.agent.exit(LIMIT).await.unwrap();
}

async fn agent(cluster: &Cluster, node: u16, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command
        .args(arguments)
        .arg("--api")
        .arg(cluster.api(node, ""));
    command.output().await.unwrap().into()
}

async fn get(cluster: &Cluster, node: u16, path: &str) -> Result<Value, String> {
    let answer = Client::default().get(&cluster.api(node, path)).await;
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status.is_success() {
        true => Ok(answer.json()),
        false => Err(answer.text()),
    }
}

async fn status_of(cluster: &Cluster, node: u16, path: &str) -> u16 {
    let answer = Client::default().get(&cluster.api(node, path)).await;
    answer.unwrap().status.as_u16()
}

async fn counter(cluster: &Cluster, node: u16, name: &str) -> Result<u64, String> {
    let stats = get(cluster, node, "/v1/sync/stats").await?;
    stats["counters"][name].as_u64().ok_or(stats.to_string())
}

/// Waits until a counter of a node is above this.
async fn wait_above(cluster: &Cluster, node: u16, name: &str, floor: u64) {
    let what = format!("node {node} to count more than {floor} as {name}");
    wait_until(what, LIMIT, || async {
        match counter(cluster, node, name).await? {
            count if count > floor => Ok(()),
            count => Err(format!("it counts {count}")),
        }
    })
    .await
    .unwrap();
}

/// Waits until `/v1/sync/peers` of a node is so.
async fn wait_for_peers(cluster: &Cluster, node: u16, what: &str, is: impl Fn(&Value) -> bool) {
    wait_until(format!("node {node}: {what}"), LIMIT, || async {
        let peers = get(cluster, node, "/v1/sync/peers").await?;
        match is(&peers) {
            true => Ok(()),
            false => Err(peers.to_string()),
        }
    })
    .await
    .unwrap();
}

/// How many replicas of a node count, and how many were given up.
fn replicas(peers: &Value, node: &str) -> (usize, usize) {
    let all = peers["replicas"].as_array().unwrap().iter();
    let all: Vec<&Value> = all.filter(|line| line["node"] == node).collect();
    let fenced = all.iter().filter(|line| line["fenced"] == true).count();
    (all.len() - fenced, fenced)
}

/// Waits until the copies of all are the same, deletions that some have let go of included.
async fn wait_until_equal(cluster: &Cluster) {
    wait_until("all nodes to hold the same", LIMIT, || async {
        let output = agent(cluster, 1, &["sync", "verify", "--deep", "--json"]).await;
        let report: Option<Value> = serde_json::from_str(&output.stdout).ok();
        match (output.code, report) {
            (Some(0), Some(report)) if report["in_flight"] == 0 => Ok(()),
            _ => Err(output.stdout + &output.stderr),
        }
    })
    .await
    .unwrap();
}

/// So many writes that who lacks them all takes over a snapshot.
async fn fill(client: &Client, cluster: &Cluster) {
    let url = cluster.api(1, "/v1/data:batch");
    for batch in 0..200 {
        let put = |number| {
            let key = format!("k{batch}-{number}");
            json!({ "op": "put", "collection": "many", "key": key, "value": number })
        };
        let operations: Vec<Value> = (0..256).map(put).collect();
        let body = json!({ "operations": operations });
        let answer = client.post_json(&url, &body).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

async fn delete(cluster: &Cluster, node: u16, path: &str) {
    let answer = Client::default().delete(&cluster.api(node, path)).await;
    let answer = answer.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test]
async fn who_was_away_too_long_comes_back_by_a_snapshot_and_what_only_it_had_is_kept_aside() {
    let cluster = Cluster::prepare("settled", 4).unwrap();
    write_settings(&cluster, "5s");
    let mut nodes = start_all(&cluster, 3).await;
    let client = Client::default();
    for name in ["doomed", "kept"] {
        let path = format!("/v1/data/users/{name}");
        put(&client, &cluster.api(1, &path), &json!({ "here": name })).await;
        for node in 1..=3 {
            wait_for_document(&client, &cluster.api(node, &path)).await;
        }
    }
    // A write that only n3 has.
    for node in &mut nodes[..2] {
        kill(node).await;
    }
    let lonely = "/v1/data/users/lonely";
    put(&client, &cluster.api(3, lonely), &json!({ "alone": 1 })).await;
    kill(&mut nodes[2]).await;
    for number in [1, 2] {
        nodes[usize::from(number) - 1] = start(&cluster, number);
    }
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, &format!("n{}", 3 - observer), "active").await;
    }
    delete(&cluster, 1, "/v1/data/users/doomed").await;
    for node in [1, 2] {
        let given_up = |peers: &Value| replicas(peers, "n3") == (0, 1);
        wait_for_peers(&cluster, node, "n3 is given up", given_up).await;
        wait_above(&cluster, node, "collected", 0).await;
    }
    nodes[2] = start(&cluster, 3);
    wait_above(&cluster, 3, "snapshots_taken", 0).await;
    for node in 1..=3 {
        let back = |peers: &Value| replicas(peers, "n3") == (1, 1) && peers["filling"].is_null();
        wait_for_peers(&cluster, node, "n3 is back as another", back).await;
    }
    wait_for_document(&client, &cluster.api(3, "/v1/data/users/kept")).await;
    for node in 1..=3 {
        let path = "/v1/data/users/doomed";
        assert_eq!(status_of(&cluster, node, path).await, 404, "node {node}");
        assert_eq!(status_of(&cluster, node, lonely).await, 404, "node {node}");
    }
    let listed = agent(&cluster, 3, &["sync", "exported", "--json"]).await;
    let list: Value = serde_json::from_str(&listed.stdout).unwrap();
    let of_users = list["items"].as_array().unwrap().iter();
    let of_users: Vec<_> = of_users
        .filter(|item| item["collection"] == "users")
        .map(|item| (&item["node"], &item["key"], &item["value"]))
        .collect();
    let expected = (&json!("n3"), &json!("lonely"), &json!({ "alone": 1 }));
    assert_eq!(of_users, [expected], "{list}");

    let arguments = ["sync", "exported", "--write", "users/lonely", "--by", "ann"];
    let written = agent(&cluster, 3, &arguments).await;
    assert_eq!(written.code, Some(0), "{written:?}");
    for node in 1..=3 {
        let read = wait_for_document(&client, &cluster.api(node, lonely)).await;
        assert_eq!(read.json(), json!({ "alone": 1 }));
    }
    agent(&cluster, 3, &["sync", "exported", "--drop", "--all"]).await;
    let left = get(&cluster, 3, "/v1/sync/exported").await.unwrap();
    assert_eq!(left["total"], 0, "{left}");
    let audit = get(&cluster, 3, "/v1/audit").await.unwrap();
    let carried_out = |one: &Value| {
        one["action"] == "write-exported" && one["by"] == "ann" && one["after"]["written"] == 1
    };
    assert!(
        audit["items"].as_array().unwrap().iter().any(carried_out),
        "{audit}"
    );

    // A new one that lacks much gets all that there is by a snapshot too.
    fill(&client, &cluster).await;
    nodes.push(start(&cluster, 4));
    wait_for_state(&cluster, 1, "n4", "active").await;
    wait_above(&cluster, 4, "snapshots_taken", 0).await;
    wait_for_document(&client, &cluster.api(4, "/v1/data/users/kept")).await;
    assert_eq!(status_of(&cluster, 4, "/v1/data/users/doomed").await, 404);
    wait_until_equal(&cluster).await;
}

#[tokio::test]
async fn deletions_are_let_go_of_everywhere_and_a_removed_node_is_not_waited_for() {
    let cluster = Cluster::prepare("settled-removed", 3).unwrap();
    write_settings(&cluster, "1h");
    let mut nodes = start_all(&cluster, 3).await;
    let client = Client::default();
    for name in ["first", "second"] {
        let path = format!("/v1/data/users/{name}");
        put(&client, &cluster.api(1, &path), &json!(1)).await;
    }
    let backup = cluster.layout().directory().join("old.backup");
    let backup = backup.to_string_lossy().into_owned();
    for node in 1..=3 {
        wait_for_document(&client, &cluster.api(node, "/v1/data/users/second")).await;
    }
    let taken = agent(&cluster, 1, &["backup", "--output", &backup]).await;
    assert_eq!(taken.code, Some(0), "{taken:?}");
    delete(&cluster, 2, "/v1/data/users/first").await;
    for node in 1..=3 {
        wait_above(&cluster, node, "collected", 0).await;
    }
    wait_until_equal(&cluster).await;

    // The deletion is forgotten, and what it deleted does not come back by an old backup.
    let merged = agent(&cluster, 3, &["restore", &backup, "--json"]).await;
    let report: Value = serde_json::from_str(&merged.stdout).unwrap();
    assert_eq!(
        (&report["deleted"], &report["taken_in"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(status_of(&cluster, 3, "/v1/data/users/first").await, 404);
    wait_until_equal(&cluster).await;

    kill(&mut nodes[2]).await;
    wait_for_state(&cluster, 1, "n3", "failed").await;
    wait_for_state(&cluster, 2, "n3", "failed").await;
    delete(&cluster, 1, "/v1/data/users/second").await;
    let deleted_at = SystemTime::now() + Duration::from_secs(1);
    let deleted_at = humantime::format_rfc3339_millis(deleted_at).to_string();
    let before = [1, 2].map(|node| counter(&cluster, node, "collected"));
    let before = futures_util::future::join_all(before).await;
    // They would let go of it now, but for n3.
    for node in [1, 2] {
        let settled = |peers: &Value| {
            let upto = peers["deletions_settled_to"].as_str();
            upto.is_some_and(|upto| upto > deleted_at.as_str())
        };
        wait_for_peers(&cluster, node, "its floor is beyond the deletion", settled).await;
    }
    let after = [1, 2].map(|node| counter(&cluster, node, "collected"));
    assert_eq!(futures_util::future::join_all(after).await, before);

    let removed = agent(&cluster, 1, &["remove", "n3", "--yes"]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    for (node, before) in (1..).zip(before) {
        let given_up = |peers: &Value| replicas(peers, "n3") == (0, 1);
        wait_for_peers(&cluster, node, "n3 is given up", given_up).await;
        wait_above(&cluster, node, "collected", before.unwrap()).await;
    }
    // On purpose it comes back all the same.
    let anew = agent(&cluster, 1, &["restore", &backup, "--as-new"]).await;
    assert_eq!(anew.code, Some(0), "{anew:?}");
    for node in [1, 2] {
        wait_for_document(&client, &cluster.api(node, "/v1/data/users/first")).await;
    }
}
