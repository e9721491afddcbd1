//! A peer that has the cluster's secret and sends what no agent would send.
//!
//! It shows a certificate of the cluster, so that everything it says is read. What cannot
//! be understood costs it the connection, what is not sound changes nothing, and what is
//! sound is taken for what it is; the agent answers all the while, and its memory is bounded.

mod scene;

use std::time::Duration;

use basic_agent::peer_port::{ConnectError, Protocol};
use basic_sync::codec::{self, FRAME_BYTES_MAX, LENGTH_BYTES};
use basic_sync::model::{SEQ_MAX, SeqRange, Timestamp, Version, VersionVector};
use basic_sync::protocol::{Message, PullChunk};
use basic_tests::harness::wait::wait_until;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use self::scene::{
    CLUSTER, Scene, closed, delta, greet, now, origin, push, relayed, send, standing, wall_ms,
};
use crate::support::{LIMIT, put, wait_for_document};

#[tokio::test]
async fn garbage_half_frames_and_length_bombs_cost_the_connection_and_nothing_else() {
    let scene = Scene::new("garbage-peer").await;
    let before = scene.resident();
    let good = push(delta(1, now(), "first", "{}"));
    let body = &good[LENGTH_BYTES..];
    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[..], body].concat()
    };
    // Eight bytes that announce a million writes.
    let bomb = framed(&[1, 0, 252, 64, 66, 15, 0, 0]);
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    let noise: Vec<u8> = (0..4096_u32).map(|at| (at * 167 % 251) as u8).collect();
    for (what, bytes) in [
        ("noise", noise.clone()),
        ("noise in a frame", framed(&noise)),
        ("an empty frame", 0_u32.to_be_bytes().to_vec()),
        ("a length bomb", u32::MAX.to_be_bytes().to_vec()),
        ("a frame one byte too long", too_long.to_be_bytes().to_vec()),
        ("a count bomb", bomb),
        (
            "a codec that nobody knows",
            framed(&[&[9], &body[1..]].concat()),
        ),
        ("bytes after the message", framed(&[body, &[0]].concat())),
        ("a message cut short", framed(&body[..body.len() - 1])),
        (
            "a date after the last",
            push(delta(2, Timestamp(u64::MAX), "late", "{}")),
        ),
        ("a write of number 0", push(delta(0, now(), "zero", "{}"))),
        (
            "a document that is no JSON",
            push(delta(3, now(), "nonsense", "{")),
        ),
        (
            "a document nested too deep",
            push(delta(4, now(), "deep", &"[".repeat(100_000))),
        ),
    ] {
        let mut stream = scene.greeted().await;
        send(&mut stream, &bytes).await;
        closed(stream, what).await;
        if let Some(found) = scene.document("first").await {
            panic!("{what} left {found:?}");
        }
    }
    for (what, bytes) in [("noise", noise), ("no greeting", good.clone())] {
        let mut stream = scene.connected("n9").await;
        send(&mut stream, &bytes).await;
        closed(stream, what).await;
    }
    for key in ["late", "zero", "nonsense", "deep"] {
        assert_eq!(scene.document(key).await, None);
    }
    half_frames(&scene).await;
    scene.assert_well(before).await;
    // Nothing of all that stands in the way of who keeps to the rules.
    let mut stream = scene.greeted().await;
    send(&mut stream, &good).await;
    wait_for_document(&scene.client, &scene.url("first")).await;
}

/// Many connections that announce as much as may be, send half of it, and fall silent; some
/// of them hang up. Clients are answered meanwhile.
async fn half_frames(scene: &Scene) {
    let mut streams = Vec::new();
    for _ in 0..12 {
        let mut stream = scene.greeted().await;
        let length = u32::try_from(FRAME_BYTES_MAX).unwrap();
        send(&mut stream, &length.to_be_bytes()).await;
        send(&mut stream, &vec![1; FRAME_BYTES_MAX / 2]).await;
        streams.push(stream);
    }
    streams.truncate(6);
    let (url, document) = (scene.url("meanwhile"), json!({"ok": true}));
    let written = put(&scene.client, &url, &document);
    timeout(Duration::from_secs(5), written).await.unwrap();
}

#[tokio::test]
async fn who_is_not_who_it_says_is_refused() {
    let scene = Scene::new("wrong-peer").await;
    let mut stream = scene.connected("n9").await;
    greet(&mut stream, CLUSTER, "n8").await;
    closed(stream, "another name than in its certificate").await;
    let mut stream = scene.connected("n9").await;
    greet(&mut stream, "another-cluster", "n9").await;
    closed(stream, "another cluster").await;
    let mut stream = scene.connected("n1").await;
    greet(&mut stream, CLUSTER, "n1").await;
    closed(stream, "the agent's own name").await;

    let strange = "another secret of more than 32 characters";
    let refused = scene.connector(strange, CLUSTER, "n9");
    let refused = refused.connect(scene.address(), Protocol::Sync).await;
    assert!(
        matches!(refused, Err(ConnectError::OtherSecret { .. })),
        "{refused:?}"
    );
    let refused = scene.connector(&scene.secret, "another-cluster", "n9");
    let refused = refused.connect(scene.address(), Protocol::Sync).await;
    assert!(
        matches!(refused, Err(ConnectError::OtherCluster { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_write_that_is_sent_again_counts_once_whatever_it_says_then() {
    let scene = Scene::new("replaying-peer").await;
    let before = scene.resident();
    let mut stream = scene.greeted().await;
    let first = push(delta(1, now(), "replayed", r#"{"of":"first"}"#));
    send(&mut stream, &first).await;
    wait_for_document(&scene.client, &scene.url("replayed")).await;
    let written = scene.document("replayed").await;
    let later = Timestamp::from_millis(wall_ms() + 100);
    for _ in 0..1000 {
        send(&mut stream, &first).await;
    }
    // The same number, with other contents, of the same document and of another.
    send(
        &mut stream,
        &push(delta(1, later, "replayed", r#"{"of":"second"}"#)),
    )
    .await;
    send(
        &mut stream,
        &push(delta(1, later, "forged", r#"{"of":"second"}"#)),
    )
    .await;
    // A chunk that nobody asked for claims all there could ever be.
    let mut claim = VersionVector::default();
    claim.insert_range(
        origin(),
        SeqRange {
            first: 1,
            last: SEQ_MAX,
        },
    );
    let chunk = Message::PullChunk(PullChunk {
        session: 7,
        index: 0,
        changes: Vec::new(),
        claim: Some(claim),
    });
    send(&mut stream, &codec::encode_message(&chunk)).await;
    // What is sent on one connection is taken in in its order.
    send(&mut stream, &push(delta(2, now(), "marker", "{}"))).await;
    wait_for_document(&scene.client, &scene.url("marker")).await;
    assert_eq!(scene.document("replayed").await, written);
    assert_eq!(scene.document("forged").await, None);
    scene.assert_well(before).await;
}

#[tokio::test]
async fn a_write_from_the_future_is_shown_said_and_written_over() {
    const DAY_MS: u64 = 86_400_000;
    let scene = Scene::new("future-peer").await;
    let mut stream = scene.greeted().await;
    let tomorrow = Timestamp::from_millis(wall_ms() + DAY_MS);
    send(
        &mut stream,
        &push(delta(1, tomorrow, "future", r#"{"by":"n9"}"#)),
    )
    .await;
    wait_for_document(&scene.client, &scene.url("future")).await;
    let status = scene.cluster.api(1, "/v1/status");
    wait_until("the agent to say so", LIMIT, || async {
        let status = scene
            .client
            .get(&status)
            .await
            .map_err(|e| e.to_string())?
            .json();
        let findings = status["findings"].as_array();
        let mut findings = findings.into_iter().flatten();
        match findings.any(|finding| finding["code"] == "dated-ahead") {
            true => Ok(()),
            false => Err(status["findings"].to_string()),
        }
    })
    .await
    .unwrap();
    put(
        &scene.client,
        &scene.url("future"),
        &json!({"by": "client"}),
    )
    .await;
    let (value, _) = scene.document("future").await.unwrap();
    assert_eq!(value, json!({"by": "client"}));
    // The agent's clock has not followed.
    let other = put(&scene.client, &scene.url("other"), &json!({})).await;
    let version = other.json()["version"].as_str().unwrap().to_owned();
    let version: Version = version.parse().unwrap();
    assert!(version.clock.millis() < wall_ms() + 60_000, "{version:?}");
}

/// A byte that is changed on its way ends the connection before anything is read.
#[tokio::test]
async fn what_was_changed_on_its_way_is_not_read() {
    let scene = Scene::new("changed-on-the-way").await;
    let (flip, flips) = watch::channel(false);
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap();
    let agent = scene.address();
    let relay = tokio::spawn(async move {
        let (mut here, _) = between.accept().await.unwrap();
        let mut there = TcpStream::connect(agent).await.unwrap();
        relayed(&mut here, &mut there, &flips).await;
    });
    let mut stream = scene.connected_at(address, "n9").await;
    greet(&mut stream, CLUSTER, "n9").await;
    send(&mut stream, &standing()).await;
    send(&mut stream, &push(delta(1, now(), "whole", "{}"))).await;
    wait_for_document(&scene.client, &scene.url("whole")).await;
    flip.send(true).unwrap();
    send(&mut stream, &push(delta(2, now(), "changed", "{}"))).await;
    closed(stream, "a wrong checksum").await;
    assert_eq!(scene.document("changed").await, None);
    relay.await.unwrap();
}
