//! Older versions of documents, for collections that ask for them.
//!
//! **Each node keeps what it went through itself.** When a change takes the place of a
//! version that was the present one here, that version is kept. A node to which a change
//! came late, when a newer one was here already, never had it as the present one and does
//! not list it; a node that joins has no older versions. So histories of two nodes may
//! differ in what they hold, never in what a version is. This is the lawful choice without
//! a cost on the wire: histories take no part in replication, and nothing depends on them.
//!
//! Owns the table: of each key its older versions by their place in the feed, and a summary
//! of them. In: a version that is superseded (`keep`), in the transaction of the change
//! that does so. Out: the versions of a key ([`versions`]). Bounded, for each key, by number
//! and age as its collection asks for ([`Keep`]), and by [`BYTES_MAX`]; what is beyond goes
//! with the next change, the oldest first and at most `REMOVED_MAX` at once, and is not
//! shown before. What was kept under a policy that has been taken away stays on the disk
//! until the document changes under one again. What can fail is the medium.
//!
//! A key in the table is the length of the document's key u16, that key as in `entries`,
//! and the position u64, big-endian; the value when it was superseded (u64, milliseconds
//! since 1970), then the record as in `entries`. At position 0 stands the summary: how many
//! u64, their bytes u64, and no later than the first position u64.

use std::ops::ControlFlow;
use std::time::Duration;

use super::records::{self, Cursor, EntryRecord};
use super::state::{self, FeedItem};
use super::{Reader, StoreError, Table, Writer};
use crate::model::Key;
use crate::model::document::Revision;

/// Bytes of older versions of one key.
pub const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Versions that one change removes at most.
const REMOVED_MAX: usize = 64;

/// What a collection asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// So many older versions of a document, besides the present one; 0 for none.
    pub versions: usize,
    /// Those that were superseded no longer ago; without it, however long ago.
    pub age: Option<Duration>,
}

impl Keep {
    fn is_over(&self, superseded_ms: u64, now_ms: u64) -> bool {
        let age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let until_ms = |age| superseded_ms.saturating_add(age_ms(age));
        self.age.is_some_and(|age| until_ms(age) <= now_ms)
    }
}

/// A version of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// What watchers were told when it became the present one.
    pub item: FeedItem,
    /// When it became the present one by the clock of who made it so, in milliseconds since
    /// 1970; of a document that expired, when it did.
    pub since_ms: u64,
    /// When another took its place here; `None` for the present one.
    pub superseded_ms: Option<u64>,
}

/// The older versions of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Summary {
    count: u64,
    bytes: u64,
    /// No version is at a position before this one.
    first: u64,
}

fn row(key: &[u8], position: u64) -> Vec<u8> {
    // A key is at most 64 + 1 + 512 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), key, &position.to_be_bytes()].concat()
}

impl Summary {
    fn of(reader: &dyn Reader, key: &[u8]) -> Result<Self, StoreError> {
        let Some(bytes) = reader.get(Table::History, &row(key, 0))? else {
            return Ok(Self::default());
        };
        let mut cursor = Cursor::new(Table::History, &bytes);
        Ok(Self {
            count: cursor.u64()?,
            bytes: cursor.u64()?,
            first: cursor.u64()?,
        })
    }

    fn save(&self, writer: &mut dyn Writer, key: &[u8]) -> Result<(), StoreError> {
        let Self {
            count,
            bytes,
            first,
        } = *self;
        let value = [count, bytes, first].map(u64::to_be_bytes).concat();
        writer.insert(Table::History, &row(key, 0), &value)
    }
}

/// Keeps a version whose place another takes at `now_ms`, and lets go of those that are
/// beyond the bounds.
pub(super) fn keep(
    writer: &mut dyn Writer,
    key: &[u8],
    superseded: &EntryRecord,
    keep: Keep,
    now_ms: u64,
) -> Result<(), StoreError> {
    if keep.versions == 0 {
        return Ok(());
    }
    let mut summary = Summary::of(writer, key)?;
    let mut value = now_ms.to_be_bytes().to_vec();
    value.extend(records::encode_entry(superseded));
    writer.insert(Table::History, &row(key, superseded.position), &value)?;
    summary.count += 1;
    summary.bytes += value.len() as u64;
    for _ in 0..REMOVED_MAX {
        let many = summary.count > keep.versions as u64 || summary.bytes > BYTES_MAX;
        if !many && keep.age.is_none() {
            break;
        }
        let Some(oldest) = oldest(writer, key, summary.first)? else {
            break;
        };
        summary.first = oldest.position;
        if !many && !keep.is_over(oldest.superseded_ms, now_ms) {
            break;
        }
        writer.remove(Table::History, &row(key, oldest.position))?;
        summary.first = oldest.position + 1;
        summary.count = summary.count.saturating_sub(1);
        summary.bytes = summary.bytes.saturating_sub(oldest.bytes);
    }
    summary.save(writer, key)
}

struct Oldest {
    position: u64,
    superseded_ms: u64,
    bytes: u64,
}

fn oldest(reader: &dyn Reader, key: &[u8], first: u64) -> Result<Option<Oldest>, StoreError> {
    let mut found = None;
    each(reader, key, first, |position, value| {
        found = Some(Oldest {
            position,
            superseded_ms: Cursor::new(Table::History, value).u64()?,
            bytes: value.len() as u64,
        });
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Visits the older versions of a key with their positions, the oldest first.
fn each(
    reader: &dyn Reader,
    key: &[u8],
    first: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let damaged = || StoreError::Damaged {
        table: Table::History,
        detail: "a row is too short",
    };
    let (from, to) = (row(key, first.max(1)), row(key, u64::MAX));
    state::each(reader, Table::History, &from, Some(&to), |at, value| {
        let position = at.last_chunk().ok_or_else(damaged)?;
        visit(u64::from_be_bytes(*position), value)
    })
}

/// The versions of a key, the newest first: the present one, and of the older ones those
/// that its collection asks for at `now_ms`. They are in memory together, as much as
/// [`BYTES_MAX`] and the present one.
///
/// # Errors
/// [`StoreError`].
pub fn versions(
    reader: &dyn Reader,
    key: &Key,
    keep: Keep,
    now_ms: u64,
) -> Result<Vec<Kept>, StoreError> {
    let Some(present) = state::entry(reader, key)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    if keep.versions > 0 {
        let bytes = records::encode_key(key);
        let first = Summary::of(reader, &bytes)?.first;
        each(reader, &bytes, first, |_, value| {
            let (superseded, record) = value.split_first_chunk().ok_or(StoreError::Damaged {
                table: Table::History,
                detail: "a version is too short",
            })?;
            let superseded_ms = u64::from_be_bytes(*superseded);
            if !keep.is_over(superseded_ms, now_ms) {
                let record = records::decode_entry(record)?;
                all.extend(Kept::of(key, &record, Some(superseded_ms)));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        all.drain(..all.len().saturating_sub(keep.versions));
    }
    all.extend(Kept::of(key, &present, None));
    all.reverse();
    Ok(all)
}

impl Kept {
    fn of(key: &Key, record: &EntryRecord, superseded_ms: Option<u64>) -> Option<Self> {
        let item = FeedItem::of(key.clone(), record)?;
        let written_ms = item.change.entry.revision.version.clock.millis();
        let since_ms = match (item.expired, item.change.entry.expires_at) {
            (true, Some(at_ms)) => written_ms.max(at_ms),
            _ => written_ms,
        };
        Some(Self {
            item,
            since_ms,
            superseded_ms,
        })
    }

    /// Which state of the document it is.
    pub fn revision(&self) -> Revision {
        self.item.change.entry.revision
    }
}

#[cfg(test)]
mod tests;
