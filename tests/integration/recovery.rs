//! A node that was away comes back with everything, and only then takes traffic.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

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

/// A cluster of three whose servers pass all on to their agents' APIs, so that what a server
/// answers is what its node has.
struct Readers {
    cluster: Cluster,
    servers: Vec<SocketAddr>,
    nodes: Vec<Node>,
    client: Client,
}

impl Readers {
    async fn start(name: &str) -> Self {
        let cluster = Cluster::prepare(name, 3).unwrap();
        cluster.layout().write().unwrap();
        let mut readers = Self {
            cluster,
            servers: Vec::new(),
            nodes: Vec::new(),
            client: Client::default(),
        };
        for number in 1..=3 {
            let api = readers.cluster.node(number).api();
            readers.servers.push(pass_on_to(api).await);
            readers.nodes.push(readers.node(number));
        }
        readers.wait_for_all().await;
        readers
    }

    fn node(&self, number: u16) -> Node {
        let layout = self.cluster.node(number);
        let app = format!("http://{}", self.servers[usize::from(number) - 1]);
        Node::start_by(self.cluster.binaries(), layout, |mut command| {
            command.env("BASIC_AGENT_APP_URL", &app);
            command.env("BASIC_AGENT_APP_HEALTH", "/healthz");
            command
        })
        .unwrap()
    }

    async fn wait_for_all(&self) {
        for observer in 1..=3 {
            for id in ["n1", "n2", "n3"] {
                wait_for_state(&self.cluster, observer, id, "active").await;
            }
        }
    }

    /// Writes on node 1 for so long, and more than is caught up with in a moment; the last
    /// document, which nodes 1 and 3 have then.
    async fn write_for(&self, time: Duration) -> Value {
        const WRITERS: usize = 32;
        let document = &json!({ "text": "x".repeat(2_000) });
        let began = Instant::now();
        let writers = (0..WRITERS).map(|writer| async move {
            for number in 0.. {
                let path = format!("/v1/data/away/k{writer}-{number}");
                put(&self.client, &self.cluster.api(1, &path), document).await;
                if began.elapsed() >= time {
                    return number + 1;
                }
            }
            unreachable!("it ends by the time")
        });
        let written = join_all(writers).await.into_iter().sum::<usize>();
        eprintln!("{written} documents were written meanwhile");
        let last = json!({ "after": written });
        let url = self.cluster.api(1, "/v1/data/away/last?acks=1");
        put(&self.client, &url, &last).await;
        last
    }

    /// Reads by the proxies of nodes 1 and 3 until each has had an answer of node 2, and some
    /// more; every answer must be the document.
    async fn read_until_node_2_serves(&self, expected: &Value) {
        const MORE: usize = 50;
        let mut by_2 = [0; 2];
        let began = Instant::now();
        while by_2.iter().any(|count| *count < MORE) {
            assert!(
                began.elapsed() < LIMIT,
                "node 2 takes no requests: {by_2:?}"
            );
            for (count, proxy) in by_2.iter_mut().zip([1, 3]) {
                let url = self.cluster.proxy(proxy, "/v1/data/away/last");
                let answer = self.client.get(&url).await.unwrap();
                let node = answer.header("basic-node").unwrap_or("nobody").to_owned();
                assert_eq!(answer.status, 200, "by {node}: {}", answer.text());
                assert_eq!(
                    &answer.json(),
                    expected,
                    "by {node} after {:?}",
                    began.elapsed()
                );
                *count += usize::from(node == "n2");
            }
        }
        eprintln!("node 2 serves again after {:?}", began.elapsed());
    }
}

/// A server whose connections are those of another.
async fn pass_on_to(other: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Either end may be gone: then the connection is.
                if let Ok(mut server) = TcpStream::connect(other).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

/// How long a node is away: R10 says 60 s, which `RECOVERY_SECONDS` sets.
fn away() -> Duration {
    let seconds = std::env::var("RECOVERY_SECONDS").ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(5))
}

#[tokio::test]
async fn what_a_restarted_node_answers_behind_a_proxy_is_never_old() {
    let mut readers = Readers::start("restarted-reader").await;
    readers.nodes[1].agent.signal(Signal::KILL).unwrap();
    wait_for_state(&readers.cluster, 1, "n2", "failed").await;
    let last = readers.write_for(away()).await;
    readers.nodes[1] = readers.node(2);
    readers.read_until_node_2_serves(&last).await;
}

/// It does not know that it was away.
#[tokio::test]
async fn what_a_node_that_was_stopped_answers_behind_a_proxy_is_never_old() {
    let readers = Readers::start("stopped-reader").await;
    readers.nodes[1].agent.signal(Signal::STOP).unwrap();
    wait_for_state(&readers.cluster, 1, "n2", "failed").await;
    wait_for_state(&readers.cluster, 3, "n2", "failed").await;
    let last = readers.write_for(away()).await;
    readers.nodes[1].agent.signal(Signal::CONT).unwrap();
    readers.read_until_node_2_serves(&last).await;
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
