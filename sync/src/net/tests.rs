//! Replicas that talk over connections in memory.

mod disk;
mod sessions;
mod settled;
mod tree;
mod verify;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::codec::{self, Hello, Lane, PROTOCOL};
use crate::model::document::Action;
use crate::model::{Collection, Key, PeerId};
use crate::protocol::{AckTarget, Condition, Operation, WriteRefused};
use crate::storage::MemoryStorage;

/// Long enough for a busy machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects by looking up a table.
#[derive(Clone, Default)]
struct Network {
    nodes: Arc<Mutex<HashMap<SocketAddr, (PeerId, Handle)>>>,
}

/// One node's way into the network.
struct Door {
    network: Network,
    own: PeerId,
    open: Arc<AtomicBool>,
}

impl Connector for Door {
    fn connect<'c>(&'c self, peer: &'c Peer) -> Connecting<'c> {
        let target = self
            .network
            .nodes
            .lock()
            .unwrap()
            .get(&peer.address)
            .cloned();
        Box::pin(async move {
            let (_, handle) = target
                .filter(|_| self.open.load(Ordering::SeqCst))
                .ok_or(io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(64 * 1024);
            let own = self.own.clone();
            tokio::spawn(async move { handle.serve(Box::new(far), own).await });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

struct Node {
    handle: Handle,
    open: Arc<AtomicBool>,
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

fn node(network: &Network, number: u16, cluster: &str) -> Node {
    node_on(network, number, cluster, MemoryStorage::default())
}

fn node_on(network: &Network, number: u16, cluster: &str, storage: MemoryStorage) -> Node {
    let options = Options::new(cluster, &format!("n{number}"));
    node_with(network, number, storage, options)
}

fn node_with(network: &Network, number: u16, storage: MemoryStorage, options: Options) -> Node {
    let name = format!("n{number}");
    let open = Arc::new(AtomicBool::new(true));
    let door = Door {
        network: network.clone(),
        own: PeerId::new(&name),
        open: open.clone(),
    };
    let handle = start(Arc::new(storage), options, Arc::new(door)).unwrap();
    network
        .nodes
        .lock()
        .unwrap()
        .insert(address(number), (PeerId::new(&name), handle.clone()));
    Node { handle, open }
}

async fn cluster(size: u16) -> Vec<Node> {
    let network = Network::default();
    let nodes: Vec<Node> = (1..=size)
        .map(|number| node(&network, number, "c"))
        .collect();
    introduce(&nodes).await;
    nodes
}

/// Makes nodes, the first of which is number 1, peers of each other.
async fn introduce(nodes: &[Node]) {
    let numbers = 1..=u16::try_from(nodes.len()).unwrap();
    for (node, own) in nodes.iter().zip(numbers.clone()) {
        let peer = |number| Peer {
            id: PeerId::new(&format!("n{number}")),
            address: address(number),
        };
        let others = numbers.clone().filter(|number| *number != own);
        node.handle.set_peers(others.map(peer).collect()).await;
    }
}

fn key(name: &str) -> Key {
    Key::new(Collection::new("users").unwrap(), name).unwrap()
}

fn put(name: &str, value: impl Into<Bytes>) -> Vec<Operation> {
    vec![Operation::new(key(name), Action::Put(value.into()))]
}

async fn write(node: &Node, operations: Vec<Operation>) -> Result<(), WriteError> {
    node.handle
        .write(operations, AckTarget::Local, PATIENCE)
        .await
        .map(drop)
}

/// Waits until a node shows a value.
async fn shows(node: &Node, name: &str, value: &Bytes) {
    let mut watch = node
        .handle
        .watch(None, "", Some(node.handle.first_cursor().unwrap()))
        .unwrap();
    let seen = async {
        loop {
            let change = watch.next().await.unwrap().item.change.clone();
            if change.key.name() == name && change.entry.value.as_ref() == Some(value) {
                return;
            }
        }
    };
    timeout(PATIENCE, seen).await.expect("the change arrives");
}

#[tokio::test]
async fn a_write_on_one_node_is_seen_on_the_others() {
    let nodes = cluster(3).await;
    write(&nodes[0], put("u1", "{\"name\":\"梁鑫\"}"))
        .await
        .unwrap();
    for node in &nodes {
        shows(node, "u1", &"{\"name\":\"梁鑫\"}".into()).await;
    }
}

#[tokio::test]
async fn a_write_with_acks_is_on_the_disks_of_all_when_it_returns() {
    let nodes = cluster(3).await;
    let linked = |status: &Arc<crate::protocol::Status>| {
        status.peers.len() == 2 && status.peers.iter().all(|peer| peer.linked && peer.heard)
    };
    timeout(PATIENCE, nodes[0].handle.status().wait_for(linked))
        .await
        .unwrap()
        .unwrap();
    let receipt = nodes[0]
        .handle
        .write(put("u1", "{}"), AckTarget::All, PATIENCE)
        .await
        .unwrap();
    assert_eq!((receipt.acks, receipt.complete), (2, true));
    for node in &nodes {
        assert!(node.handle.entry(&key("u1")).unwrap().is_some());
    }
}

#[tokio::test]
async fn a_node_that_could_not_be_reached_gets_what_it_missed() {
    let nodes = cluster(2).await;
    write(&nodes[0], put("before", "1")).await.unwrap();
    shows(&nodes[1], "before", &"1".into()).await;
    // Both directions go down; the links notice when the node comes back elsewhere.
    for node in &nodes {
        node.open.store(false, Ordering::SeqCst);
        node.handle.set_peers(Vec::new()).await;
    }
    let large = Bytes::from(format!("\"{}\"", "7".repeat(700_000)));
    for number in 0..20 {
        write(&nodes[0], put(&format!("k{number}"), large.clone()))
            .await
            .unwrap();
    }
    write(&nodes[1], put("k3", "\"written elsewhere\""))
        .await
        .unwrap();
    for (node, other) in [(0, 2), (1, 1)] {
        nodes[node].open.store(true, Ordering::SeqCst);
        let peer = Peer {
            id: PeerId::new(&format!("n{other}")),
            address: address(other),
        };
        nodes[node].handle.set_peers(vec![peer]).await;
    }
    shows(&nodes[1], "k19", &large).await;
    shows(&nodes[0], "k3", &"\"written elsewhere\"".into()).await;
    let mut status = nodes[1].handle.status();
    let caught_up = status.wait_for(|status| status.peers.iter().all(|peer| peer.behind == 0));
    timeout(PATIENCE, caught_up).await.unwrap().unwrap();
    assert_eq!(
        nodes[1].handle.entry(&key("k3")).unwrap(),
        nodes[0].handle.entry(&key("k3")).unwrap()
    );
}

#[tokio::test]
async fn a_watch_resumes_from_its_cursor_and_sees_each_change_once() {
    let nodes = cluster(1).await;
    let mut watch = nodes[0].handle.watch(None, "", None).unwrap();
    for number in 0..3 {
        write(&nodes[0], put("u1", format!("{number}")))
            .await
            .unwrap();
    }
    assert_eq!(
        watch.next().await.unwrap().item.change.entry.value,
        Some("0".into())
    );
    let cursor = watch.cursor().to_string().parse().unwrap();
    let mut resumed = nodes[0].handle.watch(None, "", Some(cursor)).unwrap();
    for expected in ["1", "2"] {
        assert_eq!(
            resumed.next().await.unwrap().item.change.entry.value,
            Some(expected.into())
        );
    }
    let users = Some(Collection::new("other").unwrap());
    let mut filtered = nodes[0].handle.watch(users, "", Some(cursor)).unwrap();
    assert!(
        timeout(Duration::from_millis(50), filtered.next())
            .await
            .is_err()
    );
    let elsewhere = Cursor {
        replica: crate::model::ReplicaId([9; 16]),
        position: 0,
    };
    assert!(matches!(
        nodes[0].handle.watch(None, "", Some(elsewhere)),
        Err(WatchError::Gone)
    ));
    let future = Cursor {
        position: 99,
        ..cursor
    };
    assert!(matches!(
        nodes[0].handle.watch(None, "", Some(future)),
        Err(WatchError::Gone)
    ));
}

/// More than a mailbox holds comes while nobody reads, and more while it is read.
#[tokio::test]
async fn a_slow_watcher_goes_on_from_the_store_and_misses_nothing() {
    const WRITES: usize = 1500;
    let nodes = cluster(1).await;
    let users = Collection::new("users").unwrap();
    let mut watch = nodes[0].handle.watch(Some(users), "k", None).unwrap();
    // It is live from here on.
    write(&nodes[0], put("k", "0")).await.unwrap();
    watch.next().await.unwrap();
    let writing = async {
        for number in 0..WRITES {
            write(&nodes[0], put(&format!("k{number}"), "1"))
                .await
                .unwrap();
            write(&nodes[0], put(&format!("other{number}"), "1"))
                .await
                .unwrap();
        }
    };
    let reading = async {
        // Half of them come before the first is read.
        let half = nodes[0]
            .handle
            .status()
            .wait_for(|status| status.feed.head >= WRITES as u64)
            .await
            .is_ok();
        assert!(half);
        for number in 0..WRITES {
            let seen = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            assert_eq!(seen.item.change.key.name(), format!("k{number}"));
        }
    };
    tokio::join!(writing, reading);
    let head = nodes[0].handle.first_cursor().unwrap().position + 2 * WRITES as u64 + 1;
    assert!(
        timeout(Duration::from_millis(50), watch.next())
            .await
            .is_err()
    );
    assert_eq!(
        watch.cursor().position,
        head,
        "it moves on with what does not concern it"
    );
}

#[tokio::test]
async fn conditions_are_checked_and_a_refused_write_changes_nothing() {
    let nodes = cluster(1).await;
    let with = |condition, value: Option<Bytes>| {
        vec![Operation {
            condition,
            ..Operation::new(key("u1"), value.map_or(Action::Delete, Action::Put))
        }]
    };
    let document = Some(Bytes::from("{}"));
    let handle = &nodes[0].handle;
    let go = |operations| handle.write(operations, AckTarget::Local, PATIENCE);
    assert!(go(with(Condition::Exists, document.clone())).await.is_err());
    let first = go(with(Condition::Absent, document.clone()))
        .await
        .unwrap()
        .revisions[0];
    assert!(go(with(Condition::Absent, document.clone())).await.is_err());
    let second = go(with(Condition::Is(first), document.clone()))
        .await
        .unwrap()
        .revisions[0];
    let stale = go(with(Condition::Is(first), None)).await.unwrap_err();
    assert!(matches!(
        stale,
        WriteError::Refused(WriteRefused::ConditionFailed { current: Some(current), .. }) if current == second
    ));
    go(with(Condition::Is(second), None)).await.unwrap();
    let gone = go(with(Condition::Always, None)).await.unwrap_err();
    assert!(matches!(
        gone,
        WriteError::Refused(WriteRefused::NotFound(_))
    ));
    let broken = go(with(Condition::Always, Some(Bytes::from("{"))))
        .await
        .unwrap_err();
    assert!(matches!(
        broken,
        WriteError::Refused(WriteRefused::Unfit(_))
    ));
    let large = Some(Bytes::from(vec![b'1'; crate::model::VALUE_BYTES_MAX + 1]));
    let refused = go(with(Condition::Always, large)).await.unwrap_err();
    assert!(matches!(
        refused,
        WriteError::Refused(WriteRefused::DocumentTooLarge { .. })
    ));
}

#[tokio::test]
async fn nodes_of_different_clusters_refuse_each_other_and_say_so() {
    let network = Network::default();
    let nodes = [node(&network, 1, "one"), node(&network, 2, "two")];
    for (node, other) in [(0, 2), (1, 1)] {
        let peer = Peer {
            id: PeerId::new(&format!("n{other}")),
            address: address(other),
        };
        nodes[node].handle.set_peers(vec![peer]).await;
    }
    write(&nodes[0], put("u1", "{}")).await.unwrap();
    for node in &nodes {
        let said = async {
            loop {
                let links = node.handle.links();
                if links.iter().any(|link| {
                    link.last_error
                        .as_ref()
                        .is_some_and(|error| error.contains("cluster"))
                }) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, said).await.expect("both sides say so");
    }
    assert!(nodes[1].handle.entry(&key("u1")).unwrap().is_none());
}

#[tokio::test]
async fn garbage_from_a_peer_ends_its_connection_and_nothing_else() {
    let nodes = cluster(1).await;
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: "c".into(),
        node: "x".into(),
        lane: Lane::Live,
    };
    let hello = codec::encode_hello(&hello);
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 3, 1, 99, 0],
        &[0, 0, 0, 2, 7, 0],
        &[0, 64, 0, 0, 1],
    ];
    for greeted in [false, true] {
        for case in cases {
            let (mut near, far) = tokio::io::duplex(1024);
            let handle = nodes[0].handle.clone();
            let serving =
                tokio::spawn(async move { handle.serve(Box::new(far), PeerId::new("x")).await });
            if greeted {
                near.write_all(&hello).await.unwrap();
            }
            // The other side may have hung up in the middle of it.
            let _ = near.write_all(case).await;
            let _ = near.shutdown().await;
            let mut answer = Vec::new();
            let _ = timeout(PATIENCE, near.read_to_end(&mut answer))
                .await
                .expect("it hangs up");
            timeout(PATIENCE, serving).await.unwrap().unwrap();
        }
    }
    write(&nodes[0], put("u1", "{}")).await.unwrap();
}

#[tokio::test]
async fn a_stopped_node_says_so_to_writers_and_watchers() {
    let nodes = cluster(1).await;
    let mut watch = nodes[0].handle.watch(None, "", None).unwrap();
    nodes[0].handle.shutdown().await;
    assert!(matches!(
        write(&nodes[0], put("u1", "{}")).await,
        Err(WriteError::Stopped)
    ));
    assert!(matches!(
        timeout(PATIENCE, watch.next()).await.unwrap(),
        Err(WatchError::Stopped)
    ));
}

#[tokio::test]
async fn writes_are_refused_with_the_reason_until_they_are_allowed_again() {
    let nodes = cluster(2).await;
    let (one, two) = (&nodes[0], &nodes[1]);
    write(one, put("k", "\"before\"")).await.unwrap();
    one.handle.refuse_writes("ids", "two nodes have one id");
    one.handle.refuse_writes("clock", "a clock is wrong");
    one.handle
        .refuse_writes("clock", "a clock is an hour ahead");
    let refused = write(one, put("k", "\"meanwhile\"")).await.unwrap_err();
    assert!(matches!(refused, WriteError::HeldBack(_)));
    assert_eq!(
        refused.to_string(),
        "a clock is an hour ahead; and two nodes have one id"
    );
    one.handle.allow_writes("clock");
    one.handle.allow_writes("clock");
    let refused = write(one, put("k", "\"meanwhile\"")).await.unwrap_err();
    assert_eq!(refused.to_string(), "two nodes have one id");

    // Others write on, and what they write arrives.
    write(two, put("other", "\"there\"")).await.unwrap();
    shows(one, "other", &"\"there\"".into()).await;
    let entry = one.handle.entry(&key("k")).unwrap().unwrap();
    assert_eq!(entry.value.as_deref(), Some(&b"\"before\""[..]));

    one.handle.allow_writes("ids");
    write(one, put("k", "\"after\"")).await.unwrap();
    shows(two, "k", &"\"after\"".into()).await;

    one.handle.end_writes();
    one.handle.allow_writes("ids");
    let ended = write(one, put("k", "\"too late\"")).await;
    assert!(matches!(ended, Err(WriteError::Stopped)));
}
