//! Letting go of what only remembers a deletion.
//!
//! A deletion must be remembered for as long as what it deleted may still arrive from
//! somewhere. Once that is over it is *settled*, and only takes room. Two things must
//! hold of what is let go here, and both follow from this: a part is dropped only if
//! **nothing speaks through it** (no reader sees a difference) and **nothing settled could
//! ever arrive that it would have beaten**.
//!
//! Nodes let go at different times and may then be written to, so the outcome must not
//! depend on who did it first: what is written over a document that lost such parts must
//! mean the same beside one that still has them. Therefore whoever writes relies on
//! nothing that may be dropped; a counter whose tally was reset begins a new one
//! (`plan/counter.rs`). What an expiry has hidden is not dropped here, since what is written
//! later may end the expiry, and it would come to light where it is still there. An expired
//! document is first [buried](Document::burial), by a write like any other.
//!
//! The parts of the greatest version stay unless all goes: a document's version never
//! goes back. Its resets may go beside another part of it: by its amount and not by its
//! version one reset takes the place of another, so that where a greater one was still
//! remembered when it came it is not there. A removed field stays too, since it hides a
//! field of the root.

use super::tally::Tally;
use super::{Document, Part, PartWrite};
use crate::model::{Dot, Timestamp, Version};

/// What became of a document that was to let go.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// Whether anything was let go of.
    pub changed: bool,
    /// Writes that have no part left in the document.
    pub died: Vec<Dot>,
}

impl Document {
    /// Lets go of all that only remembers a deletion. What is dated up to `upto` and of a
    /// write that is `settled` counts: this node must have every write that any node ever
    /// made or will make with such a date, and every node the settled ones.
    ///
    /// If nothing is left, the document [is empty](Self::is_empty).
    pub fn collect(&mut self, upto: Timestamp, settled: &dyn Fn(Dot) -> bool) -> Collected {
        let Some(greatest) = self.version() else {
            return Collected::default();
        };
        let is_settled = |version: &Version| version.clock <= upto && settled(version.dot);
        let all_settled = self.writes.iter().all(|write| is_settled(&write.version));
        // What is written from now on is later than such an expiry, which says nothing of it.
        let horizon = self.horizon(upto.millis());
        let expires = self.expires_at().is_some() && horizon.is_none();
        if all_settled && !expires && self.speaking(None).next().is_none() {
            let died = self.writes.iter().map(|write| write.version.dot).collect();
            self.writes.clear();
            let changed = true;
            return Collected { changed, died };
        }
        let hides = |version: &Version| horizon.is_some_and(|horizon| horizon.hides(version));
        let hides_something = self.speaking(None).any(|(version, _)| hides(version));
        let may_go = |version: &Version| *version != greatest && is_settled(version);
        let is_reset = |write: &PartWrite| matches!(write.part, Part::Reset(_));
        let rests_on_another = self
            .writes
            .iter()
            .filter(|write| write.version == greatest)
            .any(|write| !write.parts.iter().all(is_reset));
        let mut counting = self.tallies();
        counting.retain(|tally| !may_go(&tally.version) || !tally.is_reset());
        let find = |origin| counting.iter().find(|tally| tally.origin == origin);
        let goes = |version: &Version, write: &PartWrite| {
            let beside_another = rests_on_another && is_reset(write) && is_settled(version);
            (may_go(version) || beside_another)
                && match (&write.part, &write.value) {
                    (Part::Tally(origin), _) => find(*origin).is_none(),
                    // Of a tally that stays, what was taken off must be known.
                    (Part::Reset(origin), _) => !find(*origin).is_some_and(Tally::is_less),
                    (Part::Expiry, Some(_)) => !expires && !hides_something,
                    (Part::Field(_), _) | (_, Some(_)) => false,
                    (Part::Root | Part::Set | Part::Element(_) | Part::Expiry, None) => true,
                }
        };
        let mut collected = Collected::default();
        self.writes.retain_mut(|write| {
            let version = write.version;
            let before = write.parts.len();
            write.parts.retain(|part| !goes(&version, part));
            collected.changed |= write.parts.len() < before;
            if write.parts.is_empty() {
                collected.died.push(version.dot);
            }
            !write.parts.is_empty()
        });
        collected
    }

    /// Whether [`Self::collect`] up to this date, or a [burial](Self::burial), may find
    /// something: quick, and true rather too often.
    pub fn has_settled(&self, upto: Timestamp) -> bool {
        let remembers = |write: &PartWrite| match &write.part {
            Part::Field(_) => false,
            Part::Reset(_) | Part::Expiry => true,
            _ => write.value.is_none(),
        };
        self.iter()
            .any(|(version, write)| version.clock <= upto && remembers(write))
    }

    /// What deletes a document of which nothing is to be seen at `now_ms` because it has
    /// expired, and the date that it must bear: later than all that the document holds, and
    /// not later than that and the expiry call for, so that it ends nothing that is written
    /// after. `None` where there is nothing to bury.
    pub fn burial(&self, now_ms: u64) -> Option<(Timestamp, Vec<PartWrite>)> {
        let expired = self.is_expired(now_ms) && self.is_tombstone(now_ms);
        if !expired || self.speaking(None).next().is_none() {
            return None;
        }
        let tallies = self.tallies();
        let tallies = tallies.iter().filter(|tally| !tally.is_reset());
        let resets = tallies.map(|tally| PartWrite {
            part: Part::Reset(tally.origin),
            value: Some(tally.seen().encode()),
        });
        let root = PartWrite {
            part: Part::Root,
            value: None,
        };
        let mut parts: Vec<PartWrite> = resets.chain([root]).collect();
        parts.sort_by(|a, b| a.part.cmp(&b.part));
        let expiry = Timestamp::from_millis(self.expires_at()?);
        Some((expiry.max(self.version()?.clock.successor()), parts))
    }
}
