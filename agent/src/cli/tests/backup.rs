//! `backup` and `restore` against agents that are none, or that break off.

use std::fs;

use basic_sync::backup::Sealer;

use super::run;
use super::server::{Reply, Server, json};

/// An answer that ends with the connection.
fn stream(body: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.basic-agent.backup\r\nconnection: close\r\n\r\n";
    [head.as_bytes(), body].concat()
}

#[test]
fn a_backup_that_is_not_whole_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.backup");
    let path = path.to_str().unwrap();
    let header = Sealer::plain().header();
    for (body, message) in [
        (&header[..], "cut off"),
        (&b"{\"items\":[]}"[..], "no backup"),
        (&b""[..], "no backup"),
    ] {
        let server = Server::answering(stream(body));
        let outcome = run(&["backup", "-o", path, "--api", &server.url()]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
        assert_eq!(server.lines(), ["GET /v1/backup"]);
    }
    let busy = r#"{"detail":"2 backups or restores are under way on this node","next":"wait"}"#;
    let server = Server::answering(json("503 Service Unavailable", busy));
    let outcome = run(&["backup", "-o", path, "--api", &server.url()]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("next: wait"), "{outcome:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn collections_are_named_to_the_agent() {
    let server = Server::start(|_| Reply::Bytes(stream(b"")));
    let names = ["--collection", "users", "--collection", "orders"];
    run(&[&["backup", "-o", "-", "--api", &server.url()], &names[..]].concat());
    assert_eq!(
        server.lines(),
        ["GET /v1/backup?collections=users%2Corders"]
    );
}

#[test]
fn keys_that_others_can_read_or_guess_are_refused_before_anything_is_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let key = path.to_str().unwrap();
    for (text, mode, message) in [
        ("0123456789abcdef0123456789abcdef", 0o644, "chmod 600"),
        ("short", 0o600, "32 characters"),
        (&"x".repeat(5000), 0o600, "4096"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let server = Server::answering(stream(b""));
        let arguments = [
            "backup",
            "-o",
            "-",
            "--key-file",
            key,
            "--api",
            &server.url(),
        ];
        let outcome = run(&arguments);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
        assert!(server.requests().is_empty());
    }
}

#[test]
fn a_restore_of_no_file_asks_nobody() {
    let server = Server::answering(stream(b""));
    let outcome = run(&["restore", "/nonexistent/b.backup", "--api", &server.url()]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(server.requests().is_empty());
}
