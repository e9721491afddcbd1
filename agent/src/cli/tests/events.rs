//! `events`.

use super::run;
use super::server::{Reply, Server, events, json};

const FAILED: &str = r#"{"id":7,"at":"2026-01-31T12:00:00.250Z","kind":"failed","node":"n3","incarnation":5,"from":"active","to":"failed","cause":{"code":"silence","text":"its heartbeats stopped"},"evidence":{"heartbeat_age_ms":1312,"phi":9.12},"message":"n3 failed","seen_by":"n1"}"#;
const DECIDED: &str = r#"{"id":8,"at":"2026-01-31T12:00:01.000Z","kind":"operator","node":"n3","cause":{"code":"operator","text":"an operator decided it"},"evidence":{"decision":{"action":"drain","why":"new disk\u001b[2J"}},"message":"x","seen_by":"n1"}"#;

fn page(events: &[&str], next: u64) -> Vec<u8> {
    let events = events.join(",");
    json(
        "200 OK",
        &format!("{{\"events\":[{events}],\"next\":{next}}}"),
    )
}

fn sent(id: u32) -> String {
    format!("id: {id}\nevent: left\ndata: {{\"id\":{id},\"kind\":\"left\",\"node\":\"n2\"}}\n\n")
}

#[test]
fn an_event_is_a_line_with_time_node_change_cause_and_evidence() {
    let server = Server::answering(page(&[FAILED, DECIDED], 9));
    let listed = run(&[
        "events",
        "--since",
        "10m",
        "--node",
        "n3",
        "--kind",
        "failed,operator",
        "--limit",
        "5",
        "--api",
        &server.url(),
    ]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert_eq!(
        listed.stdout,
        "2026-01-31T12:00:00.250Z n3 failed (active → failed): its heartbeats stopped; heartbeat_age_ms=1312 phi=9.12\n\
         2026-01-31T12:00:01.000Z n3 operator: an operator decided it; action=drain why=\"new disk\\u001b[2J\"\n"
    );
    assert_eq!(
        server.lines(),
        ["GET /v1/events?since=10m&node=n3&kind=failed%2Coperator&limit=5"]
    );
}

#[test]
fn events_in_json_are_printed_as_they_came() {
    let server = Server::answering(page(&[FAILED], 9));
    let listed = run(&["events", "--json", "--api", &server.url()]);
    assert_eq!(
        listed.stdout,
        format!("{{\"events\":[{FAILED}],\"next\":9}}\n")
    );
}

#[test]
fn following_begins_with_the_latest_and_goes_on_after_them_without_gap_or_repeat() {
    let mut connections = 0;
    let server = Server::start(move |_| {
        connections += 1;
        Reply::Bytes(match connections {
            1 => page(&[FAILED], 20),
            // The last event has no end, so it does not count; the id alone does.
            2 => events(&format!(
                "id: 20\n\n{}id: 30\n\n{}",
                sent(25),
                sent(31).trim_end()
            )),
            3 => json("503 Service Unavailable", r#"{"detail":"stopping"}"#),
            _ => events(&format!("id: 30\n\n{}", sent(31))),
        })
    });
    let followed = run(&["events", "--follow", "--count", "2", "--api", &server.url()]);
    assert_eq!(followed.code, 0, "{}", followed.stderr);
    let nodes: Vec<_> = followed
        .stdout
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(nodes, ["n3", "n2", "n2"]);
    assert_eq!(
        followed.stderr,
        "the agent ended the stream; connecting again\nstopping; connecting again\nto go on: --from 31\n"
    );
    assert_eq!(
        server.lines(),
        [
            "GET /v1/events?limit=10",
            "GET /v1/events?from=20&follow=true",
            "GET /v1/events?from=30&follow=true",
            "GET /v1/events?from=30&follow=true",
        ]
    );
    assert!(server.requests()[2].head.contains("last-event-id: 30\n"));
}

#[test]
fn following_in_json_prints_the_data_of_each_event() {
    let server = Server::start(|request| {
        Reply::Bytes(match request.line.contains("follow") {
            true => events(&sent(25)),
            false => page(&[FAILED], 20),
        })
    });
    let followed = run(&[
        "events",
        "-f",
        "--json",
        "--count",
        "1",
        "--api",
        &server.url(),
    ]);
    assert_eq!(
        followed.stdout,
        format!("{FAILED}\n{{\"id\":25,\"kind\":\"left\",\"node\":\"n2\"}}\n")
    );
}

#[test]
fn a_cursor_that_is_too_old_is_an_error_with_what_to_do() {
    let gone = r#"{"detail":"events right after 7 are no longer kept","next":"ask again with from=first"}"#;
    let server = Server::answering(json("410 Gone", gone));
    let followed = run(&["events", "-f", "--from", "7", "--api", &server.url()]);
    assert_eq!(followed.code, 1);
    assert_eq!(
        followed.stderr,
        "error: events right after 7 are no longer kept\n  next: ask again with from=first"
    );
    assert_eq!(server.lines(), ["GET /v1/events?from=7&follow=true"]);
}
