//! The stand-in server by itself: it must be as faulty as it is asked to be,
//! or the tests that rely on it show nothing.

use std::process::Command;

use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::http::{Answer, Client, RequestError};
use basic_tests::harness::node::Service;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use http::Request;
use serde_json::json;

use crate::support::LIMIT;

struct SampleServer {
    service: Service,
    url: String,
    client: Client,
    _directory: tempfile::TempDir,
}

impl SampleServer {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(Binaries::locate().unwrap().sample_server());
        // As the original is told its port; 0 picks a free one.
        command.env("SERVER_PORT", "0");
        let service = Service::start(&mut command, directory.path().join("log")).unwrap();
        let url = wait_until("the server to print its address", LIMIT, || async {
            let output = service.output();
            let line = output
                .lines()
                .find_map(|line| line.strip_prefix("listening on "));
            line.map(str::to_owned).ok_or(output)
        })
        .await
        .unwrap();
        Self {
            service,
            url,
            client: Client::default(),
            _directory: directory,
        }
    }

    async fn send(&self, target: &str, headers: &[(&str, &str)]) -> Result<Answer, RequestError> {
        let mut request = Request::post(format!("{}{target}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client
            .send(request.body(Default::default()).unwrap())
            .await
    }
}

#[tokio::test]
async fn an_answer_cut_before_its_head_was_counted_all_the_same() {
    let server = SampleServer::start().await;
    let headers = [("x-request-id", "cut"), ("x-sample-abort", "before-head")];
    let error = server.send("/count", &headers).await.unwrap_err();
    assert!(matches!(error, RequestError::Exchange { .. }), "{error:?}");
    let count = server
        .client
        .get(&format!("{}/count/cut", server.url))
        .await
        .unwrap();
    assert_eq!(count.json()["count"], 1);
}

#[tokio::test]
async fn an_answer_cut_in_its_body_has_a_head() {
    let server = SampleServer::start().await;
    let headers = [
        ("x-sample-body-bytes", "100000"),
        ("x-sample-abort", "mid-body"),
    ];
    let error = server.send("/echo", &headers).await.unwrap_err();
    assert!(matches!(error, RequestError::Body { .. }), "{error:?}");
}

#[tokio::test]
async fn status_and_size_are_as_asked() {
    let server = SampleServer::start().await;
    let headers = [("x-sample-status", "418"), ("x-sample-body-bytes", "1000")];
    let answer = server.send("/echo", &headers).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (418, 1000));
}

#[tokio::test]
async fn health_follows_its_switch() {
    let server = SampleServer::start().await;
    let health = format!("{}/health", server.url);
    let control = format!("{}/control/health", server.url);
    for (healthy, status) in [(true, 200), (false, 503), (true, 200)] {
        let order = json!({ "status": healthy });
        assert_eq!(
            server
                .client
                .put_json(&control, &order)
                .await
                .unwrap()
                .status,
            204
        );
        let answer = server.client.get(&health).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["status"], healthy);
    }
}

#[tokio::test]
async fn registering_and_logging_in_answer_as_the_original_does() {
    let server = SampleServer::start().await;
    let (client, url) = (&server.client, &server.url);
    let user =
        json!({ "username": "ann", "email": "a@example.org", "password": "pw", "phone": "1" });
    let register = format!("{url}/api/v1/auth/register");
    assert_eq!(
        client.post_json(&register, &user).await.unwrap().json()["status"],
        "success"
    );
    let again = client.post_json(&register, &user).await.unwrap();
    assert_eq!(again.status, 409);
    assert_eq!(again.json(), json!({ "error": "User already exists" }));

    let login = format!("{url}/api/v1/auth/login");
    let answer = client.post_json(&login, &user).await.unwrap().json();
    assert_eq!(answer["success"], true);
    assert_eq!(answer["user"]["username"], "ann");
    assert!(answer["token"].is_string());
    let wrong = json!({ "username": "ann", "password": "not it" });
    assert_eq!(client.post_json(&login, &wrong).await.unwrap().status, 401);
    let users = client.get(&format!("{url}/api/v1/users")).await.unwrap();
    assert!(!users.text().contains("password"), "{}", users.text());
}

#[tokio::test]
async fn sigterm_ends_it_with_zero() {
    let mut server = SampleServer::start().await;
    assert!(server.service.signal(Signal::TERM).unwrap());
    assert_eq!(server.service.exit(LIMIT).await.unwrap().code(), Some(0));
}
