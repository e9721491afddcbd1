//! Many nodes in one thread, on a network in memory and a paused clock.
//!
//! Each is what the agent runs: chitchat, the driver, the sealed endpoint. Only
//! the sockets, the threads and the clock are the test's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::loopback::{CLUSTER, ring};
use super::network::{Network, Traffic};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::identity::Identity;
use crate::member::MemberState;
use crate::metadata::{AnnouncedState, AppInfo, Metadata};
use crate::name::NodeId;

/// How a swarm is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    /// The share of packets that is lost.
    pub(crate) loss: f64,
    /// Whether large frames have connections to go by.
    pub(crate) connections: bool,
}

/// Nodes `n0`, `n1` and so on; the first three are everybody's seeds.
pub(crate) struct Swarm {
    network: Network,
    nodes: Vec<SwarmNode>,
    started: Instant,
    _data_dir: TempDir,
}

pub(crate) struct SwarmNode {
    pub(crate) id: NodeId,
    pub(crate) cluster: Cluster,
    address: SocketAddr,
    crashed: bool,
}

impl Swarm {
    /// Starts all nodes within one interval of gossip.
    pub(crate) async fn start(plan: Plan) -> Swarm {
        let started = Instant::now();
        let network = Network::new(plan.seed, plan.loss);
        let data_dir = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..plan.nodes).map(address).collect();
        let count = u32::try_from(plan.nodes).unwrap();
        let mut nodes = Vec::new();
        for (n, &address) in addresses.iter().enumerate() {
            let id: NodeId = format!("n{n}").parse().unwrap();
            let directory = data_dir.path().join(id.as_str());
            // Nodes are not all as old as one another; incarnations show it.
            let born = SystemTime::now() - UPTIME_SPREAD.mul_f64(network.lot());
            let identity = Identity::load_or_create(&directory, Some(id.clone()), born).unwrap();
            let mut config = Config::new(CLUSTER.parse().unwrap(), identity, address);
            config.seeds = addresses
                .iter()
                .take(3)
                .map(SocketAddr::to_string)
                .collect();
            let interval = config.gossip_interval;
            let (plug, link) = network.plug(address);
            let link = plan.connections.then_some(link);
            let cluster = Cluster::join_here(config, ring(1), plug, metadata(n), link);
            nodes.push(SwarmNode {
                id,
                cluster: cluster.await.unwrap(),
                address,
                crashed: false,
            });
            sleep(interval / count).await;
        }
        Swarm {
            network,
            nodes,
            started,
            _data_dir: data_dir,
        }
    }

    /// Simulated time since the first node started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &SwarmNode> {
        self.nodes.iter().filter(|node| !node.crashed)
    }

    /// Takes nodes off the network between one moment and the next.
    pub(crate) async fn crash(&mut self, count: usize) -> BTreeSet<NodeId> {
        let running = self.nodes.iter_mut().filter(|node| !node.crashed);
        let dying: Vec<_> = running.rev().take(count).collect();
        let mut dead = BTreeSet::new();
        for node in dying {
            self.network.unplug(node.address);
            node.crashed = true;
            dead.insert(node.id.clone());
        }
        for node in self.nodes.iter().filter(|node| dead.contains(&node.id)) {
            node.cluster.stop().await;
        }
        dead
    }

    /// Waits until every running node sees all others as active, and them alone.
    pub(crate) async fn until_complete(&self, patience: Duration) {
        let count = self.running().count();
        self.until("every view is complete", patience, || {
            self.running()
                .all(|node| node.count(MemberState::Active) == count)
        })
        .await;
    }

    /// How long after now each running node has seen all the `dead` as failed, the
    /// quickest first.
    pub(crate) async fn detections(
        &self,
        dead: &BTreeSet<NodeId>,
        patience: Duration,
    ) -> Vec<Duration> {
        let start = Instant::now();
        let mut waiting: Vec<&SwarmNode> = self.running().collect();
        let mut detections = Vec::new();
        while !waiting.is_empty() {
            let took = start.elapsed();
            assert!(took < patience, "{} nodes did not notice", waiting.len());
            waiting.retain(|node| {
                let noticed = dead.iter().all(|id| node.sees(id, MemberState::Failed));
                if noticed {
                    detections.push(took);
                }
                !noticed
            });
            sleep(POLL).await;
        }
        detections
    }

    pub(crate) async fn until(&self, what: &str, patience: Duration, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < patience, "never came true: {what}");
            sleep(POLL).await;
        }
    }

    /// What one node sends in a second, on average of some.
    pub(crate) async fn traffic(&self) -> NodeTraffic {
        const SECONDS: u32 = 4;
        let before = self.network.traffic();
        sleep(Duration::from_secs(SECONDS.into())).await;
        let after = self.network.traffic();
        let nodes = u32::try_from(self.running().count()).unwrap();
        NodeTraffic::between(before, after, u64::from(SECONDS * nodes))
    }
}

impl SwarmNode {
    /// How many members it sees in this state.
    pub(crate) fn count(&self, state: MemberState) -> usize {
        let members = self.cluster.members();
        let counted = members.iter().filter(|member| member.state == state);
        counted.count()
    }

    fn sees(&self, id: &NodeId, state: MemberState) -> bool {
        let members = self.cluster.members();
        members.find(id).is_some_and(|member| member.state == state)
    }
}

/// What one node sends in one second.
pub(crate) struct NodeTraffic {
    datagrams: u64,
    datagram_bytes: u64,
    frames: u64,
    frame_bytes: u64,
}

impl fmt::Display for NodeTraffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeTraffic {
            datagrams,
            datagram_bytes,
            frames,
            frame_bytes,
        } = self;
        write!(
            f,
            "{datagrams} datagrams with {datagram_bytes} bytes and {frames} large frames with \
             {frame_bytes} bytes, each node and second"
        )
    }
}

impl NodeTraffic {
    fn between(before: Traffic, after: Traffic, node_seconds: u64) -> NodeTraffic {
        let rate = |of: fn(&Traffic) -> u64| (of(&after) - of(&before)) / node_seconds;
        NodeTraffic {
            datagrams: rate(|traffic| traffic.datagrams),
            datagram_bytes: rate(|traffic| traffic.datagram_bytes),
            frames: rate(|traffic| traffic.frames),
            frame_bytes: rate(|traffic| traffic.frame_bytes),
        }
    }
}

const UPTIME_SPREAD: Duration = Duration::from_secs(30 * 24 * 3600);
const POLL: Duration = Duration::from_millis(5);

fn address(n: usize) -> SocketAddr {
    let host = u8::try_from(n).expect("a swarm has at most 256 nodes");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 7, host)), 9400)
}

/// What an agent in service announces.
fn metadata(n: usize) -> Metadata {
    let host = address(n).ip();
    Metadata {
        announced: AnnouncedState::Active,
        api: Some(SocketAddr::new(host, 9401)),
        app: AppInfo {
            address: Some(format!("{host}:8080")),
            healthy: true,
            since_ms: 1_790_000_000_000,
            reason: None,
        },
        replica: Some(format!("n{n}@1790000000000")),
        ..Metadata::new(1)
    }
}
