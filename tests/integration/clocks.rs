//! A node whose clock is an hour ahead: what it may do, who says so, and what is left of it.

use std::fs;
use std::path::{Path, PathBuf};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, put, wait_for_state};

/// Where Debian's package `faketime` has its library; `None`, and a word, where it is missing.
pub(crate) fn faketime() -> Option<&'static Path> {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    if library.exists() {
        return Some(library);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "install the package faketime"
    );
    eprintln!("skipped: the package faketime is not installed");
    None
}

/// The wall clock of one node, in a file that it reads whenever it looks.
struct WallClock {
    file: PathBuf,
}

impl WallClock {
    fn set(&self, offset: &str) {
        let next = self.file.with_extension("next");
        fs::write(&next, offset).unwrap();
        fs::rename(&next, &self.file).unwrap();
    }

    /// Starts a node that lives by it.
    fn start(&self, cluster: &Cluster, node: u16, library: &Path) -> Node {
        Node::start_by(cluster.binaries(), cluster.node(node), |mut command| {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", &self.file)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        })
        .unwrap()
    }
}

/// Waits until the status of a node is as it should be.
async fn wait_for_status(
    cluster: &Cluster,
    node: u16,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let client = Client::default();
    let url = cluster.api(node, "/v1/status");
    wait_until(format!("node {node}: {what}"), LIMIT, || async {
        let answer = client.get(&url).await.map_err(|error| error.to_string())?;
        let status = answer.json();
        match holds(&status) {
            true => Ok(status),
            false => Err(status.to_string()),
        }
    })
    .await
    .unwrap()
}

/// Whether a status finds this about node 3.
fn finds(status: &Value, code: &str, words: &str) -> bool {
    let mut findings = status["findings"].as_array().into_iter().flatten();
    findings.any(|found| {
        let fact = found["fact"].as_str().unwrap_or_default();
        found["code"] == code && found["node"] == "n3" && fact.contains(words)
    })
}

async fn wait_for_value(cluster: &Cluster, node: u16, path: &str, value: &Value) {
    let client = Client::default();
    let url = cluster.api(node, path);
    wait_until(format!("{value} at {url}"), LIMIT, || async {
        let answer = client.get(&url).await.map_err(|error| error.to_string())?;
        match answer.status.is_success() && answer.json() == *value {
            true => Ok(()),
            false => Err(answer.text()),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_node_an_hour_ahead_beats_nobody_and_takes_no_writes_until_it_is_set_right() {
    let Some(library) = faketime() else { return };
    let cluster = Cluster::prepare("clock-ahead", 3).unwrap();
    cluster.layout().write().unwrap();
    let client = Client::default();
    let clock = WallClock {
        file: cluster.layout().directory().join("clock-of-n3"),
    };
    clock.set("+3600");
    let _first = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
    wait_for_state(&cluster, 1, "n1", "active").await;
    let _wrong = clock.start(&cluster, 3, library);
    wait_for_state(&cluster, 1, "n3", "active").await;
    wait_for_state(&cluster, 3, "n1", "active").await;

    // Of two nodes nobody can tell which one is wrong: both take writes.
    let document = "/v1/data/users/u1";
    let (ahead, later) = (json!({"by": "n3"}), json!({"by": "n1"}));
    put(&client, &cluster.api(3, document), &ahead).await;
    wait_for_value(&cluster, 1, document, &ahead).await;
    let status = wait_for_status(&cluster, 1, "to tell who wrote ahead", |status| {
        finds(status, "dated-ahead", "n3")
    })
    .await;
    assert_eq!(status["sync"]["dated_ahead"][0]["key"], "u1", "{status}");
    assert!(!finds(&status, "clock-off", "takes no writes"), "{status}");
    put(&client, &cluster.api(1, document), &later).await;
    wait_for_value(&cluster, 3, document, &later).await;

    // Of three one is.
    let _second = Node::start(cluster.binaries(), cluster.node(2)).unwrap();
    wait_for_state(&cluster, 1, "n2", "active").await;
    let refusing = |status: &Value| {
        let reason = status["writes_refused"].as_str();
        reason.is_some_and(|reason| reason.contains("set its clock right"))
    };
    wait_for_status(&cluster, 3, "to refuse writes", refusing).await;
    for node in 1..=3 {
        wait_for_status(&cluster, node, "to say so", |status| {
            finds(status, "clock-off", "takes no writes")
        })
        .await;
    }
    let url = cluster.api(3, document);
    let refused = client.put_json(&url, &ahead).await.unwrap();
    assert_problem(&refused, 503);
    assert!(refused.text().contains("ahead"), "{}", refused.text());
    let meanwhile = json!({"by": "n2"});
    put(&client, &cluster.api(2, document), &meanwhile).await;
    wait_for_value(&cluster, 3, document, &meanwhile).await;

    clock.set("+0");
    wait_for_status(&cluster, 3, "to take writes", |status| {
        status["writes_refused"].is_null()
    })
    .await;
    let right = json!({"by": "n3, set right"});
    put(&client, &cluster.api(3, document), &right).await;
    for node in 1..=3 {
        wait_for_value(&cluster, node, document, &right).await;
        wait_for_status(&cluster, node, "to find no clock off", |status| {
            !finds(status, "clock-off", "")
        })
        .await;
    }
}
