//! What operators decide: on every node, on record, and without a lost request.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use basic_membership::Identity;
use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::layout::NodeLayout;
use basic_tests::harness::load::{Load, Report};
use basic_tests::harness::node::{Node, Service, agent_command, agent_command_with};
use basic_tests::harness::ports;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, member, put, wait_for_document, wait_for_state};

/// Orders a decision from the agent of a node; it must be done.
async fn decide(client: &Client, cluster: &Cluster, by: u16, path: &str, order: Value) -> Value {
    let url = cluster.api(by, &format!("/v1/members/{path}"));
    let answer = match path.ends_with("/weight") {
        true => client.put_json(&url, &order).await,
        false => client.post_json(&url, &order).await,
    };
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Removes a node through the agent of another.
async fn remove(client: &Client, cluster: &Cluster, by: u16, id: &str) -> Answer {
    let url = cluster.api(by, &format!("/v1/members/{id}"));
    let order = Bytes::from(json!({ "by": "liang", "why": "its disk is broken" }).to_string());
    client.call(Method::DELETE, &url, order).await.unwrap()
}

/// Waits until all observers see the member with this value in this field, and prints how long that took.
async fn wait_for_all(cluster: &Cluster, observers: &[u16], id: &str, field: &str, value: Value) {
    let began = Instant::now();
    let client = Client::default();
    for observer in observers {
        let api = cluster.api(*observer, "");
        let awaited = format!("node {observer} to see {id} with {field} {value}");
        wait_until(awaited, LIMIT, || async {
            let member = member(&client, &api, id).await?;
            match member[field] == value {
                true => Ok(()),
                false => Err(format!("it sees {member}")),
            }
        })
        .await
        .unwrap();
    }
    eprintln!(
        "{id}: {field} {value} on {observers:?} after {:.0?}",
        began.elapsed()
    );
}

/// Sends a few requests through the proxy of a node, and returns how many this node answered.
async fn answers_of(client: &Client, cluster: &Cluster, proxy: u16, id: &str) -> usize {
    let url = cluster.proxy(proxy, "/whoami");
    let mut count = 0;
    for _ in 0..30 {
        let answer = client.get(&url).await.unwrap();
        assert_eq!(answer.status, 200);
        count += usize::from(answer.header("basic-node") == Some(id));
    }
    count
}

fn assert_nothing_was_lost(name: &str, report: &Report) {
    eprintln!("{name}: {report}");
    let failures = report.failures();
    assert!(failures.is_empty(), "{name}: {failures:?}");
    assert!(!report.outcomes.is_empty());
}

#[tokio::test]
async fn every_decision_takes_effect_on_all_nodes_and_loses_no_request() {
    let cluster = Cluster::up("operator", 3).await.unwrap();
    let client = Client::default();
    let all = [1, 2, 3];
    let load = |proxy: u16| Load::get(&cluster.proxy(proxy, "/whoami")).unwrap().start();
    let (first, second) = (load(1), load(2));
    let third = load(3);
    let order = || json!({ "by": "liang", "why": "maintenance" });

    let drained = decide(&client, &cluster, 1, "n2/drain", order()).await;
    assert_eq!(
        (&drained["result"], &drained["state"]),
        (&json!("done"), &json!("draining"))
    );
    wait_for_all(&cluster, &all, "n2", "state", json!("draining")).await;
    for proxy in all {
        assert_eq!(answers_of(&client, &cluster, proxy, "n2").await, 0);
    }
    let again = decide(&client, &cluster, 3, "n2/drain", order()).await;
    assert_eq!(again["result"], "unchanged", "{again}");

    decide(&client, &cluster, 3, "n2/undrain", order()).await;
    wait_for_all(&cluster, &all, "n2", "state", json!("active")).await;
    assert!(answers_of(&client, &cluster, 1, "n2").await > 0);

    for weight in [10, 300] {
        let order = json!({ "weight": weight, "by": "liang" });
        decide(&client, &cluster, 2, "n2/weight", order).await;
        wait_for_all(&cluster, &all, "n2", "weight", json!(weight)).await;
    }
    decide(&client, &cluster, 2, "n2/weight", json!({ "weight": null })).await;
    wait_for_all(&cluster, &all, "n2", "weight", json!(100)).await;

    decide(&client, &cluster, 1, "n2/fail", order()).await;
    wait_for_all(&cluster, &all, "n2", "state", json!("failed")).await;
    for proxy in all {
        assert_eq!(answers_of(&client, &cluster, proxy, "n2").await, 0);
    }
    decide(&client, &cluster, 2, "n2/revive", order()).await;
    wait_for_all(&cluster, &all, "n2", "state", json!("active")).await;

    // Node 3 dies; its clients with it.
    assert_nothing_was_lost("through node 3", &third.stop().await);
    cluster.command(&["kill", "3"]).await.unwrap();
    let alive = [1, 2];
    wait_for_all(&cluster, &alive, "n3", "state", json!("failed")).await;
    let removed = remove(&client, &cluster, 2, "n3").await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    wait_for_all(&cluster, &alive, "n3", "state", json!("removed")).await;

    // It does not know yet, comes back, learns of it, and goes. By an explicit join it is a member again.
    let mut agent = start_agent(&cluster, 3);
    let status = agent.exit(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", agent.output());
    wait_for_all(&cluster, &alive, "n3", "state", json!("removed")).await;
    rejoin(cluster.node(3));
    cluster.command(&["restart", "3"]).await.unwrap();
    wait_for_all(&cluster, &all, "n3", "state", json!("active")).await;
    assert!(answers_of(&client, &cluster, 1, "n3").await > 0);

    assert_nothing_was_lost("through node 1", &first.stop().await);
    assert_nothing_was_lost("through node 2", &second.stop().await);
    assert_the_record_tells_it_all(&client, &cluster).await;
}

/// Each node has each decision on record, once, the newest first, with who and why.
async fn assert_the_record_tells_it_all(client: &Client, cluster: &Cluster) {
    let expected = [
        ("remove", "n3"),
        ("revive", "n2"),
        ("fail", "n2"),
        ("weight", "n2"),
        ("weight", "n2"),
        ("weight", "n2"),
        ("undrain", "n2"),
        ("drain", "n2"),
    ];
    for number in 1..=3 {
        let url = cluster.api(number, "/v1/audit?limit=50");
        let record = client.get(&url).await.unwrap().json();
        let items = record["items"].as_array().unwrap();
        let told: Vec<(&str, &str)> = items
            .iter()
            .map(|item| {
                (
                    item["action"].as_str().unwrap(),
                    item["node"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(told, expected, "node {number}");
        assert_eq!(items[0]["by"], "liang");
        assert_eq!(items[0]["why"], "its disk is broken");
        assert_eq!(items[0]["from"], "127.0.0.1");
        assert_eq!(items[0]["on"], "n2");
        assert_eq!(items[0]["after"]["removed"], true);
    }
    let url = cluster.api(1, "/v1/audit?node=n3&limit=5");
    assert_eq!(
        client.get(&url).await.unwrap().json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// Starts the agent of a node of the cluster as a child.
fn start_agent(cluster: &Cluster, number: u16) -> Service {
    let layout = cluster.node(number);
    let log = layout.directory().join("child.log");
    Service::start(&mut agent_command(cluster.binaries(), &layout), log).unwrap()
}

/// What `basic-agent join` does to a node's identity.
fn rejoin(layout: NodeLayout) {
    Identity::rejoin(&layout.data_directory(), None, SystemTime::now()).unwrap();
}

#[tokio::test]
async fn a_running_node_that_is_removed_leaves_and_starts_again_only_after_a_join() {
    let cluster = Cluster::prepare("removed", 2).unwrap();
    cluster.layout().write().unwrap();
    let start = |number| Node::start(cluster.binaries(), cluster.node(number)).unwrap();
    let _first = start(1);
    let mut second = start(2);
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, "n2", "active").await;
        wait_for_state(&cluster, observer, "n1", "active").await;
    }
    let client = Client::default();
    let load = Load::get(&cluster.proxy(1, "/whoami")).unwrap().start();
    let api = cluster.api(1, "");
    let api = api.trim_end_matches('/');

    let unconfirmed = basic_agent(&cluster, &["remove", "n2", "--api", api]).await;
    assert_eq!(unconfirmed.0, Some(2), "{}", unconfirmed.1);
    let order = [
        "remove", "n2", "--yes", "--by", "liang", "--why", "too slow", "--api", api,
    ];
    let removed = basic_agent(&cluster, &order).await;
    assert_eq!(removed.0, Some(0), "{}", removed.1);
    let status = second.agent.exit(LIMIT).await.unwrap();
    let said = second.agent.output();
    assert_eq!(status.code(), Some(0), "{said}");
    let last = said.lines().last().unwrap_or_default();
    for words in ["removed", "liang", "too slow", "basic-agent join"] {
        assert!(last.contains(words), "{words:?} is missing in {last}");
    }
    assert_nothing_was_lost("through node 1", &load.stop().await);
    wait_for_state(&cluster, 1, "n2", "removed").await;

    // Its own store says so by now.
    let mut refused = start_agent(&cluster, 2);
    let status = refused.exit(LIMIT).await.unwrap();
    let said = refused.output();
    assert_eq!(status.code(), Some(1), "{said}");
    for words in ["removed", "liang", "too slow", "basic-agent join", "n1"] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
    let decided = client
        .post_json(&cluster.api(1, "/v1/members/n2/drain"), &json!({}))
        .await;
    assert_problem(&decided.unwrap(), 409);

    rejoin(cluster.node(2));
    let _again = start_agent(&cluster, 2);
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, "n2", "active").await;
    }
}

/// Runs a command of the product; its exit code and all that it said.
async fn basic_agent(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test]
async fn of_two_nodes_with_one_id_neither_writes_until_an_operator_decides() {
    let cluster = Cluster::up("two-ids", 3).await.unwrap();
    let client = Client::default();
    let document = json!({ "name": "梁鑫" });
    put(&client, &cluster.api(2, "/v1/data/users/before"), &document).await;

    // Somebody copies the data directory of node 2 and starts an agent on the copy.
    cluster.command(&["kill", "2", "--agent"]).await.unwrap();
    let elsewhere = cluster.layout().directory().join("elsewhere");
    let twin = ports::free_layout(elsewhere, 1).unwrap().node(1).unwrap();
    copy_node(&cluster.node(2), &twin);
    cluster.command(&["restart", "2"]).await.unwrap();
    let log = twin.directory().join("agent.log");
    let mut command = agent_command_with(&cluster.binaries().agent(), &twin.config_file());
    let mut copy = Service::start(&mut command, log).unwrap();

    let original = cluster.api(2, "");
    let copied = format!("http://{}", twin.api());
    let addresses = [cluster.node(2).peer().to_string(), twin.peer().to_string()];
    for api in [&original, &copied] {
        let refusal = wait_for_refused_write(&client, api).await;
        assert_problem(&refusal, 503);
        for words in [&addresses[0], &addresses[1], "basic-agent revive n2"] {
            assert!(
                refusal.text().contains(words),
                "{words} is missing: {}",
                refusal.text()
            );
        }
        let status = client
            .get(&format!("{api}/v1/status"))
            .await
            .unwrap()
            .json();
        let findings = status["findings"].to_string();
        for address in &addresses {
            assert!(
                findings.contains(address),
                "{address} is missing: {findings}"
            );
        }
        let read = wait_for_document(&client, &format!("{api}/v1/data/users/before")).await;
        assert_eq!(read.json(), document);
    }
    put(
        &client,
        &cluster.api(1, "/v1/data/users/meanwhile"),
        &document,
    )
    .await;
    let early = client
        .post_json(&cluster.api(2, "/v1/members/n2/revive"), &json!({}))
        .await;
    assert_problem(&early.unwrap(), 409);

    // Whoever decides stops the copy; silence alone changes nothing.
    copy.signal(basic_tests::harness::process::Signal::KILL)
        .unwrap();
    copy.exit(LIMIT).await.unwrap();
    wait_until("the original to be revived", LIMIT, || async {
        let url = cluster.api(2, "/v1/members/n2/revive");
        let order = json!({ "by": "liang", "why": "the copy is gone" });
        let answer = client
            .post_json(&url, &order)
            .await
            .map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 => Ok(()),
            _ => Err(answer.text()),
        }
    })
    .await
    .unwrap();
    put(&client, &cluster.api(2, "/v1/data/users/after"), &document).await;
    for number in 1..=3 {
        let url = cluster.api(number, "/v1/data/users/after");
        wait_for_document(&client, &url).await;
    }
    let record = client
        .get(&cluster.api(2, "/v1/audit"))
        .await
        .unwrap()
        .json();
    assert_eq!(record["items"][0]["action"], "revive", "{record}");
}

/// The same node at another place: its data and settings, but with other ports.
fn copy_node(original: &NodeLayout, twin: &NodeLayout) {
    copy_directory(&original.data_directory(), &twin.data_directory());
    let mut settings = fs::read_to_string(original.config_file()).unwrap();
    let moved = [
        (original.peer(), twin.peer()),
        (original.api(), twin.api()),
        (original.proxy(), twin.proxy()),
    ];
    for (from, to) in moved {
        settings = settings.replace(&format!("\"{from}\""), &format!("\"{to}\""));
    }
    let directory = |layout: &NodeLayout| layout.data_directory().display().to_string();
    settings = settings.replace(&directory(original), &directory(twin));
    // The seeds are the first two nodes, of which the copy had become one.
    settings = settings.replace(
        &format!("seeds = [\"{}\"", twin.peer()),
        &format!("seeds = [\"{}\"", original.peer()),
    );
    fs::write(twin.config_file(), settings).unwrap();
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn wait_for_refused_write(client: &Client, api: &str) -> Answer {
    let url = format!("{api}/v1/data/users/during");
    wait_until(format!("{api} to refuse writes"), LIMIT, || async {
        let answer = client
            .put_json(&url, &json!({}))
            .await
            .map_err(|error| error.to_string())?;
        match answer.status.is_success() {
            true => Err("it takes them".to_owned()),
            false if answer.text().contains("two nodes") => Ok(answer),
            false => Err(answer.text()),
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn all_operations_of_the_cluster_manager_are_http_calls() {
    let cluster = Cluster::up("manager", 2).await.unwrap();
    let client = Client::default();
    let users = json!({ "username": "liang", "role": "admin" });

    // GetClusterStatus and GetNodeStatus.
    let status = client
        .get(&cluster.api(1, "/v1/status"))
        .await
        .unwrap()
        .json();
    assert_eq!(status["members"]["total"], 2, "{status}");
    let node = client
        .get(&cluster.api(1, "/v1/members/n2"))
        .await
        .unwrap()
        .json();
    assert_eq!(node["state"], "active", "{node}");

    // The same two in the author's own JSON, on every node.
    for number in [1, 2] {
        let url = cluster.api(number, "/api/v1/cluster/status");
        let answer = client.get(&url).await.unwrap().json();
        assert_eq!(answer["enabled"], true, "{answer}");
        let status = &answer["status"];
        assert_eq!(status["cluster_id"], "jobfirst-cluster-1", "{answer}");
        assert_eq!(status["total_nodes"], 2, "{answer}");
        assert_eq!(status["active_nodes"], 2, "{answer}");
        assert_eq!(status["failed_nodes"], 0, "{answer}");
        for field in [
            "total_requests",
            "successful_requests",
            "failed_requests",
            "average_response_time",
        ] {
            assert!(status[field].is_u64(), "{field}: {answer}");
        }
        let url = cluster.api(number, "/api/v1/cluster/nodes");
        let nodes = client.get(&url).await.unwrap().json()["nodes"].clone();
        for (listed, id) in [(&nodes, "n1"), (&nodes, "n2"), (&status["nodes"], "n2")] {
            let node = &listed[id];
            let config = &node["config"];
            assert_eq!(config["node_id"], id, "{nodes}");
            assert_eq!(config["host"], "127.0.0.1", "{nodes}");
            let number: u16 = id[1..].parse().unwrap();
            assert_eq!(config["port"], cluster.node(number).app().port(), "{nodes}");
            assert_eq!(config["weight"], 100, "{nodes}");
            assert_eq!(config["status"], "active", "{nodes}");
            assert!(config["metadata"].is_object(), "{nodes}");
            for moment in [
                &config["created_at"],
                &config["updated_at"],
                &node["last_seen"],
            ] {
                assert!(moment.as_str().unwrap().ends_with('Z'), "{nodes}");
            }
            assert!(node["connections"].is_u64(), "{nodes}");
            assert!(node["response_time"].is_u64(), "{nodes}");
            assert_eq!(node["success_rate"], 1.0, "{nodes}");
        }
    }

    // SyncUserData and SyncConfigData.
    for path in ["/v1/data/users/u1", "/v1/data/config/app"] {
        put(&client, &cluster.api(1, path), &users).await;
        let read = wait_for_document(&client, &cluster.api(2, path)).await;
        assert_eq!(read.json(), users);
    }

    // HandleNodeFailure, and back.
    decide(&client, &cluster, 1, "n2/fail", json!({ "why": "smoke" })).await;
    wait_for_state(&cluster, 2, "n2", "failed").await;
    let url = cluster.api(2, "/api/v1/cluster/status");
    let status = client.get(&url).await.unwrap().json()["status"].clone();
    assert_eq!(status["failed_nodes"], 1, "{status}");
    assert_eq!(
        status["nodes"]["n2"]["config"]["status"], "failed",
        "{status}"
    );
    decide(&client, &cluster, 1, "n2/revive", json!({})).await;
    wait_for_state(&cluster, 2, "n2", "active").await;

    // RegisterNode: a server without an agent. UnregisterNode.
    let address = free_address();
    let mut command = Command::new(cluster.binaries().sample_server());
    command.arg("--host").arg(address.ip().to_string());
    command.arg("--port").arg(address.port().to_string());
    let log = cluster.layout().directory().join("plain.log");
    let _plain = Service::start(&mut command, log).unwrap();
    let server = json!({ "id": "plain", "address": address.to_string() });
    let url = cluster.api(1, "/v1/members");
    let registered = client.post_json(&url, &server).await.unwrap();
    assert_eq!(registered.status, 201, "{}", registered.text());
    wait_for_state(&cluster, 2, "plain", "active").await;
    let unregistered = client
        .delete(&cluster.api(2, "/v1/members/plain"))
        .await
        .unwrap();
    assert!(unregistered.status.is_success(), "{}", unregistered.text());
    wait_until("the server to be gone", LIMIT, || async {
        match member(&client, &cluster.api(1, ""), "plain").await {
            Err(_) => Ok(()),
            Ok(member) if member["state"] == "removed" => Ok(()),
            Ok(member) => Err(member.to_string()),
        }
    })
    .await
    .unwrap();
}

/// An address where nobody listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn decisions_that_make_no_sense_are_refused_with_what_to_do() {
    let cluster = Cluster::up("nonsense", 1).await.unwrap();
    let client = Client::default();
    let long = json!({ "why": "w".repeat(501) });
    for (path, order, status, words) in [
        ("n2/drain", json!({}), 404, "did you mean \"n1\""),
        ("n1/dance", json!({}), 404, "drain, undrain, fail or revive"),
        ("n1/drain", json!({ "wy": "x" }), 400, "wy"),
        ("n1/drain", json!(7), 400, "invalid type"),
        ("n1/drain", long, 400, "at most 500"),
        ("n1/drain", json!({}), 409, "only node"),
        ("n1/fail", json!({}), 409, "force"),
        ("n1/drain?force=perhaps", json!({}), 400, "force"),
    ] {
        let url = cluster.api(1, &format!("/v1/members/{path}"));
        let answer = client.post_json(&url, &order).await.unwrap();
        assert_problem(&answer, status);
        assert!(
            answer.text().contains(words.split('"').next().unwrap()),
            "{path}: {}",
            answer.text()
        );
    }
    for weight in [json!(-1), json!(65_536), json!(1.5), json!("10"), json!([])] {
        let order = json!({ "weight": weight });
        let url = cluster.api(1, "/v1/members/n1/weight");
        assert_problem(&client.put_json(&url, &order).await.unwrap(), 400);
    }

    // What the agents keep for themselves.
    for (collection, command) in [
        ("agent.members", "drain|undrain"),
        ("agent.audit", "themselves"),
        ("agent.keys", "keys rotate"),
        ("agent.mine", "does not begin"),
    ] {
        let url = cluster.api(1, &format!("/v1/data/{collection}/n1%2Fdrain"));
        for answer in [
            client.put_json(&url, &json!({})).await.unwrap(),
            client.delete(&url).await.unwrap(),
        ] {
            assert_problem(&answer, 403);
            assert!(answer.text().contains(command), "{}", answer.text());
        }
    }
    for path in [
        "/v1/data/agent.keys",
        "/v1/data/agent.keys/k",
        "/v1/watch?collection=agent.keys",
    ] {
        assert_problem(&client.get(&cluster.api(1, path)).await.unwrap(), 403);
    }
    let audit = client.get(&cluster.api(1, "/v1/audit")).await.unwrap();
    assert_eq!(audit.json(), json!({ "items": [] }));
    assert_problem(
        &client
            .get(&cluster.api(1, "/v1/audit?limit=0"))
            .await
            .unwrap(),
        400,
    );
}
