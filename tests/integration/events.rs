//! What happened is told with its evidence, to whoever follows, and to hooks.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{LIMIT, assert_problem, wait_for_state};

/// A client of `GET /v1/events` that takes the stream apart line by line.
struct Follower {
    lines: Lines<BufReader<TcpStream>>,
    /// Every event so far, in the order in which they came.
    seen: Vec<Value>,
}

impl Follower {
    /// Follows from a cursor; as HTTP/1.0, so that the body comes without chunks.
    async fn start(api: SocketAddr, from: &str) -> Self {
        let mut stream = TcpStream::connect(api).await.unwrap();
        let request = format!(
            "GET /v1/events HTTP/1.0\r\nhost: {api}\r\naccept: text/event-stream\r\nlast-event-id: {from}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next_line().await.unwrap().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        Self {
            lines,
            seen: Vec::new(),
        }
    }

    /// Reads on until an event of this kind about this node has come.
    async fn until(&mut self, kind: &str, node: &str) -> Value {
        let reading = async {
            let (mut id, mut name) = (String::new(), String::new());
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(value) = line.strip_prefix("id: ") {
                    id = value.to_owned();
                } else if let Some(value) = line.strip_prefix("event: ") {
                    name = value.to_owned();
                } else if let Some(data) = line.strip_prefix("data: ") {
                    let event: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(event["id"].to_string(), id);
                    assert_eq!(event["kind"], name.as_str());
                    self.seen.push(event.clone());
                    if event["kind"] == kind && event["node"] == node {
                        return event;
                    }
                }
            }
            panic!("the stream ended before {node} {kind}: {:?}", self.seen);
        };
        timeout(LIMIT, reading).await.unwrap_or_else(|_| {
            panic!("no event {kind} about {node} came");
        })
    }

    fn ids(&self) -> Vec<u64> {
        self.seen.iter().map(id).collect()
    }
}

fn id(event: &Value) -> u64 {
    event["id"].as_u64().unwrap()
}

/// Writes the files of the nodes, each with this `[events]` table.
fn write_settings(cluster: &Cluster, events: &str) {
    cluster.layout().write().unwrap();
    for node in cluster.layout().iter() {
        let mut file = fs::File::options()
            .append(true)
            .open(node.config_file())
            .unwrap();
        write!(file, "\n[events]\n{events}").unwrap();
    }
}

fn start(cluster: &Cluster, number: u16) -> Node {
    Node::start(cluster.binaries(), cluster.node(number)).unwrap()
}

async fn start_all(cluster: &Cluster) -> Vec<Node> {
    let count = cluster.layout().len();
    let nodes = (1..=count).map(|number| start(cluster, number)).collect();
    for observer in 1..=count {
        for number in 1..=count {
            wait_for_state(cluster, observer, &format!("n{number}"), "active").await;
        }
    }
    nodes
}

#[tokio::test]
async fn a_killed_node_is_followed_with_evidence_and_an_old_cursor_goes_on_after_a_restart() {
    let cluster = Cluster::prepare("events", 3).unwrap();
    write_settings(&cluster, "");
    let mut nodes = start_all(&cluster).await;
    let client = Client::default();
    let api = cluster.node(1).api();
    let mut follower = Follower::start(api, "first").await;

    let mut third = nodes.pop().unwrap();
    assert!(third.agent.signal(Signal::KILL).unwrap());
    third.agent.exit(LIMIT).await.unwrap();
    let failed = follower.until("failed", "n3").await;
    // It is doubted first, unless the view is taken too late for that.
    let before = failed["from"].as_str();
    assert!(matches!(before, Some("active" | "suspect")), "{failed}");
    assert_eq!(failed["to"], "failed");
    assert_eq!(failed["seen_by"], "n1");
    assert_eq!(failed["cause"]["code"], "silence");
    assert!(failed["evidence"]["phi"].as_f64() > Some(1.0), "{failed}");
    assert!(failed["evidence"]["heartbeat_age_ms"].as_u64() > Some(200));
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.starts_with("n3 failed: no heartbeat for "),
        "{message}"
    );
    drop(third);
    let third = start(&cluster, 3);
    let returned = follower.until("returned", "n3").await;
    assert!(
        returned["evidence"]["away_ms"].as_u64() > Some(0),
        "{returned}"
    );
    let ids = follower.ids();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");

    // A cursor from before, taken up again after the agent was away.
    let cursor = id(&failed);
    let mut first = nodes.remove(0);
    assert!(first.agent.signal(Signal::TERM).unwrap());
    let status = first.agent.exit(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", first.agent.output());
    drop(first);
    let _first = start(&cluster, 1);
    wait_for_state(&cluster, 2, "n1", "active").await;
    let mut resumed = Follower::start(api, &cursor.to_string()).await;
    resumed.until("node-stopped", "n1").await;
    let started = resumed.until("node-started", "n1").await;
    assert_eq!(started["evidence"]["crashed"], false, "{started}");
    let known: Vec<_> = ids.into_iter().filter(|id| *id > cursor).collect();
    let again = resumed.ids();
    assert!(
        !known.is_empty() && again.starts_with(&known),
        "{known:?} {again:?}"
    );
    assert!(again.is_sorted_by(|a, b| a < b), "{again:?}");

    let page = |query: String| {
        let url = format!("http://{api}/v1/events?{query}");
        let client = &client;
        async move { client.get(&url).await.unwrap() }
    };
    let listed = page(format!("from={cursor}&limit=1000")).await.json();
    let listed: Vec<_> = listed["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(id)
        .collect();
    assert!(listed.starts_with(&again), "{listed:?} {again:?}");
    let latest = page("node=n3&kind=failed,returned&since=10m".to_owned())
        .await
        .json();
    let kinds: Vec<_> = latest["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["failed", "returned"], "{latest}");
    assert_problem(&page("from=1".to_owned()).await, 410);
    assert_problem(&page("from=1&follow=true".to_owned()).await, 410);
    assert_problem(&page("from=abc".to_owned()).await, 400);
    assert_problem(&page("kind=faild".to_owned()).await, 400);

    let mut command = tokio::process::Command::new(cluster.binaries().agent());
    command.args(["events", "--node", "n3", "--kind", "failed", "--api"]);
    let printed = command.arg(format!("http://{api}")).output().await.unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains(" → failed): its heartbeats stopped; "),
        "{text}"
    );
    assert!(text.contains(" phi="), "{text}");
    drop(third);
}

/// Posts that came, each with its event id, and the statuses still to be answered.
#[derive(Clone, Default)]
struct Receiver {
    posts: Arc<Mutex<Vec<(String, Value)>>>,
    statuses: Arc<Mutex<Vec<StatusCode>>>,
}

impl Receiver {
    /// A webhook's receiver that answers with these statuses first, and with 200 from then on.
    async fn start(statuses: &[u16]) -> (Self, SocketAddr) {
        let mut statuses: Vec<_> = statuses
            .iter()
            .map(|status| StatusCode::from_u16(*status).unwrap())
            .collect();
        statuses.reverse();
        let receiver = Self {
            posts: Arc::default(),
            statuses: Arc::new(Mutex::new(statuses)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(receiver.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        (receiver, address)
    }

    fn posts(&self) -> Vec<(String, Value)> {
        self.posts.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let event_id = headers["basic-event-id"].to_str().unwrap().to_owned();
    let event = serde_json::from_slice(&body).unwrap();
    receiver.posts.lock().unwrap().push((event_id, event));
    receiver
        .statuses
        .lock()
        .unwrap()
        .pop()
        .unwrap_or(StatusCode::OK)
}

#[tokio::test]
async fn a_failure_reaches_each_hook_once_from_one_node_and_a_busy_webhook_is_tried_again() {
    let cluster = Cluster::prepare("hooks", 3).unwrap();
    let (receiver, address) = Receiver::start(&[500, 500]).await;
    let told = cluster.layout().directory().join("told");
    let events = format!(
        "on = [\"failed\", \"returned\"]\ncommand = [\"tee\", \"-a\", {told:?}]\nwebhook = \"http://{address}/hook\"\n"
    );
    write_settings(&cluster, &events);
    let mut nodes = start_all(&cluster).await;
    let mut third = nodes.pop().unwrap();
    assert!(third.agent.signal(Signal::KILL).unwrap());
    third.agent.exit(LIMIT).await.unwrap();
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, "n3", "failed").await;
    }
    wait_until("the third try of the webhook", LIMIT, || {
        let posts = receiver.posts().len();
        std::future::ready(if posts >= 3 { Ok(()) } else { Err(posts) })
    })
    .await
    .unwrap();
    drop(third);
    let _third = start(&cluster, 3);
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, "n3", "active").await;
    }
    // The second event comes last, so that whatever else there was of the first has come before it.
    wait_until("both hooks to be told of the return", LIMIT, || {
        let commands = told_of(&told);
        let posts = receiver.posts();
        let both = commands.contains_key("returned") && posts.len() >= 4;
        std::future::ready(if both {
            Ok(())
        } else {
            Err(format!("{commands:?} {posts:?}"))
        })
    })
    .await
    .unwrap();

    let commands = told_of(&told);
    assert_eq!(
        commands,
        BTreeMap::from([("failed".into(), 1), ("returned".into(), 1)])
    );
    let mut tries: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (event_id, event) in receiver.posts() {
        assert_eq!(event["node"], "n3", "{event}");
        let kind = event["kind"].as_str().unwrap().to_owned();
        *tries.entry((kind, event_id)).or_default() += 1;
    }
    let tries: Vec<_> = tries
        .into_iter()
        .map(|((kind, _), tries)| (kind, tries))
        .collect();
    assert_eq!(
        tries,
        [("failed".to_owned(), 3), ("returned".to_owned(), 1)]
    );
}

/// How many events of each kind the command has written about n3.
fn told_of(file: &Path) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            // It is being written.
            continue;
        };
        assert_eq!(event["node"], "n3", "{event}");
        *kinds
            .entry(event["kind"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    kinds
}
