//! Attacks on the gossip port, against live nodes on loopback.
//!
//! A stranger without the key must change nothing and hear nothing. A faulty peer
//! with the key must be refused and named while the cluster goes on. Each test
//! also asserts on the memory of the process: see `memory`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::loopback::{CLUSTER, Node, cluster, ring, sees_all_active, stop_all, wait};
use super::memory::PeakMemory;
use crate::diagnostics::RejectReason;
use crate::event::{EventKind, EventStream};
use crate::member::MemberState;
use crate::transport::forge::{self, Entry, Op};
use crate::transport::sealed::Envelope;

/// The nodes' own tables and buffers, the allocator's slack, and nothing that
/// grows with what an attacker sends.
const GROWTH_MAX: u64 = 4 * 1024 * 1024;

/// A socket that nobody has a reason to write to.
struct Stranger {
    socket: UdpSocket,
}

impl Stranger {
    fn new() -> Stranger {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Stranger { socket }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn send(&self, to: &Node, datagram: &[u8]) {
        // A full buffer of the system loses it, as a network may.
        let _ = self.socket.send_to(datagram, to.address);
    }

    fn heard_anything(&self) -> bool {
        self.socket.recv_from(&mut [0; 2048]).is_ok()
    }

    /// The next datagram that arrives.
    async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        loop {
            if let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
                buffer.truncate(len);
                return buffer;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Sends a datagram again and again until so many more were refused for that
/// reason.
async fn insist(from: &Stranger, to: &Node, reason: RejectReason, datagrams: &[Vec<u8>]) {
    let enough = to.rejected(reason) + datagrams.len() as u64;
    let attempts = async {
        while to.rejected(reason) < enough {
            for datagram in datagrams {
                from.send(to, datagram);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = timeout(Duration::from_secs(30), attempts).await;
    assert!(outcome.is_ok(), "not counted as {reason:?}");
}

async fn nobody_was_called_failed(mut events: EventStream) {
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        let event = event.unwrap();
        assert!(!matches!(event.kind, EventKind::Failed { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn without_the_key_nothing_changes_any_state_or_gets_an_answer() {
    let nodes @ [one, _] = &cluster::<2>().await;
    // A third node speaks into a tap first: what it says there is authentic.
    let tap = Stranger::new();
    let three = Node::join("n3", &[tap.address()], ring(1)).await;
    let recorded = tap.receive().await;
    let stranger = Stranger::new();
    stranger.send(one, &recorded);
    wait("the recording led the third node to the others", || {
        nodes
            .iter()
            .chain([&three])
            .all(|node| sees_all_active(node, 3))
    })
    .await;

    let before: Vec<_> = nodes.iter().map(Node::roll).collect();
    let events = one.cluster.events();
    let memory = PeakMemory::watch();
    insist(
        &stranger,
        one,
        RejectReason::Replayed,
        &vec![recorded.clone(); 100],
    )
    .await;

    let random: Vec<_> = (0..200)
        .map(|len| {
            let mut bytes = vec![0; len * 7];
            getrandom::fill(&mut bytes).unwrap();
            bytes
        })
        .collect();
    insist(&stranger, one, RejectReason::NotGossip, &random).await;

    let header = 32;
    let truncated: Vec<_> = (header..recorded.len())
        .map(|len| recorded[..len].to_vec())
        .collect();
    insist(&stranger, one, RejectReason::Forged, &truncated).await;
    let flipped: Vec<_> = (8 * 8..recorded.len() * 8)
        .step_by(5)
        .map(|bit| {
            let mut altered = recorded.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            altered
        })
        .collect();
    insist(&stranger, one, RejectReason::Forged, &flipped).await;

    let syn = forge::syn(CLUSTER, &[Entry::of(forge::member("n9", 1, 9))]);
    let of_another_key = forge::envelope("n2", CLUSTER, stranger.address());
    let of_another_cluster = forge::envelope("n2", "other", stranger.address());
    let foreign: Vec<_> = [of_another_key, of_another_cluster]
        .iter()
        .map(|envelope| forge::frame(&ring(9), envelope, &syn))
        .collect();
    insist(&stranger, one, RejectReason::OtherSecret, &foreign).await;

    let after: Vec<_> = nodes.iter().map(Node::roll).collect();
    assert_eq!(before, after);
    assert!(!stranger.heard_anything());
    memory.assert_growth_below(GROWTH_MAX);
    nobody_was_called_failed(events).await;
    assert_eq!(one.cluster.diagnostics().counters.gossip_restarts, 0);
    for node in nodes {
        node.cluster.stop().await;
    }
    three.cluster.stop().await;
}

#[tokio::test]
async fn a_flood_without_the_key_parts_nobody_and_takes_no_memory() {
    const DATAGRAMS: usize = 100_000;
    let nodes: [Node; 2] = cluster().await;
    let events: Vec<_> = nodes.iter().map(|node| node.cluster.events()).collect();
    let memory = PeakMemory::watch();
    // The id of the key can be read on the wire, and makes each one cost most.
    let mut forged = vec![0xBA, 0x9A, 2, 0];
    forged.extend_from_slice(&ring(1).primary().0);
    forged.resize(1200, 0x55);
    let targets = nodes.each_ref().map(|node| node.address);
    let flood = thread::spawn(move || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for n in 0..DATAGRAMS {
            socket.send_to(&forged, targets[n % targets.len()]).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        socket.recv_from(&mut [0; 2048]).is_ok()
    });
    wait("the flood is over", || flood.is_finished()).await;
    assert!(!flood.join().unwrap(), "the flood was answered");
    for node in &nodes {
        wait("much of it was read", || {
            node.rejected(RejectReason::Forged) > 1000
        })
        .await;
        assert!(sees_all_active(node, 2));
    }
    memory.assert_growth_below(GROWTH_MAX);
    for events in events {
        nobody_was_called_failed(events).await;
    }
    stop_all(nodes).await;
}

/// A peer with the key that says what no honest node does.
struct FaultyPeer {
    socket: UdpSocket,
    sequence: u64,
}

impl FaultyPeer {
    fn new() -> FaultyPeer {
        FaultyPeer {
            socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            sequence: 0,
        }
    }

    fn say(&mut self, to: &Node, message: &[u8]) {
        self.sequence += 1;
        let envelope = Envelope {
            sequence: self.sequence,
            recipient: Some(to.cluster.identity().id.clone()),
            ..forge::envelope("faulty", CLUSTER, self.socket.local_addr().unwrap())
        };
        let frame = forge::frame(&ring(1), &envelope, message);
        self.socket.send_to(&frame, to.address).unwrap();
    }
}

/// Says each of the messages fifty times to the first of two nodes, which must
/// refuse all of it with this word. Then the cluster must be as it was: it
/// carries news, it sees a leave, it took no memory.
async fn bounces(word: &str, messages: impl Fn(&[Node; 2]) -> Vec<Vec<u8>>) {
    const TIMES: u64 = 50;
    let nodes: [Node; 2] = cluster().await;
    let [one, two] = &nodes;
    let before: Vec<_> = nodes.iter().map(Node::roll).collect();
    let events = one.cluster.events();
    let messages = messages(&nodes);
    let memory = PeakMemory::watch();
    let mut faulty = FaultyPeer::new();
    for round in 0..TIMES {
        for (sent, message) in (1..).zip(&messages) {
            faulty.say(one, message);
            let refused = round * messages.len() as u64 + sent;
            wait("the message is refused", || {
                one.rejected(RejectReason::Faulty) >= refused
            })
            .await;
        }
    }
    memory.assert_growth_below(GROWTH_MAX);

    let diagnostics = one.cluster.diagnostics();
    let mut rejections = diagnostics.rejections.iter();
    let said = rejections.find(|rejection| rejection.reason == RejectReason::Faulty);
    let said = said.unwrap().to_string();
    assert!(said.contains("faulty") && said.contains(word), "{said}");
    assert_eq!(diagnostics.counters.gossip_restarts, 0);
    let after: Vec<_> = nodes.iter().map(Node::roll).collect();
    assert_eq!(before, after);
    two.cluster
        .set_metadata(|metadata| metadata.weight = 7)
        .await
        .unwrap();
    wait("news still travel", || {
        let members = one.cluster.members();
        members
            .find(&"n2".parse().unwrap())
            .unwrap()
            .metadata
            .weight
            == 7
    })
    .await;
    nobody_was_called_failed(events).await;
    two.cluster.leave().await.unwrap();
    wait("the leave is seen", || {
        one.state_of("n2") == Some(MemberState::Left)
    })
    .await;
    stop_all(nodes).await;
}

#[tokio::test]
async fn a_heartbeat_at_the_end_of_numbers_bounces() {
    bounces("heartbeat that cannot be true", |[_, two]| {
        let leap = || Entry {
            heartbeat: u64::MAX,
            ..Entry::of(two.chitchat_id())
        };
        vec![
            forge::syn(CLUSTER, &[leap()]),
            forge::syn_ack(&[leap()], &[]),
        ]
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_at_the_end_of_numbers_does_not_hide_the_death_that_follows() {
    let nodes: [Node; 2] = cluster().await;
    let [one, two] = &nodes;
    let leap = Entry {
        heartbeat: u64::MAX,
        ..Entry::of(two.chitchat_id())
    };
    FaultyPeer::new().say(one, &forge::syn_ack(&[leap], &[]));
    wait("it is refused", || one.rejected(RejectReason::Faulty) > 0).await;
    two.cluster.stop().await;
    wait("the death is seen", || {
        one.state_of("n2") == Some(MemberState::Failed)
    })
    .await;
    one.cluster.stop().await;
}

#[tokio::test]
async fn a_reset_of_a_nodes_own_keys_bounces() {
    bounces("deletes or resets", |[one, two]| {
        let reset = |node: &Node| Op::Node {
            member: node.chitchat_id(),
            collected_version: 99,
            from_version: 0,
        };
        let delete = Op::Delete {
            key: "state",
            version: 100,
        };
        vec![
            forge::ack(&[reset(one), Op::set("state", 100)]),
            forge::ack(&[reset(two), Op::set("state", 100)]),
            forge::ack(&[Op::node(two.chitchat_id()), delete]),
        ]
    })
    .await;
}

#[tokio::test]
async fn state_of_the_node_itself_bounces() {
    bounces("own state", |[one, _]| {
        vec![forge::ack(&[
            Op::node(one.chitchat_id()),
            Op::set("state", 1 << 30),
        ])]
    })
    .await;
}

#[tokio::test]
async fn versions_that_would_panic_the_library_bounce() {
    bounces("versions", |[_, two]| {
        let member = || two.chitchat_id();
        vec![
            forge::ack(&[Op::node(member()), Op::set("state", 9), Op::MaxVersion(3)]),
            forge::ack(&[Op::node(member()), Op::set("a", 9), Op::set("b", 9)]),
            forge::ack(&[Op::node(member()), Op::MaxVersion(u64::MAX)]),
        ]
    })
    .await;
}

#[tokio::test]
async fn a_key_that_would_panic_the_library_bounces() {
    bounces("key or value", |[_, two]| {
        let key = |key| Op::Set {
            key,
            value: String::new(),
            version: 99,
        };
        let member = || two.chitchat_id();
        vec![
            forge::ack(&[Op::node(member()), key("é")]),
            forge::ack(&[Op::node(member()), key("")]),
        ]
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_leaves_no_room_for_an_answer_bounces() {
    bounces("too many members", |_| {
        let crowd: Vec<_> = (0..1200)
            .map(|n| Entry::of(forge::member(&format!("n{n}"), 1, 9999)))
            .collect();
        vec![forge::syn(CLUSTER, &crowd), forge::syn_ack(&crowd, &[])]
    })
    .await;
}

#[tokio::test]
async fn a_bomb_of_compressed_blocks_bounces() {
    bounces("decompresses", |_| vec![forge::bomb(2500)]).await;
}

#[tokio::test]
async fn lengths_that_lie_bounce() {
    bounces("not a message", |_| {
        let syn = forge::syn(CLUSTER, &[Entry::of(forge::member("n7", 1, 7))]);
        let mut many_entries = syn.clone();
        many_entries[4..6].fill(0xFF);
        let mut long_name = syn;
        long_name[6..8].fill(0xFF);
        let mut long_block = forge::ack(&[Op::node(forge::member("n7", 1, 7))]);
        long_block[5..7].fill(0xFF);
        vec![many_entries, long_name, long_block]
    })
    .await;
}

#[tokio::test]
async fn a_member_at_an_impossible_address_bounces() {
    bounces("no node has", |_| {
        let at = |address: ([u8; 4], u16)| {
            let member = chitchat::ChitchatId::new("n7", 1, address.into());
            forge::syn(CLUSTER, &[Entry::of(member)])
        };
        vec![
            at(([10, 0, 0, 1], 0)),
            at(([0, 0, 0, 0], 9400)),
            at(([224, 0, 0, 1], 9400)),
        ]
    })
    .await;
}

#[tokio::test]
async fn a_member_at_an_invented_address_is_never_active_and_disturbs_nobody() {
    let nodes: [Node; 3] = cluster().await;
    let [one, two, three] = &nodes;
    let events = one.cluster.events();
    let memory = PeakMemory::watch();
    let silent = Stranger::new();
    let phantom = forge::member("phantom", 1, silent.address().port());
    let mut faulty = FaultyPeer::new();
    let announcement = [Op::node(phantom.clone()), Op::set("state", 1)];
    faulty.say(one, &forge::syn_ack(&[Entry::of(phantom)], &announcement));
    // The nodes try the address, which is how it is known that it was taken up.
    silent.receive().await;
    for node in [one, two] {
        wait("the phantom is not a member that takes traffic", || {
            node.state_of("phantom") != Some(MemberState::Active) && node.state_of("n3").is_some()
        })
        .await;
    }
    three.cluster.leave().await.unwrap();
    for node in [one, two] {
        wait("a leave is seen as before", || {
            node.state_of("n3") == Some(MemberState::Left)
        })
        .await;
        assert_ne!(node.state_of("phantom"), Some(MemberState::Active));
    }
    memory.assert_growth_below(GROWTH_MAX);
    nobody_was_called_failed(events).await;
    stop_all(nodes).await;
}
