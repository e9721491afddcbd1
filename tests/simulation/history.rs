//! What clients did and saw, and what must be true of it.
//!
//! Invariants (their numbers as in the test plan): 1 an acknowledged write is never
//! lost; 2 replicas converge; 3 no deleted key comes back; 4 versions of one origin
//! only grow, and a number is never given to two writes; 5 what one replica shows
//! never goes back in time; and a watcher sees each change once, in order.

use std::collections::BTreeMap;

use basic_sync::model::{Change, Dot, Key, Origin, Seq, Timestamp, Version};
use basic_sync::protocol::{RequestId, WriteReceipt};
use basic_sync::storage::state::FeedItem;
use bytes::Bytes;

/// What a client asked for.
#[derive(Clone, Debug)]
struct Attempt {
    keys: Vec<Key>,
    values: Vec<Option<Bytes>>,
}

/// Everything that was asked for, promised and seen.
#[derive(Default)]
pub(crate) struct History {
    attempts: BTreeMap<RequestId, Attempt>,
    acknowledged: BTreeMap<Key, Vec<(Version, Option<Bytes>)>>,
    /// Writes as they were pushed: dot → what it wrote.
    written: BTreeMap<Dot, Change>,
    last_of_origin: BTreeMap<Origin, (Seq, Timestamp)>,
    /// Per replica and key the newest version that it has shown.
    shown: BTreeMap<(usize, Key), Version>,
    /// Per replica what a watcher has been told.
    watched: BTreeMap<usize, (u64, BTreeMap<Key, Version>)>,
    pub(crate) writes_acknowledged: u64,
}

impl History {
    /// A client asks for a write.
    pub(crate) fn attempt(&mut self, id: RequestId, keys: Vec<Key>, values: Vec<Option<Bytes>>) {
        self.attempts.insert(id, Attempt { keys, values });
    }

    /// A client is told that its write is durable.
    pub(crate) fn acknowledge(&mut self, id: RequestId, receipt: &WriteReceipt) {
        let attempt = &self.attempts[&id];
        assert_eq!(
            attempt.keys.len(),
            receipt.versions.len(),
            "one version an operation"
        );
        self.writes_acknowledged += 1;
        for ((key, value), version) in attempt
            .keys
            .iter()
            .zip(&attempt.values)
            .zip(&receipt.versions)
        {
            self.acknowledged
                .entry(key.clone())
                .or_default()
                .push((*version, value.clone()));
        }
    }

    /// A replica pushes its own writes.
    pub(crate) fn push(&mut self, changes: &[Change]) {
        for change in changes {
            let Version { clock, dot } = change.entry.version;
            if let Some(before) = self.written.insert(dot, change.clone()) {
                assert_eq!(
                    &before, change,
                    "invariant 4: {dot:?} was given to two writes"
                );
            }
            if let Some((seq, before)) = self.last_of_origin.get(&dot.origin) {
                assert!(
                    dot.seq > *seq && clock > *before,
                    "invariant 4: {dot:?} at {clock:?} follows {seq} at {before:?}"
                );
            }
            self.last_of_origin.insert(dot.origin, (dot.seq, clock));
        }
    }

    /// A client reads a key on a replica.
    pub(crate) fn read(&mut self, replica: usize, key: &Key, version: Option<Version>) {
        let shown = self.shown.get(&(replica, key.clone()));
        assert!(
            version.as_ref() >= shown,
            "invariant 5: replica {replica} showed {key:?} at {shown:?} and now at {version:?}"
        );
        if let Some(version) = version {
            self.shown.insert((replica, key.clone()), version);
        }
    }

    /// A watcher of a replica receives changes.
    pub(crate) fn watch(&mut self, replica: usize, items: &[FeedItem]) {
        let (position, seen) = self.watched.entry(replica).or_default();
        for item in items {
            assert_eq!(
                item.position,
                *position + 1,
                "the feed of {replica} has a gap"
            );
            *position = item.position;
            let version = item.change.entry.version;
            let before = seen.insert(item.change.key.clone(), version);
            assert!(
                before < Some(version),
                "the feed of {replica} goes back: {:?}",
                item.change
            );
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

    /// All replicas are idle and connected: what they hold must be the same and must
    /// be what clients were promised.
    pub(crate) fn check_end(&self, dumps: &[Vec<Change>]) {
        let first = &dumps[0];
        for (replica, dump) in dumps.iter().enumerate() {
            assert!(
                dump == first,
                "invariant 2: {}",
                difference(replica, first, dump)
            );
            let (_, seen) = self.watched.get(&replica).cloned().unwrap_or_default();
            for change in dump {
                let told = seen.get(&change.key);
                assert_eq!(
                    told,
                    Some(&change.entry.version),
                    "{replica}: watch of {:?}",
                    change.key
                );
            }
        }
        let state: BTreeMap<&Key, &Change> =
            first.iter().map(|change| (&change.key, change)).collect();
        for (key, promised) in &self.acknowledged {
            let Some((newest, value)) = promised.iter().max_by_key(|(version, _)| *version) else {
                continue;
            };
            let held = state.get(key);
            let version = held.map(|change| change.entry.version);
            assert!(
                version >= Some(*newest),
                "invariant 1: {key:?} was acknowledged at {newest:?} and is at {version:?}"
            );
            if version == Some(*newest) {
                let held = held.and_then(|change| change.entry.value.clone());
                assert_eq!(
                    &held, value,
                    "invariants 1, 3: {key:?} does not hold what was written"
                );
            }
        }
        for change in first {
            let asked = self.attempts.values().any(|attempt| {
                let mut pairs = attempt.keys.iter().zip(&attempt.values);
                pairs.any(|(key, value)| *key == change.key && *value == change.entry.value)
            });
            assert!(asked, "nobody wrote {change:?}");
        }
    }
}

/// The first difference between two dumps.
fn difference(replica: usize, first: &[Change], other: &[Change]) -> String {
    let lacking = first.iter().find(|change| !other.contains(change));
    let extra = other.iter().find(|change| !first.contains(change));
    format!("replica {replica} differs from replica 0: it lacks {lacking:?}, it has {extra:?}")
}
