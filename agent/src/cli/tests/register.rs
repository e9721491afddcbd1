//! `register`.

use serde_json::{Value, json};

use super::run;
use super::server::{Server, json as response};

#[test]
fn register_sends_what_was_said_and_tells_what_comes_next() {
    let server = Server::answering(response("201 Created", r#"{"id":"s1","state":"joining"}"#));
    let registered = run(&[
        "register",
        "s1",
        "--address",
        "10.0.0.9:8080",
        "--weight",
        "7",
        "--label",
        "zone=a",
        "--label",
        "rack=b=c",
        "--why",
        "more room",
        "--by",
        "liang",
        "--api",
        &server.url(),
    ]);
    assert_eq!(registered.code, 0, "{}", registered.stderr);
    assert_eq!(
        registered.stdout,
        "s1 is registered at 10.0.0.9:8080; its state is joining; an agent probes it now, and it gets requests once \
         it is well\n"
    );
    assert_eq!(server.lines(), ["POST /v1/members"]);
    let body: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!(
        body,
        json!({"id": "s1", "address": "10.0.0.9:8080", "weight": 7, "labels": {"zone": "a", "rack": "b=c"},
            "why": "more room", "by": "liang"})
    );
}

#[test]
fn register_of_a_server_that_moved_says_so() {
    let server = Server::answering(response("200 OK", r#"{"state":"active"}"#));
    let args = [
        "register",
        "s1",
        "--address",
        "a:1",
        "--replace",
        "--json",
        "--api",
    ];
    let moved = run(&[&args[..], &[server.url().as_str()]].concat());
    assert_eq!(moved.stdout, "{\"state\":\"active\"}\n");
    assert_eq!(server.lines(), ["POST /v1/members?replace=true"]);
}

#[test]
fn register_that_is_refused_ends_with_reason_and_next_step() {
    let refusal =
        r#"{"detail":"s1 is registered at a:1, not at b:1","next":"repeat with ?replace=true"}"#;
    let server = Server::answering(response("409 Conflict", refusal));
    let refused = run(&["register", "s1", "--address", "b:1", "--api", &server.url()]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (
            1,
            "error: s1 is registered at a:1, not at b:1\n  next: repeat with ?replace=true"
        )
    );
}
