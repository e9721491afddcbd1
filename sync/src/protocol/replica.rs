//! The replica: one struct, one `handle`, outputs to drain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::peers::Peer;
use super::pull::{Pulling, Serving};
use super::writes::WaitingWrites;
use super::{
    AckTarget, Condition, Config, Counters, Input, Message, Now, Operation, Output, PeerStatus,
    PullChunk, RequestId, Status, WriteReceipt, WriteRefused, WriteRequest,
};
use crate::model::{
    Change, ClockAhead, Dot, Entry, Epoch, HybridClock, Key, Origin, PeerId, ReplicaId, Resolution,
    Seq, VALUE_BYTES_MAX, Version, VersionVector, last_writer_wins,
};
use crate::storage::state::{self, Digest, FeedEnds, Header};
use crate::storage::{self, Finish, Reader, Storage, StoreError, Writer};

/// The state of one replica that is not in its store, and the part of its store
/// that it keeps at hand.
pub struct Replica {
    config: Config,
    header: Header,
    clock: HybridClock,
    vector: VersionVector,
    /// Under which origin it wrote before it was opened.
    opened_under: Origin,
    /// Origins whose part of the vector is not written yet.
    dirty: BTreeSet<Origin>,
    /// Whether the transaction under way has changed anything.
    changed: bool,
    peers: BTreeMap<PeerId, Peer>,
    pulling: Option<Pulling>,
    serving: Vec<Serving>,
    /// Own writes of the transaction under way, to be pushed.
    pushes: Vec<Change>,
    /// Peers whose own writes were taken in in the transaction under way.
    acks_due: BTreeSet<PeerId>,
    waiting: WaitingWrites,
    replies: Vec<Output>,
    messages: Vec<Output>,
    vector_due: Duration,
    /// The vector is to be told to all at the end of the transaction under way.
    vector_due_now: bool,
    next_session: u64,
    random: SplitMix64,
    counters: Counters,
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
                digest: Digest::default(),
            };
            state::set_header(writer, &header)?;
            Ok(Finish::Commit)
        })?;
        let (header, vector) = load(storage)?;
        let mut random = SplitMix64(seed);
        Ok(Self {
            opened_under: header.origin,
            config,
            clock: HybridClock::resume(header.clock),
            header,
            vector,
            dirty: BTreeSet::new(),
            changed: false,
            peers: BTreeMap::new(),
            pulling: None,
            serving: Vec::new(),
            pushes: Vec::new(),
            acks_due: BTreeSet::new(),
            waiting: WaitingWrites::default(),
            replies: Vec::new(),
            messages: Vec::new(),
            vector_due: now.elapsed,
            vector_due_now: false,
            next_session: random.next(),
            random,
            counters: Counters::default(),
        })
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
        match input {
            Input::Write(request) => self.write(now, request, writer),
            Input::LinkUp(peer) => {
                if let Some(known) = self.peer(&peer) {
                    known.linked = true;
                    known.caught_up = false;
                    self.tell_vector(&peer);
                }
                Ok(())
            }
            Input::LinkDown(peer) => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.linked = false;
                    known.caught_up = false;
                }
                self.drop_sessions(&peer);
                Ok(())
            }
            Input::Peers(peers) => {
                self.set_members(&peers);
                Ok(())
            }
            Input::Message(peer, message) => self.message(now, peer, message, writer),
            Input::Tick => {
                self.tick(now);
                Ok(())
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
        self.push_out();
        if std::mem::take(&mut self.vector_due_now) {
            // After the pushes, so that it tells of nothing that is not on its way.
            let message = Message::Vector {
                origin: self.header.origin,
                vector: self.vector.clone(),
            };
            self.messages.push(Output::Broadcast(message));
        }
        if !self.changed {
            return Ok(Finish::Discard);
        }
        for origin in &self.dirty {
            state::set_vector(writer, *origin, self.vector.of(*origin))?;
        }
        self.header.clock = self.clock.last();
        state::set_header(writer, &self.header)?;
        self.dirty.clear();
        self.changed = false;
        Ok(Finish::Commit)
    }

    /// Takes the outputs, replies first. Call it when the transaction is durable.
    pub fn drain(&mut self, now: Now) -> Vec<Output> {
        self.settle(now.elapsed);
        let mut outputs = std::mem::take(&mut self.replies);
        outputs.append(&mut self.messages);
        outputs
    }

    /// Goes back to what the store holds, after a transaction has failed. Replies and
    /// messages that it called for are dropped.
    ///
    /// # Errors
    /// [`StoreError`]; call it again before any other input.
    pub fn reload(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        let (header, vector) = load(storage)?;
        self.clock = HybridClock::resume(header.clock.max(self.clock.last()));
        self.header = header;
        self.vector = vector;
        self.dirty.clear();
        self.changed = false;
        self.pulling = None;
        self.serving.clear();
        self.pushes.clear();
        self.acks_due.clear();
        self.replies.clear();
        self.messages.clear();
        self.waiting.forget_after(self.written());
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
        pulling
            .chain(serving)
            .chain(self.waiting.next_deadline())
            .fold(self.vector_due, Duration::min)
    }

    /// The ends of its feed.
    pub fn feed(&self) -> FeedEnds {
        self.header.feed
    }

    /// The replica at this moment.
    pub fn status(&self) -> Status {
        let written = self.written();
        let peers = self.peers.iter().map(|(peer, known)| PeerStatus {
            peer: peer.clone(),
            linked: known.linked,
            heard: known.vector.is_some(),
            behind: known
                .vector
                .as_ref()
                .map_or(0, |theirs| self.vector.missing_count(theirs)),
            unacknowledged: written.saturating_sub(known.acked),
            caught_up: known.caught_up,
            last_error: known.last_error.clone(),
        });
        Status {
            origin: self.header.origin,
            written,
            feed: self.header.feed,
            digest: self.header.digest,
            vector: self.vector.clone(),
            peers: peers.collect(),
            counters: self.counters,
        }
    }

    /// How many writes it has made under its present origin.
    fn written(&self) -> Seq {
        self.vector
            .of(self.header.origin)
            .map_or(0, |own| own.highest())
    }

    /// Notes who the peers are; forgets all others.
    fn set_members(&mut self, members: &[PeerId]) {
        let gone: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|peer| !members.contains(peer))
            .cloned()
            .collect();
        for peer in gone {
            self.peers.remove(&peer);
            self.drop_sessions(&peer);
        }
        for member in members {
            if let Some(known) = self.peer(member) {
                known.member = true;
            }
        }
    }

    /// The record of a peer, begun where there is none; `None` if there are too many.
    fn peer(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        if !self.peers.contains_key(peer) && self.peers.len() >= self.config.peers_max {
            return None;
        }
        Some(self.peers.entry(peer.clone()).or_default())
    }
}

/// Writes of clients.
impl Replica {
    fn write(
        &mut self,
        now: Now,
        request: WriteRequest,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let id = request.id;
        if let Some(refused) = self.check(&request, writer)? {
            self.replies.push(Output::Reply(id, Err(refused)));
            return Ok(());
        }
        let mut versions = Vec::with_capacity(request.operations.len());
        for Operation { key, value, .. } in request.operations {
            versions.push(self.put(now, key, value, writer)?);
            self.counters.written += 1;
        }
        let needed = match request.acks {
            AckTarget::Local => 0,
            AckTarget::Peers(count) => count,
            AckTarget::All => self.peers.values().filter(|peer| peer.member).count(),
        };
        let seq = self.written();
        let deadline = now.elapsed.saturating_add(request.acks_timeout);
        if needed == 0 {
            let receipt = WriteReceipt {
                versions,
                acks: 0,
                complete: true,
            };
            self.replies.push(Output::Reply(id, Ok(receipt)));
        } else {
            self.waiting.push(id, versions, seq, needed, deadline);
        }
        Ok(())
    }

    /// Writes one key under the next number of this replica's origin.
    fn put(
        &mut self,
        now: Now,
        key: Key,
        value: Option<Bytes>,
        writer: &mut dyn Writer,
    ) -> Result<Version, StoreError> {
        if self.header.origin == self.opened_under {
            self.begin_epoch(now);
        }
        let dot = Dot {
            origin: self.header.origin,
            seq: self.written() + 1,
        };
        let version = Version {
            clock: self.clock.tick(now.wall_ms),
            dot,
        };
        let change = Change {
            key,
            entry: Entry { version, value },
        };
        // The clock has observed every version in the store, so this one is newer.
        let current = state::entry(writer, &change.key)?;
        state::apply(writer, &mut self.header, &change, current)?;
        self.note(dot);
        self.pushes.push(change);
        Ok(version)
    }

    /// Why a write cannot be done, if it cannot.
    fn check(
        &self,
        request: &WriteRequest,
        reader: &dyn Reader,
    ) -> Result<Option<WriteRefused>, StoreError> {
        let operations = &request.operations;
        let most = self.config.operations_max;
        if operations.is_empty() {
            return Ok(Some(WriteRefused::Empty));
        }
        if operations.len() > most {
            return Ok(Some(WriteRefused::TooManyOperations {
                count: operations.len(),
                most,
            }));
        }
        let size = |operation: &Operation| operation.value.as_ref().map_or(0, |value| value.len());
        if let Some(bytes) = operations
            .iter()
            .map(size)
            .find(|bytes| *bytes > VALUE_BYTES_MAX)
        {
            return Ok(Some(WriteRefused::DocumentTooLarge(bytes)));
        }
        let bytes = operations
            .iter()
            .map(|one| one.key.name().len() + size(one))
            .sum();
        let most = self.config.write_bytes_max;
        if bytes > most {
            return Ok(Some(WriteRefused::TooLarge { bytes, most }));
        }
        if request.acks != AckTarget::Local && self.waiting.len() >= self.config.waiting_max {
            return Ok(Some(WriteRefused::TooManyWaiting));
        }
        for operation in operations {
            if let Some(refused) = check_condition(operation, reader)? {
                return Ok(Some(refused));
            }
        }
        Ok(None)
    }

    /// Notes that a write is in, on the version vector.
    fn note(&mut self, dot: Dot) {
        self.vector.insert(dot);
        self.dirty.insert(dot.origin);
        self.changed = true;
    }

    /// Makes the pushes of this transaction's own writes.
    fn push_out(&mut self) {
        let mut changes = Vec::new();
        let mut bytes = 0;
        for change in std::mem::take(&mut self.pushes) {
            bytes += change.weight();
            changes.push(change);
            if bytes >= self.config.push_bytes {
                let changes = std::mem::take(&mut changes);
                self.messages
                    .push(Output::Broadcast(Message::Push { changes }));
                bytes = 0;
            }
        }
        if !changes.is_empty() {
            self.messages
                .push(Output::Broadcast(Message::Push { changes }));
        }
    }

    fn settle(&mut self, elapsed: Duration) {
        if self.waiting.len() > 0 {
            let members = self.peers.values().filter(|peer| peer.member);
            let acked: Vec<Seq> = members.map(|peer| peer.acked).collect();
            self.waiting.settle(elapsed, &acked, &mut self.replies);
        }
    }
}

/// Messages of peers.
impl Replica {
    fn message(
        &mut self,
        now: Now,
        peer: PeerId,
        message: Message,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.peer(&peer).is_none() {
            return Ok(());
        }
        match message {
            Message::Push { changes } => self.pushed(now, peer, changes, writer)?,
            Message::Vector { origin, vector } => self.told_vector(now, peer, origin, vector),
            Message::Ack { origin, upto } => self.acknowledged(&peer, origin, upto),
            Message::PullRequest { session, vector } => {
                self.serve_pull(now, peer, session, vector, writer)?;
            }
            Message::PullChunk(chunk) => self.pulled(now, peer, chunk, writer)?,
            Message::PullMore { session } => self.serve_more(now, &peer, session, writer)?,
            Message::Busy { session } => {
                if self
                    .pulling
                    .as_ref()
                    .is_some_and(|pull| pull.session == session)
                {
                    self.abandon_pull(now);
                }
            }
        }
        Ok(())
    }

    fn pushed(
        &mut self,
        now: Now,
        peer: PeerId,
        changes: Vec<Change>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if let Err(reason) = self.check_clocks(now, &changes) {
            self.refuse(peer, reason);
            return Ok(());
        }
        let origin = changes
            .first()
            .map(|change| change.entry.version.dot.origin);
        for change in changes {
            self.take_in(now, change, writer)?;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.origin = origin.or(known.origin);
        }
        let gap = origin
            .and_then(|origin| self.vector.of(origin))
            .is_some_and(|set| set.contiguous() < set.highest());
        if gap {
            self.begin_pull(now, &peer);
        }
        self.acks_due.insert(peer);
        Ok(())
    }

    fn told_vector(&mut self, now: Now, peer: PeerId, origin: Origin, vector: VersionVector) {
        self.check_epoch(now, &vector);
        let behind = !self.vector.covers(&vector);
        let acked = vector
            .of(self.header.origin)
            .map_or(0, |own| own.contiguous());
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.origin = Some(origin);
        known.acked = acked;
        known.vector = Some(vector);
        if !behind {
            known.behind_in_a_row = 0;
            known.caught_up = true;
            known.last_error = None;
            return;
        }
        known.behind_in_a_row += 1;
        // What it has may be on its way here, from it or from the writers; it is asked
        // for when it has not come by the next time. A link that has just come up has
        // nothing on its way: what was written before is asked for at once.
        if known.behind_in_a_row >= 2 || !known.caught_up {
            self.begin_pull(now, &peer);
        }
    }

    fn acknowledged(&mut self, peer: &PeerId, origin: Origin, upto: Seq) {
        if origin == self.header.origin
            && upto <= self.written()
            && let Some(known) = self.peers.get_mut(peer)
        {
            known.acked = known.acked.max(upto);
        }
    }

    /// Takes in another replica's change: keeps it if it is the newest of its key,
    /// and in any case notes that it is in.
    fn take_in(
        &mut self,
        now: Now,
        change: Change,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let version = change.entry.version;
        if version.dot.origin == self.header.origin && version.dot.seq > self.written() {
            self.begin_epoch(now);
        }
        if self.vector.contains(version.dot) {
            self.counters.repeated += 1;
            return Ok(());
        }
        // Checked for the whole message before; the bound does not matter here.
        let _ = self.clock.observe(version.clock, now.wall_ms, u64::MAX);
        let current = state::entry(writer, &change.key)?;
        let resolution = last_writer_wins(
            current.as_ref().map(|record| &record.entry.version),
            &version,
        );
        match resolution {
            Resolution::Replace => {
                state::apply(writer, &mut self.header, &change, current)?;
                self.counters.taken_in += 1;
            }
            Resolution::Keep => self.counters.superseded += 1,
        }
        self.note(version.dot);
        Ok(())
    }

    fn check_clocks(&self, now: Now, changes: &[Change]) -> Result<(), ClockAhead> {
        let newest = changes
            .iter()
            .map(|change| change.entry.version.clock)
            .max();
        newest.map_or(Ok(()), |newest| {
            self.clock
                .clone()
                .observe(newest, now.wall_ms, self.config.clock_ahead_max_ms)
        })
    }

    fn refuse(&mut self, peer: PeerId, reason: ClockAhead) {
        self.counters.clocks_refused += 1;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.last_error = Some(reason.to_string());
        }
        self.messages.push(Output::Refused { peer, reason });
    }

    /// A peer that has more of our writes than we have made got them from another
    /// process that writes as this one.
    fn check_epoch(&mut self, now: Now, theirs: &VersionVector) {
        let known = theirs.of(self.header.origin).map_or(0, |own| own.highest());
        if known > self.written() {
            self.begin_epoch(now);
        }
    }

    /// Goes on under a new origin.
    ///
    /// Every life of a replica begins one with its first write (DESIGN §6, trap (b)): a
    /// store cannot tell by itself whether it was restored from an old copy, and the
    /// peers that could tell may be out of reach. Whatever was written under the old
    /// origins, here or in a state of this store that was lost, is then got like
    /// anybody's writes.
    fn begin_epoch(&mut self, now: Now) {
        let random = u16::try_from(self.random.next() >> 48).unwrap_or(0);
        let Origin { replica, epoch } = self.header.origin;
        self.header.origin = Origin {
            replica,
            epoch: epoch.next(now.wall_ms, random),
        };
        self.changed = true;
        self.counters.epochs_begun += 1;
        self.waiting.expire();
        for known in self.peers.values_mut() {
            known.acked = 0;
        }
    }
}

/// Pulls, made and served.
impl Replica {
    fn begin_pull(&mut self, now: Now, peer: &PeerId) {
        if self.pulling.is_some() {
            return;
        }
        match self.peers.get(peer) {
            Some(known) if known.linked && known.pull_after <= now.elapsed => {}
            _ => return,
        }
        let session = self.next_session;
        self.next_session = session.wrapping_add(1);
        let deadline = now.elapsed + self.config.pull_timeout;
        self.pulling = Some(Pulling {
            peer: peer.clone(),
            session,
            next_index: 0,
            deadline,
        });
        self.counters.pulls_begun += 1;
        let request = Message::PullRequest {
            session,
            vector: self.vector.clone(),
        };
        self.messages.push(Output::Send(peer.clone(), request));
    }

    fn abandon_pull(&mut self, now: Now) {
        if let Some(pull) = self.pulling.take() {
            self.counters.pulls_abandoned += 1;
            if let Some(known) = self.peers.get_mut(&pull.peer) {
                known.pull_after = now.elapsed + self.config.pull_backoff;
            }
        }
    }

    fn pulled(
        &mut self,
        now: Now,
        peer: PeerId,
        chunk: PullChunk,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if let Err(reason) = self.check_clocks(now, &chunk.changes) {
            self.abandon_pull(now);
            self.refuse(peer, reason);
            return Ok(());
        }
        // The changes are good whatever became of the session: on a slow link a session
        // that was given up has brought the next one forward. Only its claim needs all.
        for change in chunk.changes {
            self.take_in(now, change, writer)?;
        }
        match &self.pulling {
            Some(pull) if pull.peer == peer && pull.session == chunk.session => {
                if pull.next_index != chunk.index {
                    self.abandon_pull(now);
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        match chunk.claim {
            Some(claim) => {
                self.check_epoch(now, &claim);
                let changed = self.vector.merge(&claim);
                self.changed |= !changed.is_empty();
                self.dirty.extend(changed);
                self.pulling = None;
                self.counters.pulls_completed += 1;
                let next = self.caught_up_with(&peer);
                if let Some(next) = next {
                    self.begin_pull(now, &next);
                }
            }
            None => {
                let session = chunk.session;
                if let Some(pull) = &mut self.pulling {
                    pull.next_index += 1;
                    pull.deadline = now.elapsed + self.config.pull_timeout;
                }
                self.messages
                    .push(Output::Send(peer, Message::PullMore { session }));
            }
        }
        Ok(())
    }

    /// Notes a completed pull, tells the peer what we have now, and names a peer from
    /// which more is to be had.
    fn caught_up_with(&mut self, peer: &PeerId) -> Option<PeerId> {
        for known in self.peers.values_mut() {
            let covered = known
                .vector
                .as_ref()
                .is_some_and(|theirs| self.vector.covers(theirs));
            if covered {
                known.caught_up = true;
                known.behind_in_a_row = 0;
            }
        }
        self.tell_vector(peer);
        let lacks = |known: &Peer| known.linked && !known.caught_up && known.vector.is_some();
        self.peers
            .iter()
            .find(|(_, known)| lacks(known))
            .map(|(peer, _)| peer.clone())
    }

    fn serve_pull(
        &mut self,
        now: Now,
        peer: PeerId,
        session: u64,
        asker: VersionVector,
        reader: &dyn Reader,
    ) -> Result<(), StoreError> {
        self.check_epoch(now, &asker);
        self.serving.retain(|pull| pull.peer != peer);
        if self.serving.len() >= self.config.pulls_served_max {
            self.counters.pulls_refused += 1;
            self.messages
                .push(Output::Send(peer, Message::Busy { session }));
            return Ok(());
        }
        let deadline = now.elapsed + self.config.pull_timeout;
        self.serving.push(Serving::begin(
            peer.clone(),
            session,
            asker,
            &self.vector,
            deadline,
        ));
        for _ in 0..self.config.pull_window {
            self.serve_more(now, &peer, session, reader)?;
        }
        Ok(())
    }

    fn serve_more(
        &mut self,
        now: Now,
        peer: &PeerId,
        session: u64,
        reader: &dyn Reader,
    ) -> Result<(), StoreError> {
        let found = self
            .serving
            .iter()
            .position(|pull| pull.peer == *peer && pull.session == session);
        let Some(at) = found else { return Ok(()) };
        let pull = &mut self.serving[at];
        pull.deadline = now.elapsed + self.config.pull_timeout;
        let chunk = pull.next_chunk(reader, &self.vector, &self.config)?;
        if chunk.claim.is_some() {
            self.serving.swap_remove(at);
            self.counters.pulls_served += 1;
        }
        self.messages
            .push(Output::Send(peer.clone(), Message::PullChunk(chunk)));
        Ok(())
    }

    fn drop_sessions(&mut self, peer: &PeerId) {
        self.serving.retain(|pull| pull.peer != *peer);
        if self.pulling.as_ref().is_some_and(|pull| pull.peer == *peer) {
            self.pulling = None;
            self.counters.pulls_abandoned += 1;
        }
    }

    fn tell_vector(&mut self, peer: &PeerId) {
        let message = Message::Vector {
            origin: self.header.origin,
            vector: self.vector.clone(),
        };
        self.messages.push(Output::Send(peer.clone(), message));
    }

    fn tick(&mut self, now: Now) {
        if self
            .pulling
            .as_ref()
            .is_some_and(|pull| pull.deadline <= now.elapsed)
        {
            self.abandon_pull(now);
        }
        self.serving.retain(|pull| pull.deadline > now.elapsed);
        if self.vector_due <= now.elapsed {
            let fifth = self.config.vector_interval / 5;
            let jitter = fifth.mul_f64(2.0 * self.random.fraction());
            self.vector_due = now.elapsed + self.config.vector_interval - fifth + jitter;
            self.vector_due_now = self.peers.values().any(|known| known.linked);
        }
    }
}

/// Handles everything that has arrived in one transaction, and returns what is to
/// be done now that it is durable.
///
/// # Errors
/// [`StoreError`]: nothing was changed. The writes among `inputs` have failed and
/// must be answered so; other inputs are made good by the protocol.
pub fn commit(
    replica: &mut Replica,
    storage: &dyn Storage,
    now: Now,
    inputs: Vec<Input>,
) -> Result<Vec<Output>, StoreError> {
    let mut inputs = Some(inputs);
    let outcome = storage.write(&mut |writer| {
        for input in inputs.take().into_iter().flatten() {
            replica.handle(now, input, writer)?;
        }
        replica.flush(writer)
    });
    match outcome {
        Ok(()) => Ok(replica.drain(now)),
        Err(error) => {
            replica.reload(storage)?;
            Err(error)
        }
    }
}

/// The writes among inputs, to answer them if [`commit`] fails.
pub fn write_requests(inputs: &[Input]) -> Vec<RequestId> {
    let id = |input: &Input| match input {
        Input::Write(request) => Some(request.id),
        _ => None,
    };
    inputs.iter().filter_map(id).collect()
}

fn load(storage: &dyn Storage) -> Result<(Header, VersionVector), StoreError> {
    storage::read(storage, |reader| {
        let header = state::header(reader)?.ok_or(StoreError::Damaged {
            table: storage::Table::Meta,
            detail: "the store has no origin",
        })?;
        Ok((header, state::vector(reader)?))
    })
}

fn check_condition(
    operation: &Operation,
    reader: &dyn Reader,
) -> Result<Option<WriteRefused>, StoreError> {
    if operation.condition == Condition::Always && operation.value.is_some() {
        return Ok(None);
    }
    let key: &Key = &operation.key;
    let live = state::entry(reader, key)?.map(|record| record.entry);
    let current = live
        .filter(|entry| !entry.is_tombstone())
        .map(|entry| entry.version);
    let holds = match operation.condition {
        Condition::Always => true,
        Condition::Is(version) => current == Some(version),
        Condition::Exists => current.is_some(),
        Condition::Absent => current.is_none(),
    };
    Ok(if !holds {
        Some(WriteRefused::ConditionFailed {
            key: key.clone(),
            current,
        })
    } else if operation.value.is_none() && current.is_none() {
        Some(WriteRefused::NotFound(key.clone()))
    } else {
        None
    })
}

/// A small random source (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014): for jitter, not for secrets.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0.0..1.0`.
    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}
