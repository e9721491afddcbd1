//! What a reader sees of a document.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::json::{self, Members};
use super::{Document, Part, PartWrite, Tag};
use crate::model::Version;

/// What a document is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A JSON text, perhaps with fields laid over it.
    Plain,
    /// A counter.
    Counter,
    /// A set.
    Set,
}

/// What a document's expiry has put out of sight.
///
/// It is as if a deletion lay at the moment of expiry. Whatever is older is out of
/// sight, and so is all that is not newer than the expiry itself, or a time to live
/// shorter than the skew of the writer's clock would never end.
#[derive(Clone, Copy)]
pub(super) struct Horizon {
    at_ms: u64,
    set_by: Version,
}

impl Horizon {
    pub(super) fn hides(&self, version: &Version) -> bool {
        version.clock.millis() < self.at_ms || *version <= self.set_by
    }
}

impl Document {
    /// What the document is read as: what the newest part makes it that has something
    /// to say. Deletions and resets have not, so that what a deletion had not seen
    /// comes out under it as what it is. A function of the state alone: all nodes agree.
    pub fn kind(&self) -> Kind {
        let newest = self
            .speaking(None)
            .max_by(|(a, a_part), (b, b_part)| (a, &a_part.part).cmp(&(b, &b_part.part)));
        match newest.map(|(_, write)| &write.part) {
            Some(Part::Tally(_)) => Kind::Counter,
            Some(Part::Set | Part::Element(_)) => Kind::Set,
            _ => Kind::Plain,
        }
    }

    /// The JSON text that a reader sees at `now_ms`, or `None` where there is none.
    pub fn value(&self, now_ms: u64) -> Option<Bytes> {
        // Most documents are this, and a root alone cannot expire.
        if let Some(root) = self.only_root() {
            return root.cloned();
        }
        match self.kind() {
            Kind::Plain => self.plain(now_ms),
            Kind::Counter => Some(self.count(now_ms)?.to_string().into()),
            Kind::Set => self.list(now_ms),
        }
    }

    /// Whether there is nothing to see at `now_ms`.
    pub fn is_tombstone(&self, now_ms: u64) -> bool {
        if let Some(root) = self.only_root() {
            return root.is_none();
        }
        self.speaking(self.horizon(now_ms)).next().is_none()
    }

    /// When the document expires, in milliseconds since 1970.
    pub fn expires_at(&self) -> Option<u64> {
        let (_, moment) = self.part(&Part::Expiry)?;
        Some(u64::from_be_bytes(moment?.as_ref().try_into().ok()?))
    }

    /// Whether it has expired at `now_ms`. What was written later, by someone who did
    /// not know of the expiry, is seen even so.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.horizon(now_ms).is_some()
    }

    pub(super) fn horizon(&self, now_ms: u64) -> Option<Horizon> {
        let at_ms = self.expires_at()?;
        let (set_by, _) = self.part(&Part::Expiry)?;
        let set_by = *set_by;
        (at_ms <= now_ms).then_some(Horizon { at_ms, set_by })
    }

    /// The parts in sight that make the document exist.
    pub(super) fn speaking(
        &self,
        horizon: Option<Horizon>,
    ) -> impl Iterator<Item = (&Version, &PartWrite)> {
        let tallies = self.tallies().into_iter();
        let counting: BTreeSet<_> = tallies
            .filter(|tally| !tally.is_reset())
            .map(|tally| tally.origin)
            .collect();
        self.in_sight(horizon)
            .filter(move |(_, write)| match &write.part {
                Part::Root | Part::Set | Part::Element(_) => write.value.is_some(),
                Part::Field(_) => true,
                Part::Tally(origin) => counting.contains(origin),
                Part::Reset(_) | Part::Expiry => false,
            })
    }

    fn in_sight(&self, horizon: Option<Horizon>) -> impl Iterator<Item = (&Version, &PartWrite)> {
        self.iter()
            .filter(move |(version, _)| !horizon.is_some_and(|horizon| horizon.hides(version)))
    }

    /// The root's text, if it is in sight and not a deletion.
    pub(super) fn root(&self, now_ms: u64) -> Option<&Bytes> {
        let (version, text) = self.part(&Part::Root)?;
        let horizon = self.horizon(now_ms);
        text.filter(|_| !horizon.is_some_and(|horizon| horizon.hides(version)))
    }

    fn plain(&self, now_ms: u64) -> Option<Bytes> {
        let root = self.root(now_ms);
        let mut fields = BTreeMap::new();
        for (_, write) in self.in_sight(self.horizon(now_ms)) {
            if let Part::Field(name) = &write.part {
                fields.insert(name, &write.value);
            }
        }
        if fields.is_empty() {
            return root.cloned();
        }
        let mut members = root.and_then(|text| Members::of(text)).unwrap_or_default();
        for (name, value) in fields {
            match value.as_deref().map(std::str::from_utf8) {
                Some(Ok(text)) => members.set(name, text),
                _ => members.remove(name),
            }
        }
        Some(members.to_text().into())
    }

    /// What the document comes to as a counter; `None` where there is nothing.
    pub(super) fn count(&self, now_ms: u64) -> Option<i128> {
        let root = self.root(now_ms);
        let horizon = self.horizon(now_ms);
        let mut tallies = self.tallies();
        tallies.retain(|tally| {
            !tally.is_reset() && !horizon.is_some_and(|horizon| horizon.hides(&tally.version))
        });
        if root.is_none() && tallies.is_empty() {
            return None;
        }
        let base = root.and_then(|text| json::integer(text)).unwrap_or(0);
        let counted: i128 = tallies.iter().map(|tally| tally.remainder()).sum();
        Some(i128::from(base) + counted)
    }

    /// The elements in sight, each with the additions that made it be there.
    pub(super) fn elements(&self, now_ms: u64) -> BTreeMap<Bytes, Vec<Tag>> {
        let mut elements: BTreeMap<Bytes, Vec<Tag>> = BTreeMap::new();
        for (_, write) in self.in_sight(self.horizon(now_ms)) {
            if let (Part::Element(tag), Some(text)) = (&write.part, &write.value) {
                elements.entry(text.clone()).or_default().push(*tag);
            }
        }
        elements
    }

    /// Whether a set is in sight, even one without elements.
    pub(super) fn has_set(&self, now_ms: u64) -> bool {
        self.in_sight(self.horizon(now_ms))
            .any(|(_, write)| write.part == Part::Set && write.value.is_some())
    }

    fn list(&self, now_ms: u64) -> Option<Bytes> {
        let elements = self.elements(now_ms);
        if elements.is_empty() && !self.has_set(now_ms) {
            return None;
        }
        let mut text = vec![b'['];
        for (at, element) in elements.keys().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(element);
        }
        text.push(b']');
        Some(text.into())
    }
}
