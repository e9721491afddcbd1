//! `data batch`.

use super::run;
use super::server::{Server, json};

const BATCH: &str = r#"{"operations":[{"op":"delete","collection":"users","key":"u1"}]}"#;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_batch_is_sent_as_it_is_and_the_versions_are_printed_in_its_order() {
    let answer = r#"{"results":[{"version":"v7"},{"version":"v8"}],"acks":2}"#;
    let server = Server::answering(json("200 OK", answer));
    let file = file(BATCH);
    let path = file.path().to_str().unwrap();
    let api = server.url();
    let sent = run(&["data", "batch", path, "--acks", "2", "--api", &api]);
    assert_eq!((sent.code, sent.stdout.as_str()), (0, "v7\nv8\n"));
    assert_eq!(sent.stderr, "on the disks of 2 peers too\n");
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /v1/data:batch?acks=2");
    assert_eq!(request.body, BATCH);
    let as_json = run(&["data", "batch", path, "--json", "--api", &api]);
    assert_eq!(as_json.stdout, format!("{answer}\n"));
}

#[test]
fn a_batch_that_is_refused_is_told_in_the_agents_words() {
    let server = Server::answering(json(
        "412 Precondition Failed",
        r#"{"status":412,"detail":"operations[3] (users/u1): there is no such document on this node","operation":3}"#,
    ));
    let file = file(BATCH);
    let path = file.path().to_str().unwrap();
    let refused = run(&["data", "batch", path, "--api", &server.url()]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .starts_with("error: operations[3] (users/u1): there is no such"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_file_that_is_not_json_or_not_there_sends_nothing() {
    let server = Server::answering(json("200 OK", "{}"));
    let broken = file("{\"operations\":[}");
    for path in [broken.path().to_str().unwrap(), "missing.json"] {
        let refused = run(&["data", "batch", path, "--api", &server.url()]);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    assert_eq!(server.lines(), [""; 0]);
}
