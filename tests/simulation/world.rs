//! Virtual time, the network, disks and crashes.
//!
//! Everything that happens is an event at a moment. A replica takes in what has
//! arrived when its disk is free, as the driver does: one commit for all of it, pushes
//! before it is durable and all else after. A crash loses the inbox and the outputs that
//! were not sent yet, and keeps the disk; or, where it comes before the commit was durable,
//! perhaps not the commit. A commit can also fail without a crash, before its pushes were
//! sent or after.

mod commits;
mod turmoil;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use basic_sync::model::document::{Action, Document, Merge};
use basic_sync::model::{Collection, Delta, Key, PeerId, ReplicaId, VersionVector};
use basic_sync::protocol::{
    AckTarget, Config, Counters, Input, Mesh, Message, Now, Operation, Output, Policies, Policy,
    Replica, RequestId, Status, WriteReceipt, WriteRefused, WriteRequest,
};
use basic_sync::storage::{self, MemoryStorage, read, settlement, state};
use basic_sync::verify::indexes::{self, Place};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) use self::commits::Commit;
use crate::harm::{Harm, claimed_early, counted_all, without_horizon};
use crate::history::{Clock, History};
use crate::options::Options;

/// How long replicas may take to come level, in all.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// Wall-clock time at which every run begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// Of the commits of a disk that does not sync, those that get to it before a crash.
const SYNCED: f64 = 0.02;

/// Something that happens.
#[derive(Debug)]
enum Event {
    /// A message arrives.
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    /// The disk of a replica is free, and its inbox is taken in. Void if it crashed since.
    Commit { replica: usize, life: u64 },
    /// The deadline of a replica. Void if it crashed since.
    Tick { replica: usize, life: u64 },
    /// A client writes.
    Write,
    /// Some replica crashes.
    Crash,
    /// A crashed replica starts again.
    Start { replica: usize },
    /// Some replicas are cut off from the others.
    Partition,
    /// All can reach each other again.
    Heal,
    /// One of the clocks that go wrong does, or is set right.
    ClockStep,
}

struct Node {
    disk: MemoryStorage,
    /// Counts its disks.
    disks: u8,
    /// It knows of those of the same cluster only.
    cluster: u8,
    /// A copy of the disk as it was once.
    backup: Option<MemoryStorage>,
    /// Writes that were taken out of this disk, as far as they were looked at.
    exported: usize,
    /// What a disk that does not sync has of it after a crash.
    synced: MemoryStorage,
    /// `None` while it is down.
    replica: Option<Replica>,
    /// Counts its starts.
    life: u64,
    inbox: Vec<Input>,
    committing: bool,
    next_tick: Duration,
    /// Its wall clock's offset from the beginning of the run, in milliseconds.
    clock_offset: i64,
    /// What is added to it while the clock is wrong.
    clock_error: i64,
    /// The most that its clock has shown, in milliseconds since 1970.
    latest_ms: u64,
}

/// One run.
pub(crate) struct World {
    options: Options,
    random: StdRng,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    pending: HashMap<u64, Event>,
    next_event: u64,
    nodes: Vec<Node>,
    /// Whom each replica links to.
    links: Vec<BTreeSet<usize>>,
    /// `cut[a][b]`: messages from a to b are lost.
    cut: Vec<Vec<bool>>,
    /// `last_arrival[a][b]`: when the latest message from a arrives at b.
    last_arrival: Vec<Vec<Duration>>,
    turmoil: bool,
    /// Every commit fails.
    pub(crate) disks_fail: bool,
    /// What was taken out of the replicas or their disks.
    harm: Option<Harm>,
    next_request: u64,
    /// The highest floor that any replica has had, in milliseconds since 1970.
    floor_ms: u64,
    pub(crate) history: History,
    trace: DefaultHasher,
    /// Counters of replicas that have crashed.
    past: Counters,
    pub(crate) commits_failed: u64,
    pub(crate) messages_lost: u64,
    pub(crate) clock_steps: u64,
    pub(crate) disks_lost: u64,
    pub(crate) disks_restored: u64,
    /// Disks that were a copy of another replica's.
    pub(crate) disks_copied: u64,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let spread = i64::try_from(options.clock_spread.as_millis()).unwrap_or(0);
        let nodes = (0..options.replicas)
            .map(|_| Node {
                disk: MemoryStorage::default(),
                disks: 0,
                cluster: 0,
                backup: None,
                exported: 0,
                synced: MemoryStorage::default(),
                replica: None,
                life: 0,
                inbox: Vec::new(),
                committing: false,
                next_tick: Duration::MAX,
                clock_offset: random.random_range(0..=spread),
                clock_error: 0,
                latest_ms: 0,
            })
            .collect();
        let cut = vec![vec![false; options.replicas]; options.replicas];
        let last_arrival = vec![vec![Duration::ZERO; options.replicas]; options.replicas];
        let mut world = Self {
            random,
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            pending: HashMap::new(),
            next_event: 0,
            nodes,
            links: links(&options),
            cut,
            last_arrival,
            turmoil: true,
            disks_fail: false,
            harm: None,
            next_request: 0,
            floor_ms: 0,
            history: History::default(),
            trace: DefaultHasher::new(),
            past: Counters::default(),
            commits_failed: 0,
            messages_lost: 0,
            clock_steps: 0,
            disks_lost: 0,
            disks_restored: 0,
            disks_copied: 0,
            options,
        };
        for replica in 0..world.nodes.len() {
            world.start(replica);
        }
        world
    }

    /// The same, with something taken out that the invariants rest on.
    pub(crate) fn harmed(seed: u64, options: Options, harm: Harm) -> Self {
        let mut world = Self::new(seed, options);
        world.harm = Some(harm);
        world.history.unseen = true;
        world
    }

    /// Runs the options' turmoil, then calm, then checks the end.
    pub(crate) fn run_whole(&mut self) {
        // A cluster first has to be one: replicas that have lived for longer than deletions
        // are remembered, and never heard of each other, are of two.
        self.turmoil = false;
        self.run_until(Duration::from_secs(1));
        self.turmoil = true;
        self.at(self.now, Event::Write);
        self.after_about(self.options.crash_pause, Event::Crash);
        self.after_about(self.options.partition_pause, Event::Partition);
        self.at(self.now, Event::ClockStep);
        self.run_until(self.now + self.options.turmoil);
        self.calm();
        self.settle();
        self.check_end();
    }

    /// Ends all faults: every replica runs and reaches every other.
    pub(crate) fn calm(&mut self) {
        self.turmoil = false;
        self.heal();
        if !self.options.clocks_stay_wrong {
            self.nodes.iter_mut().for_each(|node| node.clock_error = 0);
        }
        for replica in 0..self.nodes.len() {
            if self.nodes[replica].replica.is_none() {
                self.start(replica);
            }
        }
    }

    /// Lets replicas talk until all have what any has, for as long as that may take.
    pub(crate) fn settle(&mut self) {
        let latest = self.now + SETTLE_MAX;
        self.run_until(self.now + Duration::from_secs(10));
        // On slow links and by small chunks it takes longer. Who is harmed may never come
        // level.
        while self.harm.is_none() && self.now < latest && !self.are_level() {
            self.run_until(self.now + Duration::from_secs(2));
        }
        // The burial of an expired document is a write as any other.
        let mut buried = None;
        while buried != Some(self.counters().buried) {
            buried = Some(self.counters().buried);
            self.run_until(self.now + Duration::from_secs(2));
        }
    }

    /// Whether every replica says that it has what any has.
    fn are_level(&self) -> bool {
        let vectors = self.nodes.iter().map(|node| {
            let settlement = read(&node.disk, settlement).expect("memory does not fail");
            let ends = settlement.fill.is_none() && settlement.unindexed.is_none();
            ends.then(|| read(&node.disk, state::vector).expect("memory does not fail"))
        });
        let vectors: Vec<_> = vectors.collect();
        vectors
            .iter()
            .all(|one| one.is_some() && *one == vectors[0])
    }

    /// Checks that the replicas have converged to what clients were promised.
    pub(crate) fn check_end(&mut self) {
        for replica in 0..self.nodes.len() {
            self.watch(replica);
        }
        let dumps: Vec<Vec<(Key, Document)>> = self
            .nodes
            .iter()
            .map(|node| read(&node.disk, state::dump).expect("memory does not fail"))
            .collect();
        let clocks: Vec<Clock> = (0..self.nodes.len())
            .map(|replica| Clock {
                now_ms: self.time_of(replica).wall_ms,
                latest_ms: self.nodes[replica].latest_ms,
            })
            .collect();
        let mut held = VersionVector::default();
        for node in &self.nodes {
            held.merge(&read(&node.disk, state::vector).expect("memory does not fail"));
        }
        self.history.forget_lost(&held);
        self.history.check_end(&dumps, &clocks);
        for (replica, node) in self.nodes.iter().enumerate() {
            check_tables(replica, &node.disk);
        }
        let status: Vec<_> = self
            .nodes
            .iter()
            .flat_map(|node| &node.replica)
            .map(Replica::status)
            .collect();
        // Of one without a link the last word may be from before it lost its disk.
        for one in &status {
            assert!(
                one.peers
                    .iter()
                    .all(|peer| peer.behind == 0 || !peer.linked),
                "{:?}",
                one.peers
            );
        }
    }

    /// What all replicas did, over all their lives.
    pub(crate) fn counters(&self) -> Counters {
        let living = self.nodes.iter().flat_map(|node| &node.replica);
        living.fold(self.past, |sum, replica| sum + replica.status().counters)
    }

    /// A fingerprint of everything that has happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// The disk of a replica.
    pub(crate) fn disk(&self, replica: usize) -> &MemoryStorage {
        &self.nodes[replica].disk
    }

    /// Puts another disk into a replica that is down.
    pub(crate) fn replace_disk(&mut self, replica: usize, disk: MemoryStorage) {
        assert!(
            self.nodes[replica].replica.is_none(),
            "only a stopped replica's disk is replaced"
        );
        self.nodes[replica].disk = disk;
    }

    /// A replica that is down loses its disk: with an empty one it is another.
    pub(crate) fn lose_disk(&mut self, replica: usize) {
        self.replace_disk(replica, MemoryStorage::default());
        self.nodes[replica].disks += 1;
        self.history.forget_watch(replica);
    }

    /// A replica crashes, with whatever it had not yet committed or sent.
    pub(crate) fn crash(&mut self, replica: usize) {
        let node = &mut self.nodes[replica];
        if let Some(gone) = node.replica.take() {
            self.past = self.past + gone.status().counters;
        }
        node.inbox.clear();
        node.committing = false;
        if self.harm == Some(Harm::NoSync) {
            node.disk = node.synced.fork();
        }
    }

    /// A replica starts from its disk.
    pub(crate) fn start(&mut self, replica: usize) {
        if self.random.random_bool(self.options.clock_steps_back) {
            self.nodes[replica].clock_offset -= self.random.random_range(0..2_000);
        }
        let mut config = Config {
            chunk_changes: self.options.chunk_changes,
            name: name(replica),
            tombstone_age: self.options.tombstone_age,
            absent_max: self.options.absent_max,
            snapshot_from: self.options.snapshot_from,
            index_bytes: 1_000,
            // Some documents are larger, with several writes.
            piece_bytes: 200,
            standing_every: self.options.standing_every,
            early_pause: Duration::from_secs(1),
            mesh: mesh_of(&self.options, replica),
            ..Config::default()
        };
        // One of them may not know how the collections are merged.
        if !(self.options.disagreement && replica == 0) {
            config.policies = policies();
        }
        let seed = self.random.random();
        let mut identity = [u8::try_from(replica).expect("few replicas") + 1; 16];
        identity[15] = self.nodes[replica].disks;
        let identity = ReplicaId(identity);
        let now = self.time_of(replica);
        let node = &mut self.nodes[replica];
        let opened = Replica::open(&node.disk, config, identity, now, seed);
        node.replica = Some(opened.expect("memory does not fail"));
        node.life += 1;
        node.next_tick = Duration::MAX;
        self.tell_of_peers(replica);
        for peer in self.linked_from(replica) {
            self.input(replica, Input::LinkUp(name(peer)));
        }
        for peer in (0..self.nodes.len()).filter(|peer| *peer != replica) {
            if self.linked_from(peer).contains(&replica) && self.nodes[peer].replica.is_some() {
                self.input(peer, Input::LinkDown(name(replica)));
                self.input(peer, Input::LinkUp(name(replica)));
            }
        }
    }

    /// From now on a replica is of another cluster.
    pub(crate) fn move_to(&mut self, cluster: u8, replica: usize) {
        let before = self.peers_of(replica);
        self.nodes[replica].cluster = cluster;
        let now = self.peers_of(replica);
        for peer in 0..self.nodes.len() {
            self.tell_of_peers(peer);
            let (was, is) = (before.contains(&peer), now.contains(&peer));
            for (at, of) in [(peer, replica), (replica, peer)] {
                match was {
                    true if !is => self.input(at, Input::LinkDown(name(of))),
                    false if is => self.input(at, Input::LinkUp(name(of))),
                    _ => {}
                }
            }
        }
    }

    /// An operator says on a replica that another is not waited for any more.
    pub(crate) fn give_up(&mut self, on: usize, replica: usize) {
        self.input(on, Input::GiveUp(name(replica)));
    }

    fn tell_of_peers(&mut self, replica: usize) {
        let peers = self.peers_of(replica).into_iter().map(name).collect();
        self.input(replica, Input::Peers(peers));
    }

    /// To whom a replica has a link.
    fn linked_from(&self, replica: usize) -> Vec<usize> {
        let mut peers = self.peers_of(replica);
        peers.retain(|peer| self.links[replica].contains(peer));
        peers
    }

    fn peers_of(&self, replica: usize) -> Vec<usize> {
        let cluster = self.nodes[replica].cluster;
        let is_peer = |peer: &usize| *peer != replica && self.nodes[*peer].cluster == cluster;
        (0..self.nodes.len()).filter(is_peer).collect()
    }

    /// A client writes to a replica; the id of its request.
    pub(crate) fn write(
        &mut self,
        replica: usize,
        writes: Vec<(Key, Action)>,
        acks: AckTarget,
    ) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.history.attempt(id, writes.len());
        let operations = writes.into_iter().map(|(key, action)| {
            let ttl = match action {
                Action::Put(_) if self.random.random_bool(self.options.ttl) => {
                    Some(Duration::from_secs(self.random.random_range(1..20)))
                }
                _ => None,
            };
            Operation {
                ttl,
                ..Operation::new(key, action)
            }
        });
        let operations = operations.collect();
        let acks_timeout = Duration::from_secs(2);
        self.input(
            replica,
            Input::Write(WriteRequest {
                id,
                operations,
                acks,
                acks_timeout,
            }),
        );
        id
    }

    /// Sets a replica's clock off by so many milliseconds; 0 sets it right.
    pub(crate) fn set_clock(&mut self, replica: usize, error: i64) {
        self.nodes[replica].clock_error = error;
    }

    /// The state of a replica that runs.
    pub(crate) fn status(&self, replica: usize) -> Status {
        let running = self.nodes[replica].replica.as_ref();
        running.expect("it runs").status()
    }

    /// Lets events happen up to a moment.
    pub(crate) fn run_until(&mut self, end: Duration) {
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

    /// Cuts a set of replicas off from the others, in both directions.
    pub(crate) fn isolate(&mut self, island: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                self.cut[a][b] = island.contains(&a) != island.contains(&b);
            }
        }
    }

    /// Nobody hears anything from this replica any more; it hears all.
    pub(crate) fn mute(&mut self, replica: usize) {
        self.cut[replica].iter_mut().for_each(|cut| *cut = true);
    }

    /// Ends every cut.
    pub(crate) fn heal(&mut self) {
        self.cut.iter_mut().flatten().for_each(|cut| *cut = false);
    }

    fn happen(&mut self, event: Event) {
        (self.now.as_micros(), format!("{event:?}")).hash(&mut self.trace);
        match event {
            Event::Deliver { from, to, message } => {
                if !self.cut[from][to] {
                    self.input(to, Input::Message(name(from), message));
                }
            }
            Event::Commit { replica, life } if self.nodes[replica].life == life => {
                self.commit(replica, Commit::Whole);
            }
            Event::Tick { replica, life } if self.nodes[replica].life == life => {
                self.nodes[replica].next_tick = Duration::MAX;
                self.input(replica, Input::Tick);
            }
            Event::Commit { .. } | Event::Tick { .. } => {}
            Event::Write if self.turmoil => {
                self.client_writes();
                self.after_about(self.options.write_pause, Event::Write);
            }
            Event::Crash if self.turmoil => {
                self.some_replica_crashes();
                self.after_about(self.options.crash_pause, Event::Crash);
            }
            Event::Partition if self.turmoil => {
                let replica = self.random.random_range(0..self.nodes.len());
                let node = &mut self.nodes[replica];
                node.backup.get_or_insert_with(|| node.disk.fork());
                let island: Vec<usize> = (0..self.nodes.len())
                    .filter(|_| self.random.random_bool(0.4))
                    .collect();
                self.isolate(&island);
                // Now and then a cut is one-way.
                if self.random.random_bool(0.3) {
                    for a in 0..self.nodes.len() {
                        for b in 0..a {
                            self.cut[a][b] = false;
                        }
                    }
                }
                self.after_about(self.options.partition_pause / 2, Event::Heal);
            }
            Event::Heal if self.turmoil => {
                self.heal();
                self.after_about(self.options.partition_pause, Event::Partition);
            }
            Event::Start { replica } => {
                if self.nodes[replica].replica.is_none() {
                    self.start(replica);
                }
            }
            Event::ClockStep if self.turmoil => {
                self.some_clock_steps();
                self.after_about(self.options.clock_step_pause, Event::ClockStep);
            }
            Event::Write | Event::Crash | Event::Partition | Event::Heal | Event::ClockStep => {}
        }
    }

    /// Puts something into a replica's inbox; it is taken in when the disk is free.
    fn input(&mut self, replica: usize, input: Input) {
        let node = &mut self.nodes[replica];
        if node.replica.is_none() {
            return;
        }
        node.inbox.push(input);
        if !node.committing {
            node.committing = true;
            let life = node.life;
            let micros = u64::try_from(self.options.commit_max.as_micros()).unwrap_or(1);
            let pause = Duration::from_micros(self.random.random_range(0..micros));
            self.at(self.now + pause, Event::Commit { replica, life });
        }
    }

    fn output(&mut self, replica: usize, output: Output) {
        match output {
            Output::Reply(id, Ok(receipt)) => {
                self.check_acks(replica, &receipt);
                self.history.acknowledge(id, &receipt);
            }
            Output::Reply(id, Err(refused)) => match refused.reason() {
                WriteRefused::NotFound(_) => {}
                // To count on what a node that merges otherwise has put there, for example.
                WriteRefused::Conflict(_) => {}
                _ => panic!("{id:?} was refused: {refused}"),
            },
            Output::Mended(id, _) => panic!("{id:?}: nobody asked for mending"),
            Output::TakenIn(id, _) => panic!("{id:?}: nobody restored a backup"),
            Output::Send(peer, message) => {
                self.send(replica, number(&peer), message);
            }
            Output::Broadcast(message) => {
                for to in self.linked_from(replica) {
                    self.send(replica, to, message.clone());
                }
            }
            Output::Multicast(peers, message) => {
                for peer in peers {
                    self.send(replica, number(&peer), message.clone());
                }
            }
        }
    }

    /// As many others have a write on disk as its writer was told.
    fn check_acks(&self, writer: usize, receipt: &WriteReceipt) {
        // Who lost its disk or was given up has not what it once acknowledged.
        let disks = self.disks_lost + self.disks_restored + self.disks_copied;
        let lost = disks + self.counters().fenced;
        if self.harm.is_some() || receipt.acks == 0 || lost > 0 {
            return;
        }
        let others = (0..self.nodes.len()).filter(|other| *other != writer);
        let has_all = |other: &usize| {
            let vector = read(&self.nodes[*other].disk, state::vector);
            let vector = vector.expect("memory does not fail");
            let mut written = receipt.revisions.iter();
            written.all(|revision| vector.contains(revision.version.dot))
        };
        let held = others.filter(has_all).count();
        assert!(
            held >= receipt.acks,
            "invariant 1: {held} others have what {} acknowledged: {receipt:?}",
            receipt.acks
        );
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if !self.linked_from(from).contains(&to) {
            // There is no link to answer on.
            return;
        }
        let message = match self.harm {
            Some(Harm::EarlyClaims) => claimed_early(message, self.status(from).vector),
            Some(Harm::NoHorizon) => without_horizon(message),
            Some(Harm::CountedAll) => counted_all(message),
            _ => message,
        };
        let copies = match () {
            () if self.turmoil && self.random.random_bool(self.options.loss) => 0,
            () if self.turmoil && self.random.random_bool(self.options.duplication) => 2,
            () => 1,
        };
        if copies == 0 {
            self.messages_lost += 1;
        }
        for _ in 0..copies {
            let longest = u64::try_from(self.options.delay_max.as_micros()).unwrap_or(1_000);
            let delay = Duration::from_micros(self.random.random_range(100..=longest));
            let mut arrival = self.now + delay;
            if !(self.turmoil && self.options.reordering) {
                arrival = arrival.max(self.last_arrival[from][to] + Duration::from_nanos(1));
            }
            self.last_arrival[from][to] = arrival.max(self.last_arrival[from][to]);
            let message = message.clone();
            self.at(arrival, Event::Deliver { from, to, message });
        }
    }

    fn watch(&mut self, replica: usize) {
        let after = self.history.watched_to(replica);
        let items = read(&self.nodes[replica].disk, |reader| {
            state::feed_after(reader, after, usize::MAX, usize::MAX)
        });
        self.history
            .watch(replica, &items.expect("memory does not fail"));
    }

    fn time_of(&self, replica: usize) -> Now {
        let elapsed_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        let node = &self.nodes[replica];
        let offset = node.clock_offset.saturating_add(node.clock_error);
        let wall_ms = (BEGIN_MS + elapsed_ms).saturating_add_signed(offset);
        Now {
            wall_ms,
            elapsed: self.now,
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.next_event += 1;
        self.pending.insert(self.next_event, event);
        self.events.push(Reverse((when, self.next_event)));
    }

    fn after_about(&mut self, pause: Duration, event: Event) {
        let factor = self.random.random_range(0.1..2.0);
        self.at(self.now + pause.mul_f64(factor), event);
    }
}

/// The wall clock of a replica whose clock is right, in a run without a spread.
pub(crate) fn wall_ms(world: &World) -> u64 {
    let elapsed_ms = u64::try_from(world.now.as_millis()).unwrap_or(u64::MAX);
    BEGIN_MS + elapsed_ms
}

/// The name under which replicas know the replica with this number.
pub(crate) fn name(replica: usize) -> PeerId {
    PeerId::new(&format!("n{replica}"))
}

/// What was taken out of a disk.
fn exported(disk: &MemoryStorage) -> Vec<Delta> {
    let all = read(disk, storage::exported).expect("memory does not fail");
    all.into_iter().map(|one| one.delta).collect()
}

/// The replica that others know under this name.
pub(crate) fn number(name: &PeerId) -> usize {
    let number = name.as_str().strip_prefix('n');
    let number = number.and_then(|number| number.parse().ok());
    number.expect("a known peer")
}

fn mesh_of(options: &Options, replica: usize) -> Mesh {
    match options.mesh_disagreement && replica == 0 {
        true => Mesh::default(),
        false => options.mesh,
    }
}

/// Whom each replica links to.
fn links(options: &Options) -> Vec<BTreeSet<usize>> {
    let names: Vec<PeerId> = (0..options.replicas).map(name).collect();
    let links = names.iter().enumerate().map(|(replica, own)| {
        let near = mesh_of(options, replica).neighbours(own, &names);
        near.iter().map(number).collect()
    });
    links.collect()
}

/// How the collections of a run are merged.
fn policies() -> Policies {
    let policy = |merge| Policy {
        merge,
        ..Policy::default()
    };
    let named = [Merge::Lww, Merge::Fields, Merge::Counter, Merge::Set];
    let named = named.map(|merge| (merge.to_string(), policy(merge)));
    Policies {
        named: named.into(),
        other: Policy::default(),
    }
}

/// The key with this number.
pub(crate) fn key(number: usize) -> Key {
    let collection = Collection::new("users").expect("a sound name");
    Key::new(collection, &format!("k{number}")).expect("a sound name")
}

/// Dot index, vector and feed of a store say what its documents say.
fn check_tables(replica: usize, disk: &MemoryStorage) {
    let mut place = Some(Place::default());
    while let Some(from) = place {
        let checked = read(disk, |reader| indexes::check(reader, &from));
        let checked = checked.expect("memory does not fail");
        assert!(
            checked.faults.is_empty(),
            "the tables of replica {replica} contradict each other: {:?}",
            checked.faults
        );
        place = checked.next;
    }
    let unindexed = read(disk, storage::unindexed).expect("memory does not fail");
    assert_eq!(unindexed, None, "replica {replica}");
}
