//! Snapshots: taking over all that another replica has, in the order of the keys.
//!
//! Who has little of what there is gets it so, because a pull in the order of the writes
//! would look up every document by itself; and who may hold what others have deleted and
//! forgotten since (`settle.rs`) gets it so, because a snapshot tells what is *not* there.
//!
//! The server reads range after range of its keys and sends all documents of it, with its
//! version vector at that moment. The asker puts them in the place of what it has in that
//! range. Of its own it keeps what the server has not seen: a write that the server's vector
//! contains is in the server's document or was beaten there, and one that it does not
//! contain is merged as ever. (This is how sets with a causal context merge: Almeida, Shoker,
//! Baquero, "Delta State Replicated Data Types", 2018.) One exception: a replica that was
//! given up, or lags behind the horizon, may have writes whose deletion nobody remembers any
//! more. Those that are dated up to the server's floor are taken out, and kept aside
//! ([`exported`](crate::storage::exported)) for people to decide about; and so are those that
//! went on with a count that others know of, since a reset of it may be forgotten, too, with
//! what else of the document is of that past.
//!
//! At the end the asker has at least what the server had when it began, so that it may claim
//! the vector of that moment, once all of it is in the dot index (`indexing.rs`); what came
//! meanwhile it pulls. A snapshot that broke off is gone on with, at this server or another;
//! then what all of them had is claimed. And so is every other write that a document holds:
//! one that came while the snapshot was served, that the one server had and the next has not,
//! or that a server held in the middle of a snapshot of its own. Somebody else may claim it
//! later, and tell of it; but those that did may be gone, and then some would show what it
//! says and others never hear of it.
//!
//! A document whose writes were merged can be larger than a frame. It comes in pieces: chunks
//! that end no range, each with some of its writes, before that which ends one with the rest.
//! The server makes them of one state of it, and the asker puts them together before it looks
//! at any.
//!
//! Memory: some chunks, a document that comes in pieces, and a thousand entries of the asker's
//! own; where it has more in the range of a chunk than that, it takes several transactions
//! over it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use super::pieces::{in_pieces, weight_of};
use super::settle::STEP_BYTES;
use super::{Config, Message, Now, Output, Replica};
use crate::model::document::{Document, Part, Write};
use crate::model::{Delta, Dot, Key, PeerId, Timestamp, VersionVector};
use crate::storage::records::EntryRecord;
use crate::storage::{
    self, Fill, FillDone, Placing, Reader, RosterLine, StoreError, Writer, entries_after,
};

/// Entries of its own that a replica looks at in one transaction, beside what has come.
const STEP: usize = 1024;

/// How far ahead of this node's wall clock the floor of a server may be, in milliseconds.
const FLOOR_AHEAD_MS: u64 = 24 * 3600 * 1000;

/// Bytes of a chunk at most, about. Writes of clients wait while one is read.
const CHUNK_BYTES: usize = 128 * 1024;

/// How many chunks of a snapshot take the place of one of a pull.
const CHUNKS: usize = 4;

/// A part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotChunk {
    /// Which session.
    pub session: u64,
    /// Number of this chunk, from 0.
    pub index: u64,
    /// The range: from after this key, or from the first ...
    pub after: Option<Key>,
    /// ... up to and with this one, or to the last; without an end, no range at all: a piece.
    pub upto: Option<Key>,
    /// All documents of the range, each with its writes, in the order of the keys; or some
    /// writes of the first document of the range that the next chunks go on with.
    pub documents: Vec<(Key, Vec<Write>)>,
    /// What the server had when it read them.
    pub vector: VersionVector,
    /// What the server had when the session began.
    pub claim: VersionVector,
    /// The server's floor.
    pub floor: Timestamp,
    /// With the last chunk: what everyone had when the server last let go of something, and
    /// the replicas that it knows of.
    pub end: Option<(VersionVector, Vec<RosterLine>)>,
}

/// A snapshot that this replica serves.
#[derive(Clone, Debug)]
pub(super) struct ServingSnapshot {
    pub(super) peer: PeerId,
    session: u64,
    pub(super) deadline: Duration,
    after: Option<Key>,
    claim: VersionVector,
    next_index: u64,
    /// Chunks that may be sent.
    wanted: usize,
    /// Those of a large document that are made, and not sent yet.
    made: VecDeque<SnapshotChunk>,
}

impl Replica {
    /// Whether a peer can be asked for a snapshot.
    pub(super) fn can_fill_from(&self, peer: &PeerId) -> bool {
        let Some(known) = self.peers.get(peer) else {
            return false;
        };
        let stood = known.stood.as_ref();
        let sound = stood.is_some_and(|one| one.sound && !self.settled.is_fenced(one.replica));
        // One that is new itself has not all yet that this replica knows to have been.
        sound && known.has_horizon && !known.foreign
    }

    pub(super) fn serve_snapshot(
        &mut self,
        now: Now,
        peer: PeerId,
        session: u64,
        after: Option<Key>,
        line: RosterLine,
    ) {
        self.snapshots.retain(|one| one.peer != peer);
        let serving = self.serving.len() + self.snapshots.len();
        let full = serving >= self.config.pulls_served_max || !self.settled.is_sound();
        if full || self.settled.is_fenced(line.replica) {
            self.counters.pulls_refused += 1;
            self.messages
                .push(Output::Send(peer, Message::Busy { session }));
            return;
        }
        if !self.settled.roster.contains_key(&line.replica) {
            // What it has from before it will take out.
            let born = self.settled.floor.successor().max(line.born);
            self.settled.admit(RosterLine {
                name: peer.clone(),
                fenced: false,
                born,
                ..line
            });
        }
        self.snapshots.push(ServingSnapshot {
            peer: peer.clone(),
            session,
            deadline: now.elapsed + self.config.pull_timeout,
            after,
            claim: self.vector.clone(),
            next_index: 0,
            wanted: self.snapshot_window(),
            made: VecDeque::new(),
        });
    }

    /// Chunks of a snapshot that may be under way without an answer.
    fn snapshot_window(&self) -> usize {
        self.config.pull_window.saturating_mul(CHUNKS)
    }

    /// One chunk has been taken in, and another may be sent.
    pub(super) fn want_more_snapshot(&mut self, now: Now, peer: &PeerId, session: u64) {
        let most = self.snapshot_window();
        let mut found = self.snapshots.iter_mut();
        if let Some(one) = found.find(|one| one.peer == *peer && one.session == session) {
            one.wanted = most.min(one.wanted + 1);
            one.deadline = now.elapsed + self.config.pull_timeout;
        }
    }

    /// Whether a chunk is wanted of this replica.
    pub(super) fn serves_snapshot(&self) -> bool {
        self.snapshots.iter().any(|one| one.wanted > 0)
    }

    /// Sends one chunk to one of those who want some, the others come next.
    pub(super) fn serve_snapshots(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let wants = |one: &ServingSnapshot| one.wanted > 0;
        let Some(at) = self.snapshots.iter().position(wants) else {
            return Ok(());
        };
        self.snapshots[at..].rotate_left(1);
        self.serve_chunk(self.snapshots.len() - 1, reader)
    }

    fn serve_chunk(&mut self, at: usize, reader: &dyn Reader) -> Result<(), StoreError> {
        let one = &mut self.snapshots[at];
        one.wanted -= 1;
        let (peer, session) = (one.peer.clone(), one.session);
        if one.made.is_empty() {
            match read_on(&self.config, one, reader) {
                Ok(read) => self.make_chunks(at, read),
                // Another may have whole what is damaged here. It must not be passed over: all
                // of the range is claimed.
                Err(StoreError::Damaged { .. }) => {
                    self.snapshots.swap_remove(at);
                    let busy = Message::Busy { session };
                    self.messages.push(Output::Send(peer, busy));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let one = &mut self.snapshots[at];
        let Some(mut chunk) = one.made.pop_front() else {
            return Ok(());
        };
        chunk.index = one.next_index;
        one.next_index += 1;
        if chunk.end.is_some() {
            self.snapshots.swap_remove(at);
            self.counters.snapshots_served += 1;
        }
        let chunk = Message::SnapshotChunk(Box::new(chunk));
        self.messages.push(Output::Send(peer, chunk));
        Ok(())
    }

    /// Makes the chunks of what was read: one, or some pieces and the rest.
    fn make_chunks(&mut self, at: usize, read: ReadOn) {
        let one = &mut self.snapshots[at];
        let ReadOn { documents, whole } = read;
        let upto = match whole {
            true => None,
            false => documents.last().map(|(key, _)| key.clone()),
        };
        let roster = || self.settled.roster.values().cloned().collect();
        let mut chunk = SnapshotChunk {
            session: one.session,
            index: 0,
            after: one.after.clone(),
            upto: upto.clone(),
            documents,
            vector: self.vector.clone(),
            claim: one.claim.clone(),
            floor: self.settled.floor,
            end: whole.then(|| (self.settled.horizon.clone(), roster())),
        };
        if let [(key, writes)] = chunk.documents.as_mut_slice() {
            let mut pieces = in_pieces(key, std::mem::take(writes), self.config.piece_bytes);
            *writes = pieces.pop().unwrap_or_default();
            one.made
                .extend(pieces.into_iter().map(|writes| SnapshotChunk {
                    session: one.session,
                    index: 0,
                    after: one.after.clone(),
                    upto: None,
                    documents: vec![(key.clone(), writes)],
                    vector: VersionVector::default(),
                    claim: VersionVector::default(),
                    floor: chunk.floor,
                    end: None,
                }));
        }
        one.made.push_back(chunk);
        one.after = upto;
    }

    /// A part of a snapshot has come.
    pub(super) fn take_over(
        &mut self,
        now: Now,
        peer: &PeerId,
        mut chunk: SnapshotChunk,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let window = self.snapshot_window();
        let pull = self
            .pulling
            .as_mut()
            .filter(|pull| pull.snapshot && pull.peer == *peer && pull.session == chunk.session);
        let (Some(pull), Some(fill)) = (pull, &self.settled.fill) else {
            return Ok(());
        };
        let last = pull.parts.back().map(|part| part.upto.as_ref());
        let from = last.unwrap_or(fill.after());
        // A range that is left out would be claimed, and never come.
        let follows = pull.next_index == chunk.index && from == chunk.after.as_ref();
        let can_write = is_possible(chunk.floor, now);
        let ended = pull.last.is_some();
        let expected = !ended && follows && pull.parts.len() <= window;
        if !expected || !chunk.is_sound() || !can_write || !pull.put_together(&mut chunk) {
            self.abandon_pull(now);
            return Ok(());
        }
        pull.next_index += 1;
        if chunk.is_piece() {
            pull.deadline = now.elapsed + self.config.pull_timeout;
            let more = Message::PullMore {
                session: chunk.session,
            };
            self.messages.push(Output::Send(peer.clone(), more));
            return Ok(());
        }
        pull.parts.push_back(chunk);
        match self.index_is_full() {
            true => Ok(()),
            false => self.take_part(now, writer),
        }
    }

    /// Whether a part of a snapshot has come that is still to be taken over.
    pub(super) fn has_parts(&self) -> bool {
        self.pulling
            .as_ref()
            .is_some_and(|pull| !pull.parts.is_empty())
    }

    /// Takes over what comes next of a snapshot.
    pub(super) fn take_part(
        &mut self,
        now: Now,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let (Some(pull), Some(mut fill)) = (&mut self.pulling, self.settled.fill.clone()) else {
            return Ok(());
        };
        let Some(mut part) = pull.parts.pop_front() else {
            return Ok(());
        };
        pull.deadline = now.elapsed + self.config.pull_timeout;
        let (peer, session) = (pull.peer.clone(), pull.session);
        self.changed = true;
        self.settled.dirty = true;
        let bound = self.take_range(now, &mut part, fill.needed, writer)?;
        let claim = match fill.done.take() {
            Some(done) => done.claim.intersection(&part.claim),
            None => part.claim.clone(),
        };
        if let Some(bound) = bound {
            part.after = Some(bound.clone());
            // Already: what comes after the bound may come from somebody else.
            fill.done = Some(FillDone { upto: bound, claim });
            self.settled.fill = Some(fill);
            if let Some(pull) = &mut self.pulling {
                pull.parts.push_front(part);
            }
            return Ok(());
        }
        if part.end.is_none() {
            fill.done = part.upto.map(|upto| FillDone { upto, claim });
            self.settled.fill = Some(fill);
            self.messages
                .push(Output::Send(peer, Message::PullMore { session }));
            return Ok(());
        }
        part.claim = claim;
        if let Some(pull) = &mut self.pulling {
            pull.last = Some(part);
        }
        self.end_snapshot(now, writer)
    }

    /// Ends the snapshot, if all of it was taken over and is indexed.
    pub(super) fn end_snapshot(&mut self, now: Now, reader: &dyn Reader) -> Result<(), StoreError> {
        let Some(pull) = self.pulling.as_mut().filter(|pull| pull.last.is_some()) else {
            return Ok(());
        };
        pull.deadline = now.elapsed + self.config.pull_timeout;
        if self.settled.unindexed.is_some() {
            return Ok(());
        }
        let (peer, last) = (pull.peer.clone(), pull.last.take());
        let Some((part, fill)) = last.zip(self.settled.fill.clone()) else {
            return Ok(());
        };
        self.changed = true;
        self.settled.dirty = true;
        self.check_epoch(now, &part.claim);
        let theirs = part.end.as_ref().map(|(horizon, _)| horizon);
        let has = |horizon| part.claim.covers(horizon);
        if fill.needed && !(has(&self.settled.horizon) && theirs.is_none_or(has)) {
            // Of what came first some has been let go of since.
            self.pulling = None;
            self.settled.fill = Some(Fill {
                needed: true,
                ..Fill::default()
            });
            return Ok(());
        }
        let mut claimed = self.vector.clone();
        claimed.merge(&part.claim);
        let held = match storage::unclaimed(reader, &claimed, STEP) {
            // That is for `sync repair`, and must not keep this replica from its peers.
            Err(StoreError::Damaged { .. }) => Vec::new(),
            held => held?,
        };
        let is_all = held.len() < STEP;
        self.claim_held(now, held);
        if !is_all {
            if let Some(pull) = &mut self.pulling {
                pull.last = Some(part);
            }
            return Ok(());
        }
        let SnapshotChunk { claim, floor, .. } = part;
        let (horizon, roster) = part.end.unwrap_or_default();
        self.dirty.extend(self.vector.merge(&claim));
        self.settled.horizon.merge(&horizon);
        self.look_for_horizon_everywhere();
        self.settled.floor = self.settled.floor.max(floor);
        self.settled.learn(&roster);
        // As the server has it: others have let go of things up to then.
        let own = self.header.origin.replica;
        let told = roster.iter().find(|line| line.replica == own);
        if let Some((told, line)) = told.zip(self.settled.roster.get_mut(&own))
            && fill.needed
        {
            line.born = line.born.max(told.born);
        }
        self.settled.fill = None;
        self.settled.tell = true;
        self.pulling = None;
        self.counters.snapshots_taken += 1;
        if let Some(next) = self.caught_up_with(&peer) {
            self.begin_pull(now, &next);
        }
        Ok(())
    }

    /// Claims writes that documents hold.
    fn claim_held(&mut self, now: Now, dots: Vec<Dot>) {
        let mut held = VersionVector::default();
        dots.into_iter().for_each(|dot| held.insert(dot));
        self.check_epoch(now, &held);
        self.dirty.extend(self.vector.merge(&held));
    }

    /// Takes over the next of a range; up to where, if that is not all of it.
    fn take_range(
        &mut self,
        now: Now,
        part: &mut SnapshotChunk,
        past_is_lost: bool,
        writer: &mut dyn Writer,
    ) -> Result<Option<Key>, StoreError> {
        self.leave_unindexed(part.after.as_ref());
        let mut ours: BTreeMap<Key, EntryRecord> = BTreeMap::new();
        let (after, upto) = (part.after.as_ref(), part.upto.as_ref());
        let (mut full, mut bytes) = (false, 0);
        entries_after(writer, after, upto, &mut |key, record| {
            bytes += record.document.weight();
            ours.insert(key, record);
            full = ours.len() >= STEP || bytes >= STEP_BYTES;
            match full {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let bound = match full {
            true => ours.keys().next_back().cloned(),
            false => None,
        };
        let is_next = |key: &Key| bound.as_ref().is_none_or(|bound| key <= bound);
        let (next, later): (Vec<_>, Vec<_>) = std::mem::take(&mut part.documents)
            .into_iter()
            .partition(|(key, _)| is_next(key));
        part.documents = later;
        for (key, writes) in next {
            let before = ours.remove(&key).unwrap_or_default();
            self.take_document(now, part, past_is_lost, key, before, writes, writer)?;
        }
        for (key, before) in ours {
            self.take_document(now, part, past_is_lost, key, before, Vec::new(), writer)?;
        }
        self.gathered_upto(bound.as_ref().or(part.upto.as_ref()));
        Ok(bound)
    }

    /// Takes over what the server has of a document.
    #[expect(
        clippy::too_many_arguments,
        reason = "the document, and where it is from"
    )]
    fn take_document(
        &mut self,
        now: Now,
        part: &SnapshotChunk,
        past_is_lost: bool,
        key: Key,
        before: EntryRecord,
        writes: Vec<Write>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        // If it is not as it was there: what can be made of it.
        let mut document = Document::merged(writes);
        if let Some(version) = document.version() {
            let bound_ms = self.config.clock_ahead_max_ms;
            self.clock.observe(version.clock, now.wall_ms, bound_ms);
        }
        let leaves = match past_is_lost {
            true => self.leaves(part, &before.document),
            false => Vec::new(),
        };
        for write in before.document.writes() {
            let version = write.version;
            if part.vector.contains(version.dot) {
                continue;
            }
            if leaves.contains(&version.dot) {
                let (key, write) = (key.clone(), write.clone());
                storage::export(writer, Delta { key, write })?;
                self.counters.exported += 1;
                continue;
            }
            document.merge(write);
            self.note(version.dot);
        }
        self.gather_taken(&key, &document);
        if document == before.document {
            return Ok(());
        }
        let placing = Placing {
            tell: !before.document.is_tombstone(now.wall_ms),
            index: false,
        };
        self.counters.taken_in += 1;
        self.put_in_place(now, key, &before, document, placing, writer)
    }

    /// The writes of a document that a replica whose past is lost must not bring to the others.
    fn leaves(&self, part: &SnapshotChunk, document: &Document) -> Vec<Dot> {
        // What has come since it claims nothing any more is not of its past.
        let is_past = |write: &&Write| {
            let dot = write.version.dot;
            !part.vector.contains(dot) && !self.vector.contains(dot)
        };
        let past = || document.writes().iter().filter(is_past);
        let leaves = |write: &&Write| {
            write.version.clock <= part.floor || goes_on_counting(write, &part.vector)
        };
        // What has beaten parts of another write must not go without it: that one would stay
        // here without them, and be whole elsewhere. By its date only what is older can have
        // been beaten, and that goes anyway; but counts and resets go by more than their date.
        let beats_later = |write: &Write| {
            let counts = |part: &Part| matches!(part, Part::Tally(_) | Part::Reset(_));
            write.parts.iter().any(|one| counts(&one.part))
        };
        let all = past().filter(leaves).any(beats_later);
        let gone = past().filter(|write| all || leaves(write));
        gone.map(|write| write.version.dot).collect()
    }
}

/// What a chunk is made of.
struct ReadOn {
    documents: Vec<(Key, Vec<Write>)>,
    /// Nothing comes after them.
    whole: bool,
}

/// Reads what comes next for a chunk: some documents, or one that needs pieces.
fn read_on(
    config: &Config,
    one: &ServingSnapshot,
    reader: &dyn Reader,
) -> Result<ReadOn, StoreError> {
    let chunk_bytes = config.chunk_bytes.min(CHUNK_BYTES);
    let (mut documents, mut bytes, mut whole) = (Vec::new(), 0, true);
    entries_after(reader, one.after.as_ref(), None, &mut |key, record| {
        let writes = record.document.into_writes();
        let weight: usize = writes.iter().map(|write| weight_of(&key, write)).sum();
        let large = weight > config.piece_bytes;
        if large && !documents.is_empty() {
            // It comes next, alone.
            whole = false;
            return ControlFlow::Break(());
        }
        bytes += weight;
        documents.push((key, writes));
        whole = !large && bytes < chunk_bytes && documents.len() < config.chunk_changes;
        match whole {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(ReadOn { documents, whole })
}

/// Whether nobody who had this replica's clock could write anything after such a floor.
pub(super) fn is_possible(floor: Timestamp, now: Now) -> bool {
    floor.millis() <= now.wall_ms.saturating_add(FLOOR_AHEAD_MS)
}

/// Whether a write goes on with a tally that others know of: they may have reset it and let
/// go of that, whatever the date of this write. Of what it says, nobody could tell any more
/// how much was reset.
fn goes_on_counting(write: &Write, known: &VersionVector) -> bool {
    let counts = |part: &Part| matches!(part, Part::Tally(origin) if known.of(*origin).is_some());
    write.parts.iter().any(|one| counts(&one.part))
}

impl SnapshotChunk {
    /// Whether it has but some of the writes of a document.
    pub(super) fn is_piece(&self) -> bool {
        self.upto.is_none() && self.end.is_none()
    }

    /// Whether all its documents are of its range, and in order.
    fn is_sound(&self) -> bool {
        let mut last = self.after.as_ref();
        for (key, _) in &self.documents {
            if last.is_some_and(|last| key <= last) {
                return false;
            }
            last = Some(key);
        }
        match (&self.upto, &self.end) {
            (Some(upto), None) => last <= Some(upto),
            (None, Some(_)) => true,
            (None, None) => self.documents.len() == 1,
            (Some(_), Some(_)) => false,
        }
    }
}
