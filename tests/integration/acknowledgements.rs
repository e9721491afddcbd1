//! Writes that wait for the disks of peers: answered once they are there, or with what was reached.

use std::time::{Duration, Instant};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, put, wait_for_document, wait_for_state};

/// How long a write waits unless it says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);

fn document(key: &str) -> String {
    format!("/v1/data/acked/{key}")
}

/// Writes by node 1, for as many peers as the query says.
async fn write(client: &Client, cluster: &Cluster, key: &str, query: &str) -> Answer {
    let url = cluster.api(1, &format!("{}?{query}", document(key)));
    client.put_json(&url, &json!({ "key": key })).await.unwrap()
}

/// Asserts that it was answered so, when so many peers had it.
fn assert_acked(answer: &Answer, status: u16, acks: u64) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.json()["acks"], acks, "{text}");
}

/// Whether a node has, at this moment, what was written.
async fn has(client: &Client, cluster: &Cluster, node: u16, key: &str, written: &Answer) -> bool {
    let read = client.get(&cluster.api(node, &document(key))).await;
    let read = read.unwrap();
    read.json() == json!({ "key": key }) && read.header("etag") == written.header("etag")
}

#[tokio::test]
async fn a_write_is_on_as_many_peers_as_it_asked_for_when_it_is_answered() {
    const ROUNDS: usize = 20;
    let cluster = Cluster::up("acks", 3).await.unwrap();
    let client = Client::with_timeout(LIMIT);
    let mut everywhere = Vec::new();
    for round in 0..ROUNDS {
        for (asked, least) in [("0", 0), ("1", 1), ("2", 2), ("all", 2)] {
            let key = format!("k{round}-{asked}");
            let query = format!("acks={asked}&timeout=30s");
            let written = write(&client, &cluster, &key, &query).await;
            // Read before anything else is done: it may not be on its way any more.
            let mut seen = 0;
            for node in 2..=3 {
                seen += u64::from(has(&client, &cluster, node, &key, &written).await);
            }
            assert_eq!(written.status, 200, "{}", written.text());
            let acks = written.json()["acks"].as_u64().unwrap();
            assert!((least..=2).contains(&acks), "{asked}: {}", written.text());
            assert!(seen >= acks, "{asked}: {seen} have it, {acks} said so");
            if least == 2 {
                everywhere.push((key, written));
            }
        }
    }
    let plain = put(&client, &cluster.api(1, &document("plain")), &json!(1)).await;
    assert_acked(&plain, 200, 0);

    let path = "/v1/data/counters/c?acks=all&timeout=30s";
    let add = Bytes::from_static(b"{\"add\":5}");
    let patched = client
        .call(Method::PATCH, &cluster.api(1, path), add)
        .await
        .unwrap();
    assert_acked(&patched, 200, 2);
    for node in 2..=3 {
        let read = client.get(&cluster.api(node, "/v1/data/counters/c")).await;
        assert_eq!(read.unwrap().json(), 5, "node {node}");
    }
    let (gone, _) = everywhere.pop().unwrap();
    let path = format!("{}?acks=2&timeout=30s", document(&gone));
    let deleted = client.delete(&cluster.api(1, &path)).await.unwrap();
    assert_acked(&deleted, 200, 2);
    for node in 2..=3 {
        let read = client.get(&cluster.api(node, &document(&gone))).await;
        assert_problem(&read.unwrap(), 404);
    }

    // On their disks, and not in their memory only: nobody is left who could send it again.
    for node in ["1", "2", "3"] {
        cluster.command(&["kill", node, "--agent"]).await.unwrap();
    }
    for (node, other) in [(2, "3"), (3, "2")] {
        let number = node.to_string();
        cluster.command(&["restart", &number]).await.unwrap();
        for (key, written) in &everywhere {
            let kept = has(&client, &cluster, node, key, written).await;
            assert!(kept, "node {node} has lost {key}, started before {other}");
        }
        let read = client.get(&cluster.api(node, &document(&gone))).await;
        assert_problem(&read.unwrap(), 404);
        cluster
            .command(&["kill", &number, "--agent"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_write_that_a_stopped_peer_lacks_is_kept_and_arrives_when_it_is_back() {
    let cluster = Cluster::up("acks-stopped", 3).await.unwrap();
    let client = Client::with_timeout(LIMIT);
    assert_acked(
        &write(&client, &cluster, "first", "acks=2&timeout=30s").await,
        200,
        2,
    );
    cluster.command(&["stop", "3", "--agent"]).await.unwrap();

    // One can be reached, and is.
    let one = write(&client, &cluster, "one", "acks=1&timeout=30s").await;
    assert_acked(&one, 200, 1);
    assert!(has(&client, &cluster, 2, "one", &one).await);

    let mut late = vec![("one".to_owned(), one)];
    for asked in ["2", "all", "99"] {
        let began = Instant::now();
        let query = format!("acks={asked}&timeout=1s");
        let answer = write(&client, &cluster, asked, &query).await;
        let waited = began.elapsed();
        assert_acked(&answer, 202, 1);
        let in_time = (Duration::from_secs(1)..WAIT_DEFAULT).contains(&waited);
        assert!(in_time, "acks={asked} was answered after {waited:?}");
        for node in 1..=2 {
            let kept = has(&client, &cluster, node, asked, &answer).await;
            assert!(kept, "node {node} lacks what was written for {asked}");
        }
        late.push((asked.to_owned(), answer));
    }
    let gone = format!("{}?acks=2&timeout=300ms", document("first"));
    let deleted = client.delete(&cluster.api(1, &gone)).await.unwrap();
    assert_acked(&deleted, 202, 1);
    let batch = json!({"operations": [
        {"op": "put", "collection": "acked", "key": "b1", "value": 1},
        {"op": "put", "collection": "acked", "key": "b2", "value": 2},
    ]});
    let url = cluster.api(1, "/v1/data:batch?acks=2&timeout=300ms");
    let batched = client.post_json(&url, &batch).await.unwrap();
    assert_acked(&batched, 202, 1);

    // One that waits is answered when the peer is back, and not before.
    let released = async {
        wait_for_document(&client, &cluster.api(2, &document("waits"))).await;
        cluster.command(&["cont", "3", "--agent"]).await.unwrap();
    };
    let waits = write(&client, &cluster, "waits", "acks=2&timeout=60s");
    let (waits, ()) = tokio::join!(waits, released);
    assert_acked(&waits, 200, 2);
    late.push(("waits".to_owned(), waits));
    // Those before it are there with it.
    for (key, written) in &late {
        assert!(
            has(&client, &cluster, 3, key, written).await,
            "node 3 lacks {key}"
        );
    }
    let read = client.get(&cluster.api(3, &document("first"))).await;
    assert_problem(&read.unwrap(), 404);
    for (key, value) in [("b1", 1), ("b2", 2)] {
        let read = client.get(&cluster.api(3, &document(key))).await;
        assert_eq!(read.unwrap().json(), value);
    }
}

/// All are those that belong to the cluster: one that failed has to come back, one that has left has not.
#[tokio::test]
async fn a_failed_peer_counts_among_all_and_one_that_has_left_does_not() {
    let cluster = Cluster::up("acks-failed", 3).await.unwrap();
    let client = Client::with_timeout(LIMIT);
    cluster.command(&["kill", "3", "--agent"]).await.unwrap();
    wait_for_state(&cluster, 1, "n3", "failed").await;
    let without = write(&client, &cluster, "without", "acks=all&timeout=1s").await;
    assert_acked(&without, 202, 1);
    assert!(has(&client, &cluster, 2, "without", &without).await);

    cluster.command(&["restart", "3"]).await.unwrap();
    wait_for_document(&client, &cluster.api(3, &document("without"))).await;
    assert!(has(&client, &cluster, 3, "without", &without).await);
    let with = write(&client, &cluster, "with", "acks=all&timeout=30s").await;
    assert_acked(&with, 200, 2);

    cluster.command(&["leave", "3"]).await.unwrap();
    wait_for_state(&cluster, 1, "n3", "left").await;
    wait_until("node 1 to wait for node 2 only", LIMIT, || async {
        let answer = write(&client, &cluster, "two", "acks=all&timeout=1s").await;
        match (answer.status.as_u16(), answer.json()["acks"].as_u64()) {
            (200, Some(1)) => Ok(()),
            _ => Err(answer.text()),
        }
    })
    .await
    .unwrap();
    assert_acked(
        &write(&client, &cluster, "three", "acks=2&timeout=300ms").await,
        202,
        1,
    );
}

#[tokio::test]
async fn a_number_of_peers_or_a_time_that_makes_no_sense_is_refused_and_nothing_is_written() {
    let cluster = Cluster::up("acks-refused", 1).await.unwrap();
    let client = Client::default();
    for (query, named) in [
        ("acks=-1", "acks"),
        ("acks=x", "acks"),
        ("acks=", "acks"),
        ("acks=ALL", "acks"),
        ("acks=1.5", "acks"),
        ("acks=18446744073709551616", "acks"),
        ("acks=1&acks=2", "acks"),
        ("timeout=x", "timeout"),
        ("timeout=", "timeout"),
        ("timeout=5", "timeout"),
        ("timeout=-1s", "timeout"),
        ("timeout=61s", "timeout"),
        ("acks=1&timeout=x", "timeout"),
    ] {
        let url = cluster.api(1, &format!("{}?{query}", document("k")));
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let body = match method {
                Method::DELETE => Bytes::new(),
                _ => Bytes::from_static(b"{}"),
            };
            let refused = client.call(method, &url, body).await.unwrap();
            assert_problem(&refused, 400);
            let text = refused.text();
            assert!(text.contains(named), "{query}: {text}");
        }
        let url = cluster.api(1, &format!("/v1/data:batch?{query}"));
        let operation = json!({"op": "put", "collection": "acked", "key": "b", "value": 1});
        let batch = json!({ "operations": [operation] });
        assert_problem(&client.post_json(&url, &batch).await.unwrap(), 400);
    }
    let list = client.get(&cluster.api(1, "/v1/data/acked")).await.unwrap();
    assert_eq!(list.json()["items"], Value::Array(Vec::new()));

    // Who is alone is all there is; one more is one too many, for however short a time.
    let alone = write(&client, &cluster, "k", "acks=all").await;
    assert_acked(&alone, 200, 0);
    for query in ["acks=1&timeout=0s", "acks=99&timeout=10ms"] {
        let answer = write(&client, &cluster, "k", query).await;
        assert_acked(&answer, 202, 0);
        assert!(has(&client, &cluster, 1, "k", &answer).await, "{query}");
    }
    let longest = write(&client, &cluster, "k", "acks=0&timeout=60s").await;
    assert_acked(&longest, 200, 0);
}
