//! The keys of a cluster change while it gossips, over real sockets on loopback.
//!
//! Gossip runs on real time, so the tests wait for conditions, with a bound that
//! only a hang exceeds.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use basic_membership::{
    AnnouncedState, Cluster, Config, EventKind, EventStream, GossipKey, Identity, Keyring,
    MemberState, Metadata, NodeId,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const HANG: Duration = Duration::from_secs(60);

fn key(seed: u8) -> GossipKey {
    GossipKey::from_bytes([seed; 32])
}

struct Node {
    id: NodeId,
    address: SocketAddr,
    cluster: Cluster,
    data_dir: TempDir,
}

impl Node {
    async fn join(id: &str, seeds: &[SocketAddr], keys: Keyring) -> Node {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        Node::start(id.parse().unwrap(), seeds, keys, socket, data_dir).await
    }

    async fn start(
        id: NodeId,
        seeds: &[SocketAddr],
        keys: Keyring,
        socket: UdpSocket,
        data_dir: TempDir,
    ) -> Node {
        let address = socket.local_addr().unwrap();
        let identity = load(data_dir.path(), &id);
        let mut config = Config::new("c".parse().unwrap(), identity, address);
        config.seeds = seeds.iter().map(SocketAddr::to_string).collect();
        let mut metadata = Metadata::new(1);
        metadata.announced = AnnouncedState::Active;
        let cluster = Cluster::join(config, keys, socket, metadata, None).await;
        Node {
            id,
            address,
            cluster: cluster.unwrap(),
            data_dir,
        }
    }

    /// Comes back with the same address and data, and with these keys.
    async fn come_back(id: NodeId, gone: Gone, seeds: &[SocketAddr], keys: Keyring) -> Node {
        let socket = UdpSocket::bind(gone.address).unwrap();
        Node::start(id, seeds, keys, socket, gone.data_dir).await
    }

    /// Ends without a word.
    async fn crash(self) -> Gone {
        self.cluster.stop().await;
        Gone {
            address: self.address,
            data_dir: self.data_dir,
        }
    }

    fn keys(&self) -> &Keyring {
        self.cluster.keyring()
    }

    fn sees(&self, id: &NodeId, state: MemberState) -> bool {
        let members = self.cluster.members();
        members.find(id).is_some_and(|member| member.state == state)
    }

    fn weight_of(&self, id: &NodeId) -> Option<u32> {
        let members = self.cluster.members();
        members.find(id).map(|member| member.metadata.weight)
    }
}

/// What a crashed node leaves behind.
struct Gone {
    address: SocketAddr,
    data_dir: TempDir,
}

fn load(data_dir: &Path, id: &NodeId) -> Identity {
    Identity::load_or_create(data_dir, Some(id.clone()), SystemTime::now()).unwrap()
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < HANG, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Nodes `n1`, `n2` and so on with one key, which see each other as active.
async fn cluster(count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for n in 1..=count {
        let seeds: Vec<_> = nodes.iter().take(1).map(|node| node.address).collect();
        nodes.push(Node::join(&format!("n{n}"), &seeds, Keyring::new(key(1))).await);
    }
    wait("all see all as active", || all_see_all(&nodes)).await;
    nodes
}

fn all_see_all(nodes: &[Node]) -> bool {
    let sees_all = |node: &Node| {
        let mut others = nodes.iter();
        others.all(|other| node.sees(&other.id, MemberState::Active))
    };
    nodes.iter().all(sees_all)
}

/// Each node in turn says something new, and all the others must hear it.
async fn news_travel(nodes: &[Node], weight: u32) {
    for speaker in nodes {
        let changed = speaker
            .cluster
            .set_metadata(|metadata| metadata.weight = weight);
        changed.await.unwrap();
        wait("the news are everywhere", || {
            let mut listeners = nodes.iter();
            listeners.all(|node| node.weight_of(&speaker.id) == Some(weight))
        })
        .await;
    }
}

fn install_and_use(node: &Node, seed: u8) {
    node.keys().install(key(seed)).unwrap();
    node.keys().use_key(key(seed).id()).unwrap();
}

async fn nobody_was_called_failed(mut events: EventStream) {
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        let event = event.unwrap();
        assert!(!matches!(event.kind, EventKind::Failed { .. }), "{event:?}");
    }
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.cluster.stop().await;
    }
}

#[tokio::test]
async fn three_rotations_under_constant_gossip_lose_nobody() {
    let nodes = cluster(5).await;
    let events: Vec<_> = nodes.iter().map(|node| node.cluster.events()).collect();
    for seed in 1..=3 {
        let (old, new) = (key(seed), key(seed + 1));
        // Each step reaches the nodes one after the other, with gossip in between.
        for node in &nodes {
            node.keys().install(new.clone()).unwrap();
            news_travel(&nodes[..2], u32::from(seed) * 10 + 1).await;
        }
        for node in &nodes {
            node.keys().use_key(new.id()).unwrap();
            news_travel(&nodes[3..], u32::from(seed) * 10 + 2).await;
        }
        for node in &nodes {
            node.keys().retire(old.id()).unwrap();
        }
        news_travel(&nodes, u32::from(seed) * 10 + 3).await;
        assert_eq!(nodes[0].keys().installed(), [new.id()]);
    }
    for events in events {
        nobody_was_called_failed(events).await;
    }
    stop(nodes).await;
}

#[tokio::test]
async fn a_node_that_was_away_during_a_rotation_comes_in_with_its_old_key_and_is_followed_to_the_new()
 {
    let mut nodes = cluster(3).await;
    let away = nodes.pop().unwrap();
    let id = away.id.clone();
    let gone = away.crash().await;
    for node in &nodes {
        install_and_use(node, 2);
    }
    news_travel(&nodes, 11).await;

    let seeds = [nodes[0].address];
    let back = Node::come_back(id, gone, &seeds, Keyring::new(key(1))).await;
    nodes.push(back);
    wait("it is in again", || all_see_all(&nodes)).await;
    news_travel(&nodes, 12).await;
    // Now it learns of the new key, and the old one goes.
    install_and_use(&nodes[2], 2);
    news_travel(&nodes, 13).await;
    for node in &nodes {
        node.keys().retire(key(1).id()).unwrap();
    }
    news_travel(&nodes, 14).await;
    stop(nodes).await;
}

#[tokio::test]
async fn the_others_find_a_node_that_was_away_and_knows_no_seed() {
    let mut nodes = cluster(3).await;
    let away = nodes.pop().unwrap();
    let id = away.id.clone();
    let gone = away.crash().await;
    wait("it is missed", || {
        nodes.iter().all(|node| node.sees(&id, MemberState::Failed))
    })
    .await;
    for node in &nodes {
        install_and_use(node, 2);
    }
    let back = Node::come_back(id, gone, &[], Keyring::new(key(1))).await;
    nodes.push(back);
    wait("it is in again", || all_see_all(&nodes)).await;
    news_travel(&nodes, 12).await;
    stop(nodes).await;
}

#[tokio::test]
async fn one_common_key_is_enough_whichever_is_in_use() {
    let mut nodes = cluster(2).await;
    for node in &nodes {
        install_and_use(node, 2);
        install_and_use(node, 3);
        node.keys().retire(key(1).id()).unwrap();
    }
    news_travel(&nodes, 11).await;
    // It uses a key that the others have retired, and does not know theirs.
    let keys = Keyring::new(key(1));
    keys.install(key(2)).unwrap();
    let seeds = [nodes[0].address];
    nodes.push(Node::join("n3", &seeds, keys).await);
    wait("it is in", || all_see_all(&nodes)).await;
    news_travel(&nodes, 12).await;
    stop(nodes).await;
}
