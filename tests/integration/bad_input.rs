//! What clients send that makes no sense or is too much, on purpose or not.
//!
//! Each is refused with its own answer, changes nothing, and leaves an agent that answers
//! and whose memory is bounded. What is refused for its meaning is in `documents`.

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::node::Node;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{LIMIT, assert_problem, put, wait_for_state};

/// Largest document and longest key, in bytes.
const DOCUMENT_MAX: usize = 1 << 20;
const KEY_MAX: usize = 512;
/// How deep lists and objects may nest.
const DEPTH_MAX: usize = 127;
/// What all that is sent here may leave behind in memory, at most.
const GROWTH_MAX: u64 = 48 << 20;

struct Scene {
    cluster: Cluster,
    node: Node,
    client: Client,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let cluster = Cluster::prepare(name, 1).unwrap();
        cluster.layout().write().unwrap();
        let node = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
        wait_for_state(&cluster, 1, "n1", "active").await;
        let client = Client::default();
        Self {
            cluster,
            node,
            client,
        }
    }

    async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let url = self.cluster.api(1, path);
        let answer = self.client.call(Method::PUT, &url, body.into()).await;
        answer.unwrap()
    }

    /// Nothing was written but by this test, and the agent takes writes and is small.
    async fn assert_well(&self, before: u64) {
        let url = self.cluster.api(1, "/v1/data/bad");
        let list = self.client.get(&url).await.unwrap().json();
        assert_eq!(list["items"], json!([]));
        put(
            &self.client,
            &self.cluster.api(1, "/v1/data/good/1"),
            &json!({}),
        )
        .await;
        let now = self.resident();
        eprintln!("{} MiB resident, before {} MiB", now >> 20, before >> 20);
        assert!(now < before + GROWTH_MAX, "{now} bytes after {before}");
    }

    fn resident(&self) -> u64 {
        self.node.agent.id().usage().unwrap().resident
    }

    /// Sends bytes as they are and returns all that comes back until the agent hangs up.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.cluster.node(1).api())
            .await
            .unwrap();
        // It may answer and hang up before it has all.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // An end by reset, after the answer, is an end.
        let _ = timeout(LIMIT, read).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A document of exactly so many bytes.
fn document(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].to_string()
}

#[tokio::test]
async fn documents_and_keys_are_taken_up_to_their_bounds_and_refused_beyond() {
    let scene = Scene::new("bounds").await;
    let before = scene.resident();
    let longest = "k".repeat(KEY_MAX);
    let taken = scene
        .put(&format!("/v1/data/good/{longest}"), document(DOCUMENT_MAX))
        .await;
    assert!(taken.status.is_success(), "{}", taken.text());
    let too_large = scene
        .put("/v1/data/bad/1", document(DOCUMENT_MAX + 1))
        .await;
    assert_problem(&too_large, 413);
    assert!(
        detail(&too_large).contains("1048576"),
        "{}",
        detail(&too_large)
    );
    let too_long = scene.put(&format!("/v1/data/bad/{longest}k"), "{}").await;
    assert_problem(&too_long, 400);
    assert!(detail(&too_long).contains("512"), "{}", detail(&too_long));
    let endless = scene
        .raw(
            format!(
                "GET /v1/data/bad/{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
                "k".repeat(1 << 20)
            )
            .as_bytes(),
        )
        .await;
    let refused = endless.starts_with("HTTP/1.1 4") || endless.is_empty();
    assert!(refused, "{endless}");
    scene.assert_well(before).await;
}

#[tokio::test]
async fn what_is_not_text_is_refused() {
    let scene = Scene::new("not-text").await;
    let before = scene.resident();
    for body in [
        &b"{\"name\":\"\xff\xfe\"}"[..],
        b"\xff",
        b"{\"name\":\"\xc3\x28\"}",
        b"{\"name\":\"\xed\xa0\x80\"}",
        br#"{"name":"\ud800"}"#,
        b"{\"name\":\"\0\"}",
        b"{}{}",
        b" ",
        b"nul",
        b"1e999",
    ] {
        let refused = scene.put("/v1/data/bad/1", Bytes::from_static(body)).await;
        assert_problem(&refused, 400);
    }
    for path in ["%ff", "%c3%28", "%ed%a0%80", "%00", "a%0ab"] {
        let path = format!("/v1/data/bad/{path}");
        assert_problem(&scene.put(&path, "{}").await, 400);
    }
    scene.assert_well(before).await;
}

#[tokio::test]
async fn json_is_taken_as_deep_as_it_can_be_read_and_no_deeper() {
    let scene = Scene::new("deep-json").await;
    let before = scene.resident();
    let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for deepest in [lists(DEPTH_MAX), objects(DEPTH_MAX)] {
        let taken = scene.put("/v1/data/good/deep", deepest.clone()).await;
        assert!(taken.status.is_success(), "{}", taken.text());
        let url = scene.cluster.api(1, "/v1/data/good/deep");
        assert_eq!(scene.client.get(&url).await.unwrap().text(), deepest);
    }
    for too_deep in [
        lists(DEPTH_MAX + 1),
        objects(DEPTH_MAX + 1),
        "[".repeat(500_000),
    ] {
        let refused = scene.put("/v1/data/bad/1", too_deep).await;
        assert_problem(&refused, 400);
        let detail = detail(&refused);
        assert!(
            detail.contains("deep") || detail.contains("recursion limit"),
            "{detail}"
        );
    }
    scene.assert_well(before).await;
}

#[tokio::test]
async fn many_bodies_that_are_too_large_or_never_end_take_no_memory() {
    let scene = Scene::new("large-bodies").await;
    let before = scene.resident();
    let body = Bytes::from(vec![b'1'; 8 << 20]);
    let refusals = (0..32).map(|number| {
        let path = format!("/v1/data/bad/{number}");
        let (scene, body) = (&scene, body.clone());
        // The agent may hang up while the body is still being sent.
        async move {
            let url = scene.cluster.api(1, &path);
            let answer = scene.client.call(Method::PUT, &url, body).await;
            answer.map(|answer| answer.status.as_u16()).unwrap_or(413)
        }
    });
    assert_eq!(join_all(refusals).await, [413; 32]);

    let head =
        "PUT /v1/data/bad/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let chunk = format!("10000\r\n{}\r\n", "1".repeat(0x10000));
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(64)
    );
    let answer = scene.raw(chunks.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
        "{answer}"
    );
    let short = format!("{head}content-length: 100\r\n\r\n{{\"cut\":");
    let answer = scene.raw(short.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    scene.assert_well(before).await;
}
