//! `sync status`.

use super::run;
use super::server::{Server, json};

fn status(body: &str) -> String {
    let server = Server::answering(json("200 OK", body));
    let shown = run(&["sync", "status", "--api", &server.url()]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert_eq!(server.lines(), ["GET /v1/sync/peers"]);
    shown.stdout
}

#[test]
fn peers_that_are_level_are_a_table_and_one_sentence() {
    let shown = status(
        r#"{"self":"n1","written":7,"peers":[
            {"id":"n2","linked":true,"since":"2026-01-01T00:00:00Z","silent_ms":420,"behind":0,"behind_ms":null,
             "unacknowledged":0,"unacknowledged_ms":null,"queue":{"messages":0,"ring_bytes":0},"frames_lost":0},
            {"id":"n3","linked":true,"silent_ms":1250,"queue":{"messages":2,"ring_bytes":2048},"frames_lost":3}]}"#,
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("PEER  LINK  FOR") && lines[0].ends_with("QUEUED               LOST"),
        "{shown}"
    );
    assert!(lines[1].starts_with("n2    up    "), "{shown}");
    assert!(
        lines[1].contains("420ms ago  0          -       0         -    -"),
        "{shown}"
    );
    assert!(lines[2].ends_with("2.0 KiB, 2 messages  3"), "{shown}");
    assert_eq!(
        lines[3..],
        [
            "",
            "n1: 2 peers, 2 linked; every copy has all that is known of"
        ]
    );
}

#[test]
fn what_is_late_is_told_in_words() {
    let shown = status(
        r#"{"self":"n1","peers":[
            {"id":"n2","linked":true,"silent_ms":9000,"unacknowledged":12,"unacknowledged_ms":8400},
            {"id":"n3","linked":false,"last_error":"connection refused","behind":40,"behind_ms":192000},
            {"id":"n4","linked":true,"silent_ms":10,"unacknowledged":2,"unacknowledged_ms":4}]}"#,
    );
    let words: Vec<&str> = shown.lines().skip(5).collect();
    assert_eq!(
        words,
        [
            "n1: 3 peers, 2 linked; 12 of its writes are not on every peer yet, 40 of theirs not here yet",
            "n2 is linked but was last heard 9.0s ago: its agent is stopped, overloaded, or cannot send",
            "n2 lacks 12 writes of this node, the oldest of them made 8.4s ago",
            "n3 cannot be reached (connection refused); what it lacks goes to it when it can be",
            "this node lacks 40 writes that n3 has, and has known so for 3m 12s",
        ],
        "{shown}"
    );
}

#[test]
fn who_is_reached_through_others_only_is_not_taken_for_down() {
    let shown = status(
        r#"{"self":"n1","peers":[
            {"id":"n2","near":true,"linked":true,"silent_ms":10},
            {"id":"n3","near":false,"linked":false},
            {"id":"n4","near":true,"linked":false}]}"#,
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[2].starts_with("n3    none"), "{shown}");
    assert_eq!(
        lines[5..],
        [
            "n1: 3 peers, 1 linked, 1 reached through others; every copy has all that is known of",
            "n4 cannot be reached; what it lacks goes to it when it can be"
        ],
        "{shown}"
    );
}

#[test]
fn a_node_without_peers_says_so_and_json_is_the_agents_own() {
    let alone = r#"{"self":"n1","peers":[]}"#;
    assert_eq!(
        status(alone),
        "n1: 0 peers, 0 linked; there is nobody to replicate with\n"
    );
    let server = Server::answering(json("200 OK", alone));
    let shown = run(&["sync", "status", "--json", "--api", &server.url()]);
    assert_eq!(shown.stdout, format!("{alone}\n"));
}

#[test]
fn replicas_trust_snapshots_and_what_was_kept_aside_are_told() {
    let shown = status(
        r#"{"self":"n1","peers":[
            {"id":"n2","linked":true,"silent_ms":10,"trust":"full"},
            {"id":"n3","linked":true,"silent_ms":10,"trust":"stale"}],
            "filling":{"collection":"users","key":"u7"},"exported":3,
            "replicas":[{"replica":"aabbccddeeff","node":"n1","own":true,"fenced":false,"absent_ms":0},
                {"replica":"00112233445566","node":"n3","own":false,"fenced":true,"absent_ms":9500}]}"#,
    );
    for line in [
        "n1    aabbccdd (this one)  yes       -",
        "n3    00112233             given up  9.5s",
        "this node takes over a snapshot, in the order of the keys: up to users/u7 so far",
        "3 writes were kept aside here and wait for a decision: `basic-agent sync exported` lists them",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}:\n{shown}");
    }
    assert!(
        shown.contains("nothing is taken from n3: it, or this node"),
        "{shown}"
    );
    assert!(!shown.contains("nothing is taken from n2"), "{shown}");
}
