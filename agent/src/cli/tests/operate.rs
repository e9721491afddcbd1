//! Decisions about nodes, and the record of them.

use super::run;
use super::server::{Reply, Server, json};

const DRAINED: &str = r#"{"drain":true,"failed":false,"weight":null,"removed":false}"#;

/// An agent that answers a decision with this result, and whose list then shows it.
fn deciding(result: &'static str, decision: &'static str, state: &'static str) -> Server {
    let mut flights = vec![0, 2];
    Server::start(move |request| {
        let body = match request.line.as_str() {
            "GET /v1/members" => format!(
                r#"{{"self":"n1","members":[{{"id":"n1","state":"active"}},{{"id":"n2","state":"{state}","decision":{decision}}}]}}"#
            ),
            "GET /v1/status" => format!(
                r#"{{"proxy":{{"endpoints":[{{"id":"n2","in_flight":{}}}]}}}}"#,
                flights.pop().unwrap_or_default()
            ),
            _ => format!(
                r#"{{"id":"n2","result":"{result}","state":"{state}","decision":{decision}}}"#
            ),
        };
        Reply::Bytes(json("200 OK", &body))
    })
}

#[test]
fn drain_waits_for_the_decision_to_show_and_for_requests_in_flight() {
    let server = deciding("done", DRAINED, "draining");
    let drained = run(&[
        "drain",
        "n2",
        "--why",
        "a new disk",
        "--by",
        "liang",
        "--api",
        &server.url(),
    ]);
    assert_eq!(drained.code, 0, "{}", drained.stderr);
    assert_eq!(
        drained.stdout,
        "n2 gets no new requests; its state is draining\n"
    );
    assert_eq!(
        drained.stderr,
        "waiting for 2 requests to it through this agent's proxy to end\n"
    );
    let order = &server.requests()[0];
    assert_eq!(order.line, "POST /v1/members/n2/drain");
    assert!(order.head.contains("content-type: application/json"));
    let body: serde_json::Value = serde_json::from_str(&order.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "why": "a new disk", "by": "liang" })
    );
}

#[test]
fn a_decision_that_does_not_show_in_time_is_a_failure_that_says_what_was_awaited() {
    let server = Server::start(|request| {
        let body = match request.line.as_str() {
            "GET /v1/members" => {
                r#"{"self":"n1","members":[{"id":"n2","decision":{}}]}"#.to_owned()
            }
            _ => format!(r#"{{"id":"n2","decision":{DRAINED}}}"#),
        };
        Reply::Bytes(json("200 OK", &body))
    });
    let late = run(&["drain", "n2", "--timeout", "1ms", "--api", &server.url()]);
    assert_eq!(late.code, 1);
    assert!(late.stderr.contains("list of members"), "{}", late.stderr);
    assert!(late.stderr.contains("is stored"), "{}", late.stderr);
}

#[test]
fn what_is_so_already_is_said_and_is_no_failure() {
    let server = deciding("unchanged", r#"{"drain":false}"#, "active");
    let undrained = run(&["undrain", "n2", "--api", &server.url()]);
    assert_eq!(undrained.code, 0);
    assert_eq!(
        undrained.stdout,
        "nothing was changed: n2 is open to requests; its state is active\n"
    );
}

#[test]
fn a_weight_is_put_and_taken_back() {
    let server = deciding("done", r#"{"weight":300}"#, "active");
    let weighted = run(&["weight", "n2", "300", "--force", "--api", &server.url()]);
    assert_eq!(
        weighted.stdout,
        "n2 has the weight 300; its state is active\n"
    );
    let order = &server.requests()[0];
    assert_eq!(order.line, "PUT /v1/members/n2/weight?force=true");
    assert!(order.body.contains("\"weight\":300"), "{}", order.body);
    run(&["weight", "n2", "default", "--api", &server.url()]);
    let orders = server.requests();
    let put = orders
        .iter()
        .rfind(|request| request.line.starts_with("PUT"));
    assert!(put.unwrap().body.contains("\"weight\":null"));
}

#[test]
fn a_running_node_is_removed_only_when_that_is_confirmed() {
    let server = deciding("done", r#"{"removed":true}"#, "active");
    let unconfirmed = run(&["remove", "n2", "--api", &server.url()]);
    assert_eq!(unconfirmed.code, 2);
    assert!(
        unconfirmed.stderr.contains("--yes"),
        "{}",
        unconfirmed.stderr
    );
    assert_eq!(server.lines(), ["GET /v1/members"]);

    let removed = run(&["remove", "n2", "--yes", "--api", &server.url()]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert!(
        removed.stdout.starts_with("n2 is removed"),
        "{}",
        removed.stdout
    );
    assert!(server.lines().contains(&"DELETE /v1/members/n2".to_owned()));
}

#[test]
fn a_node_that_failed_is_removed_without_a_question_and_the_own_node_never() {
    let server = deciding("done", r#"{"removed":true}"#, "failed");
    assert_eq!(run(&["remove", "n2", "--api", &server.url()]).code, 0);
    let own = run(&["remove", "n1", "--yes", "--api", &server.url()]);
    assert_eq!(own.code, 2);
    assert!(own.stderr.contains("basic-agent leave"), "{}", own.stderr);
}

#[test]
fn a_refusal_is_told_with_the_agents_own_next_step() {
    let server = Server::answering(json(
        "409 Conflict",
        r#"{"title":"Conflict","detail":"n2 is the only node that takes requests now","next":"`basic-agent status` says why"}"#,
    ));
    let refused = run(&["fail", "n2", "--api", &server.url()]);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        "error: n2 is the only node that takes requests now\n  next: `basic-agent status` says why"
    );
}

#[test]
fn the_audit_record_is_a_table_of_who_changed_what() {
    let server = Server::answering(json(
        "200 OK",
        r#"{"items":[{"at":"2026-01-02T03:04:05.678Z","action":"weight","node":"n2","by":"liang","from":"127.0.0.1","on":"n1","why":"slow\u001b[2J",
            "before":{"drain":false,"weight":null},"after":{"drain":false,"weight":300}},
            {"at":"2026-01-02T03:04:04.000Z","action":"drain","node":"n2","by":"梁","from":"127.0.0.1","on":"n3",
            "before":{"drain":false},"after":{"drain":true}}]}"#,
    ));
    let audit = run(&["audit", "--node", "n2", "--api", &server.url()]);
    let lines: Vec<&str> = audit.stdout.lines().collect();
    assert!(lines[0].starts_with("AT "), "{}", audit.stdout);
    assert!(lines[1].contains("weight none -> 300"), "{}", audit.stdout);
    assert!(!lines[1].contains('\u{1b}'));
    assert!(lines[2].contains("drain no -> yes"), "{}", audit.stdout);
    assert_eq!(server.lines(), ["GET /v1/audit?limit=100&node=n2"]);
    let empty = Server::answering(json("200 OK", r#"{"items":[]}"#));
    assert_eq!(
        run(&["audit", "--api", &empty.url()]).stdout,
        "no decision is recorded\n"
    );
}
