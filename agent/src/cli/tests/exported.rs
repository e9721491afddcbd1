//! `sync exported`.

use clap::Parser as _;

use super::run;
use super::server::{Server, json};
use crate::cli::Cli;

const PAGE: &str = r#"{"total":2,"items":[
    {"number":0,"node":"n3","replica":"0123456789abcdef","collection":"users","key":"a/b","date":"2026-01-01T00:00:00Z","op":"write","value":{"a":[1]}},
    {"number":4,"node":null,"replica":"0123456789abcdef","collection":"users","key":"u2","date":"2026-01-02T00:00:00Z","op":"delete","value":null}],
    "next":null}"#;

#[test]
fn writes_that_were_kept_aside_are_a_table_and_what_to_do() {
    let server = Server::answering(json("200 OK", PAGE));
    let shown = run(&["sync", "exported", "--api", &server.url()]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert_eq!(server.lines(), ["GET /v1/sync/exported"]);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines[0], "NODE      DOCUMENT   DATE                  VALUE");
    assert_eq!(
        lines[1],
        "n3        users/a/b  2026-01-01T00:00:00Z  {\"a\":[1]}"
    );
    assert_eq!(
        lines[2],
        "01234567  users/u2   2026-01-02T00:00:00Z  (deleted)"
    );
    assert!(
        lines[4].starts_with("2 writes; --write"),
        "{}",
        shown.stdout
    );

    let none = Server::answering(json("200 OK", r#"{"total":0,"items":[],"next":null}"#));
    let shown = run(&["sync", "exported", "--api", &none.url()]);
    assert_eq!(shown.stdout, "no writes were kept aside on this node\n");
}

#[test]
fn a_decision_names_documents_or_means_all_and_a_refusal_ends_with_1() {
    let answer = r#"{"written":1,"dropped":0,"refused":1,"refusals":[{"collection":"users","key":"u2","reason":"no list"}],"left":1}"#;
    let server = Server::answering(json("200 OK", answer));
    let url = server.url();
    let shown = run(&[
        "sync",
        "exported",
        "--write",
        "users/a/b",
        "users/u2",
        "--by",
        "ann",
        "--api",
        &url,
    ]);
    assert_eq!(shown.code, 1);
    assert_eq!(server.lines(), ["POST /v1/sync/exported"]);
    assert_eq!(
        shown.stdout,
        "1 writes made again, 0 forgotten, 1 refused; 1 are left\n"
    );
    assert!(
        shown.stderr.contains("users/u2: no list"),
        "{}",
        shown.stderr
    );
}

#[test]
fn a_decision_without_documents_is_no_decision_about_all() {
    for arguments in [
        &["sync", "exported", "--drop"][..],
        &["sync", "exported", "users/u1"],
        &["sync", "exported", "--all"],
        &["sync", "exported", "--write", "--drop", "--all"],
        &["sync", "exported", "--write", "--all", "users/u1"],
    ] {
        let line = ["basic-agent"].iter().chain(arguments);
        let refused = Cli::try_parse_from(line).err();
        let code = refused.map(|error| error.exit_code());
        assert_eq!(code, Some(2), "{arguments:?}");
    }
}
