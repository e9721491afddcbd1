//! From what a client asks for to the parts that say so.
//!
//! This is the one place where the merge rule of a collection counts. What it writes
//! merges by itself (see the module above), so a rule that changes, or that two nodes
//! see differently, changes what later operations write and nothing else.
//!
//! **Writing over an expired document.** What expired must not shine through again
//! under what is written now, and the expiry itself must go. So such a write always
//! has a root, which ends both; what is still in sight (written late by someone who
//! did not know of the expiry) goes into the root or is written afresh. A root spares
//! tallies, so those out of sight are reset beside it.

mod counter;
mod fields;
mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

pub use set::ELEMENTS_MAX;

use super::tally::Tally;
use super::{Document, FIELD_BYTES_MAX, Part, PartWrite, json};
use crate::model::{Dot, Origin};

/// The merge rule of a collection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Merge {
    /// The last write of the whole document wins.
    Lww,
    /// The last write of each top-level field wins.
    Fields,
    /// Additions add up.
    Counter,
    /// Elements come and go one by one; of an addition and a removal at the same
    /// time, the addition wins.
    Set,
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lww => "lww",
            Self::Fields => "fields",
            Self::Counter => "counter",
            Self::Set => "set",
        })
    }
}

/// The text names no merge rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("no such merge rule; use \"lww\", \"fields\", \"counter\" or \"set\"")]
pub struct ParseMergeError;

impl FromStr for Merge {
    type Err = ParseMergeError;

    fn from_str(text: &str) -> Result<Self, ParseMergeError> {
        [Self::Lww, Self::Fields, Self::Counter, Self::Set]
            .into_iter()
            .find(|merge| merge.to_string() == text)
            .ok_or(ParseMergeError)
    }
}

/// What a client asks for. Bodies are JSON text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make the document this.
    Put(Bytes),
    /// Change the document by this.
    Patch(Bytes),
    /// Delete the document.
    Delete,
}

/// What else a plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Milliseconds of the writer's clock (not of its wall clock, which may be behind it):
    /// a document that has expired by it is written over, not added to.
    pub now_ms: u64,
    /// Milliseconds of the date of the write to be: later than `now_ms` over a document
    /// that bears a date far ahead.
    pub dated_ms: u64,
    /// The dot of the write to be.
    pub dot: Dot,
    /// When the document is to expire, in milliseconds since 1970. Without it a put
    /// makes it last, and a patch leaves it as it is.
    pub expires_at: Option<u64>,
}

/// What a client asked for cannot be done. Nothing was changed; the client is at fault.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The body is no JSON, or nests too deep.
    #[error("the body is not valid JSON; send one JSON value")]
    NotJson(#[source] serde_json::Error),
    /// A field's name is too long to be a part of its own.
    #[error(
        "a field has a name of {0} bytes; at most {FIELD_BYTES_MAX} are allowed where fields are merged one by one"
    )]
    FieldName(usize),
    /// A put to a counter is not an integer.
    #[error("a counter holds an integer from -2^63 to 2^63-1; send one, as in 42")]
    CounterPut,
    /// A patch of a counter is of another shape.
    #[error("to add to a counter send {{\"add\": 5}}, with an integer; a negative one subtracts")]
    CounterPatch,
    /// A counter would leave the range of its integers.
    #[error(
        "the counter would go beyond -2^63 to 2^63-1; send a smaller step, or delete it to begin anew"
    )]
    CounterOverflow,
    /// What the key holds cannot be counted on.
    #[error("the key holds {0}, which is no integer of 64 bits; delete it first")]
    NotACounter(&'static str),
    /// A put to a set is not a list.
    #[error("a set is written as a list; send one, as in [\"a\", \"b\"]")]
    SetPut,
    /// A patch of a set is of another shape.
    #[error(
        "to change a set send {{\"add\": [\"a\"], \"remove\": [\"b\"]}}, where either may be left out"
    )]
    SetPatch,
    /// A patch both adds and removes an element.
    #[error("{0} is both to be added and to be removed; name it once")]
    SetBoth(String),
    /// Too many elements at once.
    #[error("{0} elements at once; send at most {ELEMENTS_MAX} and change the rest by patches")]
    SetTooMany(usize),
    /// The document that is to become a set has too many elements.
    #[error(
        "the key holds {0} elements that have to be written again; at most 65536 can be: delete it first"
    )]
    SetTooLarge(usize),
    /// What the key holds cannot become a set.
    #[error("the key holds {0}, which is no list; delete it first")]
    NotASet(&'static str),
}

/// Which parts a client's operation writes over `current`: never none, in order, each
/// once.
///
/// The result may be large, since a put can remove all that was there; the caller
/// weighs it before it becomes a [`Write`](super::Write).
///
/// # Errors
/// [`PlanError`] tells the client what to send instead.
pub fn plan(
    merge: Merge,
    action: &Action,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    if let Action::Put(body) | Action::Patch(body) = action {
        json::check(body, json::DEPTH_MAX).map_err(PlanError::NotJson)?;
    }
    let mut parts = match (merge, action) {
        (Merge::Lww | Merge::Fields | Merge::Counter, Action::Delete) => whole(None, current),
        (Merge::Set, Action::Delete) => set::delete(current, context),
        (Merge::Lww, Action::Put(body)) => whole(Some(body.clone()), current),
        (Merge::Lww, Action::Patch(body)) => {
            whole(Some(patched(current, body, context.now_ms)), current)
        }
        (Merge::Fields, Action::Put(body)) => fields::put(body, current, context)?,
        (Merge::Fields, Action::Patch(body)) => fields::patch(body, current, context)?,
        (Merge::Counter, Action::Put(body)) => counter::put(body, current, context)?,
        (Merge::Counter, Action::Patch(body)) => counter::patch(body, current, context)?,
        (Merge::Set, Action::Put(body)) => set::put(body, current, context)?,
        (Merge::Set, Action::Patch(body)) => set::patch(body, current, context)?,
    };
    parts.extend(expiry(action, &parts, current, context));
    parts.sort_by(|a, b| a.part.cmp(&b.part));
    Ok(parts)
}

/// One root that is all there is afterwards. Since roots spare tallies, those that
/// are there are reset.
fn whole(text: Option<Bytes>, current: &Document) -> Vec<PartWrite> {
    let counted = current.tallies();
    let counted = counted.iter().filter(|tally| !tally.is_reset());
    let mut parts: Vec<PartWrite> = counted.map(reset).collect();
    parts.push(write(Part::Root, text));
    parts
}

/// What a merge patch makes of what is in sight.
fn patched(current: &Document, patch: &[u8], now_ms: u64) -> Bytes {
    let seen = current.value(now_ms);
    json::merge_patch(seen.as_deref().map(text), text(patch)).into()
}

/// The expiry that has to be written beside `parts`, if any.
fn expiry(
    action: &Action,
    parts: &[PartWrite],
    current: &Document,
    context: Context,
) -> Option<PartWrite> {
    let moment = |ms: u64| Some(Bytes::copy_from_slice(&ms.to_be_bytes()));
    let alive = current
        .expires_at()
        .filter(|_| !current.is_expired(context.now_ms));
    let ends_it = parts.iter().any(|write| write.part == Part::Root);
    // What is dated after the expiry would outlive it, unless it sets it again.
    let outlives = alive.is_some_and(|ms| context.dated_ms >= ms);
    let value = match (action, context.expires_at, alive) {
        (Action::Put(_) | Action::Patch(_), Some(ms), _) => moment(ms),
        (Action::Patch(_), None, Some(ms)) if ends_it || outlives => moment(ms),
        (Action::Put(_) | Action::Delete, _, Some(_)) if !ends_it => None,
        _ => return None,
    };
    Some(write(Part::Expiry, value))
}

fn write(part: Part, value: Option<Bytes>) -> PartWrite {
    PartWrite { part, value }
}

fn reset(tally: &Tally) -> PartWrite {
    write(Part::Reset(tally.origin), Some(tally.seen().encode()))
}

fn tally_of(current: &Document, origin: Origin) -> Option<Tally> {
    let mut tallies = current.tallies().into_iter();
    tallies.find(|tally| tally.origin == origin)
}

/// The text of a value that was checked; of one that was not, nothing that could be
/// taken for JSON.
pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
