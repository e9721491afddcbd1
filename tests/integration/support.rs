//! What the tests here have in common: asking a node, waiting for a view.

use std::time::Duration;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::Request;
use serde_json::Value;

/// How long any condition may take. A limit against hanging and no measure:
/// what it waits for comes within a second or two on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The state of member `id` as the agent with this API sees it.
pub(crate) async fn member(client: &Client, api: &str, id: &str) -> Result<Value, String> {
    let answer = client
        .get(&format!("{api}/v1/members"))
        .await
        .map_err(|e| e.to_string())?;
    let members = answer.json();
    let found = members["members"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|m| m["id"] == id);
    found
        .cloned()
        .ok_or_else(|| format!("{id} is not among the members: {members}"))
}

/// Waits until `observer` sees member `id` in this state.
pub(crate) async fn wait_for_state(cluster: &Cluster, observer: u16, id: &str, state: &str) {
    let client = Client::default();
    let api = cluster.api(observer, "");
    wait_until(
        format!("node {observer} to see {id} {state}"),
        LIMIT,
        || async {
            let member = member(&client, &api, id).await?;
            match member["state"] == state {
                true => Ok(()),
                false => Err(format!("it sees {member}")),
            }
        },
    )
    .await
    .unwrap();
}

/// Waits until a GET answers 200, and returns that answer.
pub(crate) async fn wait_for_document(client: &Client, url: &str) -> Answer {
    wait_until(format!("a document at {url}"), LIMIT, || async {
        let answer = client.get(url).await.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 => Ok(answer),
            status => Err(format!("it answers {status}: {}", answer.text())),
        }
    })
    .await
    .unwrap()
}

/// Waits until a GET answers 404.
pub(crate) async fn wait_for_loss(client: &Client, url: &str) {
    wait_until(format!("no document at {url}"), LIMIT, || async {
        let answer = client.get(url).await.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            404 => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    })
    .await
    .unwrap();
}

/// Writes a document, which must be acknowledged.
pub(crate) async fn put(client: &Client, url: &str, document: &Value) -> Answer {
    let answer = client.put_json(url, document).await.unwrap();
    assert!(
        answer.status.is_success(),
        "PUT {url}: {} {}",
        answer.status,
        answer.text()
    );
    answer
}

/// Changes a document, which must be acknowledged.
pub(crate) async fn patch(client: &Client, url: &str, change: &Value) -> Answer {
    let request = Request::patch(url)
        .header("content-type", "application/json")
        .body(Bytes::from(change.to_string()));
    let answer = client.send(request.unwrap()).await.unwrap();
    assert!(
        answer.status.is_success(),
        "PATCH {url}: {} {}",
        answer.status,
        answer.text()
    );
    answer
}

/// Asserts that this is a problem document (RFC 9457) with this status, and
/// with a detail that a person can act on.
pub(crate) fn assert_problem(answer: &Answer, status: u16) {
    let text = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{text}");
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(
        kind.starts_with("application/problem+json"),
        "{kind}: {text}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{text}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(
        detail.split_whitespace().count() >= 3,
        "no detail to act on: {text}"
    );
}
