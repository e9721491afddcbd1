//! Backup and restore by the commands, against clusters that run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use basic_tests::harness::cluster::{Cluster, Output};
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, member, patch, put};

const BACKUP_TYPE: &str = "application/vnd.basic-agent.backup";

/// A file of the cluster's own directory.
fn file(cluster: &Cluster, name: &str) -> String {
    let path: PathBuf = cluster.layout().directory().join(name);
    path.to_string_lossy().into_owned()
}

/// A file with a key.
fn key_file(cluster: &Cluster, name: &str, key: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = file(cluster, name);
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn agent(cluster: &Cluster, node: u16, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command
        .args(arguments)
        .arg("--api")
        .arg(cluster.api(node, ""));
    command.output().await.unwrap().into()
}

/// What a command printed as JSON.
async fn answer(cluster: &Cluster, node: u16, arguments: &[&str]) -> Value {
    let output = agent(cluster, node, &[arguments, &["--json"]].concat()).await;
    assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

/// Every document of some collections on a node, with its version.
async fn documents(cluster: &Cluster, node: u16, collections: &[&str]) -> BTreeMap<String, Value> {
    let client = Client::default();
    let mut all = BTreeMap::new();
    for collection in collections {
        let mut after = String::new();
        loop {
            let path = format!("/v1/data/{collection}?limit=1000{after}");
            let page = client.get(&cluster.api(node, &path)).await.unwrap().json();
            for item in page["items"].as_array().unwrap() {
                all.insert(format!("{collection}/{}", item["key"]), item.clone());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
    }
    all
}

/// Waits until a node has exactly these documents.
async fn wait_for_documents(
    cluster: &Cluster,
    node: u16,
    collections: &[&str],
    wanted: &BTreeMap<String, Value>,
) {
    let what = format!("node {node} to have {} documents", wanted.len());
    wait_until(what, LIMIT, || async {
        let found = documents(cluster, node, collections).await;
        let differs = wanted
            .iter()
            .find(|(key, item)| found.get(*key) != Some(item));
        match (differs, found.len() == wanted.len()) {
            (None, true) => Ok(()),
            (differs, _) => Err(format!("{} documents, {differs:?}", found.len())),
        }
    })
    .await
    .unwrap();
}

/// Four clients write documents to all nodes until told to stop.
struct Writers {
    acknowledged: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(cluster: &Cluster) -> Self {
        let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let tasks = (0..4_u16).map(|writer| {
            let (acknowledged, stop, next) = (acknowledged.clone(), stop.clone(), next.clone());
            let url = cluster.api(writer % 3 + 1, "/v1/data/load");
            tokio::spawn(async move {
                let client = Client::default();
                while !stop.load(Ordering::SeqCst) {
                    let key = format!("k{:06}", next.fetch_add(1, Ordering::SeqCst));
                    let document = json!({"by": writer, "text": "x".repeat(500)});
                    put(&client, &format!("{url}/{key}"), &document).await;
                    // One that changes all the time.
                    put(&client, &format!("{url}/hot"), &json!(key)).await;
                    acknowledged.lock().unwrap().push(key);
                }
            })
        });
        let tasks = tasks.collect();
        Self {
            acknowledged,
            stop,
            tasks,
        }
    }

    fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_backup_under_load_brings_everything_into_new_clusters_of_one_and_of_three() {
    let client = Client::default();
    let cluster = Cluster::up("backup-load", 3).await.unwrap();
    let node = |path: &str| cluster.api(1, path);
    for key in ["stays", "goes"] {
        put(
            &client,
            &node(&format!("/v1/data/users/{key}")),
            &json!({"name": "梁鑫"}),
        )
        .await;
    }
    put(&client, &node("/v1/data/profiles/p1"), &json!({"a": 1})).await;
    patch(&client, &node("/v1/data/profiles/p1"), &json!({"b": 2})).await;
    patch(&client, &node("/v1/data/counters/c1"), &json!({"add": 5})).await;
    patch(
        &client,
        &cluster.api(2, "/v1/data/counters/c1"),
        &json!({"add": 2}),
    )
    .await;
    patch(
        &client,
        &node("/v1/data/sets/s1"),
        &json!({"add": ["a", "b"]}),
    )
    .await;
    client.delete(&node("/v1/data/users/goes")).await.unwrap();
    let weighed = agent(&cluster, 1, &["weight", "n1", "7"]).await;
    assert_eq!(weighed.code, Some(0), "{weighed:?}");
    wait_until("the counter to be whole", LIMIT, || async {
        let counter = client.get(&node("/v1/data/counters/c1")).await.unwrap();
        (counter.text() == "7").then_some(()).ok_or(counter.text())
    })
    .await
    .unwrap();

    let writers = Writers::start(&cluster);
    wait_until("some writes", LIMIT, || async {
        let count = writers.acknowledged().len();
        (count >= 300).then_some(()).ok_or(format!("{count}"))
    })
    .await
    .unwrap();
    // Those that this node has acknowledged or has heard of.
    let acknowledged = writers.acknowledged();
    let here = documents(&cluster, 1, &["load"]).await;
    let path = file(&cluster, "all.backup");
    let taken = answer(&cluster, 1, &["backup", "--output", &path]).await;
    writers.stop().await;
    println!("{taken}");

    let verified = answer_of_verify(&cluster, &path).await;
    assert_eq!(verified["writes"], taken["writes"]);
    assert!(
        verified["collections"]["load"].as_u64() >= Some(here.len() as u64),
        "{verified}"
    );

    let collections = ["users", "profiles", "counters", "sets", "load"];
    let one = Cluster::up("backup-one", 1).await.unwrap();
    let restored = answer(&one, 1, &["restore", &path]).await;
    assert_eq!(restored["known"], 0, "{restored}");
    assert!(restored["left_out"].as_u64() >= Some(1), "{restored}");
    let all = documents(&one, 1, &collections).await;
    let mut checked = 0;
    for (number, key) in acknowledged.iter().enumerate() {
        let name = format!("load/\"{key}\"");
        if here.contains_key(&name) {
            assert!(all.contains_key(&name), "write {number}, {key}, is missing");
            checked += 1;
        }
    }
    assert!(checked >= 100, "{checked}");
    assert!(all.contains_key("users/\"stays\"") && !all.contains_key("users/\"goes\""));
    assert_eq!(all["profiles/\"p1\""]["value"], json!({"a": 1, "b": 2}));
    assert_eq!(all["counters/\"c1\""]["value"], 7);
    assert_eq!(all["sets/\"s1\""]["value"], json!(["a", "b"]));
    // What was decided about the nodes of the old cluster says nothing about those of the new.
    let n1 = member(&client, &one.api(1, ""), "n1").await.unwrap();
    assert_eq!(n1["weight"], 100, "{n1}");
    // It can be written over, and a counter counts on.
    patch(
        &client,
        &one.api(1, "/v1/data/counters/c1"),
        &json!({"add": 1}),
    )
    .await;
    let counter = client
        .get(&one.api(1, "/v1/data/counters/c1"))
        .await
        .unwrap();
    assert_eq!(counter.text(), "8");
    drop(one);

    let three = Cluster::up("backup-three", 3).await.unwrap();
    answer(&three, 2, &["restore", &path]).await;
    for node in 1..=3 {
        wait_for_documents(&three, node, &collections, &all).await;
    }
    // To repeat it changes nothing.
    let again = answer(&three, 3, &["restore", &path]).await;
    assert_eq!(
        (&again["taken_in"], &again["superseded"]),
        (&json!(0), &json!(0)),
        "{again}"
    );
}

async fn answer_of_verify(cluster: &Cluster, path: &str) -> Value {
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    let output = command.args(["backup", "verify", path, "--json"]).output();
    let output: Output = output.await.unwrap().into();
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_merge_undoes_nothing_and_as_new_goes_back_with_one_command() {
    let client = Client::default();
    let cluster = Cluster::up("backup-back", 3).await.unwrap();
    let at = |path: &str| cluster.api(1, &format!("/v1/data/{path}"));
    for (path, document) in [
        ("users/same", json!({"n": 1})),
        ("users/changed", json!({"n": 1})),
        ("users/deleted", json!({"n": 1.5e300})),
        ("profiles/p1", json!({"a": 1, "b": 1})),
        ("counters/c1", json!(10)),
        ("sets/s1", json!(["a", "b"])),
        ("other/kind", json!([1, 2])),
    ] {
        put(&client, &at(path), &document).await;
    }
    let key = key_file(&cluster, "key", "0123456789abcdef0123456789abcdef\n");
    let path = file(&cluster, "then.backup");
    let backup = ["backup", "-o", &path, "--key-file", &key];
    assert_eq!(answer(&cluster, 1, &backup).await["encrypted"], true);
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"cluster"));
    // A file that is there stays as it is, unless told otherwise.
    let again = agent(&cluster, 1, &backup).await;
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("--force"), "{again:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes);

    let collections = ["users", "profiles", "counters", "sets", "other"];
    let then = documents(&cluster, 1, &collections).await;
    put(&client, &at("users/changed"), &json!({"n": 2})).await;
    client.delete(&at("users/deleted")).await.unwrap();
    put(&client, &at("users/made"), &json!({"n": 2})).await;
    put(&client, &at("profiles/p1"), &json!({"b": 2, "c": 2})).await;
    patch(&client, &at("counters/c1"), &json!({"add": 5})).await;
    patch(
        &client,
        &at("sets/s1"),
        &json!({"add": ["c"], "remove": ["a"]}),
    )
    .await;
    put(&client, &at("other/kind"), &json!({"x": 1})).await;
    let now = documents(&cluster, 1, &collections).await;

    let restore = ["restore", &path, "--key-file", &key];
    let merged = answer(&cluster, 1, &restore).await;
    assert_eq!(
        (&merged["taken_in"], &merged["superseded"]),
        (&json!(0), &json!(0)),
        "{merged}"
    );
    assert_eq!(documents(&cluster, 1, &collections).await, now);

    let back = answer(&cluster, 1, &[&restore[..], &["--as-new"]].concat()).await;
    assert_eq!(back["written"], 6, "{back}");
    assert_eq!(
        (&back["same"], &back["kept"], &back["deleted"]),
        (&json!(1), &json!(1), &json!(0)),
        "{back}"
    );
    let values = |documents: &BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        let value = |(key, item): (&String, &Value)| (key.clone(), item["value"].clone());
        documents.iter().map(value).collect()
    };
    let mut wanted = values(&then);
    wanted.insert("users/\"made\"".to_owned(), json!({"n": 2}));
    let found = documents(&cluster, 1, &collections).await;
    assert_eq!(values(&found), wanted);
    let arguments = ["--as-new", "--delete-newer"];
    let cleared = answer(&cluster, 2, &[&restore[..], &arguments].concat()).await;
    assert_eq!(cleared["deleted"], 1, "{cleared}");
    let found = documents(&cluster, 2, &collections).await;
    assert_eq!(values(&found), values(&then));
    for node in [1, 3] {
        wait_for_documents(&cluster, node, &collections, &found).await;
    }
}

#[tokio::test]
async fn bad_files_are_told_by_message_and_exit_code_and_change_nothing() {
    let client = Client::default();
    let cluster = Cluster::up("backup-bad", 1).await.unwrap();
    for n in 0..50 {
        let url = cluster.api(1, &format!("/v1/data/users/u{n}"));
        put(&client, &url, &json!({"text": "x".repeat(n)})).await;
    }
    let key = key_file(&cluster, "key", "0123456789abcdef0123456789abcdef");
    let other = key_file(&cluster, "other", "fedcba9876543210fedcba9876543210");
    let short = key_file(&cluster, "short", "short");
    let plain = file(&cluster, "plain.backup");
    let sealed = file(&cluster, "sealed.backup");
    answer(&cluster, 1, &["backup", "-o", &plain]).await;
    answer(&cluster, 1, &["backup", "-o", &sealed, "--key-file", &key]).await;
    for n in 0..50 {
        let url = cluster.api(1, &format!("/v1/data/users/u{n}"));
        client.delete(&url).await.unwrap();
    }
    let bytes = fs::read(&plain).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = file(&cluster, name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let damaged = write("damaged.backup", &damaged);
    let cut = write("cut.backup", &bytes[..bytes.len() - 1]);
    let text = write("text.backup", b"{\"users\":[]}");
    let empty = write("empty.backup", b"");
    let none = file(&cluster, "none.backup");
    let cases: [(&[&str], i32, &str); 9] = [
        (&[&damaged], 1, "is damaged"),
        (&[&cut], 1, "cut off"),
        (&[&text], 2, "no backup"),
        (&[&empty], 2, "no backup"),
        (&[&none], 2, "there is no file"),
        (&[&sealed], 2, "--key-file"),
        (&[&sealed, "--key-file", &other], 2, "does not fit"),
        (&[&sealed, "--key-file", &short], 2, "32 characters"),
        (&[&plain, "--key-file", &key], 2, "not encrypted"),
    ];
    for (arguments, code, message) in cases {
        for ways in [&["--merge"][..], &["--as-new"]] {
            let arguments = [&["restore"], arguments, ways].concat();
            let output = agent(&cluster, 1, &arguments).await;
            assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
            assert!(output.stderr.contains(message), "{arguments:?}: {output:?}");
        }
    }
    for merge in [&[][..], &["--merge"]] {
        let arguments = [&["restore", &plain, "--delete-newer"], merge].concat();
        let output = agent(&cluster, 1, &arguments).await;
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
    }
    // Whoever sends one past the command is told too.
    let damaged = fs::read(&damaged).unwrap();
    let url = cluster.api(1, "/v1/restore");
    for (kind, body, status) in [
        (BACKUP_TYPE, Bytes::from(damaged), 400),
        (BACKUP_TYPE, Bytes::from(fs::read(&sealed).unwrap()), 400),
        ("application/json", Bytes::from_static(b"{}"), 415),
        ("text/plain", Bytes::from_static(b"x"), 415),
    ] {
        let request = Request::post(&url).header("content-type", kind).body(body);
        let answer = client.send(request.unwrap()).await.unwrap();
        assert_problem(&answer, status);
    }
    for (query, status) in [
        ("collections=Users", 400),
        ("collections=agent.keys", 403),
        ("x=1", 400),
    ] {
        let answer = client
            .get(&cluster.api(1, &format!("/v1/backup?{query}")))
            .await;
        assert_problem(&answer.unwrap(), status);
    }
    assert!(documents(&cluster, 1, &["users"]).await.is_empty());
    // A merge does not bring back what was deleted since; it is all there to be brought back.
    answer(&cluster, 1, &["restore", &plain]).await;
    assert!(documents(&cluster, 1, &["users"]).await.is_empty());
    answer(&cluster, 1, &["restore", &plain, "--as-new"]).await;
    assert_eq!(documents(&cluster, 1, &["users"]).await.len(), 50);
}

#[tokio::test]
async fn one_collection_can_be_backed_up_to_a_pipe_and_restored_by_itself() {
    let client = Client::default();
    let cluster = Cluster::up("backup-part", 1).await.unwrap();
    put(&client, &cluster.api(1, "/v1/data/users/u1"), &json!(1)).await;
    put(&client, &cluster.api(1, "/v1/data/orders/o1"), &json!(1)).await;
    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command.args(["backup", "-o", "-", "--collection", "users", "--api"]);
    let output = command.arg(cluster.api(1, "")).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("1 writes"),
        "{output:?}"
    );
    let path = file(&cluster, "part.backup");
    fs::write(&path, &output.stdout).unwrap();
    let new = Cluster::up("backup-part-new", 1).await.unwrap();
    let restored = answer(&new, 1, &["restore", &path]).await;
    assert_eq!(restored["taken_in"], 1, "{restored}");
    let all = documents(&new, 1, &["users", "orders"]).await;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["users/\"u1\""]);
}
