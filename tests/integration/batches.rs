//! Batches: several writes that take effect together, or not at all.

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use http::Method;
use serde_json::{Value, json};

use crate::support::{assert_problem, put, wait_for_document};

async fn send(client: &Client, cluster: &Cluster, query: &str, operations: &Value) -> Answer {
    let url = cluster.api(1, &format!("/v1/data:batch{query}"));
    let body = json!({ "operations": operations });
    client.post_json(&url, &body).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_done_whole_and_its_versions_are_those_that_are_read() {
    let cluster = Cluster::up("batch", 3).await.unwrap();
    let client = Client::default();
    put(&client, &cluster.api(1, "/v1/data/users/gone"), &json!({})).await;
    let done = send(
        &client,
        &cluster,
        "?acks=2&timeout=30s",
        &json!([
            {"op": "put", "collection": "users", "key": "u1", "value": {"name": "梁鑫", "age": 30}, "if_absent": true},
            {"op": "patch", "collection": "users", "key": "u1", "value": {"age": 31}},
            {"op": "put", "collection": "orders", "key": "o1", "value": null, "ttl": "1h"},
            {"op": "delete", "collection": "users", "key": "gone", "if_match": "*"},
        ]),
    )
    .await;
    assert_eq!(done.status, 200, "{}", done.text());
    let receipt = done.json();
    assert_eq!(receipt["acks"], 2, "{receipt}");
    let results = receipt["results"].as_array().unwrap();
    assert_eq!(results.len(), 4, "{receipt}");
    // It is on the disks of the others already.
    for node in 1..=3 {
        let read = client.get(&cluster.api(node, "/v1/data/users/u1")).await;
        let read = read.unwrap();
        assert_eq!(
            read.json(),
            json!({"name": "梁鑫", "age": 31}),
            "node {node}"
        );
        let tag = read.header("etag").unwrap().trim_matches('"').to_owned();
        assert_eq!(results[1]["version"], tag, "node {node}");
        let order = client.get(&cluster.api(node, "/v1/data/orders/o1")).await;
        assert_eq!(order.unwrap().text(), "null");
        let gone = client.get(&cluster.api(node, "/v1/data/users/gone")).await;
        assert_problem(&gone.unwrap(), 404);
    }
    let conditional = json!([
        {"op": "put", "collection": "users", "key": "u1", "value": 1, "if_match": results[1]["version"]},
    ]);
    assert_eq!(send(&client, &cluster, "", &conditional).await.status, 200);
    let again = send(&client, &cluster, "", &conditional).await;
    assert_problem(&again, 412);
    assert_eq!(again.json()["operation"], 0, "{}", again.text());
}

#[tokio::test]
async fn one_operation_that_is_refused_takes_all_with_it_and_is_named() {
    let cluster = Cluster::up("batch-refused", 2).await.unwrap();
    let client = Client::default();
    let there = cluster.api(1, "/v1/data/users/there");
    put(&client, &there, &json!("before")).await;
    let good = |key: &str| json!({"op": "put", "collection": "users", "key": key, "value": "by the batch"});
    let cases = [
        (
            json!({"op": "put", "collection": "users", "key": "there", "value": 1, "if_absent": true}),
            412,
            "users/there",
        ),
        (
            json!({"op": "patch", "collection": "users", "key": "none", "value": {}, "if_match": "*"}),
            412,
            "users/none",
        ),
        (
            json!({"op": "delete", "collection": "users", "key": "none"}),
            404,
            "users/none",
        ),
        (
            json!({"op": "patch", "collection": "counters", "key": "c", "value": {"add": "x"}}),
            400,
            "counters/c",
        ),
        (
            json!({"op": "put", "collection": "agent.members", "key": "n1", "value": 1}),
            403,
            "agent.members/n1",
        ),
        (
            json!({"op": "put", "collection": "users", "key": "u9", "value": 1, "ttl": "never"}),
            400,
            "users/u9",
        ),
    ];
    for (bad, status, name) in cases {
        let operations = json!([good("there"), good("u1"), bad, good("u2")]);
        let refused = send(&client, &cluster, "", &operations).await;
        assert_problem(&refused, status);
        let problem = refused.json();
        assert_eq!(problem["operation"], 2, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        let begins = format!("operations[2] ({name}): ");
        assert!(detail.starts_with(&begins), "{detail}");
    }
    let many: Vec<Value> = (0..257).map(|n| good(&format!("m{n}"))).collect();
    assert_problem(&send(&client, &cluster, "", &json!(many)).await, 400);
    let large =
        json!({"op": "put", "collection": "users", "key": "l", "value": "x".repeat(600_000)});
    assert_problem(
        &send(&client, &cluster, "", &json!([large, large])).await,
        413,
    );
    assert_problem(&send(&client, &cluster, "", &json!([])).await, 400);
    assert_problem(
        &send(&client, &cluster, "?ttl=1h", &json!([good("u1")])).await,
        400,
    );
    let url = cluster.api(1, "/v1/data:batch");
    let other = json!({"operations": [good("u1")], "atomic": true});
    assert_problem(&client.post_json(&url, &other).await.unwrap(), 400);
    assert_problem(&client.get(&url).await.unwrap(), 405);
    let strange = client.call(Method::POST, &url, "[".into()).await.unwrap();
    assert_problem(&strange, 400);

    // Nothing of any of them was done, here or on the way to the other node.
    put(
        &client,
        &cluster.api(1, "/v1/data/users/zz-last"),
        &json!(1),
    )
    .await;
    wait_for_document(&client, &cluster.api(2, "/v1/data/users/zz-last")).await;
    for node in 1..=2 {
        let list = client
            .get(&cluster.api(node, "/v1/data/users"))
            .await
            .unwrap();
        let items = list.json()["items"].clone();
        let keys: Vec<&str> = items
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["key"].as_str().unwrap())
            .collect();
        assert_eq!(keys, ["there", "zz-last"], "node {node}");
        assert_eq!(items[0]["value"], "before", "node {node}");
    }
}
