//! The replica: one struct, one `handle`, outputs to drain.
//!
//! Here is its life: open, take in, end a transaction, give out, go back. What it does
//! with each kind of input is beside: `client_writes.rs`, `exchange.rs` (what peers
//! say), `sessions.rs` (pulls), `mending.rs` (what puts the store right), `epoch.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ahead::AheadRecord;
use super::expiry::Expiries;
use super::fill::ServingSnapshot;
use super::indexing::Indexing;
use super::marks::Marks;
use super::mending::Sum;
use super::peers::{Peer, PeerStatus};
use super::pull::{Pulling, Serving};
use super::random::SplitMix64;
use super::settle::Settled;
use super::tree::Tree;
use super::waiting::WaitingWrites;
use super::{Config, Counters, Input, Message, Now, Output, Status};
use crate::model::{
    Delta, Dot, Epoch, HybridClock, Key, Origin, PeerId, ReplicaId, Seq, VersionVector,
};
use crate::storage::records::EntryRecord;
use crate::storage::state::{self, Digest, FeedEnds, Header};
use crate::storage::{self, Finish, Storage, StoreError, Writer, count_past, expiries};

/// Beyond a full mesh, how a replica stands is repeated once in `standing_every` rounds for
/// so many lines of its roster.
const STANDING_LINES: u32 = 16;

/// For how long pushes wait until they are durable, at most.
const EARLY_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The state of one replica that is not in its store, and the part of its store
/// that it keeps at hand.
pub struct Replica {
    pub(super) config: Config,
    pub(super) header: Header,
    pub(super) clock: HybridClock,
    pub(super) vector: VersionVector,
    pub(super) ahead: AheadRecord,
    pub(super) expiries: Expiries,
    /// Under which origin it wrote before it was opened, or before a failure after which
    /// it must not write under that origin again.
    pub(super) opened_under: Origin,
    /// The latest epoch that it has begun, whether or not that became durable.
    pub(super) latest_epoch: Epoch,
    /// Origins whose part of the vector is not written yet.
    pub(super) dirty: BTreeSet<Origin>,
    /// Origins whose part of the vector was written since the driver last asked.
    pub(super) advanced: BTreeSet<Origin>,
    /// When it made its writes.
    pub(super) marks: Marks,
    /// Whether the transaction under way has changed anything.
    pub(super) changed: bool,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) pulling: Option<Pulling>,
    pub(super) serving: Vec<Serving>,
    pub(super) snapshots: Vec<ServingSnapshot>,
    pub(super) settled: Settled,
    pub(super) indexing: Option<Indexing>,
    /// The time, as of the latest input.
    pub(super) now: Now,
    vectors_told: u32,
    /// What the transaction under way has changed, for watchers.
    pub(super) changes: Vec<(Key, EntryRecord)>,
    /// Whether that is of use to anybody.
    collects_changes: bool,
    /// Own writes of the transaction under way, to be pushed.
    pub(super) pushes: Vec<Delta>,
    /// Peers whose own writes were taken in in the transaction under way.
    pub(super) acks_due: BTreeSet<PeerId>,
    pub(super) waiting: WaitingWrites,
    pub(super) tree: Tree,
    /// A sum over all documents that is under way.
    pub(super) sum: Option<Sum>,
    /// The pushes of the transaction under way.
    pub(super) early: Vec<Output>,
    /// They were given out, and it is not durable yet.
    told_early: bool,
    /// How long pushes waited after the last loss of such a transaction ...
    early_pause: Duration,
    /// ... and until when.
    early_from: Duration,
    pub(super) replies: Vec<Output>,
    pub(super) messages: Vec<Output>,
    pub(super) vector_due: Duration,
    /// The vector is to be told to all at the end of the transaction under way.
    pub(super) vector_due_now: bool,
    pub(super) next_session: u64,
    pub(super) random: SplitMix64,
    pub(super) counters: Counters,
}

impl Replica {
    /// Opens the replica of a store; a store that was never begun gets `replica` as
    /// its identity. `seed` feeds the jitter of timers and the numbers of sessions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        storage: &dyn Storage,
        config: Config,
        replica: ReplicaId,
        now: Now,
        seed: u64,
    ) -> Result<Self, StoreError> {
        storage.write(&mut |writer| {
            if state::header(writer)?.is_some() {
                return Ok(Finish::Discard);
            }
            let origin = Origin {
                replica,
                epoch: Epoch(0).next(now.wall_ms, 0),
            };
            let header = Header {
                origin,
                clock: HybridClock::default().last(),
                feed: FeedEnds::default(),
                bounds: config.feed,
                digest: Digest::default(),
            };
            state::set_header(writer, &header)?;
            Ok(Finish::Commit)
        })?;
        count_past(storage)?;
        expiries::complete(storage)?;
        let Loaded {
            header,
            vector,
            ahead,
            expiries,
            settled,
        } = load(storage, &config)?;
        let mut random = SplitMix64(seed);
        let mut replica = Self {
            opened_under: header.origin,
            latest_epoch: header.origin.epoch,
            config,
            clock: HybridClock::resume(header.clock),
            header,
            vector,
            ahead,
            expiries,
            dirty: BTreeSet::new(),
            advanced: BTreeSet::new(),
            marks: Marks::default(),
            changed: false,
            peers: BTreeMap::new(),
            pulling: None,
            serving: Vec::new(),
            snapshots: Vec::new(),
            settled,
            indexing: None,
            now,
            vectors_told: 0,
            changes: Vec::new(),
            collects_changes: true,
            pushes: Vec::new(),
            acks_due: BTreeSet::new(),
            waiting: WaitingWrites::default(),
            tree: Tree::new(random.next()),
            sum: None,
            early: Vec::new(),
            told_early: false,
            early_pause: Duration::ZERO,
            early_from: Duration::ZERO,
            replies: Vec::new(),
            messages: Vec::new(),
            vector_due: now.elapsed,
            vector_due_now: false,
            next_session: random.next(),
            random,
            counters: Counters::default(),
        };
        replica.stay_in_roster(now);
        Ok(replica)
    }

    /// Takes in one input. What it changes is in `writer`'s transaction, which
    /// [`Replica::flush`] must end.
    ///
    /// # Errors
    /// [`StoreError`]: the transaction is lost, and [`Replica::reload`] must follow.
    pub fn handle(
        &mut self,
        now: Now,
        input: Input,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        self.now = now;
        self.tree.at(now);
        match input {
            Input::Write(request) => self.write(now, request, writer),
            Input::TakeIn(part) => self.take_back(now, part, writer),
            Input::LinkUp(peer) => {
                if let Some(known) = self.peer(&peer) {
                    known.linked = true;
                    known.caught_up = false;
                    known.stood = None;
                    known.told_at = None;
                    self.begin_branch(&peer);
                    self.send_standing(now, &peer);
                }
                Ok(())
            }
            Input::LinkDown(peer) => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.linked = false;
                    known.caught_up = false;
                }
                self.drop_sessions(&peer);
                self.end_branch(&peer);
                Ok(())
            }
            Input::Peers(peers) => {
                self.set_members(&peers);
                Ok(())
            }
            Input::Message(peer, message) => self.message(now, peer, message, writer),
            Input::Mend(id, work) => self.mend(now, id, work, writer),
            Input::Decide(decision) => self.decide(now, decision, writer),
            Input::GiveUp(node) => {
                self.give_up(&node);
                Ok(())
            }
            Input::Tick => {
                self.tick(now);
                self.expire(now, writer)?;
                self.settle_round(now, writer)
            }
            Input::Settle => {
                self.waiting.expire();
                Ok(())
            }
        }
    }

    /// Ends a transaction: writes what changed of vector and header, and makes the
    /// pushes and acknowledgements that the transaction calls for.
    ///
    /// # Errors
    /// [`StoreError`]: as [`Replica::handle`].
    pub fn flush(&mut self, writer: &mut dyn Writer) -> Result<Finish, StoreError> {
        for (peer, message) in std::mem::take(&mut self.acks_due)
            .into_iter()
            .filter_map(|peer| {
                let origin = self.peers.get(&peer)?.origin?;
                let upto = self.vector.of(origin)?.contiguous();
                Some((peer, Message::Ack { origin, upto }))
            })
        {
            self.messages.push(Output::Send(peer, message));
        }
        if self.settled.dirty {
            self.changed = true;
        }
        match self.tree.on {
            true => self.pass_on(),
            false => self.push_out(),
        }
        if std::mem::take(&mut self.settled.tell) {
            self.broadcast_standing(self.now);
        }
        if std::mem::take(&mut self.vector_due_now) {
            // After the pushes, so that it tells of nothing that is not on its way.
            let message = Message::Vector {
                origin: self.header.origin,
                vector: self.vector.clone(),
            };
            self.messages.push(Output::Broadcast(message));
        }
        self.tell_neighbours();
        self.tell_census();
        if !self.changed {
            return Ok(Finish::Discard);
        }
        for origin in &self.dirty {
            state::set_vector(writer, *origin, self.vector.of(*origin))?;
        }
        self.ahead.save(writer)?;
        if std::mem::take(&mut self.settled.dirty) {
            storage::set_settlement(writer, &self.settled.stored())?;
        }
        self.header.clock = self.clock.last();
        state::set_header(writer, &self.header)?;
        self.advanced.append(&mut self.dirty);
        self.changed = false;
        Ok(Finish::Commit)
    }

    /// Takes the outputs that need not wait until the transaction is durable: the pushes.
    /// Call it after [`Replica::flush`], when the transaction can fail no more but by a loss
    /// of power or by a disk that breaks.
    ///
    /// Whoever gets a push concludes nothing from it about its sender: it is a write, with
    /// all that there is to know of it. So peers can bring it to their disks while this
    /// replica does (as Raft's leaders may: Ongaro, "Consensus: Bridging Theory and
    /// Practice", 2014, 10.2.1). If it is lost here all the same, peers have a write of this
    /// replica that it does not have itself. It comes back like anybody's, as long as its
    /// number is never used again: that is why the replica then goes on under a new origin
    /// ([`Replica::reload`]), as it does in every new life.
    /// After such a loss they wait for a while ([`Config::early_pause`]).
    pub fn take_early(&mut self) -> Vec<Output> {
        if self.now.elapsed < self.early_from {
            return Vec::new();
        }
        self.told_early |= !self.early.is_empty();
        std::mem::take(&mut self.early)
    }

    /// Takes the other outputs, replies first. Call it when the transaction is durable.
    pub fn drain(&mut self, now: Now) -> Vec<Output> {
        self.settle(now.elapsed);
        self.tree.settle(self.config.recent_bytes);
        self.told_early = false;
        let mut outputs = std::mem::take(&mut self.replies);
        outputs.append(&mut self.early);
        outputs.append(&mut self.messages);
        outputs
    }

    /// Whether the next transactions collect what they change. Where nobody watches, that
    /// would only cost time: of a node that takes over a snapshot, a twentieth.
    pub fn collect_changes(&mut self, collects: bool) {
        self.collects_changes = collects;
    }

    pub(super) fn note_change(&mut self, key: Key, record: EntryRecord) {
        if self.collects_changes {
            self.changes.push((key, record));
        }
    }

    /// Makes the next pushes wait until they are durable.
    fn pause_early(&mut self) {
        let first = self.config.early_pause;
        let good_for = self.now.elapsed.saturating_sub(self.early_from);
        self.early_pause = match good_for < EARLY_PAUSE_MAX {
            true => (2 * self.early_pause).clamp(first, first.max(EARLY_PAUSE_MAX)),
            false => first,
        };
        self.early_from = self.now.elapsed + self.early_pause;
    }

    /// Takes what was changed since the last call, as far as it was collected: the end of the
    /// feed, in order. Call it when the transaction is durable.
    pub fn take_changes(&mut self) -> Vec<(Key, EntryRecord)> {
        std::mem::take(&mut self.changes)
    }

    /// Goes back to what the store holds, after a transaction has failed. Replies and
    /// messages that it called for are dropped; where writes of it have been pushed already,
    /// the next one will be made under a new origin.
    ///
    /// # Errors
    /// [`StoreError`]; call it again before any other input.
    pub fn reload(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        let Loaded {
            header,
            vector,
            ahead,
            expiries,
            settled,
        } = load(storage, &self.config)?;
        self.clock = HybridClock::resume(header.clock.max(self.clock.last()));
        self.header = header;
        if std::mem::take(&mut self.told_early) {
            self.opened_under = self.header.origin;
            self.pause_early();
        }
        self.vector = vector;
        self.ahead = ahead;
        let before = std::mem::take(&mut self.settled);
        self.settled = settled.after_failure(before, self.now);
        self.look_for_horizon_everywhere();
        self.stay_in_roster(self.now);
        self.expiries = expiries.after_failure(self.expiries);
        self.dirty.clear();
        self.changed = false;
        self.pulling = None;
        self.serving.clear();
        self.snapshots.clear();
        self.indexing = None;
        self.changes.clear();
        self.pushes.clear();
        self.tree.forget();
        self.acks_due.clear();
        self.sum = None;
        self.early.clear();
        self.replies.clear();
        self.messages.clear();
        self.waiting.forget_lost(&self.vector);
        self.vector_due_now = false;
        for known in self.peers.values_mut() {
            // It may have been concluded from what was lost.
            known.caught_up = false;
        }
        Ok(())
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Duration {
        let pulling = self.pulling.iter().map(|pull| pull.deadline);
        let serving = self.serving.iter().map(|pull| pull.deadline);
        let snapshots = self.snapshots.iter().map(|one| one.deadline);
        pulling
            .chain(serving)
            .chain(snapshots)
            .chain([self.settle_due()])
            .chain(self.waiting.next_deadline())
            .chain(self.expiries.deadline())
            .chain(self.tree.deadline())
            .fold(self.vector_due, Duration::min)
    }

    /// The ends of its feed.
    pub fn feed(&self) -> FeedEnds {
        self.header.feed
    }

    /// Of each origin of which anything was taken in since the last call: up to where
    /// all of it is in. Call it when the transaction is durable.
    pub fn take_advanced(&mut self) -> Vec<Dot> {
        let origins = std::mem::take(&mut self.advanced).into_iter();
        let dot = |origin| {
            let seq = self.vector.of(origin)?.contiguous();
            Some(Dot { origin, seq })
        };
        origins.filter_map(dot).collect()
    }

    /// The replica at this moment.
    pub fn status(&self) -> Status {
        let written = self.written();
        let peers = self.peers.iter();
        let peers = peers.map(|(peer, known)| PeerStatus {
            trust: self.trust_in(known),
            ..known.status(peer, &self.vector, written, &self.marks)
        });
        Status {
            origin: self.header.origin,
            written,
            feed: self.header.feed,
            digest: self.header.digest,
            vector: self.vector.clone(),
            peers: peers.collect(),
            dated_ahead: self.ahead.list(),
            floor: self.settled.floor,
            roster: self.settled.roster.values().cloned().collect(),
            filling: self.settled.fill.is_some(),
            counters: self.counters,
        }
    }

    /// How many writes it has made under its present origin.
    pub(super) fn written(&self) -> Seq {
        self.vector
            .of(self.header.origin)
            .map_or(0, |own| own.highest())
    }

    /// Notes who the peers are; forgets all others.
    pub(super) fn set_members(&mut self, members: &[PeerId]) {
        let named: BTreeSet<&PeerId> = members.iter().collect();
        let gone: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|peer| !named.contains(peer))
            .cloned()
            .collect();
        for peer in gone {
            self.peers.remove(&peer);
            self.drop_sessions(&peer);
            self.end_branch(&peer);
        }
        for member in members {
            if let Some(known) = self.peer(member) {
                known.member = true;
            }
        }
        self.set_overlay(members);
    }

    /// The record of a peer, begun where there is none; `None` if there are too many.
    pub(super) fn peer(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        if !self.peers.contains_key(peer) && self.peers.len() >= self.config.peers_max {
            return None;
        }
        Some(self.peers.entry(peer.clone()).or_default())
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.expire_dates(now);
        if self
            .pulling
            .as_ref()
            .is_some_and(|pull| pull.deadline <= now.elapsed)
        {
            self.abandon_pull(now);
        }
        self.serving.retain(|pull| pull.deadline > now.elapsed);
        self.snapshots.retain(|one| one.deadline > now.elapsed);
        if self.vector_due <= now.elapsed {
            let fifth = self.config.vector_interval / 5;
            let jitter = fifth.mul_f64(2.0 * self.random.fraction());
            self.vector_due = now.elapsed + self.config.vector_interval - fifth + jitter;
            let linked = self.peers.values().any(|known| known.linked);
            self.vectors_told = self.vectors_told.wrapping_add(1);
            let every = self.config.standing_every.max(1);
            let standing = self.vectors_told.is_multiple_of(every);
            self.ask_how_they_stand(now);
            match self.tree.on {
                true => {
                    self.tell_all();
                    // Its length grows with the cluster, so it goes to one at a time, and the
                    // more seldom.
                    let lines = u32::try_from(self.settled.roster.len()).unwrap_or(u32::MAX);
                    let every = every.saturating_mul(lines.div_ceil(STANDING_LINES).max(1));
                    if self.vectors_told.is_multiple_of(every) {
                        self.repeat_standing(now);
                    }
                }
                false => {
                    self.settled.tell |= linked && standing;
                    self.vector_due_now = linked && !standing;
                }
            }
        }
        self.tend_tree(now);
    }
}

/// What a replica keeps at hand of its store.
struct Loaded {
    header: Header,
    vector: VersionVector,
    ahead: AheadRecord,
    expiries: Expiries,
    settled: Settled,
}

fn load(storage: &dyn Storage, config: &Config) -> Result<Loaded, StoreError> {
    storage::read(storage, |reader| {
        let header = state::header(reader)?.ok_or(StoreError::Damaged {
            table: storage::Table::Meta,
            detail: "the store has no origin",
        })?;
        Ok(Loaded {
            header: Header {
                bounds: config.feed,
                ..header
            },
            vector: state::vector(reader)?,
            ahead: AheadRecord::load(reader)?,
            expiries: Expiries::load(reader)?,
            settled: Settled::load(storage::settlement(reader)?),
        })
    })
}
