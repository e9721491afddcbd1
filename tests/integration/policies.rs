//! What the configuration says of a collection: how long its documents live, how large they may be, and for how long
//! older versions are kept.

use std::fs;
use std::time::{Duration, Instant};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::node::Node;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::{
    LIMIT, assert_problem, patch, put, wait_for_document, wait_for_loss, wait_for_state,
};

struct Scene {
    cluster: Cluster,
    nodes: Vec<Node>,
    client: Client,
}

impl Scene {
    /// Nodes that have these collections beside those of any local cluster.
    async fn new(name: &str, nodes: u16, collections: &str) -> Self {
        let cluster = Cluster::prepare(name, nodes).unwrap();
        let mut scene = Self {
            cluster,
            nodes: Vec::new(),
            client: Client::default(),
        };
        scene.start(collections).await;
        scene
    }

    /// Starts all nodes, once more if they have run before.
    async fn start(&mut self, collections: &str) {
        self.nodes.clear();
        self.cluster.layout().write().unwrap();
        for node in self.cluster.layout().iter() {
            let file = node.config_file();
            let settings = fs::read_to_string(&file).unwrap() + collections;
            fs::write(&file, settings).unwrap();
            let node = Node::start(self.cluster.binaries(), node).unwrap();
            self.nodes.push(node);
        }
        for node in self.cluster.layout().iter() {
            for observer in self.cluster.layout().iter() {
                wait_for_state(&self.cluster, observer.number(), &node.id(), "active").await;
            }
        }
    }

    fn url(&self, path: &str) -> String {
        self.cluster.api(1, &format!("/v1/data/{path}"))
    }

    async fn put(&self, path: &str, document: &Value) -> Answer {
        put(&self.client, &self.url(path), document).await
    }

    async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let url = self.url(path);
        self.client.call(method, &url, body.into()).await.unwrap()
    }

    async fn batch(&self, operations: &Value) -> Answer {
        let url = self.cluster.api(1, "/v1/data:batch");
        let body = json!({ "operations": operations });
        self.client.post_json(&url, &body).await.unwrap()
    }

    /// The values that the history of a document shows, the newest first.
    async fn history(&self, path: &str) -> Vec<Value> {
        let answer = self.client.get(&self.url(&format!("{path}/history"))).await;
        let answer = answer.unwrap();
        let history = answer.json();
        let versions = history["versions"].as_array();
        let versions = versions.unwrap_or_else(|| panic!("{path}: {}", answer.text()));
        let values = versions.iter().map(|version| version["value"].clone());
        values.collect()
    }
}

/// Waits until a node has no such document any more.
async fn wait_for_end(scene: &Scene, node: u16, path: &str) {
    let url = scene.cluster.api(node, &format!("/v1/data/{path}"));
    wait_for_loss(&scene.client, &url).await;
}

#[tokio::test]
async fn documents_live_as_long_as_their_collection_says_unless_a_put_says_otherwise() {
    const TTL: Duration = Duration::from_secs(2);
    let collections = "\n[collections.sessions]\nttl = \"2s\"\n\n[collections.reports]\nttl = \"1h\"\n\n\
                       [collections.\"parts.sessions\"]\nmerge = \"fields\"\nttl = \"2s\"\n\n\
                       [collections.hits]\nmerge = \"counter\"\nttl = \"2s\"\n";
    let scene = Scene::new("collection-ttl", 2, collections).await;
    let document = json!({"user": "u1"});
    for path in [
        "sessions/own?ttl=1h",
        "reports/long",
        "users/u1",
        "parts.sessions/own?ttl=1h",
    ] {
        scene.put(path, &document).await;
    }
    let began = Instant::now();
    for path in [
        "sessions/short",
        // What the put before it said holds no longer.
        "sessions/again?ttl=1h",
        "sessions/again",
        "sessions/patched",
        "parts.sessions/short",
        "parts.sessions/patched",
    ] {
        scene.put(path, &document).await;
    }
    // One that begins a document counts as the put that it did not need, again when it is gone.
    for path in ["sessions/begun", "parts.sessions/begun"] {
        patch(&scene.client, &scene.url(path), &document).await;
    }
    patch(&scene.client, &scene.url("hits/begun"), &json!({"add": 1})).await;
    patch(
        &scene.client,
        &scene.url("hits/own?ttl=1h"),
        &json!({"add": 1}),
    )
    .await;
    // Any other change is no put: the document lives as long as it would have without it.
    for path in [
        "sessions/patched",
        "sessions/own",
        "parts.sessions/patched",
        "parts.sessions/own",
    ] {
        patch(&scene.client, &scene.url(path), &json!({"seen": true})).await;
    }
    let batched = scene
        .batch(&json!([
            {"op": "put", "collection": "sessions", "key": "batched", "value": 1},
            {"op": "put", "collection": "sessions", "key": "batched-own", "value": 1, "ttl": "1h"},
        ]))
        .await;
    assert_eq!(batched.status, 200, "{}", batched.text());

    for path in [
        "sessions/short",
        "sessions/again",
        "sessions/patched",
        "sessions/batched",
        "sessions/begun",
        "parts.sessions/short",
        "parts.sessions/patched",
        "parts.sessions/begun",
        "hits/begun",
    ] {
        wait_for_end(&scene, 1, path).await;
        let lived = began.elapsed();
        assert!(lived >= TTL, "{path} was gone after {lived:?}");
        wait_for_end(&scene, 2, path).await;
    }
    patch(&scene.client, &scene.url("hits/begun"), &json!({"add": 1})).await;
    wait_for_end(&scene, 2, "hits/begun").await;
    let began = Instant::now();
    scene.put("reports/short?ttl=1s", &document).await;
    wait_for_end(&scene, 1, "reports/short").await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    wait_for_end(&scene, 2, "reports/short").await;
    for node in 1..=2 {
        for path in [
            "sessions/own",
            "sessions/batched-own",
            "parts.sessions/own",
            "hits/own",
            "reports/long",
            "users/u1",
        ] {
            let url = scene.cluster.api(node, &format!("/v1/data/{path}"));
            wait_for_document(&scene.client, &url).await;
        }
    }
}

/// A document of exactly so many bytes.
fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

#[tokio::test]
async fn a_document_is_as_large_as_its_collection_allows_and_no_larger() {
    const SMALL: usize = 1 << 10;
    const MEDIUM: usize = 64 << 10;
    let collections = "\n[collections.small]\ndocument_max = \"1KiB\"\n\n\
                       [collections.medium]\ndocument_max = \"64KiB\"\n\n\
                       [collections.\"small.sets\"]\nmerge = \"set\"\ndocument_max = \"1KiB\"\n";
    let mut scene = Scene::new("document-max", 1, collections).await;
    for (path, most) in [("small/k", SMALL), ("medium/k", MEDIUM)] {
        let largest = text(most);
        let taken = scene.call(Method::PUT, path, largest.clone()).await;
        assert_eq!(taken.status, 200, "{}", taken.text());
        let too_large = scene.call(Method::PUT, path, text(most + 1)).await;
        assert_problem(&too_large, 413);
        let detail = too_large.json()["detail"].to_string();
        assert!(detail.contains(&most.to_string()), "{detail}");
        let kept = scene.call(Method::GET, path, "").await;
        assert_eq!(kept.text(), largest, "{path}");
    }
    // What is too large for one is taken by the others.
    for path in ["medium/other", "users/other"] {
        let taken = scene.call(Method::PUT, path, text(SMALL + 1)).await;
        assert_eq!(taken.status, 200, "{path}: {}", taken.text());
    }

    // Nor does it become so little by little, or together with others.
    let half = json!("x".repeat(SMALL / 2));
    scene.put("small/grows", &json!({ "a": half })).await;
    let change = json!({ "b": half }).to_string();
    let grown = scene.call(Method::PATCH, "small/grows", change).await;
    assert_problem(&grown, 413);
    let kept = scene.call(Method::GET, "small/grows", "").await;
    assert_eq!(kept.json(), json!({ "a": half }));
    scene.put("small.sets/grows", &json!([half])).await;
    let other = json!({"add": ["y".repeat(SMALL / 2)]}).to_string();
    let grown = scene.call(Method::PATCH, "small.sets/grows", other).await;
    assert_problem(&grown, 413);
    let kept = scene.call(Method::GET, "small.sets/grows", "").await;
    assert_eq!(kept.json(), json!([half]));
    let large = "x".repeat(SMALL);
    let refused = scene
        .batch(&json!([
            {"op": "put", "collection": "users", "key": "batched", "value": large},
            {"op": "put", "collection": "small", "key": "batched", "value": large},
        ]))
        .await;
    assert_problem(&refused, 413);
    assert_eq!(refused.json()["operation"], 1, "{}", refused.text());
    for path in ["users/batched", "small/batched"] {
        assert_problem(&scene.call(Method::GET, path, "").await, 404);
    }

    // Where less is allowed from now on, what is there stays until it is written anew.
    let lowered = "\n[collections.medium]\ndocument_max = \"1KiB\"\n";
    scene.start(lowered).await;
    let kept = scene.call(Method::GET, "medium/k", "").await;
    assert_eq!(kept.text(), text(MEDIUM));
    let again = scene.call(Method::PUT, "medium/k", text(MEDIUM)).await;
    assert_problem(&again, 413);
    let smaller = scene.call(Method::PUT, "medium/k", text(SMALL)).await;
    assert_eq!(smaller.status, 200, "{}", smaller.text());
    let deleted = scene.call(Method::DELETE, "medium/other", "").await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
}

#[tokio::test]
async fn older_versions_go_when_they_are_too_old_or_too_many_and_only_then() {
    const AGE: Duration = Duration::from_secs(4);
    let collections = "\n[collections.drafts]\nhistory = 10\nhistory_age = \"4s\"\n\n\
                       [collections.notes]\nhistory = 10\n\n\
                       [collections.few]\nhistory = 1\nhistory_age = \"1h\"\n";
    let scene = Scene::new("history-age", 1, collections).await;
    let mut firsts = Vec::new();
    for path in ["notes/k", "few/k", "drafts/k"] {
        let first = scene.put(path, &json!(1)).await;
        firsts.push(first.json()["version"].as_str().unwrap().to_owned());
        scene.put(path, &json!(2)).await;
    }
    let [note, few, draft] = &firsts[..] else {
        unreachable!("there are three collections")
    };
    let began = Instant::now();
    scene.put("drafts/k", &json!(3)).await;
    assert_eq!(
        scene.history("drafts/k").await,
        [json!(3), json!(2), json!(1)]
    );
    let of = async |path: &str, version: &str| {
        let path = format!("{path}?version={version}");
        scene.call(Method::GET, &path, "").await
    };
    assert_eq!(of("drafts/k", draft).await.json(), 1);

    wait_until("the older versions of the draft to go", LIMIT, || async {
        match scene.history("drafts/k").await {
            left if left == [json!(3)] => Ok(()),
            left => Err(format!("there are {left:?}")),
        }
    })
    .await
    .unwrap();
    // Of the later of the two, which was the present one until then.
    assert!(began.elapsed() >= AGE, "{:?}", began.elapsed());
    assert_problem(&of("drafts/k", draft).await, 404);
    assert_eq!(scene.call(Method::GET, "drafts/k", "").await.json(), 3);
    assert_eq!(scene.history("notes/k").await, [json!(2), json!(1)]);
    assert_eq!(of("notes/k", note).await.json(), 1);

    // Its age is not that of the document: what was written long ago was superseded just now.
    scene.put("drafts/k", &json!(4)).await;
    assert_eq!(scene.history("drafts/k").await, [json!(4), json!(3)]);

    assert_eq!(scene.history("few/k").await, [json!(2), json!(1)]);
    scene.put("few/k", &json!(3)).await;
    assert_eq!(scene.history("few/k").await, [json!(3), json!(2)]);
    assert_problem(&of("few/k", few).await, 404);
}
