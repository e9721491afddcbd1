//! Operations on a set: an observed-remove set in which additions win.
//!
//! Every addition of an element has a tag of its own, and a removal names the tags
//! that its writer saw. An addition it did not see has another tag, and stays.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;

use super::super::json::{self, Members};
use super::super::{Document, Kind, Part, PartWrite, Tag};
use super::{Context, PlanError, whole, write};

/// How many elements one operation may name.
pub const ELEMENTS_MAX: usize = 4096;
/// How many additions can be told apart within a write.
const TAGS_MAX: usize = 1 << u16::BITS;

/// The set as the writer sees it.
struct Seen {
    /// Its elements and the additions of each.
    elements: BTreeMap<Bytes, Vec<Tag>>,
    /// Whether a root goes before the write, so that what stays is written again.
    afresh: bool,
}

impl Seen {
    fn of(current: &Document, context: Context) -> Result<Self, PlanError> {
        if current.kind() == Kind::Set {
            return Ok(Self {
                elements: current.elements(context.now_ms),
                afresh: current.is_expired(context.now_ms),
            });
        }
        let Some(value) = current.value(context.now_ms) else {
            return Ok(Self {
                elements: BTreeMap::new(),
                afresh: current.is_expired(context.now_ms),
            });
        };
        // A list that was written as a whole becomes a set.
        let list = parse_list(&value).ok_or(PlanError::NotASet(json::sort_of(&value)))?;
        Ok(Self {
            elements: list.into_iter().map(|text| (text, Vec::new())).collect(),
            afresh: true,
        })
    }
}

pub(super) fn put(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let wanted = parse_list(body).ok_or(PlanError::SetPut)?;
    check_count(wanted.len())?;
    let seen = Seen::of(current, context)?;
    let gone = |element: &Bytes| !wanted.contains(element);
    let fresh = |element: &Bytes| !seen.elements.contains_key(element);
    let added = wanted.iter().filter(|element| fresh(element)).cloned();
    let removed = seen.elements.keys().filter(|element| gone(element));
    let (added, removed) = (added.collect(), removed.cloned().collect());
    change(&seen, added, removed, current, context)
}

pub(super) fn patch(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let members = Members::of(body).ok_or(PlanError::SetPatch)?;
    if members
        .iter()
        .any(|(name, _)| !matches!(name, "add" | "remove"))
    {
        return Err(PlanError::SetPatch);
    }
    let list = |name| match members.get(name) {
        Some(text) => parse_list(text.as_bytes()).ok_or(PlanError::SetPatch),
        None => Ok(BTreeSet::new()),
    };
    let (added, removed) = (list("add")?, list("remove")?);
    check_count(added.len() + removed.len())?;
    if let Some(both) = added.intersection(&removed).next() {
        return Err(PlanError::SetBoth(shown(both)));
    }
    change(
        &Seen::of(current, context)?,
        added,
        removed,
        current,
        context,
    )
}

/// Removes what was seen: the tags of each element, so that additions that were not
/// seen stay. With anything beside the set in the document, all of it.
pub(super) fn delete(current: &Document, context: Context) -> Vec<PartWrite> {
    let is_set = |part: &Part| matches!(part, Part::Set | Part::Element(_));
    let is_other = current
        .speaking(None)
        .any(|(_, write)| !is_set(&write.part));
    if is_other || current.is_expired(context.now_ms) {
        return whole(None, current);
    }
    let elements = current.elements(context.now_ms);
    let mut parts: Vec<PartWrite> = elements.values().flatten().map(untag).collect();
    parts.push(write(Part::Set, None));
    parts
}

/// Adds and removes elements. One that is there already gets a fresh tag in place of
/// those that were seen, so that it outlasts a removal at the same time.
fn change(
    seen: &Seen,
    added: BTreeSet<Bytes>,
    removed: BTreeSet<Bytes>,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let mut parts = Vec::new();
    let mut tagged = added.clone();
    if seen.afresh {
        parts.push(write(Part::Root, None));
        let kept = seen.elements.keys();
        tagged.extend(kept.filter(|element| !removed.contains(*element)).cloned());
    } else {
        let beaten = added.iter().chain(&removed);
        let tags = beaten.filter_map(|element| seen.elements.get(element));
        parts.extend(tags.flatten().map(untag));
    }
    let tagged_len = tagged.len();
    if tagged_len > TAGS_MAX {
        return Err(PlanError::SetTooLarge(tagged_len));
    }
    for (element, index) in tagged.into_iter().zip(0..=u16::MAX) {
        let dot = context.dot;
        parts.push(write(Part::Element(Tag { dot, index }), Some(element)));
    }
    if seen.afresh || parts.is_empty() || !current.has_set(context.now_ms) {
        parts.push(write(Part::Set, Some(Bytes::new())));
    }
    Ok(parts)
}

fn untag(tag: &Tag) -> PartWrite {
    write(Part::Element(*tag), None)
}

fn parse_list(text: &[u8]) -> Option<BTreeSet<Bytes>> {
    let list: Vec<Value> = serde_json::from_slice(text).ok()?;
    Some(list.into_iter().map(json::canonical).collect())
}

fn check_count(count: usize) -> Result<(), PlanError> {
    match count {
        0..=ELEMENTS_MAX => Ok(()),
        _ => Err(PlanError::SetTooMany(count)),
    }
}

fn shown(element: &[u8]) -> String {
    const CHARS_MAX: usize = 64;
    super::text(element).chars().take(CHARS_MAX).collect()
}
