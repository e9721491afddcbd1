//! The driver when chitchat fails: the inspection, which lets nothing harmful
//! through, is turned off, so that messages reach the library that break it.

use std::net::{Ipv4Addr, UdpSocket};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::Cluster;
use crate::heartbeat::HeartbeatTable;
use crate::identity::{Identity, Incarnation};
use crate::member::MemberState;
use crate::transport::endpoint::EndpointConfig;
use crate::transport::forge::{self, Entry, Op};
use crate::transport::keyring::{GossipKey, Keyring};
use crate::transport::sealed::Envelope;

const HANG: Duration = Duration::from_secs(60);
/// Between two rounds of gossip.
const INTERVAL: Duration = Duration::from_millis(200);

/// A driver without its handle, so that the test reaches its endpoint.
struct Node {
    id: NodeId,
    address: SocketAddr,
    incarnation: u64,
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    events: broadcast::Receiver<Event>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    _data_dir: TempDir,
}

impl Node {
    async fn start(id: &str, seed: Option<SocketAddr>) -> Node {
        Node::start_at(id, seed, INTERVAL).await
    }

    async fn start_at(id: &str, seed: Option<SocketAddr>, interval: Duration) -> Node {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let id: NodeId = id.parse().unwrap();
        let identity =
            Identity::load_or_create(data_dir.path(), Some(id.clone()), SystemTime::now());
        let mut config = Config::new("c".parse().unwrap(), identity.unwrap(), address);
        (config.gossip_interval, config.initial_interval) = (interval, interval);
        let incarnation = config.identity.incarnation.0;
        let journal = Arc::new(Journal::default());
        let shared = Arc::new(Shared::new(Arc::clone(&journal)));
        let endpoint = EndpointConfig {
            cluster: config.cluster.clone(),
            keyring: ring(),
            identity: config.identity.clone(),
            advertise: address,
            heartbeats: HeartbeatTable::new(config.initial_interval, config.max_interval),
            link: None,
            journal,
        };
        let udp = tokio::net::UdpSocket::from_std(socket).unwrap();
        let endpoint = Arc::new(Endpoint::new(udp, endpoint));
        let metadata = Metadata {
            announced: AnnouncedState::Active,
            ..Metadata::new(1)
        };
        let (events, listener) = broadcast::channel(64);
        let (commands, queue) = mpsc::channel(1);
        let channels = DriverChannels {
            shared: Arc::clone(&shared),
            events,
            desired: watch::channel(Desired {
                metadata,
                revision: 0,
                leaving: false,
            })
            .0,
            applied: watch::channel(0).0,
            commands: queue,
        };
        let seeds = Seeds {
            addresses: seed.into_iter().collect(),
            ..Seeds::default()
        };
        let driver = Driver::start(config, seeds, Arc::clone(&endpoint), &ring(), channels)
            .await
            .unwrap();
        Node {
            id,
            address,
            incarnation,
            endpoint,
            shared,
            events: listener,
            commands,
            task: tokio::spawn(driver.run()),
            _data_dir: data_dir,
        }
    }

    fn state_of(&self, other: &Node) -> Option<MemberState> {
        self.shared
            .members
            .load()
            .find(&other.id)
            .map(|member| member.state)
    }

    fn incarnation_of(&self, other: &Node) -> u64 {
        self.shared
            .members
            .load()
            .find(&other.id)
            .map_or(0, |member| member.incarnation.0)
    }

    fn restarts(&self) -> u64 {
        self.shared.journal.snapshot().counters.gossip_restarts
    }

    async fn stop(self) {
        self.commands.send(Command::Stop).await.unwrap();
        self.task.await.unwrap();
    }
}

fn ring() -> Keyring {
    Keyring::new(GossipKey::from_bytes([1; 32]))
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(HANG, waiting).await;
    assert!(outcome.is_ok(), "never came true: {what}");
}

/// Sends messages as a member of the cluster would, in one of its lives.
fn send_sealed(to: &Node, incarnation: u64, messages: &[Vec<u8>]) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for (sequence, message) in (1..).zip(messages) {
        let envelope = Envelope {
            incarnation: Incarnation(incarnation),
            sequence,
            recipient: Some(to.id.clone()),
            ..forge::envelope("faulty", "c", socket.local_addr().unwrap())
        };
        let frame = forge::frame(&ring(), &envelope, message);
        socket.send_to(&frame, to.address).unwrap();
    }
}

#[tokio::test]
async fn a_panic_of_the_library_restarts_gossip_and_nobody_is_called_failed() {
    let one = Node::start("n1", None).await;
    let mut two = Node::start("n2", Some(one.address)).await;
    wait("both see each other", || {
        one.state_of(&two).is_some() && two.state_of(&one).is_some()
    })
    .await;
    two.endpoint.screen().set_inspection(false);

    // Versions that go back: the library asserts when it applies them.
    let phantom = forge::member("phantom", 1, 9999);
    let hearsay = forge::syn(
        "c",
        &[Entry {
            max_version: 0,
            ..Entry::of(phantom.clone())
        }],
    );
    let backwards = forge::ack(&[Op::node(phantom), Op::set("state", 9), Op::MaxVersion(3)]);
    send_sealed(&two, 1, &[hearsay, backwards]);
    wait("gossip has restarted", || two.restarts() == 1).await;
    two.endpoint.screen().set_inspection(true);
    let first = two.incarnation;
    wait("the other sees the new incarnation", || {
        one.incarnation_of(&two) > first
    })
    .await;
    assert_eq!(one.state_of(&two), Some(MemberState::Active));
    wait("the other is heard again", || {
        two.state_of(&one) == Some(MemberState::Active)
    })
    .await;

    let mut reason = None;
    while let Ok(event) = two.events.try_recv() {
        match event.kind {
            EventKind::GossipRestarted { reason: said } => {
                assert!(event.incarnation.0 > first);
                reason = Some(said);
            }
            EventKind::Failed { .. } => panic!("{} was called failed", event.id),
            _ => {}
        }
    }
    assert!(reason.unwrap().contains("panicked"));

    // It works after that as before.
    let (one_id, two_id) = (one.id.clone(), two.id.clone());
    let (reply, report) = oneshot::channel();
    two.commands.send(Command::Leave(reply)).await.unwrap();
    assert_eq!(report.await.unwrap().informed, [one_id]);
    wait("the leave is seen", || {
        let members = one.shared.members.load();
        members.find(&two_id).unwrap().state == MemberState::Left
    })
    .await;
    one.stop().await;
}

#[tokio::test]
async fn a_digest_too_large_for_an_answer_restarts_gossip_again_and_again() {
    let mut node = Node::start("n1", None).await;
    node.endpoint.screen().set_inspection(false);
    for restarts in 1..=2 {
        // Nine hundred members of seventy bytes each leave no room for a delta.
        let phantoms = |range: std::ops::Range<usize>| -> Vec<Entry> {
            range
                .map(|n| Entry::of(forge::member(&format!("{n:0>60}-{restarts}"), 1, 9999)))
                .collect()
        };
        let messages: Vec<_> = (0..10)
            .map(|part| forge::syn("c", &phantoms(part * 90..part * 90 + 90)))
            .collect();
        send_sealed(&node, restarts, &messages);
        wait("gossip has restarted", || node.restarts() >= restarts).await;
        loop {
            let event = node.events.recv().await.unwrap();
            if matches!(event.kind, EventKind::GossipRestarted { .. }) {
                break;
            }
        }
    }
    let own = node.id.clone();
    wait("it still is its own member", || {
        node.shared.members.load().find(&own).is_some()
    })
    .await;
    node.stop().await;
}

/// A peer on a thread of its own, which goes on while the runtime of the test,
/// and the node on it, stand still.
struct StalledNode {
    node: Node,
    peer: NodeId,
    cluster: Cluster,
    _data_dir: TempDir,
}

impl StalledNode {
    async fn start(interval: Duration) -> StalledNode {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let peer: NodeId = "peer".parse().unwrap();
        let now = SystemTime::now();
        let identity = Identity::load_or_create(data_dir.path(), Some(peer.clone()), now).unwrap();
        let mut config = Config::new("c".parse().unwrap(), identity, address);
        (config.gossip_interval, config.initial_interval) = (interval, interval);
        let metadata = Metadata {
            announced: AnnouncedState::Active,
            ..Metadata::new(1)
        };
        let cluster = Cluster::join(config, ring(), socket, metadata, None)
            .await
            .unwrap();
        let node = Node::start_at("n1", Some(address), interval).await;
        let stalled = StalledNode {
            node,
            peer,
            cluster,
            _data_dir: data_dir,
        };
        wait("the peer's heartbeat is measured", || {
            stalled.phi().is_some()
        })
        .await;
        stalled
    }

    fn phi(&self) -> Option<f64> {
        self.node.shared.members.load().find(&self.peer)?.phi
    }

    fn state(&self) -> MemberState {
        self.node
            .shared
            .members
            .load()
            .find(&self.peer)
            .unwrap()
            .state
    }

    fn is_live(&self) -> bool {
        let members = self.node.shared.members.load();
        members.find(&self.peer).unwrap().live
    }

    fn is_held(&self) -> bool {
        self.node.shared.journal.snapshot().removals_held
    }

    fn stall(&self) {
        std::thread::sleep(Duration::from_millis(2500));
    }

    /// Fails if anybody was called failed, or taken for one who is not there.
    fn assert_nobody_was_missed(&mut self) {
        while let Ok(event) = self.node.events.try_recv() {
            let kind = &event.kind;
            assert!(!matches!(kind, EventKind::Failed { .. }), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_process_that_stalls_calls_nobody_failed_when_it_wakes() {
    let mut stalled = StalledNode::start(INTERVAL).await;
    stalled.stall();
    wait("the stall is noticed", || stalled.is_held()).await;
    assert!(stalled.is_live(), "whoever is doubted is not missed");
    wait("the hold is over", || !stalled.is_held()).await;
    assert!(stalled.node.shared.journal.snapshot().tick_delay_max > Duration::from_secs(2));
    assert_eq!(stalled.state(), MemberState::Active);
    stalled.assert_nobody_was_missed();
    stalled.node.stop().await;
    stalled.cluster.stop().await;
}

#[tokio::test]
async fn short_stalls_of_a_process_with_quick_gossip_call_nobody_failed() {
    // Six rounds take 300 ms: some of these stalls are longer and some shorter.
    let mut stalled = StalledNode::start(Duration::from_millis(50)).await;
    for stall in [120, 200, 280, 350, 400, 480] {
        std::thread::sleep(Duration::from_millis(stall));
        let woken = Instant::now();
        wait("the peer is heard again", || {
            woken.elapsed() > Duration::from_millis(100) && stalled.state() == MemberState::Active
        })
        .await;
    }
    stalled.assert_nobody_was_missed();
    stalled.node.stop().await;
    stalled.cluster.stop().await;
}

#[tokio::test]
async fn what_died_during_a_stall_is_called_failed_after_the_hold_and_not_before() {
    let stalled = StalledNode::start(INTERVAL).await;
    stalled.cluster.stop().await;
    stalled.stall();
    wait("the stall is noticed", || stalled.is_held()).await;
    wait(
        "the dead peer is failed, and never while the hold lasts",
        || {
            // One after the other without a pause: nothing can change in between.
            let (held, state) = (stalled.is_held(), stalled.state());
            assert!(!held || state != MemberState::Failed);
            state == MemberState::Failed
        },
    )
    .await;
    stalled.node.stop().await;
}
