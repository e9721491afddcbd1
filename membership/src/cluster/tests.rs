//! Whole clusters in one process, over real sockets on loopback.
//!
//! Gossip threads run on real time here, so the tests wait for conditions, with
//! a bound that only a hang exceeds.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::diagnostics::RejectReason;
use crate::directive::Directive;
use crate::event::EventKind;
use crate::member::{Member, MemberState};
use crate::metadata::AnnouncedState;
use crate::name::NodeId;
use crate::transport::forge::{self, Entry, Op};
use crate::transport::keyring::GossipKey;
use crate::transport::sealed::Envelope;

mod contested;
mod leaving;
mod outrun;
mod removal;
mod roster;

const HANG: Duration = Duration::from_secs(60);

fn ring(seed: u8) -> Keyring {
    Keyring::new(GossipKey::from_bytes([seed; 32]))
}

/// What a node is started with; the tests change what they are about.
struct Plan {
    id: &'static str,
    cluster: &'static str,
    secret: u8,
    seeds: Vec<SocketAddr>,
    socket: UdpSocket,
    data_dir: TempDir,
}

fn plan(id: &'static str) -> Plan {
    Plan {
        id,
        cluster: "c",
        secret: 1,
        seeds: Vec::new(),
        socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        data_dir: tempfile::tempdir().unwrap(),
    }
}

/// A node and the directory that lets it come back.
struct Node {
    id: &'static str,
    cluster: Cluster,
    data_dir: TempDir,
    address: SocketAddr,
}

impl Plan {
    fn seeded_by(mut self, seeds: &[SocketAddr]) -> Plan {
        self.seeds = seeds.to_vec();
        self
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    async fn join(self) -> Node {
        self.join_at(SystemTime::now()).await
    }

    /// Joins when its clock says `now`.
    async fn join_at(self, now: SystemTime) -> Node {
        let address = self.address();
        let id = Some(self.id.parse().unwrap());
        let identity = Identity::load_or_create(self.data_dir.path(), id, now).unwrap();
        let mut config = Config::new(self.cluster.parse().unwrap(), identity, address);
        config.seeds = self.seeds.iter().map(SocketAddr::to_string).collect();
        config.roster = Some(self.data_dir.path().join("roster.json"));
        let mut metadata = Metadata::new(1);
        metadata.announced = AnnouncedState::Active;
        let cluster = Cluster::join(config, ring(self.secret), self.socket, metadata, None);
        Node {
            id: self.id,
            cluster: cluster.await.unwrap(),
            data_dir: self.data_dir,
            address,
        }
    }
}

impl Node {
    fn state_of(&self, id: &str) -> Option<MemberState> {
        let members = self.cluster.members();
        members
            .find(&id.parse().unwrap())
            .map(|member| member.state)
    }

    async fn sees(&self, id: &str, state: MemberState) {
        let what = format!("{} sees {id} {state}", self.cluster.identity().id);
        wait(&what, || self.state_of(id) == Some(state)).await;
    }

    fn member(&self, id: &str) -> Option<Member> {
        let members = self.cluster.members();
        members.find(&id.parse().unwrap()).cloned()
    }

    /// Stops it; it can be started again as it was, and finds no seeds then.
    async fn rest(self) -> Plan {
        self.cluster.stop().await;
        Plan {
            socket: UdpSocket::bind(self.address).unwrap(),
            data_dir: self.data_dir,
            ..plan(self.id)
        }
    }

    async fn rejects(&self, reason: RejectReason) {
        let what = format!("{} reports {reason:?}", self.cluster.identity().id);
        wait(&what, || self.rejected(reason) > 0).await;
    }

    fn rejected(&self, reason: RejectReason) -> u64 {
        let counters = self.cluster.diagnostics().counters;
        counters.rejected.get(&reason).copied().unwrap_or(0)
    }

    async fn is_alone(&self) {
        let members = self.cluster.members();
        let ids: Vec<_> = members.iter().map(|member| member.id.clone()).collect();
        assert_eq!(ids, [self.cluster.identity().id.clone()]);
    }
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < HANG, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Three nodes that found each other through the first.
async fn three() -> [Node; 3] {
    let first = plan("n1");
    let seed = [first.address()];
    let nodes = [
        first.seeded_by(&seed).join().await,
        plan("n2").seeded_by(&seed).join().await,
        plan("n3").seeded_by(&seed).join().await,
    ];
    for node in &nodes {
        for id in ["n1", "n2", "n3"] {
            node.sees(id, MemberState::Active).await;
        }
    }
    nodes
}

/// The decision that removes a member as `node` knows it.
fn removal_of(node: &Node, id: &str) -> Directives {
    let member = node.member(id).unwrap();
    let directive = Directive {
        removed: Some(member.metadata.joined),
        ..Directive::default()
    };
    Directives::from([(member.id, directive)])
}

async fn stop_all(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.cluster.stop().await;
    }
}

#[tokio::test]
async fn an_ipv4_address_that_is_written_as_ipv6_is_announced_as_what_it_is() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let mapped = (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), address.port());
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(dir.path(), None, SystemTime::now()).unwrap();
    let config = Config::new("c".parse().unwrap(), identity, mapped.into());
    let cluster = Cluster::join(config, ring(1), socket, Metadata::new(1), None);
    let cluster = cluster.await.unwrap();
    let members = cluster.members();
    assert_eq!(members.iter().next().unwrap().peer, address);
    cluster.stop().await;
}

#[tokio::test]
async fn three_nodes_find_each_other_through_one_seed_and_metadata_spreads() {
    let nodes = three().await;
    let change = |metadata: &mut Metadata| {
        metadata.weight = 7;
        metadata.labels.insert("zone".to_owned(), "a".to_owned());
    };
    nodes[1].cluster.set_metadata(change).await.unwrap();
    let own = nodes[1].cluster.members();
    assert_eq!(
        own.find(&"n2".parse().unwrap()).unwrap().metadata.weight,
        7,
        "visible at once"
    );
    for node in &nodes {
        wait("the weight of n2 has arrived", || {
            let members = node.cluster.members();
            let member = members.find(&"n2".parse().unwrap()).unwrap();
            member.metadata.weight == 7 && member.metadata.labels["zone"] == "a"
        })
        .await;
        let members = node.cluster.members();
        let own: Vec<_> = members.iter().filter(|member| member.is_self).collect();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].peer, node.address);
    }
    stop_all(nodes).await;
}

#[tokio::test]
async fn metadata_that_is_too_large_changes_nothing() {
    let node = plan("n1").join().await;
    let change = |metadata: &mut Metadata| {
        metadata.weight = 7;
        for n in 0..16 {
            metadata.labels.insert(n.to_string(), "x".repeat(128));
        }
    };
    let refused = node.cluster.set_metadata(change).await;
    assert!(matches!(
        refused,
        Err(MetadataError::Field {
            field: "labels",
            ..
        })
    ));
    assert_eq!(node.cluster.metadata().weight, 100);
    stop_all([node]).await;
}

#[tokio::test]
async fn a_node_that_leaves_is_left_everywhere_when_leave_returns() {
    let [one, two, three] = three().await;
    let mut events = one.cluster.events();
    let report = three.cluster.leave().await.unwrap();
    let ids = |ids: &[&str]| {
        ids.iter()
            .map(|id| id.parse().unwrap())
            .collect::<Vec<NodeId>>()
    };
    assert_eq!(
        (report.informed, report.unconfirmed),
        (ids(&["n1", "n2"]), ids(&[]))
    );
    for node in [&one, &two] {
        node.sees("n3", MemberState::Left).await;
    }
    assert_eq!(three.cluster.leave().await, Err(LeaveError::Stopped));
    assert_eq!(
        three.cluster.set_metadata(|_| ()).await,
        Err(MetadataError::Stopped)
    );

    // Long after the heartbeats have stopped it is still left, and never was failed.
    let id: NodeId = "n3".parse().unwrap();
    wait("the silence of n3 is long", || {
        let members = one.cluster.members();
        members.find(&id).unwrap().heartbeat_age.unwrap() > Duration::from_secs(3)
    })
    .await;
    assert_eq!(one.state_of("n3"), Some(MemberState::Left));
    stop_all([one, two]).await;
    let mut left = 0;
    while let Some(event) = events.next().await {
        match event.unwrap().kind {
            EventKind::Failed { .. } => panic!("a node that left was called failed"),
            EventKind::Left { .. } => left += 1,
            _ => {}
        }
    }
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_node_that_stops_without_a_word_is_failed_with_evidence_and_returns_newer() {
    let [one, two, three] = three().await;
    let mut events = one.cluster.events();
    let first = three.cluster.identity().incarnation;
    three.cluster.stop().await;
    for node in [&one, &two] {
        node.sees("n3", MemberState::Failed).await;
    }
    let failed = loop {
        let event = events.next().await.unwrap().unwrap();
        if let EventKind::Failed {
            from,
            heartbeat_age,
            phi,
        } = event.kind
        {
            assert_eq!(event.id.as_str(), "n3");
            break (from, heartbeat_age.unwrap(), phi.unwrap());
        }
    };
    let before = [MemberState::Active, MemberState::Suspect];
    assert!(before.contains(&failed.0), "{failed:?}");
    assert!(
        failed.1 > Duration::from_millis(200) && failed.2 > 1.0,
        "{failed:?}"
    );

    let back = Plan {
        data_dir: three.data_dir,
        ..plan("n3").seeded_by(&[one.address])
    };
    let back = back.join().await;
    let incarnation = back.cluster.identity().incarnation;
    assert!(incarnation > first);
    for node in [&one, &two, &back] {
        for id in ["n1", "n2", "n3"] {
            node.sees(id, MemberState::Active).await;
        }
    }
    let members = one.cluster.members();
    let member = members.find(&"n3".parse().unwrap()).unwrap();
    assert_eq!(
        (member.incarnation, member.peer),
        (incarnation, back.address)
    );
    assert_eq!(members.len(), 3);
    loop {
        if let EventKind::Returned { from, .. } = events.next().await.unwrap().unwrap().kind {
            assert_eq!(from, MemberState::Failed);
            break;
        }
    }
    stop_all([one, two, back]).await;
}

#[tokio::test]
async fn agents_of_different_secrets_stay_apart_and_both_say_why() {
    let (here, there) = (
        plan("n1"),
        Plan {
            secret: 2,
            ..plan("n2")
        },
    );
    let (a, b) = (here.address(), there.address());
    let here = here.seeded_by(&[b]).join().await;
    let there = there.seeded_by(&[a]).join().await;
    here.rejects(RejectReason::OtherSecret).await;
    there.rejects(RejectReason::OtherSecret).await;
    here.is_alone().await;
    there.is_alone().await;
    assert_eq!(here.cluster.diagnostics().rejections[0].source, b);
    stop_all([here, there]).await;
}

#[tokio::test]
async fn agents_of_different_clusters_stay_apart_and_both_say_why_though_one_asks() {
    let here = plan("n1");
    let there = Plan {
        cluster: "other",
        ..plan("n1")
    }
    .seeded_by(&[here.address()]);
    let here = here.join().await;
    let there = there.join().await;
    here.rejects(RejectReason::OtherCluster).await;
    there.rejects(RejectReason::OtherCluster).await;
    here.is_alone().await;
    there.is_alone().await;
    let text = there.cluster.diagnostics().rejections[0].to_string();
    assert!(
        text.contains("agent n1") && text.contains("cluster c"),
        "{text}"
    );
    stop_all([here, there]).await;
}

#[tokio::test]
async fn a_seed_that_never_answers_is_named() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let seed = silent.local_addr().unwrap();
    let own = plan("n1");
    let address = own.address();
    let node = own.seeded_by(&[seed, address]).join().await;
    wait("the silent seed is named", || {
        node.cluster.diagnostics().silent_seeds.contains(&seed)
    })
    .await;
    stop_all([node]).await;
}

#[tokio::test]
async fn a_seed_given_by_name_is_found() {
    let first = plan("n1").join().await;
    let second = plan("n2");
    let identity =
        Identity::load_or_create(second.data_dir.path(), None, SystemTime::now()).unwrap();
    let mut config = Config::new("c".parse().unwrap(), identity, second.address());
    config.seeds = vec![format!("localhost:{}", first.address.port())];
    let metadata = Metadata::new(1);
    let cluster = Cluster::join(config, ring(1), second.socket, metadata, None)
        .await
        .unwrap();
    wait("both are members of both", || {
        cluster.members().len() == 2 && first.cluster.members().len() == 2
    })
    .await;
    cluster.stop().await;
    stop_all([first]).await;
}

#[tokio::test]
async fn keys_rotate_under_gossip_and_drop_nobody() {
    let nodes = three().await;
    let mut events = nodes[0].cluster.events();
    let new = GossipKey::from_bytes([2; 32]);
    let old = nodes[0].cluster.keyring().primary();
    for node in &nodes {
        node.cluster.keyring().install(new.clone()).unwrap();
    }
    for node in &nodes {
        wait("every node says that it has the new key", || {
            let members = node.cluster.members();
            let has = |member: &Member| member.metadata.keys == [old, new.id()];
            members.iter().all(has)
        })
        .await;
    }
    for node in &nodes {
        node.cluster.keyring().use_key(new.id()).unwrap();
    }
    for node in &nodes {
        node.cluster.keyring().retire(old).unwrap();
    }
    // A change can only arrive under the new key.
    nodes[2]
        .cluster
        .set_metadata(|metadata| metadata.weight = 3)
        .await
        .unwrap();
    for node in &nodes {
        wait("the weight arrived under the new key", || {
            let members = node.cluster.members();
            members
                .find(&"n3".parse().unwrap())
                .unwrap()
                .metadata
                .weight
                == 3
        })
        .await;
    }
    stop_all(nodes).await;
    while let Some(event) = events.next().await {
        let kind = event.unwrap().kind;
        assert!(!matches!(kind, EventKind::Failed { .. }), "{kind:?}");
    }
}

#[tokio::test]
async fn the_socket_is_closed_when_stop_returns() {
    let node = plan("n1").join().await;
    let address = node.address;
    stop_all([node]).await;
    UdpSocket::bind(address).unwrap();
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_starts() {
    let join = async |change: fn(&mut Config)| {
        let plan = plan("n1");
        let identity =
            Identity::load_or_create(plan.data_dir.path(), None, SystemTime::now()).unwrap();
        let mut config = Config::new("c".parse().unwrap(), identity, plan.address());
        change(&mut config);
        Cluster::join(config, ring(1), plan.socket, Metadata::new(1), None)
            .await
            .unwrap_err()
    };
    let text = join(|config| config.advertise.set_ip(Ipv4Addr::UNSPECIFIED.into())).await;
    assert!(text.to_string().contains("every address"), "{text}");
    let text = join(|config| config.advertise.set_ip("fe80::1".parse().unwrap())).await;
    assert!(text.to_string().contains("link-local"), "{text}");
    let text = join(|config| config.seeds.push("10.0.0.2".to_owned())).await;
    assert!(text.to_string().contains("10.0.0.2"), "{text}");
    let text = join(|config| config.gossip_interval = Duration::ZERO).await;
    assert!(text.to_string().contains("gossip_interval"), "{text}");
}

/// An attacker: a socket, and perhaps the key.
struct Attacker {
    socket: UdpSocket,
    sequence: u64,
}

impl Attacker {
    fn new() -> Attacker {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Attacker {
            socket,
            sequence: 0,
        }
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        self.socket.send_to(bytes, to).unwrap();
    }

    /// Sends a message of the gossip protocol under the key of the cluster.
    fn send_sealed(&mut self, to: &Node, message: &[u8]) {
        self.sequence += 1;
        let own = self.socket.local_addr().unwrap();
        let envelope = Envelope {
            sequence: self.sequence,
            recipient: Some(to.cluster.identity().id.clone()),
            ..forge::envelope("faulty", "c", own)
        };
        self.send(to.address, &forge::frame(&ring(1), &envelope, message));
    }

    fn was_answered(&self) -> bool {
        self.socket.recv_from(&mut [0; 2048]).is_ok()
    }
}

#[tokio::test]
async fn a_flood_of_garbage_changes_nothing_and_gets_no_answer() {
    let [one, two, three] = three().await;
    let attacker = Attacker::new();
    let before = one.cluster.members();
    let mut recorded = forge::frame(
        &ring(9),
        &forge::envelope("n2", "c", two.address),
        &forge::syn("c", &[]),
    );
    for round in 0..2000u32 {
        let len = usize::try_from(round % 1500).unwrap();
        attacker.send(one.address, &vec![round.to_le_bytes()[0]; len]);
        recorded[50] ^= round.to_le_bytes()[0];
        attacker.send(one.address, &recorded);
    }
    wait("the flood was read", || {
        one.rejected(RejectReason::NotGossip) > 100
    })
    .await;
    one.rejects(RejectReason::OtherSecret).await;
    let after = one.cluster.members();
    let ids = |members: &Members| {
        members
            .iter()
            .map(|m| (m.id.clone(), m.incarnation, m.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after));
    assert!(!attacker.was_answered());
    stop_all([one, two, three]).await;
}

#[tokio::test]
async fn attacks_with_the_key_bounce_and_are_named() {
    let [one, two, three] = three().await;
    let chitchat_id = |node: &Node| {
        let identity = node.cluster.identity();
        let id = identity.id.as_str();
        forge::member(id, identity.incarnation.0, node.address.port())
    };
    let (own, other) = (chitchat_id(&one), chitchat_id(&two));
    let leap = Entry {
        heartbeat: u64::MAX,
        ..Entry::of(other.clone())
    };
    let too_many: Vec<_> = (0..1200)
        .map(|n| Entry::of(forge::member(&format!("n{n}"), 1, 9999)))
        .collect();
    let reset = Op::Node {
        member: own.clone(),
        collected_version: 99,
        from_version: 0,
    };
    let attacks = [
        forge::syn_ack(&[leap], &[]),
        forge::syn("c", &too_many),
        forge::ack(&[reset, Op::set("state", 100)]),
        forge::ack(&[Op::node(own), Op::set("state", 1 << 30)]),
        forge::ack(&[
            Op::node(other.clone()),
            Op::set("state", 9),
            Op::MaxVersion(3),
        ]),
        forge::ack(&[
            Op::node(other),
            Op::Set {
                key: "é",
                value: String::new(),
                version: 99,
            },
        ]),
        forge::bomb(2500),
    ];
    let mut attacker = Attacker::new();
    for (sent, attack) in attacks.iter().enumerate() {
        attacker.send_sealed(&one, attack);
        let what = format!("attack {sent} is refused");
        wait(&what, || one.rejected(RejectReason::Faulty) > sent as u64).await;
    }
    assert_eq!(one.cluster.diagnostics().counters.gossip_restarts, 0);
    assert_eq!(one.cluster.members().len(), 3);
    for id in ["n1", "n2", "n3"] {
        assert_eq!(one.state_of(id), Some(MemberState::Active));
    }
    stop_all([one, two, three]).await;
}

#[tokio::test]
async fn invented_members_do_not_drive_out_the_real_ones() {
    let [one, two, three] = three().await;
    let mut attacker = Attacker::new();
    for part in 0..30 {
        let invented: Vec<_> = (0..100)
            .map(|n| Entry::of(forge::member(&format!("phantom-{part}-{n}"), 1, 9)))
            .collect();
        attacker.send_sealed(&one, &forge::syn_ack(&invented, &[]));
    }
    wait("there is no room for more", || {
        one.cluster.diagnostics().counters.members_crowded_out > 0
    })
    .await;
    three.cluster.leave().await.unwrap();
    one.sees("n3", MemberState::Left).await;
    two.cluster.stop().await;
    one.sees("n2", MemberState::Failed).await;
    assert_eq!(one.cluster.members().len(), 3);
    assert_eq!(one.cluster.diagnostics().counters.gossip_restarts, 0);
    stop_all([one]).await;
}

#[tokio::test]
async fn a_node_whose_state_was_forged_comes_back_in_a_new_life_that_is_believed() {
    let [one, two, three] = three().await;
    let victim = one.cluster.identity().clone();
    let id = victim.id.as_str();
    let member = forge::member(id, victim.incarnation.0, one.address.port());
    let lie = Op::Set {
        key: "state",
        value: "left".to_owned(),
        version: 1000,
    };
    Attacker::new().send_sealed(&two, &forge::ack(&[Op::node(member), lie]));
    wait("the forgery is noticed", || {
        one.cluster.diagnostics().counters.gossip_restarts == 1
    })
    .await;
    for node in [&one, &two, &three] {
        wait("the new life is believed", || {
            let members = node.cluster.members();
            let member = members.find(&victim.id).unwrap();
            member.incarnation > victim.incarnation && member.state == MemberState::Active
        })
        .await;
    }
    stop_all([one, two, three]).await;
}
