//! Sessions: a client finds on every node what it has written and seen, or is told that it is not there yet.

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, put, wait_for_document};

const HEADER: &str = "basic-session";

/// A client that carries its session from answer to answer.
struct Session<'c> {
    client: &'c Client,
    token: String,
}

impl<'c> Session<'c> {
    fn begin(client: &'c Client) -> Self {
        let token = "new".to_owned();
        Self { client, token }
    }

    /// An answer, whatever its status.
    async fn send(&mut self, method: Method, url: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .header(HEADER, &self.token)
            .body(Bytes::from(body.to_string()));
        let answer = self.client.send(request.unwrap()).await.unwrap();
        if let Some(token) = answer.header(HEADER) {
            assert!(token.len() < 4096, "{} characters", token.len());
            self.token = token.to_owned();
        }
        answer
    }

    async fn put(&mut self, url: &str, document: &Value) {
        let answer = self.send(Method::PUT, url, document).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    async fn get(&mut self, url: &str) -> Answer {
        self.send(Method::GET, url, &Value::Null).await
    }
}

/// The next node is asked as soon as the one before has answered, so that what was written is still on its way to it.
#[tokio::test]
async fn a_client_reads_its_own_writes_whichever_node_it_asks() {
    const ROUNDS: u16 = 150;
    let cluster = Cluster::up("sessions", 3).await.unwrap();
    let client = Client::default();
    let mut session = Session::begin(&client);
    let mut stale = 0;
    for round in 1..=ROUNDS {
        let (writer, reader) = (round % 3 + 1, (round + round / 3) % 3 + 1);
        let path = "/v1/data/sessions/k";
        session
            .put(&cluster.api(writer, path), &json!({ "round": round }))
            .await;
        let without = client.get(&cluster.api(reader, path)).await.unwrap();
        stale += u32::from(without.json()["round"] != round);
        let read = session.get(&cluster.api(reader, path)).await;
        assert_eq!(read.json()["round"], round, "{}", read.text());
        let list = session
            .get(&cluster.api(reader % 3 + 1, "/v1/data/sessions"))
            .await;
        assert_eq!(list.json()["items"][0]["value"]["round"], round);
    }
    eprintln!("of {ROUNDS} reads without a session, {stale} found an older document");
}

/// A node that has just started and lacks much answers only when it has what the client has seen.
#[tokio::test]
async fn a_node_that_has_just_started_makes_the_client_wait() {
    let cluster = Cluster::up("session-start", 2).await.unwrap();
    let client = Client::default();
    put(&client, &cluster.api(1, "/v1/data/d/last"), &json!(0)).await;
    wait_for_document(&client, &cluster.api(2, "/v1/data/d/last")).await;
    cluster.command(&["kill", "2"]).await.unwrap();
    let mut session = Session::begin(&client);
    let large = json!("x".repeat(400_000));
    for number in 0..40 {
        let url = cluster.api(1, &format!("/v1/data/d/k{number}"));
        session.put(&url, &large).await;
    }
    session
        .put(&cluster.api(1, "/v1/data/d/last"), &json!(1))
        .await;

    let restart = cluster.command(&["restart", "2"]);
    let url = cluster.api(2, "/v1/data/d/last");
    let first_answer = async {
        let alive = cluster.api(2, "/healthz");
        wait_until("node 2 to answer", LIMIT, || client.get(&alive))
            .await
            .unwrap();
        let without = client.get(&url).await.unwrap();
        (
            without.json(),
            session.get(&format!("{url}?timeout=60s")).await,
        )
    };
    let (restarted, (without, read)) = tokio::join!(restart, first_answer);
    restarted.unwrap();
    eprintln!("without a session, the first read found {without}");
    assert_eq!(read.json(), json!(1), "{}", read.text());
}

/// What only one node has is not passed over in silence: neither a write, nor what was read, nor a deletion.
#[tokio::test]
async fn a_node_that_lacks_what_a_client_has_seen_says_so() {
    let cluster = Cluster::up("session-lacks", 2).await.unwrap();
    let client = Client::default();
    let on = |node, key: &str| cluster.api(node, &format!("/v1/data/d/{key}"));
    for key in ["kept", "gone"] {
        put(&client, &on(1, key), &json!("old")).await;
        wait_for_document(&client, &on(2, key)).await;
    }
    cluster.command(&["kill", "1", "--agent"]).await.unwrap();
    let mut writer = Session::begin(&client);
    writer.put(&on(2, "kept"), &json!("new")).await;
    let mut reader = Session::begin(&client);
    assert_eq!(reader.get(&on(2, "kept")).await.json(), json!("new"));
    client.delete(&on(2, "gone")).await.unwrap();
    let mut misser = Session::begin(&client);
    assert_problem(&misser.get(&on(2, "gone")).await, 404);
    cluster.command(&["kill", "2", "--agent"]).await.unwrap();
    cluster.command(&["restart", "1"]).await.unwrap();

    // Without a session, node 1 shows what it has.
    assert_eq!(
        client.get(&on(1, "kept")).await.unwrap().json(),
        json!("old")
    );
    let token = writer.token.clone();
    for session in [&mut writer, &mut reader, &mut misser] {
        let url = on(1, "kept?timeout=200ms");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let refused = session.send(method, &url, &json!("late")).await;
            assert_problem(&refused, 503);
            assert!(refused.header("retry-after").is_some());
            let text = refused.text();
            assert!(text.contains("it lacks writes of"), "{text}");
            assert!(text.contains("begin a new session"), "{text}");
        }
    }
    assert_eq!(writer.token, token, "what was refused has told nothing");

    let restart = cluster.command(&["restart", "2"]);
    let reads = async {
        let read = writer.get(&on(1, "kept?timeout=60s")).await;
        assert_eq!(read.json(), json!("new"), "{}", read.text());
        let read = reader.get(&on(1, "kept?timeout=60s")).await;
        assert_eq!(read.json(), json!("new"), "{}", read.text());
        assert_problem(&misser.get(&on(1, "gone?timeout=60s")).await, 404);
    };
    let (restarted, ()) = tokio::join!(restart, reads);
    restarted.unwrap();
}

#[tokio::test]
async fn a_token_that_no_agent_of_this_cluster_gave_is_refused() {
    let cluster = Cluster::up("session-tokens", 1).await.unwrap();
    let client = Client::default();
    let url = cluster.api(1, "/v1/data/d/k");
    let written = put(&client, &url, &json!(1)).await;
    assert!(written.header(HEADER).is_none(), "nobody asked for one");
    let mut session = Session::begin(&client);
    session.get(&url).await;
    let token = session.token.clone();
    let cut = token[..token.len() - 1].to_owned();
    for text in [cut, format!("{token}A"), "?".to_owned(), "A".repeat(5000)] {
        session.token = text;
        let refused = session.get(&url).await;
        assert_problem(&refused, 400);
        assert!(
            refused.text().contains("Basic-Session: new"),
            "{}",
            refused.text()
        );
    }
    session.token = token;
    assert_eq!(session.get(&url).await.status, 200);
}
