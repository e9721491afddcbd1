//! Writes with a date far ahead of this replica's clock (DESIGN §6, trap (c)).
//!
//! **What is quarantined is the date, not the write.** A node whose clock is an hour ahead
//! dates its writes an hour ahead, and a node whose clock is an hour behind finds all others
//! ahead. To keep such writes out until their time has come would be wrong in both cases:
//! the first would come up after an hour and win over everything written since; the second
//! would see nothing of the cluster for an hour; and a date in the year 2099 would never
//! come. So a write is taken in at once whatever its date, and acknowledged, claimed and
//! passed on like any other; merging is by version as always, so replicas converge. But the
//! date goes no further than the document that bears it:
//!
//! - No clock takes it over (`model/clock.rs`), so nothing else is dated by it.
//! - A write over such a document is dated by the document: one tick later than what it
//!   was written over (`client_writes.rs`). So whoever writes over what he sees wins, on
//!   every node, at once. A clock only ever decides between writes that did not know of
//!   each other, and there the one ahead wins; hence its node should not take writes in the
//!   first place, and the agent sees to that.
//! - A clock that was set back begins anew from its wall clock, so that a node that was set
//!   right is right with the next write, though its store holds dates of its own from
//!   before.
//!
//! What it costs: the dates of one origin are not in the order of its writes, only those of
//! one document are. Nothing but the order of writes to one document depends on dates.
//!
//! Owned here: the record of who wrote ahead, how much and until when; it is in the store,
//! shown in the status, bounded by `WRITERS_MAX`, and an entry goes when its latest date
//! has come. A date that only repeats what a document bore already is not held against
//! its writer. It is a record for people: nothing depends on it. What can fail: a date
//! beyond [`Timestamp::LAST`] breaks the rules of the wire; a document that bears the very
//! last date cannot be written any more, and says so.

use std::collections::BTreeMap;

use super::Now;
use super::replica::Replica;
use crate::model::{Delta, Origin, Timestamp, Version};
use crate::storage::{DatedAhead, Reader, StoreError, Writer, dated_ahead, set_dated_ahead};

/// How many writers are remembered; above it those go first whose dates come first.
const WRITERS_MAX: usize = 64;

/// The record.
#[derive(Clone, Debug, Default)]
pub(super) struct AheadRecord {
    writers: BTreeMap<Origin, DatedAhead>,
    /// Not written yet.
    dirty: bool,
}

impl AheadRecord {
    pub(super) fn load(reader: &dyn Reader) -> Result<Self, StoreError> {
        let all = dated_ahead(reader)?.into_iter();
        Ok(Self {
            writers: all.map(|one| (one.origin, one)).collect(),
            dirty: false,
        })
    }

    /// Writes it, if it has changed.
    pub(super) fn save(&mut self, writer: &mut dyn Writer) -> Result<(), StoreError> {
        if std::mem::take(&mut self.dirty) {
            set_dated_ahead(writer, self.writers.values())?;
        }
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<DatedAhead> {
        self.writers.values().cloned().collect()
    }

    fn add(&mut self, delta: &Delta) {
        let Version { clock, dot } = delta.write.version;
        let one = self
            .writers
            .entry(dot.origin)
            .or_insert_with(|| DatedAhead {
                origin: dot.origin,
                writes: 0,
                latest: clock,
                key: delta.key.clone(),
            });
        one.writes = one.writes.saturating_add(1);
        if one.latest < clock {
            one.latest = clock;
            one.key = delta.key.clone();
        }
        if self.writers.len() > WRITERS_MAX {
            let first = self.writers.values().min_by_key(|one| one.latest);
            let first = first.map(|one| one.origin);
            if let Some(origin) = first {
                self.writers.remove(&origin);
            }
        }
        self.dirty = true;
    }

    /// Forgets the writers whose dates have all come; how many writes those were.
    fn expire(&mut self, has_come: impl Fn(Timestamp) -> bool) -> u64 {
        let mut writes = 0;
        self.writers.retain(|_, one| {
            let over = has_come(one.latest);
            if over {
                writes += one.writes;
            }
            !over
        });
        self.dirty |= writes > 0;
        writes
    }
}

impl Replica {
    /// Judges the date of another replica's write that is being taken in over what its
    /// document bore, if anything: takes the date over, or notes that it is far ahead.
    pub(super) fn date(&mut self, now: Now, delta: &Delta, over: Option<Timestamp>) {
        let clock = delta.write.version.clock;
        let bound_ms = self.config.clock_ahead_max_ms;
        let inherited = over.is_some_and(|over| over.successor() == clock);
        if !self.clock.observe(clock, now.wall_ms, bound_ms) {
            self.counters.dated_ahead += 1;
            if !inherited {
                self.ahead.add(delta);
            }
        }
    }

    /// Forgets the dates that have come.
    pub(super) fn expire_dates(&mut self, now: Now) {
        let bound_ms = self.config.clock_ahead_max_ms;
        let come = self
            .ahead
            .expire(|date| !date.is_ahead(now.wall_ms, bound_ms));
        self.counters.dates_come += come;
        self.changed |= come > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::{Action, Part, PartWrite, Write};
    use crate::model::{Collection, Dot, Epoch, Key, PeerId, ReplicaId};
    use crate::protocol::{
        AckTarget, Config, Input, Message, Operation, Output, RequestId, WriteRefused,
        WriteRequest, commit, standing,
    };
    use crate::storage::MemoryStorage;

    fn delta(writer: u8, millis: u64) -> Delta {
        let origin = Origin {
            replica: ReplicaId([writer; 16]),
            epoch: Epoch(1),
        };
        let version = Version {
            clock: Timestamp::from_millis(millis),
            dot: Dot { origin, seq: 1 },
        };
        let root = PartWrite {
            part: Part::Root,
            value: None,
        };
        Delta {
            key: Key::new(Collection::new("users").unwrap(), &format!("at-{millis}")).unwrap(),
            write: Write {
                version,
                parts: vec![root],
            },
        }
    }

    #[test]
    fn the_last_date_that_there_is_stops_one_document_and_says_so() {
        let storage = MemoryStorage::default();
        let now = Now {
            wall_ms: 1_000,
            elapsed: std::time::Duration::ZERO,
        };
        let id = ReplicaId([9; 16]);
        let mut replica = Replica::open(&storage, Config::default(), id, now, 1).unwrap();
        let mut last = delta(1, 0);
        last.write.version.clock = Timestamp::LAST;
        let key = last.key.clone();
        let push = Message::Push {
            changes: vec![last],
        };
        let push = Input::Message(PeerId::new("n1"), push);
        let mut inputs = standing::greeting("n1", ReplicaId([1; 16]), now);
        inputs.push(push);
        commit(&mut replica, &storage, now, inputs).unwrap();
        let mut write = |key: Key| {
            let action = Action::Put(b"1".as_slice().into());
            let request = WriteRequest {
                id: RequestId(1),
                operations: vec![Operation::new(key, action)],
                acks: AckTarget::Local,
                acks_timeout: std::time::Duration::ZERO,
            };
            let outputs = commit(&mut replica, &storage, now, vec![Input::Write(request)]);
            match outputs.unwrap().swap_remove(0) {
                Output::Reply(_, result) => result,
                other => panic!("{other:?}"),
            }
        };
        let refused = write(key).unwrap_err();
        assert!(matches!(refused, WriteRefused::Conflict(_)), "{refused}");
        write(delta(1, 7).key).unwrap();
        assert_eq!(replica.status().counters.dated_ahead, 1);
    }

    #[test]
    fn a_writer_is_named_with_its_latest_date_until_that_has_come() {
        let mut record = AheadRecord::default();
        for millis in [3_000, 9_000, 5_000] {
            record.add(&delta(1, millis));
        }
        record.add(&delta(2, 4_000));
        let listed = record.list();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].writes, 3);
        assert_eq!(listed[0].key.name(), "at-9000");
        let until = |millis| move |date: Timestamp| date.millis() <= millis;
        assert_eq!(record.expire(until(8_999)), 1);
        assert_eq!(record.expire(until(9_000)), 3);
        assert_eq!(record.list(), []);
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_dates_that_come_last() {
        let mut record = AheadRecord::default();
        for writer in 0..=u8::MAX {
            record.add(&delta(writer, 1_000 * u64::from(writer) + 1));
        }
        assert_eq!(record.list().len(), WRITERS_MAX);
        assert!(
            record
                .list()
                .iter()
                .all(|one| one.latest.millis() > 190_000)
        );
    }
}
