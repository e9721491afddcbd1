//! Keys: a rotation watched to its end or not, the list, a retirement that is refused.

use serde_json::json;

use super::run;
use super::server::{Reply, Server, json};

/// What `GET /v1/keys` answers when n1 uses `own` and n2 uses `other` and has all of these.
fn view(own: &str, other: &str, has: &[&str]) -> String {
    json!({
        "self": "n1",
        "in_use": own,
        "keys": [{ "id": own, "created": "2026-01-02T03:04:05Z" }, { "id": "0ld00000", "created": null }],
        "retired": [{ "id": "dead0000", "at": "2025-01-01T00:00:00Z" }],
        "members": [
            { "id": "n1", "state": "active", "live": true, "in_use": own, "installed": [own] },
            { "id": "n2", "state": "active", "live": true, "in_use": other, "installed": has },
            { "id": "n3", "state": "failed", "live": false, "in_use": null, "installed": [] },
        ],
    })
    .to_string()
}

/// An agent that begins a rotation to `new`; its list is what `views` says, in order, the last one again and again.
fn rotating(views: Vec<String>) -> Server {
    let mut asked = 0;
    Server::start(move |request| {
        let body = if request.line == "POST /v1/keys/rotate" {
            r#"{"id":"new","previous":"old"}"#.to_owned()
        } else {
            let view = views[asked.min(views.len() - 1)].clone();
            asked += 1;
            view
        };
        Reply::Bytes(json("200 OK", &body))
    })
}

#[test]
fn rotate_shows_progress_and_ends_when_every_live_member_uses_the_key() {
    let server = rotating(vec![
        view("old", "old", &["old"]),
        view("new", "old", &["old", "new"]),
        view("new", "new", &["new", "old"]),
    ]);
    let rotated = run(&[
        "keys",
        "rotate",
        "--why",
        "yearly",
        "--by",
        "liang",
        "--api",
        &server.url(),
    ]);
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    assert_eq!(
        rotated.stdout,
        "key new is in use on n1, n2\n\
         the old one is still accepted; once nobody is away any more: basic-agent keys retire old\n"
    );
    assert_eq!(
        rotated.stderr,
        "key new is made and recorded\nn1: uses it\nn2: has installed it\nn2: uses it\n"
    );
    let order: serde_json::Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!(order, json!({ "why": "yearly", "by": "liang" }));
}

#[test]
fn a_rotation_that_outlasts_the_command_names_who_is_missing_and_goes_on() {
    let server = rotating(vec![view("new", "old", &["old"])]);
    let rotated = run(&["keys", "rotate", "--timeout", "1ms", "--api", &server.url()]);
    assert_eq!(rotated.code, 1);
    assert!(rotated.stdout.is_empty());
    for words in ["not yet in use on n2;", "goes on by itself", "keys list"] {
        assert!(rotated.stderr.contains(words), "{}", rotated.stderr);
    }
}

#[test]
fn list_shows_keys_and_who_has_which() {
    let server = Server::answering(json("200 OK", &view("new", "old", &["old", "new"])));
    let listed = run(&["keys", "list", "--api", &server.url()]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let lines: Vec<Vec<&str>> = listed
        .stdout
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1], ["new", "in", "use", "2026-01-02T03:04:05Z"]);
    assert_eq!(lines[2], ["0ld00000", "installed", "the", "beginning"]);
    assert_eq!(lines[3], ["dead0000", "retired", "2025-01-01T00:00:00Z"]);
    assert_eq!(lines[7], ["n2", "active", "old", "old,new"]);
}

#[test]
fn a_retirement_that_is_refused_says_by_whom_and_what_to_do() {
    let problem = r#"{"detail":"n2 still use it","next":"wait until they use the newer key"}"#;
    let server = Server::answering(json("409 Conflict", problem));
    let refused = run(&["keys", "retire", "old", "--force", "--api", &server.url()]);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        "error: n2 still use it\n  next: wait until they use the newer key"
    );
    assert_eq!(
        server.requests()[0].line,
        "POST /v1/keys/old/retire?force=true"
    );
}
