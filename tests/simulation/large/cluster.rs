//! Many replicas on a sound network, and what passes over it.
//!
//! Leaner than [`crate::world`]: no faults but crashes, no history, and figures instead.
//! Messages take up to 2 ms, commits up to 4 ms, and a peer's crash is noticed by the end of
//! the links to it, up to a second later.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use basic_sync::codec::encode_message;
use basic_sync::model::document::Action;
use basic_sync::model::{Dot, PeerId, ReplicaId};
use basic_sync::protocol::{
    AckTarget, Config, Counters, Input, Message, Now, Operation, Output, Replica, RequestId,
    Status, TreeMessage, WriteReceipt, WriteRequest, commit,
};
use basic_sync::storage::{MemoryStorage, read, state};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::world::{key, name, number};

const BEGIN_MS: u64 = 1_700_000_000_000;
const DELAY_US: std::ops::Range<u64> = 200..2_000;
const COMMIT_US: std::ops::Range<u64> = 300..4_000;
const NOTICE_MS: std::ops::Range<u64> = 100..1_000;
/// Bytes of a document.
const DOCUMENT: usize = 200;

enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    Commit(usize),
    Tick(usize),
    /// The first no longer reaches the second.
    LinkDown(usize, usize),
}

struct Node {
    disk: MemoryStorage,
    /// `None` after its crash.
    replica: Option<Replica>,
    inbox: Vec<Input>,
    committing: bool,
    next_tick: Duration,
    links: Vec<usize>,
    /// Writes that are in the inbox, and how many hops they came.
    coming: Vec<(Dot, u32)>,
}

/// How a write got around.
#[derive(Clone)]
pub(super) struct Journey {
    began: Duration,
    /// Of each replica that has it, after how many hops and how long.
    pub(super) arrived: HashMap<usize, (u32, Duration)>,
}

/// What passed over the network.
#[derive(Clone, Default)]
pub(super) struct Traffic {
    /// Bytes that each replica sent.
    pub(super) bytes: Vec<u64>,
    /// Writes that were pushed, wherever they were known already.
    pub(super) pushed: u64,
    /// Of those, the ones that were.
    pub(super) duplicates: u64,
    /// Messages and bytes by kind.
    pub(super) kinds: BTreeMap<&'static str, (u64, u64)>,
}

pub(super) struct Cluster {
    random: StdRng,
    pub(super) now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    pending: HashMap<u64, Event>,
    next_event: u64,
    nodes: Vec<Node>,
    last_arrival: HashMap<(usize, usize), Duration>,
    pub(super) traffic: Traffic,
    pub(super) journeys: BTreeMap<Dot, Journey>,
    pub(super) receipts: Vec<(RequestId, Duration, WriteReceipt)>,
    writes: u64,
    /// Nobody hears that somebody wants to be pushed to.
    grafts_lost: bool,
}

impl Cluster {
    pub(super) fn new(size: usize, config: &Config, grafts_lost: bool) -> Self {
        let mesh = config.mesh;
        let names: Vec<PeerId> = (0..size).map(name).collect();
        let node = |own: &PeerId| {
            let near = mesh.neighbours(own, &names);
            Node {
                disk: MemoryStorage::default(),
                replica: None,
                inbox: Vec::new(),
                committing: false,
                next_tick: Duration::MAX,
                links: near.iter().map(number).collect(),
                coming: Vec::new(),
            }
        };
        let mut cluster = Self {
            random: StdRng::seed_from_u64(42),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            pending: HashMap::new(),
            next_event: 0,
            nodes: names.iter().map(node).collect(),
            last_arrival: HashMap::new(),
            traffic: Traffic::default(),
            journeys: BTreeMap::new(),
            receipts: Vec::new(),
            writes: 0,
            grafts_lost,
        };
        cluster.forget_traffic();
        for (own, own_name) in names.iter().enumerate() {
            let config = Config {
                name: own_name.clone(),
                ..config.clone()
            };
            let mut identity = [0; 16];
            identity[..8].copy_from_slice(&(own as u64 + 1).to_be_bytes());
            let now = cluster.time();
            let seed = cluster.random.random();
            let disk = &cluster.nodes[own].disk;
            let replica = Replica::open(disk, config, ReplicaId(identity), now, seed);
            cluster.nodes[own].replica = Some(replica.expect("memory does not fail"));
            let peers = names.iter().filter(|peer| *peer != own_name);
            cluster.input(own, Input::Peers(peers.cloned().collect()));
            for peer in cluster.nodes[own].links.clone() {
                cluster.input(own, Input::LinkUp(name(peer)));
            }
        }
        cluster
    }

    pub(super) fn forget_traffic(&mut self) {
        self.traffic = Traffic {
            bytes: vec![0; self.nodes.len()],
            ..Traffic::default()
        };
    }

    /// Puts a document of its own.
    pub(super) fn write(&mut self, replica: usize, acks: AckTarget) -> RequestId {
        let text = format!("\"{}\"", "x".repeat(DOCUMENT - 2));
        let number = usize::try_from(self.writes + 1).expect("few writes");
        self.act(replica, number, Action::Put(Bytes::from(text)), acks)
    }

    pub(super) fn act(
        &mut self,
        replica: usize,
        number: usize,
        action: Action,
        acks: AckTarget,
    ) -> RequestId {
        self.writes += 1;
        let id = RequestId(self.writes);
        let operation = Operation::new(key(number), action);
        let request = WriteRequest {
            id,
            operations: vec![operation],
            acks,
            acks_timeout: Duration::from_secs(10),
        };
        self.input(replica, Input::Write(request));
        id
    }

    /// One that lives, at random.
    pub(super) fn someone(&mut self) -> usize {
        let living = self.living();
        living[self.random.random_range(0..living.len())]
    }

    pub(super) fn living(&self) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|own| self.nodes[*own].replica.is_some())
            .collect()
    }

    pub(super) fn links_of(&self, replica: usize) -> usize {
        self.nodes[replica].links.len()
    }

    pub(super) fn crash(&mut self, replica: usize) {
        self.nodes[replica].replica = None;
        self.nodes[replica].inbox.clear();
        for peer in self.nodes[replica].links.clone() {
            let notice = Duration::from_millis(self.random.random_range(NOTICE_MS));
            self.at(self.now + notice, Event::LinkDown(peer, replica));
        }
    }

    /// How many documents it holds, deletions among them.
    pub(super) fn holds(&self, replica: usize) -> usize {
        let held = read(&self.nodes[replica].disk, state::dump);
        held.expect("memory does not fail").len()
    }

    pub(super) fn status(&self, replica: usize) -> Status {
        let running = self.nodes[replica].replica.as_ref();
        running.expect("it runs").status()
    }

    /// What all that live have counted.
    pub(super) fn count(&self, of: fn(&Counters) -> u64) -> u64 {
        let living = self.living().into_iter();
        living.map(|own| of(&self.status(own).counters)).sum()
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, id))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            if let Some(event) = self.pending.remove(&id) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                if self.nodes[to].replica.is_some() {
                    self.note_writes(from, to, &message);
                    self.input(to, Input::Message(name(from), message));
                }
            }
            Event::Commit(own) => self.commit(own),
            Event::Tick(own) => {
                self.nodes[own].next_tick = Duration::MAX;
                self.input(own, Input::Tick);
            }
            Event::LinkDown(own, peer) => self.input(own, Input::LinkDown(name(peer))),
        }
    }

    fn note_writes(&mut self, from: usize, to: usize, message: &Message) {
        let (changes, pushed) = match message {
            Message::Push { changes } | Message::Tree(TreeMessage::Forward { changes }) => {
                (changes, true)
            }
            Message::PullChunk(chunk) => (&chunk.changes, false),
            _ => return,
        };
        for change in changes {
            let dot = change.dot();
            let Some(journey) = self.journeys.get(&dot) else {
                continue;
            };
            let hops = journey.arrived.get(&from).map_or(0, |(hops, _)| *hops) + 1;
            let node = &mut self.nodes[to];
            let known = journey.arrived.contains_key(&to)
                || node.coming.iter().any(|(coming, _)| *coming == dot);
            self.traffic.pushed += u64::from(pushed);
            self.traffic.duplicates += u64::from(pushed && known);
            if !known {
                node.coming.push((dot, hops));
            }
        }
    }

    fn input(&mut self, own: usize, input: Input) {
        let node = &mut self.nodes[own];
        if node.replica.is_none() {
            return;
        }
        node.inbox.push(input);
        if !node.committing {
            node.committing = true;
            let pause = Duration::from_micros(self.random.random_range(COMMIT_US));
            self.at(self.now + pause, Event::Commit(own));
        }
    }

    fn commit(&mut self, own: usize) {
        let now = self.time();
        let node = &mut self.nodes[own];
        node.committing = false;
        let Some(replica) = &mut node.replica else {
            return;
        };
        let inputs = std::mem::take(&mut node.inbox);
        let outputs = commit(replica, &node.disk, now, inputs).expect("memory does not fail");
        let deadline = replica.next_deadline();
        for (dot, hops) in std::mem::take(&mut node.coming) {
            if let Some(journey) = self.journeys.get_mut(&dot) {
                let took = self.now - journey.began;
                journey.arrived.entry(own).or_insert((hops, took));
            }
        }
        if deadline < node.next_tick {
            node.next_tick = deadline;
            self.at(deadline.max(self.now), Event::Tick(own));
        }
        for output in outputs {
            self.output(own, output);
        }
    }

    fn output(&mut self, own: usize, output: Output) {
        let (to, message) = match output {
            Output::Reply(id, Ok(receipt)) => {
                self.receipts.push((id, self.now, receipt));
                return;
            }
            Output::Send(peer, message) => (vec![number(&peer)], message),
            Output::Multicast(peers, message) => (peers.iter().map(number).collect(), message),
            Output::Broadcast(message) => (self.nodes[own].links.clone(), message),
            other => panic!("nobody asked for {other:?}"),
        };
        if let Message::Push { changes } = &message {
            for change in changes {
                let arrived = HashMap::from([(own, (0, Duration::ZERO))]);
                let began = self.now;
                let journey = Journey { began, arrived };
                self.journeys.insert(change.dot(), journey);
            }
        }
        let bytes = encode_message(&message).len() as u64;
        for to in to {
            self.traffic.bytes[own] += bytes;
            let (count, sum) = self.traffic.kinds.entry(kind(&message)).or_default();
            *count += 1;
            *sum += bytes;
            if self.grafts_lost && kind(&message) == "graft" {
                continue;
            }
            let delay = Duration::from_micros(self.random.random_range(DELAY_US));
            let last = self.last_arrival.entry((own, to)).or_default();
            *last = (self.now + delay).max(*last + Duration::from_nanos(1));
            let (at, from, message) = (*last, own, message.clone());
            self.at(at, Event::Deliver { from, to, message });
        }
    }

    fn time(&self) -> Now {
        let elapsed_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        Now {
            wall_ms: BEGIN_MS + elapsed_ms,
            elapsed: self.now,
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.next_event += 1;
        self.pending.insert(self.next_event, event);
        self.events.push(Reverse((when, self.next_event)));
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Push { .. } | Message::Tree(TreeMessage::Forward { .. }) => "writes",
        Message::Vector { .. } => "vectors",
        Message::Ack { .. } => "acknowledgements",
        Message::Tree(TreeMessage::Have(_)) => "word",
        Message::Tree(TreeMessage::Prune) => "prune",
        Message::Tree(TreeMessage::Graft { .. }) => "graft",
        Message::Tree(TreeMessage::Census(_)) => "census",
        Message::Tree(TreeMessage::RollCall { .. } | TreeMessage::Present { .. }) => "roll calls",
        _ => "pulls",
    }
}
