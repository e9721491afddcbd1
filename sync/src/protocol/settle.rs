//! What is settled: when a deletion need not be remembered any more, and what becomes of a
//! replica that was away for too long (DESIGN §6, trap (d)).
//!
//! **Letting go.** Every replica tells the others how it stands ([`Standing`](super::Standing)):
//! what it has, and a *floor*, a date up to which it will never again date a write of its own
//! (it lies [`Config::tombstone_age`](super::Config::tombstone_age) behind all clocks it knows
//! of, and is durable before it is told). A deletion is let go of here when it is dated up to
//! the lowest floor of all replicas, every one of them has told to have it, and this one has
//! all that they have told to have. Then nobody can still send, nor ever write, anything that
//! the deletion would have beaten. The replicas are those of the *roster*, a durable list that
//! all tell each other, and not those that happen to live.
//!
//! **The horizon** is what everyone had when this replica last let go of something. A replica
//! that lacks any of it (an old copy of its disk was restored, say) may hold what was deleted
//! meanwhile: it is *stale*. Nothing is taken from it, and a pull would not mend it. It takes
//! over a snapshot instead (`fill.rs`).
//!
//! **Fencing.** A replica that nobody has heard of for
//! [`Config::absent_max`](super::Config::absent_max) would keep all others from letting go
//! for ever. It is fenced: from then on nothing is taken from it. Only more than half of the
//! roster does that, so that of two halves that cannot see each other at most one goes on;
//! and only when all that are left have told that they have fenced it does it count for
//! letting go no more. Time during which fewer than half are here does not count: a cluster
//! that was switched off fences nobody. When the replica is back it learns that it is fenced,
//! takes a new identity, and takes over a snapshot.
//!
//! **Beyond the full mesh** (`overlay.rs`) a replica hears how its neighbours stand and not
//! how all do. There they are counted, by going round (`tree/census.rs`), and who was counted
//! is here.
//!
//! What can fail: a clock that is far behind keeps the floor down, and an absent replica
//! keeps everybody from letting go until it is fenced: both cost room, and no data.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::peers::Peer;
use super::standing::Stood;
use super::{Now, Replica, Trust};
use crate::model::document::Document;
use crate::model::{Dot, Key, PeerId, ReplicaId, Timestamp, VersionVector};
use crate::storage::records::{self, EntryRecord};
use crate::storage::state::Stored;
use crate::storage::{
    Fill, Placing, RosterLine, Settlement, StoreError, Unindexed, Writer, replace, rows_after,
};

/// Entries that are looked at in one transaction.
const SWEEP_STEP: usize = 1024;
/// Bytes of documents that are taken up in one transaction, about.
pub(super) const STEP_BYTES: usize = 4 * 1024 * 1024;
/// After a failed commit nothing is begun for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// A wall clock that goes on by so much more than time has passed has jumped.
const JUMP_MS: u64 = 60_000;
/// Rounds in the time that a tombstone lives at least.
pub(super) const ROUNDS: u32 = 24;

/// A round of letting go.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    upto: Timestamp,
    settled: Arc<VersionVector>,
    after: Option<Key>,
}

/// What all replicas that count have agreed on.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    /// None of them will make a write with a date up to here, and this replica has all that
    /// they had when they said so.
    pub(super) upto: Timestamp,
    /// Each of them has it.
    pub(super) all: VersionVector,
}

/// What a replica knows about what is settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) roster: BTreeMap<ReplicaId, RosterLine>,
    pub(super) floor: Timestamp,
    /// While this replica is not sound: the latest floor of a peer.
    pub(super) heard: Timestamp,
    pub(super) horizon: VersionVector,
    pub(super) fill: Option<Fill>,
    pub(super) unindexed: Option<Unindexed>,
    pub(super) dirty: bool,
    round_due: Duration,
    /// When the last round was.
    last_round: Option<Now>,
    /// Up to where all was let go of, and of which writes.
    swept: Option<(Timestamp, Arc<VersionVector>)>,
    sweep: Option<Sweep>,
    /// To be told to all at the end of the transaction under way.
    pub(super) tell: bool,
}

impl Settled {
    pub(super) fn load(stored: Settlement) -> Self {
        let roster = stored.roster.into_iter();
        Self {
            roster: roster.map(|line| (line.replica, line)).collect(),
            floor: stored.floor,
            heard: stored.heard,
            horizon: stored.horizon,
            fill: stored.fill,
            unindexed: stored.unindexed,
            ..Self::default()
        }
    }

    /// What was read again after a commit that failed, of what was here before.
    pub(super) fn after_failure(self, before: Self, now: Now) -> Self {
        Self {
            round_due: before.round_due.max(now.elapsed + PAUSE),
            last_round: before.last_round,
            swept: before.swept,
            ..self
        }
    }

    pub(super) fn stored(&self) -> Settlement {
        Settlement {
            roster: self.roster.values().cloned().collect(),
            floor: self.floor,
            heard: self.heard,
            horizon: self.horizon.clone(),
            fill: self.fill.clone(),
            unindexed: self.unindexed.clone(),
        }
    }

    /// Whether others may take something from this replica.
    pub(super) fn is_sound(&self) -> bool {
        !self.fill.as_ref().is_some_and(|fill| fill.needed)
    }

    pub(super) fn is_fenced(&self, replica: ReplicaId) -> bool {
        self.roster.get(&replica).is_some_and(|line| line.fenced)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &RosterLine> {
        self.roster.values().filter(|line| !line.fenced)
    }
}

impl Replica {
    /// What is due from time to time.
    pub(super) fn settle_round(
        &mut self,
        now: Now,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.has_parts() && !self.index_is_full() {
            return self.take_part(now, writer);
        }
        if self.indexes() {
            self.index_on(now, writer)?;
            return self.end_snapshot(now, writer);
        }
        if self.settled.sweep.is_some() {
            return self.sweep(now, writer);
        }
        if self.tree.on {
            let agreed = self.agreed_by_census(now);
            self.let_go_of_agreed(agreed);
        }
        if now.elapsed < self.settled.round_due {
            return Ok(());
        }
        let round = self.config.tombstone_age / ROUNDS;
        self.settled.round_due = now.elapsed + round;
        // The first comes when a clock that was wrong at the start has been set right.
        let Some(last) = self.settled.last_round.replace(now) else {
            return Ok(());
        };
        let passed = now.elapsed.saturating_sub(last.elapsed);
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        if now.wall_ms
            > last
                .wall_ms
                .saturating_add(passed_ms)
                .saturating_add(JUMP_MS)
        {
            return Ok(());
        }
        self.raise_floor(now, round);
        if self.tree.on {
            self.begin_census(now);
        } else {
            let here = self.heard_of(now, |trust| trust == Trust::Full);
            self.note_absence(&here, passed.min(2 * round));
            self.let_go_of_agreed(self.agreed_in_mesh());
        }
        Ok(())
    }

    pub(super) fn settle_due(&self) -> Duration {
        let busy = self.has_parts()
            || self.indexes()
            || self.serves_snapshot()
            || self.settled.sweep.is_some();
        match busy {
            true => Duration::ZERO,
            false => self.settled.round_due,
        }
    }

    /// The replicas that are heard of here and are trusted as is asked for, and this one.
    pub(super) fn heard_of(&self, now: Now, is_fit: fn(Trust) -> bool) -> BTreeSet<ReplicaId> {
        let own = self.header.origin.replica;
        // A connection can be up without anything behind it.
        let within = 5 * self.config.vector_interval;
        let is_here = |known: &&Peer| {
            known.linked && known.heard_at + within >= now.elapsed && is_fit(self.trust_in(known))
        };
        let here = self.peers.values().filter(is_here);
        let here = here.filter_map(|known| Some(known.stood.as_ref()?.replica));
        here.chain([own]).collect()
    }

    /// Counts for how long replicas have been away, and fences those that were so too long.
    pub(super) fn note_absence(&mut self, here: &BTreeSet<ReplicaId>, passed: Duration) {
        let members: Vec<ReplicaId> = self.settled.members().map(|line| line.replica).collect();
        let present = members
            .iter()
            .filter(|member| here.contains(member))
            .count();
        if 2 * present <= members.len() || !self.settled.is_sound() {
            return;
        }
        let most = u64::try_from(self.config.absent_max.as_millis()).unwrap_or(u64::MAX);
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        for member in &members {
            let line = self.settled.roster.get_mut(member);
            if here.contains(member) {
                if let Some(line) = line.filter(|line| line.absent_ms > 0) {
                    line.absent_ms = 0;
                    self.settled.dirty = true;
                }
            } else if let Some(line) = line {
                // Where one counts by going round, it may have come when all had been asked.
                let is_new = self.tree.on && line.absent_ms == 0;
                let counts = if is_new { 1 } else { passed };
                line.absent_ms = line.absent_ms.saturating_add(counts);
                self.settled.dirty = true;
                if line.absent_ms >= most {
                    line.fenced = true;
                    self.settled.tell = true;
                    self.counters.fencings += 1;
                }
            }
        }
    }

    /// Promises not to date anything up to a moment that lies back far enough by all clocks.
    fn raise_floor(&mut self, now: Now, round: Duration) {
        let own = self.header.origin.replica;
        let born = self.settled.roster.get(&own).map(|line| line.born);
        // Whoever was never met may have been alone for as long as this replica, and both
        // must be able to say that they have no past.
        let met = |name: &PeerId| self.settled.roster.values().any(|line| line.name == *name);
        if !self
            .peers
            .iter()
            .all(|(name, known)| !known.member || met(name))
        {
            return;
        }
        let peers = self.peers.values().filter(|known| !known.foreign);
        let clocks: Vec<u64> = peers
            .filter_map(|known| known.stood.as_ref())
            .filter(|stood| !self.settled.is_fenced(stood.replica))
            .map(|stood| now.wall_ms.saturating_add_signed(stood.ahead_ms))
            .collect();
        // A clock that is wrong must not decide alone. Beyond a mesh there are those of the
        // neighbours, and the lowest floor of all counts.
        let is_near = |known: &&Peer| known.member && !known.far;
        let others = match self.tree.on {
            true => self.peers.values().filter(is_near).count(),
            false => self.settled.members().count().saturating_sub(1),
        };
        if 2 * (clocks.len() + 1) <= others + 1 {
            return;
        }
        let earliest = clocks.into_iter().fold(now.wall_ms, u64::min);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let floor_ms = earliest.saturating_sub(millis(self.config.tombstone_age));
        // On a grid, so that all let go at about the same time.
        let grid = millis(round).max(1);
        let floor = Timestamp::from_millis(floor_ms / grid * grid);
        if floor > self.settled.floor && born.is_some_and(|born| born < floor) {
            self.settled.floor = floor;
            self.settled.dirty = true;
            self.settled.tell = true;
        }
    }

    /// What all have agreed on, where all are heard of.
    fn agreed_in_mesh(&self) -> Option<Agreed> {
        let own = self.header.origin.replica;
        let mut upto = self.settled.floor;
        let mut all = self.vector.clone();
        let fenced: BTreeSet<ReplicaId> = self
            .settled
            .roster
            .values()
            .filter(|line| line.fenced)
            .map(|line| line.replica)
            .collect();
        let stood: Vec<&Stood> = self
            .peers
            .values()
            .filter(|known| !known.foreign)
            .filter_map(|known| known.stood.as_ref())
            .filter(|stood| !self.settled.is_fenced(stood.replica))
            .collect();
        let has_stood = |member: ReplicaId| stood.iter().any(|one| one.replica == member);
        let mut members = self.settled.members();
        if members.any(|line| line.replica != own && !has_stood(line.replica)) {
            return None;
        }
        for one in &stood {
            let agrees = one.fenced.is_superset(&fenced);
            if !agrees || !one.sound || !self.vector.covers(&one.vector) {
                return None;
            }
            upto = upto.min(one.floor);
            all = all.intersection(&one.vector);
        }
        Some(Agreed { upto, all })
    }

    /// Begins to let go, if there may be more to let go of than the last time.
    fn let_go_of_agreed(&mut self, agreed: Option<Agreed>) {
        let Some(Agreed { upto, all }) = agreed.filter(|_| self.settled.is_sound()) else {
            return;
        };
        let all = Arc::new(all);
        let swept = self.settled.swept.as_ref();
        if upto == Timestamp::default() || swept == Some(&(upto, all.clone())) {
            return;
        }
        self.forget_recent(upto, &all);
        self.settled.horizon.merge(&all);
        self.look_for_horizon_everywhere();
        self.settled.dirty = true;
        self.settled.tell = true;
        self.settled.sweep = Some(Sweep {
            upto,
            settled: all,
            after: None,
        });
    }

    /// Lets go of what is settled among the next entries.
    fn sweep(&mut self, now: Now, writer: &mut dyn Writer) -> Result<(), StoreError> {
        let Some(mut sweep) = self.settled.sweep.take() else {
            return Ok(());
        };
        let mut found = Vec::new();
        let (mut seen, mut bytes) = (0, 0);
        let mut last = None;
        rows_after(writer, sweep.after.as_ref(), None, &mut |key, record| {
            seen += 1;
            // What is damaged is for `verify` to find, and no reason to fail others' writes.
            let settled = record
                .ok()
                .filter(|one| one.document.has_settled(sweep.upto));
            if let Some(record) = settled {
                bytes += record.document.weight();
                found.push((key.clone(), record));
            }
            if seen < SWEEP_STEP && bytes < STEP_BYTES {
                return ControlFlow::Continue(());
            }
            last = Some(key);
            ControlFlow::Break(())
        })?;
        for (key, record) in found {
            self.let_go(now, &sweep, key, record, writer)?;
        }
        if last.is_none() {
            self.settled.swept = Some((sweep.upto, sweep.settled));
            return Ok(());
        }
        sweep.after = last;
        self.settled.sweep = Some(sweep);
        Ok(())
    }

    fn let_go(
        &mut self,
        now: Now,
        sweep: &Sweep,
        key: Key,
        record: EntryRecord,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let burial = record.document.burial(sweep.upto.millis());
        if let (Some((clock, parts)), Some(version)) = (burial, record.document.version()) {
            if version.clock <= sweep.upto && self.buries(version.dot.origin.replica) {
                self.bury(now, key, clock, parts, writer)?;
            }
            return Ok(());
        }
        let mut after = record.document.clone();
        let settled = |dot: Dot| sweep.settled.contains(dot);
        if after.collect(sweep.upto, &settled).changed {
            self.counters.collected += 1;
            let placing = Placing {
                tell: false,
                index: true,
            };
            self.put_in_place(now, key, &record, after, placing, writer)?;
        }
        Ok(())
    }

    /// Puts a document in the place of another, and tells watchers.
    pub(super) fn put_in_place(
        &mut self,
        now: Now,
        key: Key,
        before: &EntryRecord,
        after: Document,
        placing: Placing,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if let Some(sum) = &mut self.sum {
            let held = Some(&before.document).filter(|held| !held.is_empty());
            sum.note(&records::encode_key(&key), held, &after);
        }
        // What is taken over of a range is gathered as it stays: nothing of it was before.
        if placing.index
            && let Some(indexing) = &mut self.indexing
        {
            indexing.note(&before.document, &after);
        }
        let storing = self.storing(now, &key);
        let header = &mut self.header;
        let told = replace(writer, header, &key, before, after, placing, storing)?;
        self.changed = true;
        if let Some(record) = told {
            let ended = None;
            self.note_stored(key, Stored { ended, record });
        }
        Ok(())
    }

    /// Whether it falls to this replica to bury what that one has written.
    fn buries(&self, writer: ReplicaId) -> bool {
        let mut members = self.settled.members().map(|line| line.replica);
        let there = self.settled.members().any(|line| line.replica == writer);
        let first = members.next();
        let falls_to = if there { Some(writer) } else { first };
        falls_to == Some(self.header.origin.replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::standing::greeting;
    use crate::protocol::{Config, Input, commit};
    use crate::storage::{Failing, MemoryStorage};

    /// It may be years ahead, and what is written after such a floor beats all else.
    #[test]
    fn beyond_a_mesh_too_a_clock_that_is_alone_raises_no_floor() {
        let disk = MemoryStorage::default();
        let mut now = Now {
            wall_ms: 1_700_000_000_000,
            elapsed: Duration::ZERO,
        };
        let mut config = Config::default();
        config.mesh.peers_max = 1;
        let others = || (2..=4).map(|number| PeerId::new(&format!("n{number}")));
        let open = |now| Replica::open(&disk, config.clone(), ReplicaId([1; 16]), now, 1).unwrap();
        let mut replica = open(now);
        let peers = Input::Peers(others().collect());
        commit(&mut replica, &disk, now, vec![peers.clone()]).unwrap();
        for (number, peer) in (2..).zip(others()) {
            let said = greeting(peer.as_str(), ReplicaId([number; 16]), now);
            commit(&mut replica, &disk, now, said).unwrap();
        }
        let days = |replica: &mut Replica, now: &mut Now| {
            for _ in 0..72 {
                now.elapsed += Duration::from_secs(3_601);
                now.wall_ms += 3_601_000;
                commit(replica, &disk, *now, vec![Input::Tick]).unwrap();
            }
            replica.settled.floor
        };
        let mut alone = open(now);
        assert_eq!(alone.settled.roster.len(), 4, "it has met them");
        commit(&mut alone, &disk, now, vec![peers]).unwrap();
        let (mut later, none) = (now, Timestamp::default());
        assert_eq!(days(&mut alone, &mut later), none);
        assert!(days(&mut replica, &mut now) > none, "with others it does");
    }

    #[test]
    fn after_a_commit_that_failed_no_round_begins_at_once_and_no_absence_is_counted() {
        let disk = MemoryStorage::default();
        let hour = Duration::from_secs(3_600);
        let mut now = Now {
            wall_ms: 1_700_000_000_000,
            elapsed: hour,
        };
        let config = Config::default();
        let mut replica = Replica::open(&disk, config, ReplicaId([1; 16]), now, 1).unwrap();
        commit(&mut replica, &disk, now, vec![Input::Tick]).unwrap();
        now.elapsed += Duration::from_secs(1);
        let peers = Input::Peers(vec![PeerId::new("n2")]);
        replica.settled.dirty = true;
        commit(&mut replica, &Failing(&disk), now, vec![peers]).unwrap_err();
        assert_eq!(replica.settle_due(), 2 * hour, "as before");
        let last = replica.settled.last_round.unwrap();
        assert_eq!(last.elapsed, hour);
        now.elapsed = 3 * hour;
        replica.settled.dirty = true;
        commit(&mut replica, &Failing(&disk), now, vec![Input::Tick]).unwrap_err();
        assert!(replica.settle_due() >= now.elapsed + PAUSE);
    }
}
