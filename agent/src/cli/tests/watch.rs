//! `data watch`.

use super::run;
use super::server::{Reply, Server, events, json};

fn change(id: u32, key: &str) -> String {
    format!(
        "id: {id}\ndata: {{\"collection\":\"users\",\"key\":\"{key}\",\"version\":\"v{id}\",\"op\":\"put\",\"value\":{{\"n\":{id}}}}}\n\n"
    )
}

#[test]
fn a_watch_prints_a_line_for_each_change() {
    let delete = "id: 8\ndata: {\"collection\":\"users\",\"key\":\"u2\",\"version\":\"v8\",\"op\":\"delete\"}\n\n";
    let expired = delete
        .replace('8', "9")
        .replace("\"delete\"", "\"delete\",\"reason\":\"expired\"");
    let changes = format!(": hello\n\n{}{delete}{expired}", change(7, "u1"));
    let server = Server::answering(events(&changes));
    let watched = run(&[
        "data",
        "watch",
        "users",
        "--prefix",
        "u",
        "--count",
        "3",
        "--api",
        &server.url(),
    ]);
    assert_eq!(watched.code, 0);
    assert_eq!(
        watched.stdout,
        "put users/u1 v7 {\"n\":7}\ndelete users/u2 v8\ndelete users/u2 v9 (expired)\n"
    );
    let request = &server.requests()[0];
    assert_eq!(request.line, "GET /v1/watch?collection=users&prefix=u");
    assert!(
        request.head.contains("accept: text/event-stream\n"),
        "{}",
        request.head
    );
}

#[test]
fn a_watch_in_json_prints_the_data_of_each_event() {
    let server = Server::answering(events(&change(7, "u1")));
    let watched = run(&[
        "data",
        "watch",
        "--json",
        "--count",
        "1",
        "--api",
        &server.url(),
    ]);
    assert_eq!(
        watched.stdout,
        "{\"collection\":\"users\",\"key\":\"u1\",\"version\":\"v7\",\"op\":\"put\",\"value\":{\"n\":7}}\n"
    );
}

#[test]
fn a_watch_that_was_cut_off_goes_on_after_the_last_change_it_printed() {
    let mut connections = 0;
    let server = Server::start(move |_| {
        connections += 1;
        Reply::Bytes(match connections {
            // The last event has no end, so it does not count.
            1 => events(&format!(
                "{}{}",
                change(1, "u1"),
                change(2, "u2").trim_end()
            )),
            2 => json("503 Service Unavailable", r#"{"detail":"stopping"}"#),
            _ => events(&format!("{}{}", change(2, "u2"), change(3, "u3"))),
        })
    });
    let watched = run(&[
        "data",
        "watch",
        "users",
        "--count",
        "3",
        "--api",
        &server.url(),
    ]);
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let keys: Vec<_> = watched
        .stdout
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(keys, ["users/u1", "users/u2", "users/u3"]);
    assert_eq!(
        watched.stderr,
        "the agent ended the stream; connecting again\nstopping; connecting again\nto go on: --from 3\n"
    );
    for request in &server.requests()[1..] {
        assert_eq!(request.line, "GET /v1/watch?collection=users&from=1");
        assert!(
            request.head.contains("last-event-id: 1\n"),
            "{}",
            request.head
        );
    }
}

#[test]
fn a_cursor_that_came_without_a_change_is_gone_on_from() {
    let mut connections = 0;
    let server = Server::start(move |_| {
        connections += 1;
        Reply::Bytes(if connections == 1 {
            events("id: 41\n\n")
        } else {
            events(&change(42, "u1"))
        })
    });
    let watched = run(&[
        "data",
        "watch",
        "users",
        "--count",
        "1",
        "--api",
        &server.url(),
    ]);
    assert_eq!(watched.code, 0);
    assert_eq!(server.lines()[1], "GET /v1/watch?collection=users&from=41");
}

#[test]
fn a_cursor_that_is_too_old_ends_the_watch_with_what_to_do() {
    let server = Server::answering(json(
        "410 Gone",
        r#"{"detail":"changes before 100 are gone"}"#,
    ));
    let watched = run(&[
        "data",
        "watch",
        "users",
        "--from",
        "7",
        "--api",
        &server.url(),
    ]);
    assert_eq!(watched.code, 1);
    assert_eq!(
        watched.stderr,
        "error: changes before 100 are gone\n  next: watch again with --from snapshot, and forget what does not come with it"
    );
    assert_eq!(server.lines(), ["GET /v1/watch?collection=users&from=7"]);
}

#[test]
fn a_watch_from_a_snapshot_prints_what_there_is_and_then_each_change() {
    let there = "data: {\"collection\":\"users\",\"key\":\"u1\",\"version\":\"v1\",\"op\":\"put\",\"value\":1}\n\n";
    let end = "event: snapshot-end\nid: 6\ndata: {\"op\":\"snapshot-end\",\"documents\":1}\n\n";
    let server = Server::answering(events(&format!("{there}{end}{}", change(7, "u2"))));
    let watched = run(&[
        "data",
        "watch",
        "users",
        "--from",
        "snapshot",
        "--count",
        "2",
        "--api",
        &server.url(),
    ]);
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    assert_eq!(
        watched.stdout,
        "put users/u1 v1 1\nput users/u2 v7 {\"n\":7}\n"
    );
    assert!(
        watched.stderr.contains("changes follow"),
        "{}",
        watched.stderr
    );
    let request = &server.requests()[0];
    assert_eq!(request.line, "GET /v1/watch?collection=users&from=snapshot");
}
