//! Writes under a condition: done if the document is what the client thinks it is, and else not at all.

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, put};

/// One collection for each way of merging, with a first document, what a PUT and a PATCH bring, and what each leaves.
/// The name of a version says more where parts of a document have versions of their own.
fn collections() -> [(&'static str, Value, Value, Value, Value); 4] {
    let (old, new) = (json!({"name": "old"}), json!({"name": "new"}));
    let (change, changed) = (json!({"age": 30}), json!({"age": 30, "name": "new"}));
    let fields = (old.clone(), new.clone(), change.clone(), changed.clone());
    let (add_five, add_b) = (json!({"add": 5}), json!({"add": ["b"]}));
    [
        ("users", old, new, change, changed),
        ("profiles", fields.0, fields.1, fields.2, fields.3),
        ("counters", json!(1), json!(2), add_five, json!(7)),
        ("sets", json!(["x"]), json!(["a"]), add_b, json!(["a", "b"])),
    ]
}

struct Scene {
    cluster: Cluster,
    client: Client,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let cluster = Cluster::up(name, 1).await.unwrap();
        let client = Client::default();
        Self { cluster, client }
    }

    async fn put(&self, path: &str, document: &Value) -> String {
        let answer = put(&self.client, &self.cluster.api(1, path), document).await;
        tag(&answer)
    }

    /// Under these conditions; an answer, whatever its status.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        conditions: &[(HeaderName, HeaderValue)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(self.cluster.api(1, path))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in conditions {
            request = request.header(name, value);
        }
        let body = match *method {
            Method::DELETE => Bytes::new(),
            _ => Bytes::from(body.to_string()),
        };
        self.client.send(request.body(body).unwrap()).await.unwrap()
    }

    /// The document and its tag; `None` if there is none.
    async fn document(&self, path: &str) -> Option<(Value, String)> {
        let answer = self.client.get(&self.cluster.api(1, path)).await.unwrap();
        match answer.status.as_u16() {
            200 => Some((answer.json(), tag(&answer))),
            404 => None,
            status => panic!("{path} answers {status}: {}", answer.text()),
        }
    }
}

fn tag(answer: &Answer) -> String {
    let tag = answer.header("etag");
    let tag = tag.unwrap_or_else(|| panic!("no ETag: {}", answer.text()));
    tag.to_owned()
}

fn if_match(tag: &str) -> (HeaderName, HeaderValue) {
    (header::IF_MATCH, HeaderValue::from_str(tag).unwrap())
}

fn if_none_match(tag: &str) -> (HeaderName, HeaderValue) {
    (header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap())
}

fn assert_done(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A refusal that tells which version there is instead, so that it can be read again.
fn assert_tells(answer: &Answer, present: &str) {
    assert_problem(answer, 412);
    let text = answer.text();
    assert!(text.contains(present.trim_matches('"')), "{text}");
}

#[tokio::test]
async fn a_write_with_the_present_tag_is_done_and_one_with_an_old_tag_changes_nothing() {
    let scene = Scene::new("if-match").await;
    for (collection, first, second, change, changed) in collections() {
        let path = &format!("/v1/data/{collection}/k");
        let old = scene.put(path, &first).await;
        let present = scene.put(path, &first).await;
        assert_ne!(old, present);
        let there = Some((first, present.clone()));
        let writes = [
            (Method::PUT, &second),
            (Method::PATCH, &change),
            (Method::DELETE, &Value::Null),
        ];
        for (method, body) in &writes {
            let refused = scene.send(method, path, &[if_match(&old)], body).await;
            assert_tells(&refused, &present);
            assert_eq!(scene.document(path).await, there, "{method} {path}");
        }

        let known = [if_match(&present)];
        let done = scene.send(&Method::PUT, path, &known, &second).await;
        let after_put = tag(&done);
        let there = Some((second.clone(), after_put.clone()));
        assert_eq!(scene.document(path).await, there);
        let again = scene.send(&Method::PATCH, path, &known, &change).await;
        assert_tells(&again, &after_put);

        let known = [if_match(&after_put)];
        let done = scene.send(&Method::PATCH, path, &known, &change).await;
        let after_patch = tag(&done);
        let there = Some((changed, after_patch.clone()));
        assert_eq!(scene.document(path).await, there);
        let again = scene.send(&Method::DELETE, path, &known, &Value::Null);
        assert_tells(&again.await, &after_patch);

        let known = [if_match(&after_patch)];
        let done = scene.send(&Method::DELETE, path, &known, &Value::Null);
        assert_done(&done.await);
        assert_eq!(scene.document(path).await, None, "{path}");
        // What is gone is at no version.
        for (method, body) in &writes {
            let refused = scene.send(method, path, &known, body).await;
            assert_problem(&refused, 412);
            assert_eq!(scene.document(path).await, None, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_to_be_created_is_created_once_and_again_when_it_is_gone() {
    let scene = Scene::new("if-none-match").await;
    let absent = [if_none_match("*")];
    for method in [Method::PUT, Method::PATCH] {
        let path = &format!("/v1/data/users/by-{method}");
        let (one, two) = (json!({"one": 1}), json!({"two": 2}));
        let created = scene.send(&method, path, &absent, &one).await;
        assert_done(&created);
        let there = Some((one.clone(), tag(&created)));
        for late in [Method::PUT, Method::PATCH, Method::DELETE] {
            let refused = scene.send(&late, path, &absent, &two).await;
            assert_tells(&refused, &tag(&created));
            assert_eq!(scene.document(path).await, there, "{late} {path}");
        }

        let gone = scene.send(&Method::DELETE, path, &[], &Value::Null).await;
        assert_done(&gone);
        let nothing = scene.send(&Method::DELETE, path, &absent, &two).await;
        assert_problem(&nothing, 404);
        let short = &format!("{path}?ttl=1s");
        assert_done(&scene.send(&method, short, &absent, &two).await);
        wait_until("the document to have expired", LIMIT, || async {
            match scene.document(path).await {
                None => Ok(()),
                Some((document, _)) => Err(format!("it is {document}")),
            }
        })
        .await
        .unwrap();
        let created = scene.send(&method, path, &absent, &one).await;
        assert_done(&created);
        let there = Some((one, tag(&created)));
        assert_eq!(scene.document(path).await, there);
    }
}

#[tokio::test]
async fn what_is_to_be_changed_at_whatever_version_must_be_there() {
    let scene = Scene::new("if-match-any").await;
    let (present, path) = ([if_match("*")], "/v1/data/users/u1");
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = scene.send(&method, path, &present, &json!({})).await;
        assert_problem(&refused, 412);
        assert_eq!(scene.document(path).await, None, "{method}");
        scene.put(path, &json!({"name": "old"})).await;
        let change = json!({"name": "new"});
        assert_done(&scene.send(&method, path, &present, &change).await);
        let found = scene.document(path).await.map(|(document, _)| document);
        assert_eq!(found, (method != Method::DELETE).then_some(change));
        scene.send(&Method::DELETE, path, &[], &Value::Null).await;
    }
}

/// A client that gets no 400 would take it that its condition was looked at.
#[tokio::test]
async fn a_condition_that_is_not_understood_is_refused_and_nothing_is_written() {
    let scene = Scene::new("conditions").await;
    let (path, other) = ("/v1/data/users/u1", "/v1/data/users/u2");
    let document = json!({"name": "old"});
    let present = &scene.put(path, &document).await;
    let there = Some((document, present.clone()));
    let bytes = HeaderValue::from_bytes(b"\"\xff\"").unwrap();
    let cases = [
        vec![if_match(&format!("W/{present}"))],
        vec![if_match(&format!("{present}, \"other\""))],
        vec![if_match(&format!("\"other\", {present}"))],
        vec![if_match(&format!("*, {present}"))],
        vec![if_match("\"nonsense\"")],
        vec![if_match("nonsense")],
        vec![if_match("\"*\"")],
        vec![if_match("\"\"")],
        vec![if_match("")],
        vec![(header::IF_MATCH, bytes.clone())],
        vec![if_none_match(present)],
        vec![if_none_match("\"other\"")],
        vec![if_none_match("\"*\"")],
        vec![if_none_match("")],
        vec![(header::IF_NONE_MATCH, bytes)],
        vec![if_match("\"other\""), if_match(present)],
        vec![if_none_match("*"), if_none_match(present)],
        vec![if_match(present), if_none_match("*")],
        vec![if_match(present), if_none_match("\"other\"")],
        vec![if_match("*"), if_none_match("*")],
    ];
    for conditions in cases {
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let body = json!({"name": "new"});
            let refused = scene.send(&method, path, &conditions, &body).await;
            assert_problem(&refused, 400);
            let text = refused.text().to_lowercase();
            assert!(text.contains("match"), "{text}");
            let found = scene.document(path).await;
            assert_eq!(found, there, "{method} under {conditions:?}");
            let refused = scene.send(&method, other, &conditions, &body).await;
            assert_problem(&refused, 400);
            let found = scene.document(other).await;
            assert_eq!(found, None, "{method} under {conditions:?}");
        }
    }
}

#[tokio::test]
async fn who_has_the_present_version_is_told_so_and_reads_it_not_again() {
    let scene = Scene::new("known").await;
    let path = "/v1/data/users/u1";
    let old = &scene.put(path, &json!(1)).await;
    let present = &scene.put(path, &json!(2)).await;
    let read = async |conditions: &[(HeaderName, HeaderValue)]| {
        let answer = scene
            .send(&Method::GET, path, conditions, &json!(null))
            .await;
        assert_eq!(&tag(&answer), present);
        (answer.status.as_u16(), answer.text())
    };
    let known = (304, String::new());
    let list = format!("\"other\", W/{present}");
    for tags in [present, "*", &list] {
        assert_eq!(read(&[if_none_match(tags)]).await, known, "{tags}");
    }
    let lines = [if_none_match(old), if_none_match(present)];
    assert_eq!(read(&lines).await, known);
    for tags in [old, "\"other\"", "", "nonsense", "\"*\""] {
        let whole = (200, "2".to_owned());
        assert_eq!(read(&[if_none_match(tags)]).await, whole, "{tags}");
    }
}

/// All of a round know the same version, and the first of them makes it an old one.
#[tokio::test]
async fn of_many_writers_that_know_the_same_version_one_wins_each_round() {
    const WRITERS: u64 = 24;
    const ROUNDS: u64 = 30;
    let scene = Scene::new("one-wins").await;
    for collection in ["users", "profiles"] {
        let path = &format!("/v1/data/{collection}/contested");
        let mut known = if_none_match("*");
        for round in 0..ROUNDS {
            let conditions = [known];
            let writes = (0..WRITERS).map(|writer| {
                let (scene, conditions) = (&scene, &conditions);
                let method = match writer % 2 {
                    0 => Method::PUT,
                    _ => Method::PATCH,
                };
                async move {
                    let body = json!({"round": round, "writer": writer});
                    let answer = scene.send(&method, path, conditions, &body).await;
                    (body, answer)
                }
            });
            let answers = join_all(writes).await;
            let (winners, losers): (Vec<_>, Vec<_>) = answers
                .into_iter()
                .partition(|(_, answer)| answer.status == 200);
            for (_, answer) in &losers {
                assert_problem(answer, 412);
            }
            let [(body, answer)] = &winners[..] else {
                panic!("{} won round {round}: {winners:?}", winners.len());
            };
            let there = Some((body.clone(), tag(answer)));
            assert_eq!(scene.document(path).await, there, "round {round}");
            known = if_match(&tag(answer));
        }
    }
}

/// The use of it: read, change, write if it is still what was read, and else read again.
#[tokio::test]
async fn additions_by_reading_and_comparing_are_all_counted() {
    const WRITERS: u64 = 8;
    const ADDITIONS: u64 = 10;
    let scene = Scene::new("additions").await;
    let path = "/v1/data/users/balance";
    scene.put(path, &json!(0)).await;
    let writers = (0..WRITERS).map(|_| {
        let scene = &scene;
        async move {
            let mut lost = 0;
            for _ in 0..ADDITIONS {
                loop {
                    let (balance, tag) = scene.document(path).await.unwrap();
                    let more = json!(balance.as_u64().unwrap() + 1);
                    let known = [if_match(&tag)];
                    let put = scene.send(&Method::PUT, path, &known, &more).await;
                    match put.status.as_u16() {
                        200 => break,
                        412 => lost += 1,
                        status => panic!("it answers {status}"),
                    }
                }
            }
            lost
        }
    });
    let lost: u64 = join_all(writers).await.into_iter().sum();
    eprintln!("{lost} writes came too late");
    let found = scene.document(path).await.map(|(document, _)| document);
    assert_eq!(found, Some(json!(WRITERS * ADDITIONS)));
    assert!(lost > 0, "no two of the writers ever met");
}
