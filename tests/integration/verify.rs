//! A store that was changed behind its agent's back is found, and mended.

use std::process::{Command, Output};

use basic_sync::model::{Collection, Key};
use basic_sync::storage::{Finish, JournaledStorage, Storage as _, Table, Writer, records, state};
use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};

use crate::support::{LIMIT, patch, put};

const CACHE_BYTES: usize = 8 * 1024 * 1024;

fn sync(cluster: &Cluster, node: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new(cluster.binaries().agent());
    command.arg("sync").args(arguments);
    command.args(["--api", &cluster.api(node, "")]);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// What `sync verify --json` says, and its exit code.
fn verify(cluster: &Cluster, node: u16, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = sync(cluster, node, &[&["verify", "--json"], arguments].concat());
    let report = serde_json::from_slice(&output.stdout);
    (
        report.unwrap_or_else(|_| panic!("{}", text(&output))),
        output.status.code(),
    )
}

/// Waits until all copies are the same.
async fn wait_until_equal(cluster: &Cluster) {
    wait_until("all nodes to hold the same", LIMIT, || async {
        match verify(cluster, 1, &["--deep"]) {
            (report, Some(0)) if report["in_flight"] == 0 => Ok(()),
            (report, code) => Err(format!("{code:?}: {report}")),
        }
    })
    .await
    .unwrap();
}

fn row_key(collection: &str, name: &str) -> Vec<u8> {
    let collection = Collection::new(collection).unwrap();
    records::encode_key(&Key::new(collection, name).unwrap())
}

/// Changes the store of a node whose agent was killed, as soon as it is gone.
async fn change(cluster: &Cluster, node: u16, work: impl Fn(&mut dyn Writer)) {
    let directory = cluster.node(node).data_directory();
    let store = wait_until("the agent to be gone", LIMIT, || async {
        JournaledStorage::open(&directory, CACHE_BYTES).map_err(|error| error.to_string())
    });
    let store = store.await.unwrap();
    let mut work = |writer: &mut dyn Writer| {
        work(writer);
        Ok(Finish::Commit)
    };
    store.write(&mut work).unwrap();
}

#[tokio::test]
async fn a_corrupted_row_is_named_by_place_key_and_field_and_mended() {
    let cluster = Cluster::up("verify", 3).await.unwrap();
    let client = Client::default();
    let profile = cluster.api(1, "/v1/data/profiles/u1");
    put(&client, &profile, &json!({ "name": "liang", "age": 30 })).await;
    // Only what a node has seen does its clock follow: two writes of one millisecond on two
    // nodes are concurrent.
    wait_until_equal(&cluster).await;
    patch(
        &client,
        &cluster.api(2, "/v1/data/profiles/u1"),
        &json!({ "age": 31 }),
    )
    .await;
    for name in ["lost", "kept"] {
        let url = cluster.api(3, &format!("/v1/data/users/{name}"));
        put(&client, &url, &json!({ "here": true })).await;
    }
    wait_until_equal(&cluster).await;

    cluster.command(&["kill", "2", "--agent"]).await.unwrap();
    let (report, code) = verify(&cluster, 1, &[]);
    assert_eq!(code, Some(1), "a node that is away may differ: {report}");
    assert_eq!(
        (&report["differing"], &report["nodes"][1]["compared"]),
        (&json!(0), &json!(false))
    );
    assert!(report["nodes"][1]["error"].is_string(), "{report}");

    change(&cluster, 2, |writer| {
        let key = row_key("profiles", "u1");
        let mut row = writer.get(Table::Entries, &key).unwrap().unwrap();
        let at = row.windows(2).rposition(|two| two == b"31").unwrap();
        row[at + 1] = b'7';
        writer.insert(Table::Entries, &key, &row).unwrap();
        writer
            .remove(Table::Entries, &row_key("users", "lost"))
            .unwrap();
    })
    .await;
    cluster.command(&["restart", "2"]).await.unwrap();

    // Named from the damaged node and from another one.
    for node in [1, 2] {
        let shown = text(&sync(&cluster, node, &["verify"]));
        let line = |words: [&str; 3]| {
            let mut lines = shown.lines();
            lines.any(|line| words.iter().all(|word| line.contains(word)))
        };
        assert!(line(["profiles/u1  field age", "n2", "37 at"]), "{shown}");
        assert!(line(["profiles/u1  field age", "n1", "31 at"]), "{shown}");
        assert!(line(["users/lost", "n2", "(absent)"]), "{shown}");
        assert!(!shown.contains("users/kept"), "{shown}");
    }
    let (report, code) = verify(&cluster, 3, &["--deep"]);
    assert_eq!(
        (code, &report["differing"]),
        (Some(1), &json!(2)),
        "{report}"
    );
    // The index of the damaged node names a write of the row that is lost.
    let damaged = &report["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == "n2");
    assert!(damaged.unwrap()["faulty"].as_u64() >= Some(1), "{report}");

    // The plan changes nothing.
    let plan = sync(&cluster, 1, &["repair"]);
    let shown = text(&plan);
    assert_eq!(plan.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("most nodes hold another copy") && shown.contains("planned"),
        "{shown}"
    );
    let read = client
        .get(&cluster.api(2, "/v1/data/profiles/u1"))
        .await
        .unwrap();
    assert_eq!(read.json()["age"], 37);

    let applied = sync(
        &cluster,
        1,
        &["repair", "--apply", "--by", "ann", "--why", "bad disk"],
    );
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied));
    for node in 1..=3 {
        let read = client
            .get(&cluster.api(node, "/v1/data/profiles/u1"))
            .await
            .unwrap();
        assert_eq!(read.json(), json!({ "name": "liang", "age": 31 }));
        let read = client
            .get(&cluster.api(node, "/v1/data/users/lost"))
            .await
            .unwrap();
        assert_eq!(read.json(), json!({ "here": true }));
        let (report, code) = verify(&cluster, node, &["--deep"]);
        assert_eq!(code, Some(0), "{report}");
    }
    let audit = client
        .get(&cluster.api(1, "/v1/audit"))
        .await
        .unwrap()
        .json();
    let ended = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["after"]["repair"] == "ended");
    let ended = ended.unwrap_or_else(|| panic!("{audit}"));
    assert_eq!(
        (&ended["by"], &ended["after"]["mended"]),
        (&json!("ann"), &json!(2)),
        "{audit}"
    );
}

#[tokio::test]
async fn a_digest_and_an_index_that_do_not_fit_are_found_on_the_node_and_rebuilt() {
    let cluster = Cluster::up("verify-tables", 2).await.unwrap();
    let client = Client::default();
    for number in 0..40 {
        let url = cluster.api(1, &format!("/v1/data/users/k{number}"));
        put(&client, &url, &json!(number)).await;
    }
    wait_until_equal(&cluster).await;
    cluster.command(&["kill", "2", "--agent"]).await.unwrap();
    change(&cluster, 2, |writer| {
        let mut header = state::header(writer).unwrap().unwrap();
        header.digest = state::Digest::default();
        state::set_header(writer, &header).unwrap();
        let mut rows = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            rows.push(key.to_vec());
            std::ops::ControlFlow::Break(())
        };
        writer.scan(Table::Dots, &[], None, visit).unwrap();
        writer.remove(Table::Dots, &rows[0]).unwrap();
    })
    .await;
    cluster.command(&["restart", "2"]).await.unwrap();

    let (report, code) = verify(&cluster, 1, &[]);
    assert_eq!(code, Some(0), "the documents are the same: {report}");
    let (report, code) = verify(&cluster, 1, &["--deep"]);
    let node = &report["nodes"][1];
    assert_eq!(
        (code, &node["digest_right"]),
        (Some(1), &json!(false)),
        "{report}"
    );
    assert!(node["faulty"].as_u64() > Some(1), "{report}");
    let applied = sync(&cluster, 1, &["repair", "--apply"]);
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied));
    wait_until_equal(&cluster).await;
}
