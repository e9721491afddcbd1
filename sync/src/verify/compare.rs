//! One key on several nodes: whether what they hold differs truly, and in which parts.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::content;
use super::message::{Content, Held};
use crate::model::document::{Document, Part};
use crate::model::{Version, VersionVector};

/// A key that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which, as a key of `entries`.
    pub key: Bytes,
    /// In which parts; never empty.
    pub parts: Vec<PartDifference>,
}

/// A part that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartDifference {
    /// Which part; `None` where a node cannot read its row at all.
    pub part: Option<Part>,
    /// What each node says of it, in the order of the nodes; `None` for a node that is not
    /// in conflict with any other, because it waits for one or one for it.
    pub states: Vec<Option<PartState>>,
}

/// What a node holds for a part.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PartState {
    /// Nothing.
    Absent,
    /// A row that cannot be read.
    Damaged,
    /// The value that a write gave it, or took from it.
    Is(Version, Option<Bytes>),
}

/// The parts in which a key differs between nodes of which none waits for another; `held` and
/// `vectors` are of the same nodes at the same moments.
pub fn parts(held: &[Held], vectors: &[VersionVector]) -> Vec<PartDifference> {
    let documents: Vec<Option<Cow<'_, Document>>> = held.iter().map(settled).collect();
    let mut parts: BTreeSet<&Part> = BTreeSet::new();
    for document in documents.iter().flatten() {
        let writes = document.writes().iter();
        parts.extend(writes.flat_map(|write| write.parts.iter().map(|part| &part.part)));
    }
    let named = parts.into_iter().map(Some);
    let is_damaged = |held: &Held| held.content == Content::Damaged;
    let unreadable = held.iter().any(is_damaged).then_some(None);
    let all = unreadable.into_iter().chain(named);
    let conflicts = conflicts(held, vectors);
    all.filter_map(|part| {
        let states = held.iter().zip(&documents);
        let states = states.map(|(held, document)| state(part, held, document.as_deref()));
        difference(part, states.collect(), &conflicts)
    })
    .collect()
}

/// The document without what only remembers a deletion, as its digest has it.
fn settled(held: &Held) -> Option<Cow<'_, Document>> {
    let document = held.document()?;
    Some(match held.loose.is_empty() {
        true => content::lasting(document),
        false => Cow::Borrowed(document),
    })
}

/// Pairs of nodes that hold different rows and do not wait for each other.
fn conflicts(held: &[Held], vectors: &[VersionVector]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for a in 0..held.len() {
        for b in a + 1..held.len() {
            let unreadable =
                held[a].content == Content::Damaged || held[b].content == Content::Damaged;
            let settled = || rests_on(&held[a], &vectors[b]) && rests_on(&held[b], &vectors[a]);
            if held[a].digest != held[b].digest && (unreadable || settled()) {
                pairs.push((a, b));
            }
        }
    }
    pairs
}

/// Whether a vector has all that a document rests on. Writes that its own node does not know
/// of are not on their way anywhere.
fn rests_on(held: &Held, vector: &VersionVector) -> bool {
    let writes = held.document().map_or(&[][..], Document::writes).iter();
    let mut dots = writes.map(|write| write.version.dot);
    dots.all(|dot| held.loose.contains(&dot) || vector.contains(dot))
}

fn difference(
    part: Option<&Part>,
    states: Vec<PartState>,
    conflicts: &[(usize, usize)],
) -> Option<PartDifference> {
    // Of a row that cannot be read nothing is known of any part but that.
    let readable = |node: usize| part.is_none() || states[node] != PartState::Damaged;
    let mut shown = vec![None; states.len()];
    for (a, b) in conflicts {
        if states[*a] != states[*b] && readable(*a) && readable(*b) {
            for node in [*a, *b] {
                shown[node] = Some(states[node].clone());
            }
        }
    }
    let part = part.cloned();
    shown.iter().any(Option::is_some).then_some(PartDifference {
        part,
        states: shown,
    })
}

fn state(part: Option<&Part>, held: &Held, document: Option<&Document>) -> PartState {
    match (&held.content, part.zip(document)) {
        (Content::Damaged, _) => PartState::Damaged,
        (_, None) => PartState::Absent,
        (_, Some((part, document))) => match document.part(part) {
            Some((version, value)) => PartState::Is(*version, value.cloned()),
            None => PartState::Absent,
        },
    }
}

/// The differences that are there in both looks, between nodes that hold the same in both.
pub fn lasting(first: &[PartDifference], second: Vec<PartDifference>) -> Vec<PartDifference> {
    let seen_before = |mut now: PartDifference| {
        let before = first.iter().find(|before| before.part == now.part)?;
        for (now, before) in now.states.iter_mut().zip(&before.states) {
            if now != before {
                *now = None;
            }
        }
        let distinct: BTreeSet<&PartState> = now.states.iter().flatten().collect();
        (distinct.len() > 1).then_some(now)
    };
    second.into_iter().filter_map(seen_before).collect()
}
