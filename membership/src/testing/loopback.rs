//! Nodes as the agent runs them: a gossip thread each, over real sockets.
//!
//! They run on real time, so the tests wait for conditions, with a bound that
//! only a hang exceeds.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use chitchat::ChitchatId;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::diagnostics::RejectReason;
use crate::identity::Identity;
use crate::member::{MemberState, Members};
use crate::metadata::{AnnouncedState, Metadata};
use crate::transport::forge;
use crate::transport::keyring::{GossipKey, Keyring};

/// The cluster that all of them belong to.
pub(crate) const CLUSTER: &str = "c";

const HANG: Duration = Duration::from_secs(60);

/// The keyring of a cluster with this secret.
pub(crate) fn ring(secret: u8) -> Keyring {
    Keyring::new(GossipKey::from_bytes([secret; 32]))
}

/// A node that is a member of its cluster.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    _data_dir: TempDir,
}

impl Node {
    /// Starts a node that looks for the others at `seeds`.
    pub(crate) async fn join(id: &str, seeds: &[SocketAddr], keyring: Keyring) -> Node {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let id = Some(id.parse().unwrap());
        let identity = Identity::load_or_create(data_dir.path(), id, SystemTime::now()).unwrap();
        let mut config = Config::new(CLUSTER.parse().unwrap(), identity, address);
        config.seeds = seeds.iter().map(SocketAddr::to_string).collect();
        let metadata = Metadata {
            announced: AnnouncedState::Active,
            ..Metadata::new(1)
        };
        let cluster = Cluster::join(config, keyring, socket, metadata, None);
        Node {
            cluster: cluster.await.unwrap(),
            address,
            _data_dir: data_dir,
        }
    }

    /// Its name in the protocol of the library.
    pub(crate) fn chitchat_id(&self) -> ChitchatId {
        let identity = self.cluster.identity();
        let incarnation = identity.incarnation.0;
        forge::member(identity.id.as_str(), incarnation, self.address.port())
    }

    pub(crate) fn state_of(&self, id: &str) -> Option<MemberState> {
        let members = self.cluster.members();
        members
            .find(&id.parse().unwrap())
            .map(|member| member.state)
    }

    /// Frames refused so far for this reason.
    pub(crate) fn rejected(&self, reason: RejectReason) -> u64 {
        let counters = self.cluster.diagnostics().counters;
        counters.rejected.get(&reason).copied().unwrap_or(0)
    }

    /// The members in short: who, in which life, in which state.
    pub(crate) fn roll(&self) -> Vec<String> {
        let members = self.cluster.members();
        let describe = |members: &Members| {
            let members = members.iter();
            members
                .map(|member| format!("{} {:?} {}", member.id, member.incarnation, member.state))
                .collect()
        };
        describe(&members)
    }
}

/// Nodes `n1`, `n2` and so on, which see each other as active.
pub(crate) async fn cluster<const N: usize>() -> [Node; N] {
    let mut nodes: Vec<Node> = Vec::new();
    for n in 1..=N {
        let seeds: Vec<_> = nodes.iter().take(1).map(|node| node.address).collect();
        nodes.push(Node::join(&format!("n{n}"), &seeds, ring(1)).await);
    }
    wait("all see all as active", || {
        nodes.iter().all(|node| sees_all_active(node, N))
    })
    .await;
    nodes
        .try_into()
        .unwrap_or_else(|_| unreachable!("there are N"))
}

/// Whether the node sees so many members, and all of them active.
pub(crate) fn sees_all_active(node: &Node, count: usize) -> bool {
    let members = node.cluster.members();
    let active = members
        .iter()
        .filter(|member| member.state == MemberState::Active);
    active.count() == count && members.len() == count
}

pub(crate) async fn stop_all(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.cluster.stop().await;
    }
}

pub(crate) async fn wait(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < HANG, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
