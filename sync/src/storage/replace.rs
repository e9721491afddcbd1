//! Documents put in the place of others, other than by merging a write: what a snapshot
//! brings, and what is let go of when it is settled.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::chunks::{self, row_of};
use super::records::{self, EntryRecord};
use super::state::{self, Digest, Header, Storing};
use super::{Reader, StoreError, Table, Writer, expiries, feed_bounds};
use crate::model::document::Document;
use crate::model::{Dot, Key};

/// How a document takes the place of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placing {
    /// The feed is to tell that a document is gone.
    pub tell: bool,
    /// Writes that are new join the dot index; else that is left to do.
    pub index: bool,
}

/// Puts `after` in the place of what a key holds (`before`, nothing if it is empty), in the
/// state, the dot index, the digest and the feed. The feed tells of every new document.
/// Returns what it tells.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn replace(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &Key,
    before: &EntryRecord,
    after: Document,
    placing: Placing,
    storing: Storing,
) -> Result<Option<EntryRecord>, StoreError> {
    let key = records::encode_key(key);
    let dots = |document: &Document| -> BTreeSet<Dot> {
        let writes = document.writes().iter();
        writes.map(|write| write.version.dot).collect()
    };
    let (old, new) = (dots(&before.document), dots(&after));
    for Dot { origin, seq } in old.difference(&new).copied() {
        let row = records::encode_dots_row(origin, row_of(seq));
        writer.change(Table::Dots, &row, &mut |row| chunks::remove(row, seq))?;
    }
    let added = new.difference(&old).copied();
    for Dot { origin, seq } in added.filter(|_| placing.index) {
        let row = records::encode_dots_row(origin, row_of(seq));
        writer.change(Table::Dots, &row, &mut |row| chunks::set(row, seq, &key))?;
    }
    let mut added = 0;
    if !before.document.is_empty() {
        header.digest.subtract(Digest::of(&key, &before.document));
        expiries::remove(writer, &key, before)?;
        added = state::retire(writer, header, &key, before, storing)?;
    }
    if !after.is_empty() {
        header.digest.add(Digest::of(&key, &after));
        let record = EntryRecord {
            expired: after.is_expired(storing.now_ms),
            document: after,
            position: header.feed.head + 1,
        };
        expiries::set(writer, &key, &record)?;
        state::put_at_head(writer, header, &key, &record, added)?;
        return Ok(Some(record));
    }
    writer.remove(Table::Entries, &key)?;
    let Some(version) = before.document.version().filter(|_| placing.tell) else {
        return Ok(None);
    };
    let position = header.feed.head + 1;
    let gone = EntryRecord {
        document: Document::of_root(version, None),
        position,
        expired: false,
    };
    let past = records::encode_past(&key, &gone);
    writer.insert(Table::Past, &position.to_be_bytes(), &past)?;
    header.feed.head = position;
    header.feed.past_bytes += feed_bounds::length(&past);
    feed_bounds::trim(writer, header, added + past.len())?;
    Ok(Some(gone))
}

/// The entries after a key, in order, up to and with another where it is given. `take` says
/// whether to go on after each.
///
/// # Errors
/// [`StoreError`].
pub fn entries_after(
    reader: &dyn Reader,
    after: Option<&Key>,
    upto: Option<&Key>,
    take: &mut dyn FnMut(Key, EntryRecord) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    rows_after(reader, after, upto, &mut |key, record| match record {
        Ok(record) => take(key, record),
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}

/// The same, where damage to a record is not damage to all.
///
/// # Errors
/// [`StoreError`].
pub fn rows_after(
    reader: &dyn Reader,
    after: Option<&Key>,
    upto: Option<&Key>,
    take: &mut dyn FnMut(Key, Result<EntryRecord, StoreError>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    // The smallest key after one is that with a zero behind it.
    let next = |key: &Key| {
        let mut next = records::encode_key(key);
        next.push(0);
        next
    };
    let from = after.map(next).unwrap_or_default();
    let to = upto.map(next);
    state::each(
        reader,
        Table::Entries,
        &from,
        to.as_deref(),
        |key, record| {
            Ok(take(
                records::decode_key(key)?,
                records::decode_entry(record),
            ))
        },
    )
}
