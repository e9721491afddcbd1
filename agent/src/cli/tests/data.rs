//! `data get|put|delete|list`.

use super::run;
use super::server::{Reply, Server, json};

#[test]
fn put_sends_the_document_and_prints_its_version() {
    let server = Server::answering(json("200 OK", r#"{"version":"v7","acks":2}"#));
    let put = run(&[
        "data",
        "put",
        "users",
        "a/b",
        r#"{"name":"梁鑫"}"#,
        "--api",
        &server.url(),
    ]);
    assert_eq!((put.code, put.stdout.as_str()), (0, "v7\n"));
    assert_eq!(put.stderr, "on the disks of 2 peers too\n");
    let request = &server.requests()[0];
    assert_eq!(request.line, "PUT /v1/data/users/a%2Fb");
    assert_eq!(request.body, r#"{"name":"梁鑫"}"#);
    assert!(
        request.head.contains("content-type: application/json\n"),
        "{}",
        request.head
    );
    let host = server.url().replace("http://", "host: ");
    assert!(
        request.head.contains(&format!("{host}\n")),
        "{}",
        request.head
    );
}

#[test]
fn put_takes_the_version_from_the_entity_tag_where_the_body_has_none() {
    let server = Server::answering(json("200 OK", "{}"));
    assert_eq!(
        run(&["data", "put", "users", "u1", "1", "--api", &server.url()]).stdout,
        "v7\n"
    );
}

#[test]
fn put_of_something_that_is_not_json_sends_nothing() {
    let server = Server::answering(json("200 OK", "{}"));
    let put = run(&[
        "data",
        "put",
        "users",
        "u1",
        "{oops}",
        "--api",
        &server.url(),
    ]);
    assert_eq!(put.code, 2);
    assert_eq!(
        put.stderr,
        "error: argument:1:2: not a JSON document, so nothing was written: key must be a string"
    );
    assert_eq!(server.lines(), [""; 0]);
}

#[test]
fn get_prints_the_document_as_it_is() {
    let server = Server::answering(json("200 OK", r#"{"b":1,"a":1.0}"#));
    let got = run(&["data", "get", "users", "u1", "--api", &server.url()]);
    assert_eq!(
        (got.code, got.stdout.as_str()),
        (0, "{\"b\":1,\"a\":1.0}\n")
    );
    assert_eq!(server.lines(), ["GET /v1/data/users/u1"]);
}

#[test]
fn a_document_that_does_not_exist_is_told_in_the_agents_words() {
    let server = Server::answering(json(
        "404 Not Found",
        r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no users/u1"}"#,
    ));
    let got = run(&["data", "get", "users", "u1", "--api", &server.url()]);
    assert_eq!(
        (got.code, got.stderr.as_str()),
        (1, "error: there is no users/u1")
    );
    assert_eq!(got.stdout, "");
}

#[test]
fn delete_prints_the_version_of_the_deletion() {
    let server = Server::answering(json("200 OK", r#"{"version":"v8","acks":0}"#));
    let deleted = run(&["data", "delete", "users", "u1", "--api", &server.url()]);
    assert_eq!(
        (deleted.stdout.as_str(), deleted.stderr.as_str()),
        ("v8\n", "")
    );
    assert_eq!(server.lines(), ["DELETE /v1/data/users/u1"]);
    let deleted = run(&[
        "data",
        "delete",
        "users",
        "u1",
        "--json",
        "--api",
        &server.url(),
    ]);
    assert_eq!(deleted.stdout, "{\"version\":\"v8\",\"acks\":0}\n");
}

/// Two pages of documents: u1 and u2, then u3.
fn two_pages() -> Server {
    Server::start(|request| {
        let page = if request.line.contains("after=u2") {
            r#"{"items":[{"key":"u3","version":"3","value":[1]}],"next":null}"#
        } else {
            r#"{"items":[{"key":"u1","version":"1","value":{"a":1}},{"key":"u2","version":"2","value":"x\ny"}],"next":"u2"}"#
        };
        Reply::Bytes(json("200 OK", page))
    })
}

#[test]
fn list_goes_through_all_pages() {
    let server = two_pages();
    let listed = run(&[
        "data",
        "list",
        "users",
        "--prefix",
        "u",
        "--api",
        &server.url(),
    ]);
    assert_eq!(
        listed.stdout,
        "KEY  VERSION  DOCUMENT\nu1   1        {\"a\":1}\nu2   2        \"x\\ny\"\nu3   3        [1]\n"
    );
    assert_eq!(
        server.lines(),
        [
            "GET /v1/data/users?prefix=u&limit=200",
            "GET /v1/data/users?prefix=u&after=u2&limit=200"
        ]
    );
}

#[test]
fn list_can_print_keys_only_or_the_pages_as_they_are() {
    let server = two_pages();
    assert_eq!(
        run(&["data", "list", "users", "--keys", "--api", &server.url()]).stdout,
        "u1\nu2\nu3\n"
    );
    let pages = run(&["data", "list", "users", "--json", "--api", &server.url()]).stdout;
    assert_eq!(pages.lines().count(), 2);
    assert!(pages.ends_with(
        "{\"items\":[{\"key\":\"u3\",\"version\":\"3\",\"value\":[1]}],\"next\":null}\n"
    ));
}

#[test]
fn list_asks_for_no_more_than_its_limit() {
    let server = two_pages();
    let listed = run(&[
        "data",
        "list",
        "users",
        "--keys",
        "--limit",
        "2",
        "--api",
        &server.url(),
    ]);
    assert_eq!(listed.stdout, "u1\nu2\n");
    assert_eq!(server.lines(), ["GET /v1/data/users?limit=2"]);
}

#[test]
fn list_begins_after_a_key() {
    let server = two_pages();
    let listed = run(&[
        "data",
        "list",
        "users",
        "--keys",
        "--after",
        "u2",
        "--api",
        &server.url(),
    ]);
    assert_eq!(listed.stdout, "u3\n");
}

#[test]
fn a_page_that_leads_to_itself_ends_the_list() {
    let page = r#"{"items":[{"key":"u1","value":1}],"next":"u1"}"#;
    let server = Server::answering(json("200 OK", page));
    let listed = run(&["data", "list", "users", "--keys", "--api", &server.url()]);
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "u1\nu1\n"));
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn an_answer_that_is_not_the_apis_is_told_as_such() {
    let server = Server::answering(json("200 OK", "<html>"));
    let listed = run(&["data", "list", "users", "--api", &server.url()]);
    assert_eq!(listed.code, 1);
    assert!(
        listed
            .stderr
            .starts_with("error: the answer is not what an agent of this version says"),
        "{}",
        listed.stderr
    );
    assert!(
        listed.stderr.contains("\n  because: expected value"),
        "{}",
        listed.stderr
    );
}

#[test]
fn history_lists_the_versions_and_prints_one_of_them() {
    let page = r#"{"keeps":3,"versions":[
        {"version":"v9","time":"2026-01-02T03:04:07.000Z","op":"delete","reason":"expired"},
        {"version":"v8","time":"2026-01-02T03:04:06.000Z","op":"put","value":{"n":8}}],"next":"7"}"#;
    let last = r#"{"keeps":3,"versions":[
        {"version":"v7","time":"2026-01-02T03:04:05.000Z","op":"put","value":{"n":7}}],"next":null}"#;
    let server = Server::start(|request| {
        let is_first = !request.line.contains("before=");
        Reply::Bytes(json("200 OK", if is_first { page } else { last }))
    });
    let listed = run(&["data", "history", "users", "a/b", "--api", &server.url()]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", listed.stdout);
    assert!(
        lines[1].ends_with("v9       delete (expired)  -"),
        "{}",
        lines[1]
    );
    assert!(lines[3].ends_with("{\"n\":7}"), "{}", lines[3]);
    let requests = server.requests();
    let history = "GET /v1/data/users/a%2Fb/history?limit=200";
    assert_eq!(requests[0].line, history);
    assert_eq!(requests[1].line, format!("{history}&before=7"));
    let server = Server::answering(json("200 OK", r#"{"n":7}"#));
    let one = run(&[
        "data",
        "history",
        "users",
        "u1",
        "--version",
        "v7",
        "--api",
        &server.url(),
    ]);
    assert_eq!(one.stdout, "{\"n\":7}\n");
    assert_eq!(
        server.requests()[0].line,
        "GET /v1/data/users/u1?version=v7"
    );
}
