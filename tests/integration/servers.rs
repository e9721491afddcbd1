//! A server without an agent: registered through one node, probed by one, balanced to by all.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::load::Load;
use basic_tests::harness::node::Service;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, member, wait_for_state};

const ID: &str = "s1";

/// A server without an agent, beside a cluster.
struct Server {
    address: SocketAddr,
    service: Service,
}

impl Server {
    fn start(cluster: &Cluster, address: SocketAddr) -> Self {
        let mut command = Command::new(cluster.binaries().sample_server());
        command.arg("--host").arg(address.ip().to_string());
        command.arg("--port").arg(address.port().to_string());
        let log = cluster.layout().directory().join("server.log");
        Self {
            address,
            service: Service::start(&mut command, log).unwrap(),
        }
    }

    /// Kills it, and waits until its port is free for the next.
    async fn kill(mut self) -> SocketAddr {
        self.service.signal(Signal::KILL).unwrap();
        self.service.exit(LIMIT).await.unwrap();
        self.address
    }
}

/// An address where nobody listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn register(client: &Client, cluster: &Cluster, body: &Value) -> Answer {
    let url = cluster.api(2, "/v1/members");
    client.post_json(&url, body).await.unwrap()
}

/// Waits until an observer sees the server so.
async fn wait_for(
    cluster: &Cluster,
    observer: u16,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Value {
    let (client, api) = (Client::default(), cluster.api(observer, ""));
    let awaited = format!("node {observer} to see {ID} {what}");
    let seen = wait_until(awaited, LIMIT, || async {
        let seen = member(&client, &api, ID).await?;
        if is(&seen) {
            Ok(seen)
        } else {
            Err(format!("it sees {seen}"))
        }
    });
    seen.await.unwrap()
}

/// Waits until the server answers through the proxy of each of these nodes.
async fn wait_until_it_answers(cluster: &Cluster, nodes: &[u16]) {
    let client = Client::default();
    for node in nodes {
        let url = cluster.proxy(*node, "/whoami");
        let awaited = format!("{ID} to answer through node {node}");
        let answered = wait_until(awaited, LIMIT, || async {
            let answer = client.get(&url).await.map_err(|error| error.to_string())?;
            match answer.header("basic-node") {
                Some(ID) => Ok(()),
                other => Err(format!("{other:?} answered")),
            }
        });
        answered.await.unwrap();
    }
}

/// Asserts that of many requests through a proxy none reaches the server, and none fails.
async fn assert_it_does_not_answer(cluster: &Cluster, node: u16) {
    let load = Load::get(&cluster.proxy(node, "/whoami")).unwrap();
    let report = load
        .per_second(100)
        .run_for(Duration::from_millis(300))
        .await;
    assert!(report.failures().is_empty(), "{report}");
    assert!(!report.answers_by_node().contains_key(ID), "{report}");
}

#[tokio::test]
async fn a_server_without_an_agent_takes_its_share_and_no_get_is_lost_when_it_dies() {
    let cluster = Cluster::up("servers", 3).await.unwrap();
    let client = Client::default();
    let server = Server::start(&cluster, free_address());
    let body = json!({ "id": ID, "address": server.address.to_string(), "labels": { "zone": "b" },
        "why": "more room", "by": "liang" });
    let registered = register(&client, &cluster, &body).await;
    assert_eq!(registered.status, 201, "{}", registered.text());
    assert_eq!(registered.json()["agent"], false);
    let again = register(&client, &cluster, &body).await;
    assert_eq!(again.status, 200, "{}", again.text());

    for observer in 1..=3 {
        let seen = wait_for(&cluster, observer, "active", |seen| {
            seen["state"] == "active"
        })
        .await;
        assert_eq!(seen["addresses"]["app"], server.address.to_string());
        assert_eq!(seen["labels"]["zone"], "b");
        assert_eq!(seen["app"]["healthy"], true);
        let own = member(&client, &cluster.api(observer, ""), "n1")
            .await
            .unwrap();
        assert_eq!(own["agent"], true);
    }
    wait_until_it_answers(&cluster, &[1, 2, 3]).await;

    // It dies under load, and comes back.
    let loads = [1, 2, 3].map(|node| {
        let load = Load::get(&cluster.proxy(node, "/whoami")).unwrap();
        load.per_second(50).start()
    });
    for load in &loads {
        wait_until("the load to meet the server", LIMIT, || async {
            match load.is_answered_by(ID) {
                true => Ok(()),
                false => Err("not yet"),
            }
        })
        .await
        .unwrap();
    }
    let address = server.kill().await;
    for observer in 1..=3 {
        let seen = wait_for(&cluster, observer, "failed", |seen| {
            seen["state"] == "failed"
        })
        .await;
        assert_eq!(seen["app"]["healthy"], false, "{seen}");
        assert!(seen["app"]["reason"].is_string(), "{seen}");
        assert_it_does_not_answer(&cluster, observer).await;
    }
    let server = Server::start(&cluster, address);
    for observer in 1..=3 {
        wait_for(&cluster, observer, "active", |seen| {
            seen["state"] == "active"
        })
        .await;
    }
    wait_until_it_answers(&cluster, &[1, 2, 3]).await;
    for load in loads {
        let report = load.stop().await;
        assert!(report.failures().is_empty(), "{report}");
        assert!(report.answers_by_node().contains_key(ID), "{report}");
    }

    // Operators decide about it as about any node.
    let url = cluster.api(3, &format!("/v1/members/{ID}/weight"));
    let weighed = client
        .put_json(&url, &json!({ "weight": 0 }))
        .await
        .unwrap();
    assert_eq!(weighed.status, 200, "{}", weighed.text());
    for observer in 1..=3 {
        wait_for(&cluster, observer, "weigh nothing", |seen| {
            seen["weight"] == 0
        })
        .await;
        wait_for_endpoint(&cluster, observer, Some("maintenance")).await;
        assert_it_does_not_answer(&cluster, observer).await;
    }
    client
        .put_json(&url, &json!({ "weight": null }))
        .await
        .unwrap();
    let drain = cluster.api(1, &format!("/v1/members/{ID}/drain"));
    client.post_json(&drain, &json!({})).await.unwrap();
    for observer in 1..=3 {
        wait_for(&cluster, observer, "draining", |seen| {
            seen["state"] == "draining"
        })
        .await;
        wait_for_endpoint(&cluster, observer, Some("draining")).await;
        assert_it_does_not_answer(&cluster, observer).await;
    }

    // It is unregistered, and nothing of it stays.
    let url = cluster.api(1, &format!("/v1/members/{ID}"));
    let removed = client.delete(&url).await.unwrap();
    assert_eq!(removed.status, 200, "{}", removed.text());
    for observer in 1..=3 {
        let api = cluster.api(observer, "");
        let gone = wait_until(
            format!("{ID} to be gone from node {observer}"),
            LIMIT,
            || async {
                match member(&client, &api, ID).await {
                    Ok(seen) => Err(format!("it sees {seen}")),
                    Err(_) => Ok(()),
                }
            },
        );
        gone.await.unwrap();
        wait_for_endpoint(&cluster, observer, None).await;
        let probes = format!("{api}/v1/data/agent.probes");
        let forgotten = wait_until("its verdict to be forgotten", LIMIT, || async {
            let probes = client
                .get(&probes)
                .await
                .map_err(|error| error.to_string())?
                .json();
            match probes["items"].as_array().is_some_and(Vec::is_empty) {
                true => Ok(()),
                false => Err(probes.to_string()),
            }
        });
        forgotten.await.unwrap();
    }
    drop(server);
}

/// Waits until the proxy of a node has the server as an endpoint so, or not at all.
async fn wait_for_endpoint(cluster: &Cluster, node: u16, admission: Option<&str>) {
    let client = Client::default();
    let url = cluster.api(node, "/v1/status");
    let awaited = format!("the proxy of node {node} to have {ID} as {admission:?}");
    let seen = wait_until(awaited, LIMIT, || async {
        let status = client
            .get(&url)
            .await
            .map_err(|error| error.to_string())?
            .json();
        let endpoints = status["proxy"]["endpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let endpoint = endpoints.iter().find(|endpoint| endpoint["id"] == ID);
        match endpoint.and_then(|endpoint| endpoint["admission"].as_str()) == admission {
            true => Ok(()),
            false => Err(format!("it has {endpoint:?}")),
        }
    });
    seen.await.unwrap();
}

#[tokio::test]
async fn another_agent_goes_on_probing_when_the_one_that_did_dies() {
    let cluster = Cluster::up("servers-owner", 3).await.unwrap();
    let client = Client::default();
    let server = Server::start(&cluster, free_address());
    // In the shape of the plan.
    let body = json!({ "node_id": ID, "host": "127.0.0.1", "port": server.address.port(), "weight": 100,
        "status": "active", "metadata": { "zone": "b" } });
    let registered = register(&client, &cluster, &body).await;
    assert_eq!(registered.status, 201, "{}", registered.text());
    let seen = wait_for(&cluster, 1, "active", |seen| seen["state"] == "active").await;
    let first = seen["app"]["by"].as_str().unwrap().to_owned();
    let since = seen["app"]["since"].clone();

    let owner: u16 = first.trim_start_matches('n').parse().unwrap();
    let observers: Vec<u16> = (1..=3).filter(|node| *node != owner).collect();
    let load = Load::get(&cluster.proxy(observers[0], "/whoami")).unwrap();
    let load = load.per_second(50).start();
    cluster
        .command(&["kill", &owner.to_string(), "--agent"])
        .await
        .unwrap();
    for observer in &observers {
        let taken = wait_for(&cluster, *observer, "probed by another", |seen| {
            assert_ne!(seen["state"], "failed", "its health flapped: {seen}");
            seen["app"]["by"] != first.as_str()
        });
        assert_eq!(taken.await["app"]["since"], since);
    }
    // The new owner sees it die.
    let address = server.kill().await;
    for observer in &observers {
        wait_for(&cluster, *observer, "failed", |seen| {
            seen["state"] == "failed"
        })
        .await;
    }
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{report}");

    // Moved to another address it begins anew.
    let server = Server::start(&cluster, free_address_but(address));
    let moved = json!({ "id": ID, "address": server.address.to_string() });
    let url = cluster.api(observers[0], "/v1/members");
    let refused = client.post_json(&url, &moved).await.unwrap();
    assert_problem(&refused, 409);
    let replaced = client
        .post_json(&format!("{url}?replace=true"), &moved)
        .await
        .unwrap();
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    for observer in &observers {
        wait_for(&cluster, *observer, "active again", |seen| {
            seen["state"] == "active"
        })
        .await;
    }
    wait_for_state(&cluster, observers[0], &first, "failed").await;
    drop(server);
}

fn free_address_but(other: SocketAddr) -> SocketAddr {
    std::iter::repeat_with(free_address)
        .find(|address| *address != other)
        .unwrap()
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_the_reason() {
    let cluster = Cluster::up("servers-refused", 2).await.unwrap();
    let client = Client::default();
    let address = free_address().to_string();
    let good = json!({ "id": ID, "address": address });
    assert_eq!(register(&client, &cluster, &good).await.status, 201);
    let (peer, api) = (
        cluster.node(1).peer().to_string(),
        cluster.node(1).api().to_string(),
    );
    let (own_proxy, other_proxy) = (
        cluster.node(2).proxy().to_string(),
        cluster.node(1).proxy().to_string(),
    );
    let app = cluster.node(1).app().to_string();
    for (change, status, expected) in [
        (json!({ "id": "a b" }), 400, "the name contains"),
        (json!({ "id": "n1" }), 409, "node with an agent"),
        (json!({ "id": "s2" }), 409, "is registered as s1"),
        (
            json!({ "address": "127.0.0.1:1" }),
            409,
            "not at 127.0.0.1:1",
        ),
        (
            json!({ "id": "s2", "address": "10.0.0.9" }),
            400,
            "is not host:port",
        ),
        (
            json!({ "id": "s2", "address": "0.0.0.0:80" }),
            400,
            "is not host:port",
        ),
        (
            json!({ "id": "s2", "address": "[::ffff:0.0.0.0]:80" }),
            400,
            "no address of one server",
        ),
        (
            json!({ "id": "s2", "address": "224.0.0.1:80" }),
            400,
            "address of many",
        ),
        (
            json!({ "id": "s2", "address": "169.254.169.254:80" }),
            400,
            "link-local",
        ),
        (
            json!({ "id": "s2", "address": "nowhere.invalid:80" }),
            400,
            "does not resolve",
        ),
        (
            json!({ "id": "s2", "address": peer }),
            400,
            "the peer port of the agent of n1",
        ),
        (
            json!({ "id": "s2", "address": api }),
            400,
            "the API of the agent of n1",
        ),
        (
            json!({ "id": "s2", "address": own_proxy }),
            400,
            "the proxy of the agent of n2",
        ),
        (
            json!({ "id": "s2", "address": other_proxy }),
            400,
            "the proxy of an agent answers",
        ),
        (json!({ "id": "s2", "address": app }), 400, "the app of n1"),
        (json!({ "health": "health" }), 400, "is not a path"),
        (json!({ "weight": 65536 }), 400, "from 0 to 65535"),
        (json!({ "weight": "heavy" }), 400, "not what this takes"),
        (
            json!({ "labels": { "a b": "c" } }),
            400,
            "is not a label name",
        ),
        (json!({ "wieght": 1 }), 400, "unknown field"),
        (json!({ "why": "x".repeat(501) }), 400, "at most 500"),
    ] {
        let mut body = good.clone();
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        let refused = register(&client, &cluster, &body).await;
        assert_problem(&refused, status);
        assert!(
            refused.text().contains(expected),
            "{body}: {}",
            refused.text()
        );
    }
    for body in ["", "{", "[]", "null"] {
        let url = cluster.api(2, "/v1/members");
        let mut request = http::Request::post(&url)
            .body(body.as_bytes().into())
            .unwrap();
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert("content-type", json);
        assert_problem(&client.send(request).await.unwrap(), 400);
    }
    let stored = client
        .get(&cluster.api(2, "/v1/members/s1"))
        .await
        .unwrap()
        .json();
    assert_eq!(stored["addresses"]["app"], address);
    let members = client
        .get(&cluster.api(2, "/v1/members"))
        .await
        .unwrap()
        .json();
    assert_eq!(members["members"].as_array().unwrap().len(), 3, "{members}");
}

#[tokio::test]
async fn the_command_line_registers_lists_and_removes() {
    let cluster = Cluster::up("servers-cli", 1).await.unwrap();
    let server = Server::start(&cluster, free_address());
    let api = cluster.api(1, "");
    let agent = |arguments: &[&str]| {
        let mut command = Command::new(cluster.binaries().agent());
        let output = command
            .args(arguments)
            .args(["--api", &api])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let address = server.address.to_string();
    let (code, said, complaint) = agent(&[
        "register",
        ID,
        "--address",
        &address,
        "--weight",
        "7",
        "--label",
        "zone=b",
    ]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(
        said.starts_with(&format!("{ID} is registered at {address}")),
        "{said}"
    );
    wait_for(&cluster, 1, "active", |seen| seen["state"] == "active").await;
    let (_, listed, _) = agent(&["members"]);
    let row = listed
        .lines()
        .find(|line| line.starts_with(ID))
        .unwrap_or_default();
    assert!(
        row.contains("server") && row.contains("healthy, says n1"),
        "{listed}"
    );
    let (code, _, complaint) = agent(&["register", ID, "--address", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("--replace"), "{complaint}");
    let (code, said, complaint) = agent(&["remove", ID]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(
        said.contains("`basic-agent register` brings it back"),
        "{said}"
    );
    let (_, audit, _) = agent(&["audit", "--json"]);
    assert!(
        audit.contains("\"register\"") && audit.contains("\"remove\""),
        "{audit}"
    );
}
