//! Operations on a counter.
//!
//! An origin writes the running total of its own additions and nobody else's, so that
//! additions made at the same time add up. A put is an addition too: of what is
//! missing from what its writer saw.

use bytes::Bytes;

use super::super::json::{self, Members};
use super::super::{Amount, Document, Kind, Part, PartWrite};
use super::{Context, PlanError, reset, tally_of, write};

pub(super) fn put(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let wanted = json::integer(body).ok_or(PlanError::CounterPut)?;
    let seen = seen(current, context)?;
    add(i128::from(wanted) - seen, current, context)
}

pub(super) fn patch(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let members = Members::of(body).ok_or(PlanError::CounterPatch)?;
    if members.iter().any(|(name, _)| name != "add") {
        return Err(PlanError::CounterPatch);
    }
    let step = members
        .get("add")
        .and_then(|text| json::integer(text.as_bytes()))
        .ok_or(PlanError::CounterPatch)?;
    let sum = seen(current, context)? + i128::from(step);
    i64::try_from(sum).map_err(|_| PlanError::CounterOverflow)?;
    add(i128::from(step), current, context)
}

/// What the counter stands at, as it is read once a tally is its newest part: additions
/// that a later root has hidden count in.
fn seen(current: &Document, context: Context) -> Result<i128, PlanError> {
    if current.kind() != Kind::Counter
        && let Some(value) = current.value(context.now_ms)
        && json::integer(&value).is_none()
    {
        return Err(PlanError::NotACounter(json::sort_of(&value)));
    }
    Ok(current.count(context.now_ms).unwrap_or(0))
}

fn add(step: i128, current: &Document, context: Context) -> Result<Vec<PartWrite>, PlanError> {
    let origin = context.dot.origin;
    // A count of which a deletion has seen all begins anew: where the deletion was collected
    // already, nobody knows any more what to take off the old one.
    let counting = tally_of(current, origin).filter(|tally| !tally.is_reset());
    let count = match counting {
        Some(tally) => Amount {
            seq: tally.since,
            total: tally.total,
        },
        None => Amount {
            seq: context.dot.seq,
            total: 0,
        },
    };
    let total =
        i64::try_from(i128::from(count.total) + step).map_err(|_| PlanError::CounterOverflow)?;
    let count = Amount { total, ..count };
    let mut parts = expired(current, context);
    parts.push(write(Part::Tally(origin), Some(count.encode())));
    Ok(parts)
}

/// What takes an expired counter out of the way.
fn expired(current: &Document, context: Context) -> Vec<PartWrite> {
    let Some(horizon) = current.horizon(context.now_ms) else {
        return Vec::new();
    };
    let tallies = current.tallies();
    let mut parts: Vec<PartWrite> = tallies
        .iter()
        .filter(|tally| horizon.hides(&tally.version) && !tally.is_reset())
        .map(reset)
        .collect();
    let root = current.root(context.now_ms).cloned();
    parts.push(write(Part::Root, root));
    parts
}
