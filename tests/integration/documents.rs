//! Data: written on one node, read on all, refused where it makes no sense.

use std::process::Command;
use std::time::{Duration, Instant};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::load::quantile;
use basic_tests::harness::node::Service;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, patch, put, wait_for_document, wait_for_loss};

#[tokio::test]
async fn a_document_written_on_one_node_is_read_on_the_others() {
    let cluster = Cluster::up("documents", 3).await.unwrap();
    let client = Client::default();
    let path = "/v1/data/users/u1";
    let document = json!({ "name": "梁鑫" });
    let written = put(&client, &cluster.api(1, path), &document).await;
    assert!(written.json()["version"].is_string(), "{}", written.text());
    let tag = written
        .header("etag")
        .expect("a write answers the version as ETag")
        .to_owned();
    for node in 1..=3 {
        let read = wait_for_document(&client, &cluster.api(node, path)).await;
        assert_eq!(read.json(), document, "node {node}");
        assert_eq!(read.header("etag"), Some(tag.as_str()), "node {node}");
    }

    let deleted = client.delete(&cluster.api(3, path)).await.unwrap();
    assert!(deleted.status.is_success(), "{}", deleted.text());
    for node in 1..=3 {
        wait_for_loss(&client, &cluster.api(node, path)).await;
    }
}

#[tokio::test]
async fn of_two_writes_to_one_key_every_node_keeps_the_same() {
    let cluster = Cluster::up("two-writes", 3).await.unwrap();
    let client = Client::default();
    let path = "/v1/data/users/contested";
    let (at_1, at_2) = (cluster.api(1, path), cluster.api(2, path));
    let (by_1, by_2) = (json!({ "by": 1 }), json!({ "by": 2 }));
    tokio::join!(put(&client, &at_1, &by_1), put(&client, &at_2, &by_2));
    wait_until("all nodes to agree", LIMIT, || async {
        let mut seen = Vec::new();
        for node in 1..=3 {
            let answer = client
                .get(&cluster.api(node, path))
                .await
                .map_err(|e| e.to_string())?;
            seen.push((answer.text(), answer.header("etag").map(str::to_owned)));
        }
        let agreed = seen
            .iter()
            .all(|one| one.1.is_some() && Some(one) == seen.first());
        if agreed {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
    .unwrap();
}

/// A pull comes once a second, so a median far below that is the live push.
/// Clients of all nodes write to the same documents at once; how collections are merged
/// decides what comes of it, and it is the same everywhere.
#[tokio::test]
async fn writes_at_the_same_time_all_count_where_the_collection_says_so() {
    const ROUNDS: usize = 20;
    let cluster = Cluster::up("merging", 3).await.unwrap();
    let client = Client::default();
    let profile = json!({"n1": 0, "n2": 0, "n3": 0});
    put(&client, &cluster.api(1, "/v1/data/profiles/p"), &profile).await;
    for node in 2..=3 {
        wait_for_document(&client, &cluster.api(node, "/v1/data/profiles/p")).await;
    }
    let writers = (1..=3).map(|node| {
        let (client, cluster) = (&client, &cluster);
        async move {
            for round in 0..ROUNDS {
                let patch = async |path: &str, body: Value| {
                    patch(client, &cluster.api(node, path), &body).await;
                };
                patch("/v1/data/counters/c", json!({"add": node})).await;
                patch(
                    "/v1/data/sets/s",
                    json!({"add": [format!("n{node}-{round}")]}),
                )
                .await;
                patch("/v1/data/profiles/p", json!({format!("n{node}"): round})).await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let mut elements: Vec<String> = (1..=3)
        .flat_map(|node| (0..ROUNDS).map(move |round| format!("n{node}-{round}")))
        .collect();
    elements.sort();
    let last = ROUNDS - 1;
    for (path, expected) in [
        ("/v1/data/counters/c", json!(6 * ROUNDS)),
        ("/v1/data/sets/s", json!(elements)),
        (
            "/v1/data/profiles/p",
            json!({"n1": last, "n2": last, "n3": last}),
        ),
    ] {
        for node in 1..=3 {
            let url = cluster.api(node, path);
            wait_until(format!("{path} of node {node}"), LIMIT, || async {
                let answer = client.get(&url).await.map_err(|e| e.to_string())?;
                match answer.json() {
                    value if value == expected => Ok(()),
                    value => Err(format!("{value}")),
                }
            })
            .await
            .unwrap();
        }
    }
    let refused = client
        .send(
            Request::patch(cluster.api(1, "/v1/data/counters/c"))
                .header("content-type", "application/json")
                .body(Bytes::from_static(b"\"five\""))
                .unwrap(),
        )
        .await
        .unwrap();
    assert_problem(&refused, 400);
}

/// A document that was given a time to live is gone on every node when it is over.
#[tokio::test]
async fn a_document_expires_on_every_node() {
    let cluster = Cluster::up("expiry", 2).await.unwrap();
    let client = Client::default();
    let path = "/v1/data/sessions/s1";
    put(
        &client,
        &cluster.api(1, "/v1/data/sessions/s1?ttl=2s"),
        &json!({"user": "u1"}),
    )
    .await;
    wait_for_document(&client, &cluster.api(2, path)).await;
    for node in 1..=2 {
        wait_for_loss(&client, &cluster.api(node, path)).await;
    }
    let refused = client
        .send(
            Request::put(cluster.api(1, "/v1/data/sessions/s2?ttl=1ms"))
                .header("content-type", "application/json")
                .body(Bytes::from_static(b"{}"))
                .unwrap(),
        )
        .await
        .unwrap();
    assert_problem(&refused, 400);
}

#[tokio::test]
async fn a_write_is_pushed_and_does_not_wait_for_the_next_pull() {
    let cluster = Cluster::up("push", 3).await.unwrap();
    let client = Client::default();
    let mut delays = Vec::new();
    for number in 0..60 {
        let path = format!("/v1/data/pushed/k{number}");
        put(
            &client,
            &cluster.api(1, &path),
            &json!({ "number": number }),
        )
        .await;
        let acknowledged = Instant::now();
        wait_for_document(&client, &cluster.api(2, &path)).await;
        wait_for_document(&client, &cluster.api(3, &path)).await;
        delays.push(acknowledged.elapsed());
    }
    delays.sort_unstable();
    let (median, p99) = (quantile(&delays, 0.5), quantile(&delays, 0.99));
    eprintln!("acknowledged to visible on both others: median {median:?}, p99 {p99:?}");
    assert!(median < Duration::from_millis(300), "median {median:?}");
}

#[tokio::test]
async fn a_listing_pages_through_a_collection_in_key_order() {
    let cluster = Cluster::up("listing", 1).await.unwrap();
    let client = Client::default();
    for number in 0..25 {
        let url = cluster.api(1, &format!("/v1/data/pages/k{number:02}"));
        put(&client, &url, &json!({ "number": number })).await;
    }
    put(&client, &cluster.api(1, "/v1/data/pages/other"), &json!({})).await;
    let mut keys = Vec::new();
    let mut after = String::new();
    loop {
        let query = format!("/v1/data/pages?prefix=k&limit=10&after={after}");
        let page = client.get(&cluster.api(1, &query)).await.unwrap().json();
        let items = page["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no items: {page}"));
        assert!(items.len() <= 10, "{page}");
        for item in items {
            let key = item["key"].as_str().unwrap().to_owned();
            assert_eq!(item["value"]["number"], keys.len());
            keys.push(key);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<_> = (0..25).map(|number| format!("k{number:02}")).collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn a_watch_sees_the_writes_of_other_nodes() {
    let cluster = Cluster::up("watch", 2).await.unwrap();
    let client = Client::default();
    let mut command = Command::new(cluster.binaries().agent());
    command.args([
        "data",
        "watch",
        "users",
        "--json",
        "--api",
        &cluster.api(2, ""),
    ]);
    let watch = Service::start(&mut command, cluster.layout().directory().join("watch")).unwrap();
    let mut number = 0;
    // The watch begins at a moment that is not known here, so write until it shows.
    wait_until("the watch to show a write of the other node", LIMIT, || {
        number += 1;
        let url = cluster.api(1, &format!("/v1/data/users/w{number}"));
        let (client, watch) = (&client, &watch);
        async move {
            put(client, &url, &json!({ "number": number })).await;
            let output = watch.output();
            let shown = output.contains("\"put\"") && output.contains("\"w");
            if shown {
                Ok(())
            } else {
                Err(format!("it shows: {output}"))
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused_with_advice_and_change_nothing() {
    let cluster = Cluster::up("bad-requests", 1).await.unwrap();
    let client = Client::default();
    let send = async |method: Method, path: &str, body: &[u8]| {
        let url = cluster.api(1, path);
        client
            .call(method, &url, Bytes::copy_from_slice(body))
            .await
            .unwrap()
    };

    let malformed = send(Method::PUT, "/v1/data/users/u1", b"{\"name\": ").await;
    assert_problem(&malformed, 400);
    let bad_name = send(Method::PUT, "/v1/data/us%20ers/u1", b"{}").await;
    assert_problem(&bad_name, 400);
    let detail = bad_name.json()["detail"].to_string();
    assert!(
        detail.contains("us ers"),
        "the detail shows the name: {detail}"
    );
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat((1 << 20) + 1));
    let too_large = send(Method::PUT, "/v1/data/users/u1", large.as_bytes()).await;
    assert_problem(&too_large, 413);
    assert_problem(&send(Method::GET, "/v1/data/users/nobody", b"").await, 404);
    assert_problem(&send(Method::GET, "/v1/nothing", b"").await, 404);
    assert_problem(
        &send(Method::GET, "/v1/data/users?limit=many", b"").await,
        400,
    );

    // Also what the router itself refuses.
    for path in [
        "/v1/data/users/%ff",
        "/v1/data/users?limit=1&limit=2",
        "/v1/data/users?limt=1",
        "/v1/watch?from=nonsense",
    ] {
        assert_problem(&send(Method::GET, path, b"").await, 400);
    }
    assert_problem(
        &send(Method::PUT, "/v1/data/users/u1?ack=all", b"{}").await,
        400,
    );
    assert_problem(&send(Method::DELETE, "/v1/status", b"").await, 405);

    let unlabelled = Request::put(cluster.api(1, "/v1/data/users/u1"))
        .header("content-type", "text/plain")
        .body(Bytes::from_static(b"{}"))
        .unwrap();
    assert_problem(&client.send(unlabelled).await.unwrap(), 415);

    let list = client
        .get(&cluster.api(1, "/v1/data/users"))
        .await
        .unwrap()
        .json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_page_of_large_documents_ends_early_and_the_next_one_goes_on() {
    let cluster = Cluster::up("large-page", 1).await.unwrap();
    let client = Client::default();
    let document = json!({ "text": "x".repeat(400_000) });
    for number in 0..5 {
        let url = cluster.api(1, &format!("/v1/data/large/k{number}"));
        client.put_json(&url, &document).await.unwrap();
    }
    let mut after = String::new();
    let mut keys = Vec::new();
    let mut pages = 0;
    loop {
        let path = format!("/v1/data/large?limit=1000&after={after}");
        let page = client.get(&cluster.api(1, &path)).await.unwrap();
        assert!(
            page.body.len() < 2_000_000,
            "a page of {} bytes",
            page.body.len()
        );
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        keys.extend(
            items
                .iter()
                .map(|item| item["key"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    assert!(pages > 1, "all on one page");
}
