//! `sync task put|get|list`.

use super::run;
use super::server::{Server, json};

const TASK: &str = r#"{"target_nodes":["n2"],"data_type":"user","data":{"id":1}}"#;
const SHOWN: &str = r#"{"task_id":"a/b","status":"retrying","collection":"users","key":"1","priority":5,"attempts":2,
    "accepted_at":"2026-01-01T00:00:00.000Z","next_attempt_at":"2026-01-01T00:00:09.000Z","error":"n3: it has left",
    "targets":{"n2":{"status":"confirmed","at":"2026-01-01T00:00:01.000Z"},"n3":{"status":"waiting","reason":"it has left"}}}"#;

#[test]
fn a_task_is_sent_as_it_is_and_its_id_is_printed() {
    let answer = r#"{"task_id":"t1","status":"queued"}"#;
    let server = Server::answering(json("202 Accepted", answer));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TASK).unwrap();
    let path = file.path().to_str().unwrap();
    let api = server.url();
    let sent = run(&["sync", "task", "put", path, "--api", &api]);
    assert_eq!(
        (sent.code, sent.stdout.as_str(), sent.stderr.as_str()),
        (0, "t1\n", "queued\n")
    );
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /v1/sync/tasks");
    assert_eq!(request.body, TASK);
    let as_json = run(&["sync", "task", "put", path, "--json", "--api", &api]);
    assert_eq!(as_json.stdout, format!("{answer}\n"));
}

#[test]
fn a_full_queue_is_told_with_what_to_do() {
    let answer =
        r#"{"status":429,"detail":"the queue of this node is full","next":"send it again later"}"#;
    let server = Server::answering(json("429 Too Many Requests", answer));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TASK).unwrap();
    let path = file.path().to_str().unwrap();
    let refused = run(&["sync", "task", "put", path, "--api", &server.url()]);
    assert_eq!(refused.code, 1);
    for words in ["the queue of this node is full", "send it again later"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

#[test]
fn a_task_is_shown_with_each_of_its_targets() {
    let server = Server::answering(json("200 OK", SHOWN));
    let shown = run(&["sync", "task", "get", "a/b", "--api", &server.url()]);
    assert_eq!(server.lines(), ["GET /v1/sync/tasks/a%2Fb"]);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert!(
        lines[1].starts_with("a/b   retrying  users/1   5         2 "),
        "{}",
        shown.stdout
    );
    assert!(
        lines[1].ends_with("2026-01-01T00:00:09.000Z  n3: it has left"),
        "{}",
        shown.stdout
    );
    assert_eq!(lines[4], "n2      confirmed  2026-01-01T00:00:01.000Z  -");
    assert_eq!(
        lines[5],
        "n3      waiting    -                         it has left"
    );
}

#[test]
fn tasks_are_listed_by_status() {
    let server = Server::answering(json("200 OK", &format!(r#"{{"items":[{SHOWN}]}}"#)));
    let api = server.url();
    let listed = run(&[
        "sync", "task", "list", "--status", "retrying", "--limit", "5", "--api", &api,
    ]);
    assert_eq!(
        server.lines(),
        ["GET /v1/sync/tasks?limit=5&status=retrying"]
    );
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.stdout);
    let none = Server::answering(json("200 OK", r#"{"items":[]}"#));
    let listed = run(&["sync", "task", "list", "--api", &none.url()]);
    assert_eq!(listed.stdout, "there are no such tasks on this node\n");
}
