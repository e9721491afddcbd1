//! What a key is to hold on every node, from what each holds now.
//!
//! A function of what the nodes hold, so that whoever asks comes to the same: writes of
//! different names merge, as they always do, and nothing that one node has and others lack is
//! dropped. Copies of **one** write that contradict each other cannot all be right:
//! 1. A copy that its own node's index does not know is a damaged name, and counts only where
//!    there is no other document.
//! 2. A value that breaks the rules for its part yields to one that does not.
//! 3. Then what most nodes hold wins.
//! 4. Then the greater hash: arbitrary, but the same everywhere. The plan says so, because a
//!    person should look first.
//!
//! One case is not decided at all: a part that half of the nodes or more lack altogether, and
//! that is so old that a deletion of it may have been let go of. It was deleted and came back
//! with an old disk, say, or those that lack it have lost it. To delete it would lose it in
//! the second case, and to restore it would bring it back in the first, so that a person has
//! to write it again or to delete it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::content;
use super::message::{Content, Held};
use crate::model::document::{Document, Part, PartWrite, Write};
use crate::model::{Dot, Timestamp, Version};

/// What a key is to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The document.
    pub document: Document,
    /// Which nodes are to take it, by their place in the list.
    pub nodes: Vec<usize>,
    /// Why it is this one: the least certain reason of all that were needed.
    pub reason: Reason,
}

/// Why a plan is what it is, the most certain first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// All that the nodes hold was merged; nothing contradicts.
    Merged,
    /// Copies that cannot be read or break the rules yielded to those that can.
    Sound,
    /// Of contradicting copies of a write the one that most nodes hold.
    Majority,
    /// Of contradicting copies of a write the one with the greater hash, for want of a
    /// majority.
    Hash,
    /// It is not to be carried out: it would bring back what may have been deleted.
    Forgotten,
}

/// What to do about a key; `None` where no node holds a document that can be read. Deletions
/// dated up to `floor` may have been let go of.
pub fn plan(key: &[u8], held: &[Held], floor: Timestamp) -> Option<Plan> {
    let mut reason = Reason::Merged;
    if held.iter().any(|held| held.content == Content::Damaged) {
        reason = Reason::Sound;
    }
    let copies = copies(held, &mut reason);
    let mut writes: Vec<Write> = Vec::new();
    for (dot, copies) in copies {
        writes.extend(settle(dot, &copies, &mut reason));
    }
    writes.sort_by_key(|write| write.version);
    let mut document = Document::default();
    for write in &writes {
        document.merge(write);
    }
    if document.is_empty() {
        return None;
    }
    if is_forgotten(&content::lasting(&document), held, floor) {
        reason = Reason::Forgotten;
    }
    let digest = content::of_document(key, &document);
    let differs = |node: &usize| held[*node].digest != digest;
    Some(Plan {
        document,
        nodes: (0..held.len()).filter(differs).collect(),
        reason,
    })
}

/// Whether a document has parts that may have been deleted, and the deletion let go of.
fn is_forgotten(document: &Document, held: &[Held], floor: Timestamp) -> bool {
    let lacks = |held: &&Held, part: &Part| match &held.content {
        Content::Nothing => true,
        Content::Damaged => false,
        Content::Document(document) => document.part(part).is_none(),
    };
    let writes = document.writes().iter();
    let old = writes.filter(|write| write.version.clock <= floor);
    let mut old = old.flat_map(|write| &write.parts);
    old.any(|one| {
        let lacking = held.iter().filter(|held| lacks(held, &one.part)).count();
        one.value.is_some() && 2 * lacking >= held.len()
    })
}

/// The copies of each write.
fn copies<'h>(held: &'h [Held], reason: &mut Reason) -> BTreeMap<Dot, Vec<&'h Write>> {
    let writes = |held: &'h Held| held.document().map_or(&[][..], Document::writes);
    let is_firm = |held: &Held, write: &Write| !held.loose.contains(&write.version.dot);
    let any_firm = held
        .iter()
        .any(|held| writes(held).iter().any(|write| is_firm(held, write)));
    let mut copies: BTreeMap<Dot, Vec<&Write>> = BTreeMap::new();
    for held in held {
        for write in writes(held) {
            if is_firm(held, write) || !any_firm {
                copies.entry(write.version.dot).or_default().push(write);
            } else {
                *reason = Reason::Sound.max(*reason);
            }
        }
    }
    copies
}

/// One write out of its copies, each of which may lack parts that have been beaten.
fn settle(dot: Dot, copies: &[&Write], reason: &mut Reason) -> Option<Write> {
    let clocks = copies.iter().map(|write| write.version.clock);
    let in_range = |clock: &Timestamp| *clock <= Timestamp::LAST;
    let bytes = |clock: &Timestamp| clock.0.to_be_bytes().to_vec();
    let clock = elect(clocks, in_range, bytes, reason)?;
    let version = Version { clock, dot };
    let mut parts: BTreeMap<&Part, Vec<Option<&Bytes>>> = BTreeMap::new();
    for PartWrite { part, value } in copies.iter().flat_map(|write| &write.parts) {
        parts.entry(part).or_default().push(value.as_ref());
    }
    let elected = parts.into_iter().filter_map(|(part, values)| {
        let written = |value: &Option<&Bytes>| PartWrite {
            part: part.clone(),
            value: value.cloned(),
        };
        let is_sound = |value: &Option<&Bytes>| written(value).check(&version).is_ok();
        let bytes = |value: &Option<&Bytes>| {
            let mut bytes = vec![u8::from(value.is_some())];
            bytes.extend_from_slice(value.map_or(&[][..], |value| value));
            bytes
        };
        Some(written(&elect(values, is_sound, bytes, reason)?))
    });
    let parts: Vec<PartWrite> = elected.collect();
    (!parts.is_empty()).then_some(Write { version, parts })
}

/// The sound one, else the most frequent, else the one with the greater hash; notes what it
/// took to decide. `None` where none is sound.
fn elect<T: Copy + Ord>(
    ballots: impl IntoIterator<Item = T>,
    is_sound: impl Fn(&T) -> bool,
    bytes: impl Fn(&T) -> Vec<u8>,
    reason: &mut Reason,
) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for ballot in ballots {
        *counts.entry(ballot).or_default() += 1;
    }
    let cast = counts.len();
    counts.retain(|ballot, _| is_sound(ballot));
    if counts.len() < cast {
        *reason = Reason::Sound.max(*reason);
    }
    let hash = |ballot: &T| *blake3::hash(&bytes(ballot)).as_bytes();
    let mut ranked: Vec<(usize, [u8; 32], T)> = counts
        .into_iter()
        .map(|(ballot, count)| (count, hash(&ballot), ballot))
        .collect();
    ranked.sort_by_key(|(count, hash, _)| Reverse((*count, *hash)));
    match ranked.as_slice() {
        [(first, ..), (second, ..), ..] if first == second => *reason = Reason::Hash,
        [_, _, ..] => *reason = Reason::Majority.max(*reason),
        _ => {}
    }
    ranked.first().map(|(.., ballot)| *ballot)
}
