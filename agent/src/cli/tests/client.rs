//! What becomes of agents that are not there, say nothing, or are something else.

use std::io::{self, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::config::HttpUrl;

use super::super::CliError;
use super::super::client::{Client, ClientError, Target};
use super::super::output::Output;
use super::server::{Reply, Server, json};
use super::{run, run_in};

/// An address at which nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

#[test]
fn an_agent_that_is_not_there_ends_every_command_with_code_3_and_advice() {
    let api = format!("http://{}", free_address());
    for command in [
        &["status"][..],
        &["members"],
        &["leave"],
        &["data", "get", "users", "u1"],
        &["data", "put", "users", "u1", "{}"],
        &["data", "delete", "users", "u1"],
        &["data", "list", "users"],
        &["data", "watch", "users"],
    ] {
        let outcome = run(&[command, &["--api", &api]].concat());
        assert_eq!(outcome.code, 3, "{command:?}");
        assert_eq!(
            outcome.stderr,
            format!(
                "error: no agent answers at {api}: connection refused. Is it running? Start it with `basic-agent run`, or name its API by --api"
            )
        );
    }
}

#[test]
fn the_api_is_named_by_a_flag_a_variable_or_the_configuration() {
    let server = Server::answering(json("200 OK", "{}"));
    let nowhere = format!("http://{}", free_address());
    let address = server.url().replace("http://", "");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[api]\nlisten = \"{address}\"\n")).unwrap();
    let file = file.path().to_str().unwrap();

    assert_eq!(
        run_in(
            &[("BASIC_AGENT_API", &nowhere)],
            &["members", "--api", &server.url()]
        )
        .code,
        0
    );
    assert_eq!(
        run_in(
            &[("BASIC_AGENT_API", &server.url())],
            &["members", "--config", "missing"]
        )
        .code,
        0
    );
    let address = server.url().replace("http://", "");
    assert_eq!(run(&["members", "--api", &address]).code, 0);
    assert_eq!(run(&["members", "--config", file]).code, 0);
    assert_eq!(
        run_in(&[("BASIC_AGENT_CONFIG", file)], &["members"]).code,
        0
    );
    assert_eq!(
        run_in(&[("BASIC_AGENT_API_LISTEN", &address)], &["members"]).code,
        0
    );
    assert_eq!(run(&["members", "--config", "missing"]).code, 2);
}

#[test]
fn an_api_that_is_no_url_is_refused_as_usage() {
    let outcome = run(&["members", "--api", "127.0.0.1"]);
    assert_eq!(outcome.code, 2);
    assert_eq!(
        outcome.stderr,
        "error: the agent's address \"127.0.0.1\" is not a URL such as \"http://127.0.0.1:8080\""
    );
    assert_eq!(
        run_in(&[("BASIC_AGENT_API", "https://127.0.0.1:1")], &["members"]).code,
        2
    );
}

#[test]
fn an_agent_that_says_nothing_is_given_up() {
    let server = Server::start(|_| Reply::Silence);
    let url = HttpUrl::parse(&server.url()).unwrap();
    let client = Client::new(url).with_answer_timeout(Duration::from_millis(100));
    // Dropped before the server, which waits for the connection to be closed.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(client.get(Target::new("/v1/status")))
        .unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    assert_eq!(CliError::from(error).code(), 3);
}

#[test]
fn a_server_that_does_not_speak_http_is_told_as_such() {
    let server = Server::answering(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    let outcome = run(&["members", "--api", &server.url()]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .stderr
            .starts_with(&format!("error: the answer of {} broke off", server.url())),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("\n  because: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_refusal_without_words_is_told_by_its_status() {
    for (status, told) in [
        (
            "500 Internal Server Error",
            "error: the agent answered 500 Internal Server Error\n  next: `basic-agent status` and the agent's log say more",
        ),
        (
            "301 Moved Permanently",
            "error: the agent answered 301 Moved Permanently",
        ),
    ] {
        let server = Server::answering(json(status, "<html>"));
        let outcome = run(&["members", "--api", &server.url()]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (1, told));
    }
}

#[test]
fn who_does_not_know_what_every_agent_knows_is_none() {
    let server = Server::answering(json("404 Not Found", "<html>"));
    let outcome = run(&["members", "--api", &server.url()]);
    assert_eq!(outcome.code, 3);
    let told = format!("error: what answers at {} is no agent's API", server.url());
    assert!(outcome.stderr.starts_with(&told), "{}", outcome.stderr);
}

#[test]
fn what_the_agent_finds_wrong_with_a_command_is_wrong_usage() {
    let server = Server::answering(json("400 Bad Request", r#"{"detail":"no such kind"}"#));
    let outcome = run(&["events", "--kind", "nope", "--api", &server.url()]);
    assert_eq!(outcome.code, 2);
    assert_eq!(outcome.stderr, "error: no such kind");
}

#[test]
fn a_refusal_of_any_size_is_told() {
    let server = Server::answering(json("503 Service Unavailable", &"x".repeat(1 << 20)));
    let outcome = run(&["members", "--api", &server.url()]);
    assert!(
        outcome
            .stderr
            .starts_with("error: the agent answered 503 Service Unavailable"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn escape_sequences_of_a_refusal_are_shown_and_not_obeyed() {
    let server = Server::answering(json(
        "400 Bad Request",
        r#"{"detail":"no \u001b]0;title\u0007"}"#,
    ));
    let outcome = run(&["members", "--api", &server.url()]);
    assert_eq!(outcome.stderr, "error: no \\u{1b}]0;title\\u{7}");
}

#[test]
fn a_reader_that_closes_the_pipe_ends_a_command_quietly() {
    struct ClosedPipe;
    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut output = Output::to(ClosedPipe, Vec::new(), false);
    let error = output.text("x").unwrap_err();
    assert_eq!((error.code(), error.report()), (0, None));
}
