//! An agent, and what makes up peers for it.

use std::fs;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use basic_agent::peer_port::{Connector, Credentials, PeerKeys, PeerStream, Protocol};
use basic_sync::codec::{self, Hello, Lane, PROTOCOL};
use basic_sync::model::document::{Part, PartWrite, Write};
use basic_sync::model::{
    Collection, Delta, Dot, Epoch, Key, Origin, PeerId, ReplicaId, Timestamp, Version,
    VersionVector,
};
use basic_sync::protocol::{Message, Standing};
use basic_sync::storage::RosterLine;
use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{LIMIT, put, wait_for_state};

pub(super) const CLUSTER: &str = "jobfirst-cluster-1";
/// What all that is sent here may leave behind in memory, at most.
const GROWTH_MAX: u64 = 48 << 20;

/// An agent that runs, and what makes up peers for it.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    node: Node,
    pub(super) client: Client,
    pub(super) secret: String,
}

impl Scene {
    pub(super) async fn new(name: &str) -> Self {
        let cluster = Cluster::prepare(name, 1).unwrap();
        cluster.layout().write().unwrap();
        let secret = fs::read_to_string(cluster.layout().secret_file()).unwrap();
        let node = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
        wait_for_state(&cluster, 1, "n1", "active").await;
        Self {
            secret: secret.trim().to_owned(),
            client: Client::default(),
            cluster,
            node,
        }
    }

    /// A way to the agent for who has these credentials.
    pub(super) fn connector(&self, secret: &str, cluster: &str, node: &str) -> Connector {
        let keys = [PeerKeys::derive(secret.as_bytes())];
        Connector::new(
            &Credentials::from_keys(&keys, cluster, node).unwrap(),
            LIMIT,
        )
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.cluster.node(1).peer()
    }

    /// An authenticated connection on which nothing was said yet.
    pub(super) async fn connected(&self, node: &str) -> PeerStream {
        self.connected_at(self.address(), node).await
    }

    pub(super) async fn connected_at(&self, address: SocketAddr, node: &str) -> PeerStream {
        let connector = self.connector(&self.secret, CLUSTER, node);
        let (stream, _) = connector.connect(address, Protocol::Sync).await.unwrap();
        stream
    }

    /// A connection that was greeted as an agent would, with a new replica.
    pub(super) async fn greeted(&self) -> PeerStream {
        let mut stream = self.connected("n9").await;
        greet(&mut stream, CLUSTER, "n9").await;
        send(&mut stream, &standing()).await;
        stream
    }

    /// The text and version of a document; `None` where there is none.
    pub(super) async fn document(&self, key: &str) -> Option<(Value, String)> {
        let answer = self.client.get(&self.url(key)).await.unwrap();
        let version = answer.header("etag")?.to_owned();
        answer.status.is_success().then(|| (answer.json(), version))
    }

    pub(super) fn url(&self, key: &str) -> String {
        self.cluster.api(1, &format!("/v1/data/hostile/{key}"))
    }

    pub(super) fn resident(&self) -> u64 {
        self.node.agent.id().usage().unwrap().resident
    }

    /// The agent takes writes, and has not grown by more than it may.
    pub(super) async fn assert_well(&self, before: u64) {
        put(&self.client, &self.url("still-here"), &json!({"ok": true})).await;
        let now = self.resident();
        eprintln!(
            "{:.1} MiB resident, before {:.1} MiB",
            mib(now),
            mib(before)
        );
        assert!(now < before + GROWTH_MAX, "{now} bytes after {before}");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Sends a greeting and reads the one that answers it, which comes in any case.
pub(super) async fn greet(stream: &mut PeerStream, cluster: &str, node: &str) {
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: cluster.to_owned(),
        node: node.to_owned(),
        lane: Lane::Live,
    };
    stream
        .write_all(&codec::encode_hello(&hello))
        .await
        .unwrap();
    let length = timeout(LIMIT, stream.read_u32()).await.unwrap().unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(codec::decode_hello(&answer).unwrap().node, "n1");
}

/// Sends bytes; that the other side hangs up meanwhile is its right.
pub(super) async fn send(stream: &mut PeerStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
}

/// Waits until the agent has closed a connection.
pub(super) async fn closed(mut stream: PeerStream, why: &str) {
    let mut rest = Vec::new();
    // At an end or with an error: both are the end of the connection.
    let read = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it was not closed for {why}");
}

pub(super) fn origin() -> Origin {
    Origin {
        replica: ReplicaId([0x99; 16]),
        epoch: Epoch(1),
    }
}

pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A write of a whole document.
pub(super) fn delta(seq: u64, clock: Timestamp, key: &str, text: &str) -> Delta {
    let root = PartWrite {
        part: Part::Root,
        value: Some(text.to_owned().into()),
    };
    let dot = Dot {
        origin: origin(),
        seq,
    };
    Delta {
        key: Key::new(Collection::new("hostile").unwrap(), key).unwrap(),
        write: Write {
            version: Version { clock, dot },
            parts: vec![root],
        },
    }
}

pub(super) fn push(delta: Delta) -> Vec<u8> {
    codec::encode_message(&Message::Push {
        changes: vec![delta],
    })
    .to_vec()
}

/// How a replica stands that is new, and has nothing.
pub(super) fn standing() -> Vec<u8> {
    let line = RosterLine {
        replica: origin().replica,
        name: PeerId::new("n9"),
        fenced: false,
        born: now(),
        absent_ms: 0,
    };
    let standing = Message::Standing(Box::new(Standing {
        origin: origin(),
        vector: VersionVector::default(),
        wall_ms: wall_ms(),
        floor: Timestamp::default(),
        horizon: VersionVector::default(),
        sound: true,
        roster: vec![line],
    }));
    codec::encode_message(&standing).to_vec()
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(wall_ms())
}

/// Passes bytes on in both directions; once told to, those to the agent with a bit flipped.
pub(super) async fn relayed(
    here: &mut TcpStream,
    there: &mut TcpStream,
    flips: &watch::Receiver<bool>,
) {
    let (mut from_here, mut from_there) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = here.read(&mut from_here) => {
                let Ok(length @ 1..) = read else { return };
                if *flips.borrow() {
                    from_here[length - 1] ^= 1;
                }
                if there.write_all(&from_here[..length]).await.is_err() {
                    return;
                }
            }
            read = there.read(&mut from_there) => {
                let Ok(length @ 1..) = read else { return };
                if here.write_all(&from_there[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
