//! What the tallies of a counter come to.

use std::collections::BTreeMap;

use super::{Amount, Document, Part};
use crate::model::{Origin, Seq, Version};

/// What one origin has counted, and how much of that was taken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) origin: Origin,
    /// The last addition.
    pub(super) version: Version,
    /// The write that began the count.
    pub(super) since: Seq,
    /// The running total.
    pub(super) total: i64,
    reset: Option<Amount>,
}

impl Tally {
    /// Whether a deletion has seen all of it.
    pub(super) fn is_reset(&self) -> bool {
        self.reset
            .is_some_and(|reset| reset.seq >= self.version.dot.seq)
    }

    /// Whether a deletion has seen some of it.
    pub(super) fn is_less(&self) -> bool {
        self.reset.is_some_and(|reset| reset.seq >= self.since)
    }

    /// What no deletion has seen.
    pub(super) fn remainder(&self) -> i128 {
        match self.reset {
            Some(_) if self.is_reset() => 0,
            Some(reset) if self.is_less() => i128::from(self.total) - i128::from(reset.total),
            _ => i128::from(self.total),
        }
    }

    /// What a deletion writes down that has seen it.
    pub(super) fn seen(&self) -> Amount {
        Amount {
            seq: self.version.dot.seq,
            total: self.total,
        }
    }
}

impl Document {
    /// All tallies, ascending by version.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let amount = |value: &Option<bytes::Bytes>| Amount::decode(value.as_ref()?);
        let mut resets = BTreeMap::new();
        let mut tallies = Vec::new();
        for (version, write) in self.iter() {
            match (&write.part, amount(&write.value)) {
                (Part::Reset(origin), Some(reset)) => {
                    resets.insert(*origin, reset);
                }
                (Part::Tally(origin), Some(count)) => tallies.push(Tally {
                    origin: *origin,
                    version: *version,
                    since: count.seq,
                    total: count.total,
                    reset: None,
                }),
                _ => {}
            }
        }
        for tally in &mut tallies {
            tally.reset = resets.get(&tally.origin).copied();
        }
        tallies
    }
}
