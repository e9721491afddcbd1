//! What clients did and saw, and what must be true of it.
//!
//! Invariants (their numbers as in the test plan): 1 an acknowledged write is never
//! lost; 2 replicas converge, to what all writes together come to; 3 no deleted key comes back; 4 numbers of
//! one origin only grow, as do its versions of one key, and a number is never given to two writes; 5 what one replica shows
//! never goes back in time, and what is written there is newer than what was shown; and a
//! watcher sees each change once, in order. Of dates: one that lies far ahead of its
//! writer's clock continues the date of an earlier write of the same key. Of expiries: a
//! watcher is told of each once, not before the replica's clock has come to it, and then.

use std::collections::{BTreeMap, BTreeSet};

use basic_sync::model::document::{Document, Revision};
use basic_sync::model::{Delta, Dot, Key, Origin, Seq, Timestamp, Version, VersionVector};
use basic_sync::protocol::{Config, RequestId, WriteReceipt};
use basic_sync::storage::state::FeedItem;

/// Everything that was asked for, promised and seen.
#[derive(Default)]
pub(crate) struct History {
    /// How many operations each write asked for.
    attempts: BTreeMap<RequestId, usize>,
    acknowledged: BTreeSet<Dot>,
    /// Every write that was committed: what was ever pushed, and what was about to be.
    written: BTreeMap<Dot, Delta>,
    /// Of those, what was pushed and then not durable where it was written.
    unsure: BTreeSet<Dot>,
    /// Of all, what was taken out.
    exported: BTreeSet<Key>,
    /// Where a write of a key was taken out, what is shown of it may go back.
    excused: BTreeSet<(usize, Key)>,
    last_of_origin: BTreeMap<Origin, Seq>,
    last_of_key: BTreeMap<(Origin, Key), Timestamp>,
    /// The dates under which each key was ever written.
    dates: BTreeSet<(Key, Timestamp)>,
    /// Per replica and key the newest version that it has shown.
    shown: BTreeMap<(usize, Key), Version>,
    /// Per replica what a watcher has been told.
    watched: BTreeMap<usize, (u64, BTreeMap<Key, Told>)>,
    /// How often a watcher was told that a document has expired.
    pub(crate) expiries_told: u64,
    pub(crate) writes_acknowledged: u64,
    /// Nobody reads or watches: what goes wrong shows in the end only, in the data. What a
    /// reader was shown would tell of most harm first, whatever became of the data.
    pub(crate) unseen: bool,
}

/// What a watcher was told last of a key.
#[derive(Clone, Copy, Debug)]
struct Told {
    revision: Revision,
    /// There is a document.
    there: bool,
    /// It is seen as expired.
    expired: bool,
}

/// What a replica's clock shows at the end, and the most that it ever showed, in
/// milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now_ms: u64,
    pub(crate) latest_ms: u64,
}

impl History {
    /// A client asks for a write.
    pub(crate) fn attempt(&mut self, id: RequestId, operations: usize) {
        self.attempts.insert(id, operations);
    }

    /// A client is told that its write is durable.
    pub(crate) fn acknowledge(&mut self, id: RequestId, receipt: &WriteReceipt) {
        assert_eq!(
            self.attempts[&id],
            receipt.revisions.len(),
            "one revision an operation"
        );
        self.writes_acknowledged += 1;
        let dots = receipt.revisions.iter();
        self.acknowledged
            .extend(dots.map(|revision| revision.version.dot));
    }

    /// A replica whose clock shows `wall_ms` has committed its own writes.
    pub(crate) fn commit(&mut self, replica: usize, wall_ms: u64, changes: &[Delta]) {
        for delta in changes {
            let Version { clock, dot } = delta.write.version;
            if let Some(before) = self.written.insert(dot, delta.clone()) {
                assert_eq!(
                    &before, delta,
                    "invariant 4: {dot:?} was given to two writes"
                );
            }
            let before = self.last_of_origin.insert(dot.origin, dot.seq);
            assert!(
                before.is_none_or(|before| before < dot.seq),
                "invariant 4: {dot:?} follows {before:?}"
            );
            let place = (dot.origin, delta.key.clone());
            let before = self.last_of_key.insert(place, clock);
            assert!(
                before.is_none_or(|before| before < clock),
                "invariant 4: {delta:?} follows {before:?}"
            );
            let excused = self.excused.contains(&(replica, delta.key.clone()));
            let shown = self.shown.get(&(replica, delta.key.clone()));
            assert!(
                excused || shown.is_none_or(|shown| *shown < delta.write.version),
                "invariant 5: replica {replica} showed {shown:?} and then wrote {delta:?}"
            );
            self.check_date(delta, wall_ms);
            self.dates.insert((delta.key.clone(), clock));
        }
    }

    /// A date far ahead of its writer's clock goes no further than its key.
    fn check_date(&self, delta: &Delta, wall_ms: u64) {
        let clock = delta.write.version.clock;
        // The counter may carry into the next millisecond.
        let bound_ms = Config::default().clock_ahead_max_ms + 1;
        if clock.is_ahead(wall_ms, bound_ms) {
            let over = Timestamp(clock.0 - 1);
            assert!(
                self.dates.contains(&(delta.key.clone(), over)),
                "{delta:?} was written at {wall_ms} and continues the date of no other"
            );
        }
    }

    /// What a replica has pushed of its own was not durable there: it is lost, unless it has
    /// come to others.
    pub(crate) fn undo(&mut self, changes: &[Delta]) {
        self.unsure.extend(changes.iter().map(Delta::dot));
    }

    /// Forgets what was not durable where it was written and came to nobody. `held` is what
    /// any replica has.
    pub(crate) fn forget_lost(&mut self, held: &VersionVector) {
        for dot in std::mem::take(&mut self.unsure) {
            if !held.contains(dot) {
                self.written.remove(&dot);
            }
        }
    }

    /// A write was taken out on a replica, and kept aside.
    pub(crate) fn export(&mut self, replica: usize, delta: &Delta) {
        self.exported.insert(delta.key.clone());
        self.excused.insert((replica, delta.key.clone()));
    }

    /// A client reads a key on a replica.
    pub(crate) fn read(&mut self, replica: usize, key: &Key, version: Option<Version>) {
        if self.unseen {
            return;
        }
        let Some(version) = version else {
            // Deleted, and forgotten since.
            self.shown.remove(&(replica, key.clone()));
            return;
        };
        let shown = self.shown.get(&(replica, key.clone()));
        let excused = self.excused.contains(&(replica, key.clone()));
        assert!(
            excused || Some(&version) >= shown,
            "invariant 5: replica {replica} showed {key:?} at {shown:?} and now at {version:?}"
        );
        self.shown.insert((replica, key.clone()), version);
    }

    /// A watcher of a replica receives changes.
    pub(crate) fn watch(&mut self, replica: usize, items: &[FeedItem]) {
        if self.unseen {
            return;
        }
        let (position, seen) = self.watched.entry(replica).or_default();
        for item in items {
            assert_eq!(
                item.position,
                *position + 1,
                "the feed of {replica} has a gap"
            );
            *position = item.position;
            let told = Told {
                revision: item.change.entry.revision,
                there: item.change.entry.value.is_some(),
                expired: item.expired,
            };
            let gone = item.change.entry.is_tombstone();
            let excused = self.excused.contains(&(replica, item.change.key.clone()));
            let before = seen.insert(item.change.key.clone(), told);
            let expires = before.is_some_and(|before| before.revision == told.revision);
            assert!(
                excused
                    || before.is_none_or(|before| match expires {
                        true => gone || told.expired && !before.expired && before.there,
                        false => before.revision.version <= told.revision.version,
                    }),
                "the feed of {replica} goes back or repeats: {:?} after {before:?}",
                item.change
            );
            self.expiries_told += u64::from(expires);
        }
    }

    /// A replica got another disk: its watchers begin anew.
    pub(crate) fn forget_watch(&mut self, replica: usize) {
        self.watched.remove(&replica);
        self.shown.retain(|(shown_by, _), _| *shown_by != replica);
    }

    /// Up to where the watcher of a replica has read.
    pub(crate) fn watched_to(&self, replica: usize) -> u64 {
        self.watched
            .get(&replica)
            .map_or(0, |(position, _)| *position)
    }

    /// All replicas are idle and connected: what they hold must be the same, and must be
    /// what all writes together come to.
    pub(crate) fn check_end(&self, dumps: &[Vec<(Key, Document)>], clocks: &[Clock]) {
        for dot in &self.acknowledged {
            assert!(
                self.written.contains_key(dot),
                "{dot:?} was acknowledged and never written"
            );
        }
        // When each of them let go of what is settled makes no difference.
        let raw = dumps;
        let dumps: Vec<Vec<(Key, Document)>> = dumps.iter().map(|dump| settled(dump)).collect();
        let expected = self.expected();
        let maps: Vec<BTreeMap<&Key, &Document>> = dumps
            .iter()
            .map(|dump| dump.iter().map(|(key, document)| (key, document)).collect())
            .collect();
        // What was taken out may have gone on to somewhere else before, in part.
        let whole = |key: &Key| !self.exported.contains(key);
        let held = |key| maps.iter().map(move |held| held.get(key).copied());
        for (key, document) in expected.iter().filter(|(key, _)| whole(key)) {
            check_deleted(key, document, &held(key).collect::<Vec<_>>());
        }
        let raw_expected: Vec<(Key, Document)> = expected
            .iter()
            .map(|(key, document)| (key.clone(), document.clone()))
            .collect();
        let mut expected = settled(&raw_expected);
        expected.retain(|(key, _)| whole(key));
        for (key, document) in &expected {
            self.check_kept(key, document, &held(key).collect::<Vec<_>>());
        }
        let first = &dumps[0];
        for (replica, dump) in dumps.iter().enumerate() {
            assert!(
                dump == first,
                "invariant 2: {}",
                difference(replica, first, dump)
            );
            self.check_watched(replica, &raw[replica], clocks[replica]);
        }
        let mut held = first.clone();
        held.retain(|(key, _)| whole(key));
        assert!(
            expected == held,
            "invariant 2: the documents are not what their writes come to: {}",
            difference(0, &expected, &held)
        );
    }

    /// What all writes together come to.
    fn expected(&self) -> BTreeMap<Key, Document> {
        let mut expected: BTreeMap<Key, Document> = BTreeMap::new();
        for Delta { key, write } in self.written.values() {
            expected.entry(key.clone()).or_default().merge(write);
        }
        expected
    }

    /// What was acknowledged and has a say is there on one replica at least.
    fn check_kept(&self, key: &Key, expected: &Document, held: &[Option<&Document>]) {
        for write in expected.writes() {
            let dot = write.version.dot;
            let has = |held: &&Document| held.writes().iter().any(|own| own.version.dot == dot);
            let kept = held.iter().flatten().any(has);
            assert!(
                kept || !self.acknowledged.contains(&dot),
                "invariant 1: the acknowledged write {dot:?} of {key:?} is lost"
            );
        }
    }

    /// A watcher of this replica was told of everything that it holds.
    fn check_watched(&self, replica: usize, dump: &[(Key, Document)], clock: Clock) {
        if self.unseen {
            return;
        }
        let (_, seen) = self.watched.get(&replica).cloned().unwrap_or_default();
        for (key, document) in dump {
            let told = seen.get(key).copied();
            let revision = told.map(|told| told.revision);
            assert_eq!(revision, document.revision(), "{replica}: watch of {key:?}");
            let told = told.expect("a revision was told");
            check_expiry(told, document, clock);
        }
    }
}

/// What was deleted is there on no replica.
fn check_deleted(key: &Key, expected: &Document, held: &[Option<&Document>]) {
    // Before all time, so that nothing has expired.
    let is_there = |held: &Option<&Document>| held.is_some_and(|held| !held.is_tombstone(0));
    let back = held.iter().position(is_there);
    if let Some(replica) = back.filter(|_| expected.is_tombstone(0)) {
        panic!(
            "invariant 3: the deleted key {key:?} is there on replica {replica}: {:?}",
            held[replica]
        );
    }
}

/// What a watcher was told last is what a reader sees.
fn check_expiry(told: Told, document: &Document, clock: Clock) {
    // A moment that has only just come may wait for the disk.
    const SLACK_MS: u64 = 100;
    let what = || format!("{told:?} was told of {document:?} at {clock:?}");
    if told.there {
        let now_ms = clock.now_ms - SLACK_MS;
        assert!(!document.is_tombstone(now_ms), "too late: {}", what());
    } else {
        // Since then the clock may have been set back.
        assert!(
            document.is_tombstone(clock.latest_ms),
            "too early: {}",
            what()
        );
    }
}

/// What is left of a dump when all is settled.
fn settled(dump: &[(Key, Document)]) -> Vec<(Key, Document)> {
    let mut dump = dump.to_vec();
    for (_, document) in &mut dump {
        document.collect(Timestamp::LAST, &|_| true);
    }
    dump.retain(|(_, document)| !document.is_empty());
    dump
}

/// The first difference between two dumps.
fn difference(replica: usize, first: &[(Key, Document)], other: &[(Key, Document)]) -> String {
    let lacking = first.iter().find(|change| !other.contains(change));
    let extra = other.iter().find(|change| !first.contains(change));
    format!("replica {replica} differs from replica 0: it lacks {lacking:?}, it has {extra:?}")
}
