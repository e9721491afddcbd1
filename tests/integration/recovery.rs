//! A node that was away comes back with everything, and only then takes traffic.

use std::fs;
use std::path::{Path, PathBuf};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use serde_json::json;

use crate::support::{LIMIT, put, wait_for_document, wait_for_state};

/// Writes while node 2 is away.
const WRITES: usize = 200;

#[tokio::test]
async fn a_restarted_node_catches_up_before_it_takes_traffic() {
    let cluster = Cluster::up("catch-up", 3).await.unwrap();
    let client = Client::default();
    let document = |number: usize| format!("/v1/data/away/k{number}");
    cluster.command(&["kill", "2"]).await.unwrap();
    for number in 0..WRITES {
        put(
            &client,
            &cluster.api(1, &document(number)),
            &json!({ "number": number }),
        )
        .await;
    }

    let arguments = ["restart", "2"];
    let restart = cluster.command(&arguments);
    let first_read = async {
        let ready = cluster.api(2, "/readyz");
        wait_until("node 2 to be ready", LIMIT, || async {
            match client.get(&ready).await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
        // At once, and not after any further wait: this is the point.
        client
            .get(&cluster.api(2, &document(WRITES - 1)))
            .await
            .unwrap()
    };
    let (restarted, first_read) = tokio::join!(restart, first_read);
    restarted.unwrap();
    assert_eq!(
        first_read.status,
        200,
        "the first read is stale: {}",
        first_read.text()
    );
    for number in 0..WRITES {
        let answer = client
            .get(&cluster.api(2, &document(number)))
            .await
            .unwrap();
        assert_eq!(answer.json(), json!({ "number": number }));
    }
    wait_for_state(&cluster, 1, "n2", "active").await;
}

#[tokio::test]
async fn an_acknowledged_write_survives_the_kill_of_its_node() {
    let cluster = Cluster::up("kill-writer", 1).await.unwrap();
    let client = Client::default();
    let document = json!({ "kept": true });
    put(&client, &cluster.api(1, "/v1/data/users/last"), &document).await;
    cluster.command(&["kill", "1", "--agent"]).await.unwrap();
    cluster.command(&["restart", "1"]).await.unwrap();
    let read = client
        .get(&cluster.api(1, "/v1/data/users/last"))
        .await
        .unwrap();
    assert_eq!(read.json(), document);
}

#[tokio::test]
async fn writes_of_a_node_that_was_alone_reach_the_others_later() {
    let cluster = Cluster::up("alone", 2).await.unwrap();
    let client = Client::default();
    cluster.command(&["kill", "2", "--agent"]).await.unwrap();
    put(
        &client,
        &cluster.api(1, "/v1/data/users/by-1"),
        &json!({ "by": 1 }),
    )
    .await;
    cluster.command(&["kill", "1", "--agent"]).await.unwrap();
    cluster.command(&["restart", "2"]).await.unwrap();
    put(
        &client,
        &cluster.api(2, "/v1/data/users/by-2"),
        &json!({ "by": 2 }),
    )
    .await;
    cluster.command(&["restart", "1"]).await.unwrap();
    for node in 1..=2 {
        for key in ["by-1", "by-2"] {
            let url = cluster.api(node, &format!("/v1/data/users/{key}"));
            wait_for_document(&client, &url).await;
        }
    }
}

#[tokio::test]
async fn a_damaged_store_is_refused_with_advice_and_left_as_it_is() {
    let cluster = Cluster::up("damaged", 1).await.unwrap();
    let client = Client::default();
    put(
        &client,
        &cluster.api(1, "/v1/data/users/u1"),
        &json!({ "name": "x" }),
    )
    .await;
    cluster.command(&["kill", "1", "--agent"]).await.unwrap();

    let store = largest_file(&cluster.node(1).data_directory());
    let mut bytes = fs::read(&store).unwrap();
    bytes.iter_mut().take(4096).for_each(|byte| *byte ^= 0xa5);
    fs::write(&store, &bytes).unwrap();

    let restart = cluster.attempt(&["restart", "1"]).await.unwrap();
    assert_eq!(restart.code, Some(1), "{restart:?}");
    let name = store.file_name().unwrap().to_string_lossy();
    assert!(
        restart.stderr.contains(&*name),
        "it names the file {name}: {}",
        restart.stderr
    );
    let advised = ["restore", "move", "backup"]
        .iter()
        .any(|word| restart.stderr.contains(word));
    assert!(advised, "it says what to do: {}", restart.stderr);
    assert_eq!(
        fs::read(&store).unwrap(),
        bytes,
        "the damaged file is kept for rescue"
    );
}

/// The store: all else in a data directory is a few lines.
fn largest_file(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => files.push((fs::metadata(&path).unwrap().len(), path)),
            }
        }
    }
    files
        .into_iter()
        .max()
        .expect("the data directory has files")
        .1
}
