//! Requests of clients: three servers behind each proxy, untouched.

use std::collections::BTreeSet;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use http::Request;

#[tokio::test]
async fn three_servers_answer_through_one_proxy() {
    let cluster = Cluster::up("three-servers", 3).await.unwrap();
    let client = Client::default();
    let mut ports = BTreeSet::new();
    for _ in 0..3 {
        let answer = client.get(&cluster.proxy(1, "/whoami")).await.unwrap();
        let port = answer.json()["port"].as_u64().unwrap();
        let named = answer.header("basic-node").map(str::to_owned);
        let node = cluster
            .layout()
            .iter()
            .find(|node| u64::from(node.app().port()) == port);
        assert_eq!(
            named,
            node.map(|node| node.id()),
            "the header names the node that answered"
        );
        ports.insert(port);
    }
    assert_eq!(
        ports.len(),
        3,
        "three requests reached the servers at {ports:?}"
    );
}

#[tokio::test]
async fn a_request_and_its_answer_pass_unchanged() {
    let cluster = Cluster::up("unchanged", 1).await.unwrap();
    let client = Client::default();
    let body = vec![b'x'; 300_000];
    let request = Request::post(cluster.proxy(1, "/echo?q=%E6%A2%81&r=1"))
        .header("x-custom", "one")
        .header("content-type", "application/octet-stream")
        .body(body.clone().into())
        .unwrap();
    let echo = client.send(request).await.unwrap().json();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["target"], "/echo?q=%E6%A2%81&r=1");
    assert_eq!(echo["headers"]["x-custom"][0], "one");
    assert_eq!(echo["body"]["length"], body.len());
    assert_eq!(
        echo["body"]["blake3"],
        blake3::hash(&body).to_hex().as_str()
    );

    let direct = client.get(&cluster.app(1, "/bytes/1000000")).await.unwrap();
    let proxied = client
        .get(&cluster.proxy(1, "/bytes/1000000"))
        .await
        .unwrap();
    assert_eq!(proxied.body, direct.body);
}

#[tokio::test]
async fn an_error_of_the_server_is_an_answer_and_not_repeated() {
    let cluster = Cluster::up("server-error", 2).await.unwrap();
    let client = Client::default();
    let request = Request::get(cluster.proxy(1, "/count"))
        .header("x-sample-status", "503")
        .header("x-request-id", "only-once")
        .body(Default::default())
        .unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 503);

    let mut seen = 0;
    for node in 1..=2 {
        let answer = client
            .get(&cluster.app(node, "/count/only-once"))
            .await
            .unwrap();
        seen += answer.json()["count"].as_u64().unwrap();
    }
    assert_eq!(seen, 1);
}
