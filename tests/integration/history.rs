//! Older versions of documents: kept where a collection asks for them.

use std::fs;
use std::process::Command;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, put};

async fn history(client: &Client, cluster: &Cluster, path: &str) -> Value {
    let answer = client.get(&cluster.api(1, path)).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
    answer.json()
}

/// What each version is: its value, or what else became of the document.
fn told(history: &Value) -> Vec<Value> {
    let versions = history["versions"].as_array().unwrap().iter();
    let told = |version: &Value| match (version["op"].as_str(), &version["reason"]) {
        (Some("put"), _) => version["value"].clone(),
        (_, Value::Null) => version["op"].clone(),
        (_, reason) => reason.clone(),
    };
    versions.map(told).collect()
}

#[tokio::test]
async fn a_document_has_the_versions_that_its_collection_keeps() {
    let cluster = Cluster::prepare("history", 1).unwrap();
    cluster.layout().write().unwrap();
    let file = cluster.node(1).config_file();
    let settings = fs::read_to_string(&file).unwrap() + "\n[collections.notes]\nhistory = 3\n";
    fs::write(&file, settings).unwrap();
    let _node = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
    let client = Client::default();
    let note = cluster.api(1, "/v1/data/notes/n1");
    let mut versions = Vec::new();
    for n in 1..=5 {
        let written = wait_until("the agent to write", LIMIT, || async {
            let answer = client.put_json(&note, &json!(n)).await;
            let answer = answer.map_err(|error| error.to_string())?;
            match answer.status.is_success() {
                true => Ok(answer.json()),
                false => Err(answer.text()),
            }
        });
        let version = written.await.unwrap()["version"].clone();
        versions.push(version.as_str().unwrap().to_owned());
    }
    let deleted = client.delete(&note).await.unwrap().json()["version"].clone();
    let path = "/v1/data/notes/n1/history";
    let all = history(&client, &cluster, path).await;
    assert_eq!(all["keeps"], 3);
    assert_eq!(told(&all), [json!("delete"), json!(5), json!(4), json!(3)]);
    assert_eq!(all["versions"][2]["version"], versions[3].as_str());
    assert!(all["versions"][2]["superseded"].is_string(), "{all}");
    assert!(all["versions"][0]["superseded"].is_null(), "{all}");

    let first = history(&client, &cluster, &format!("{path}?limit=3")).await;
    assert_eq!(told(&first), [json!("delete"), json!(5), json!(4)]);
    let before = first["next"].as_str().unwrap();
    let rest = history(
        &client,
        &cluster,
        &format!("{path}?limit=3&before={before}"),
    )
    .await;
    assert_eq!(told(&rest), [json!(3)]);
    assert!(rest["next"].is_null(), "{rest}");

    let of = async |version: &str| {
        let path = format!("/v1/data/notes/n1?version={version}");
        client.get(&cluster.api(1, &path)).await.unwrap()
    };
    let fourth = of(&versions[3]).await;
    assert_eq!(fourth.json(), 4);
    let tag = format!("\"{}\"", versions[3]);
    assert_eq!(fourth.header("etag"), Some(tag.as_str()));
    assert_problem(&of(&versions[0]).await, 404);
    assert_problem(&of(deleted.as_str().unwrap()).await, 404);
    assert_problem(&of("nonsense").await, 400);

    // A collection without a history has the present version only.
    let other = cluster.api(1, "/v1/data/users/u1");
    for n in 1..=2 {
        put(&client, &other, &json!(n)).await;
    }
    let present = history(&client, &cluster, "/v1/data/users/u1/history").await;
    assert_eq!(present["keeps"], 0);
    assert_eq!(told(&present), [json!(2)]);

    // The end of a document is a version of its own.
    put(&client, &format!("{note}?ttl=1s"), &json!(7)).await;
    wait_until("the note to have expired", LIMIT, || async {
        let told = told(&history(&client, &cluster, &format!("{path}?limit=2")).await);
        match told == [json!("expired"), json!(7)] {
            true => Ok(()),
            false => Err(format!("{told:?}")),
        }
    })
    .await
    .unwrap();

    let api = format!("http://{}", cluster.node(1).api());
    let arguments = ["data", "history", "notes", "n1", "--api", &api];
    let printed = Command::new(cluster.binaries().agent())
        .args(arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed.lines().count(), 5, "{printed}");
    assert!(printed.contains("delete (expired)"), "{printed}");
}
