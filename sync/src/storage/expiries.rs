//! The expiry index: which documents expire when.
//!
//! Owns the table of moments still to come: a row for each document whose expiry has not
//! been told to this node's watchers, ordered by moment. It is kept with the documents, in
//! the same transactions. A document whose moment has come gets a new position in the feed
//! (so that watchers see it end, in order, once, and also after a restart) and the mark
//! that it is read as expired there; its writes, dots and digest stay as they are, so that
//! nothing of this concerns other nodes.
//!
//! In: documents as they are stored (`set`, `remove`), and the time. Out: whose moment
//! has come ([`due`]), when the next comes ([`first`]). What can fail is the medium; and
//! stores of older formats have no index: [`complete`] makes one when they are opened.
//!
//! Memory: none; the index is in the store. In a scan, rows that were removed lately may
//! still have to be passed over, so a scan begins where the last one ended.

use std::ops::ControlFlow;

use super::records::{self, EntryRecord};
use super::state::{self, Header, Storing};
use super::{Finish, Reader, Storage, StoreError, Table, Writer};
use crate::model::Key;

/// Entries that are looked at in one transaction while an index is made.
const COMPLETE_ENTRIES_MAX: usize = 4096;

/// A document whose moment has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// The moment, in milliseconds since 1970.
    pub at_ms: u64,
    key: Vec<u8>,
}

impl Due {
    /// Which document.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn key(&self) -> Result<Key, StoreError> {
        records::decode_key(&self.key)
    }
}

fn row(at_ms: u64, key: &[u8]) -> Vec<u8> {
    [&at_ms.to_be_bytes(), key].concat()
}

fn decode_row(row: &[u8]) -> Result<Due, StoreError> {
    let damaged = StoreError::Damaged {
        table: Table::Expiries,
        detail: "a row is too short",
    };
    let (at_ms, key) = row.split_first_chunk().ok_or(damaged)?;
    Ok(Due {
        at_ms: u64::from_be_bytes(*at_ms),
        key: key.to_vec(),
    })
}

/// Notes when a record that is being stored will expire, if it has not yet.
pub(super) fn set(
    writer: &mut dyn Writer,
    key: &[u8],
    record: &EntryRecord,
) -> Result<(), StoreError> {
    match record.expires_at() {
        Some(at_ms) => writer.insert(Table::Expiries, &row(at_ms, key), &[]),
        None => Ok(()),
    }
}

/// Forgets it again.
pub(super) fn remove(
    writer: &mut dyn Writer,
    key: &[u8],
    record: &EntryRecord,
) -> Result<(), StoreError> {
    match record.expires_at() {
        Some(at_ms) => writer.remove(Table::Expiries, &row(at_ms, key)),
        None => Ok(()),
    }
}

/// The first moment from `from_ms` on, in milliseconds since 1970.
///
/// # Errors
/// [`StoreError`].
pub fn first(reader: &dyn Reader, from_ms: u64) -> Result<Option<u64>, StoreError> {
    let found = due(reader, from_ms, u64::MAX, 1)?;
    Ok(found.first().map(|due| due.at_ms))
}

/// The first documents, at most `limit`, with a moment from `from_ms` to `now_ms`.
///
/// # Errors
/// [`StoreError`].
pub fn due(
    reader: &dyn Reader,
    from_ms: u64,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<Due>, StoreError> {
    let mut all = Vec::new();
    state::each(
        reader,
        Table::Expiries,
        &from_ms.to_be_bytes(),
        None,
        |row, _| {
            let due = decode_row(row)?;
            if due.at_ms > now_ms || all.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            all.push(due);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(all)
}

/// Lets a document expire whose moment has come: what there is to be told of it, if readers
/// see something else now. A row whose document is gone, or does not expire then, is only
/// removed: it says nothing, and must not stand in the way of those behind it.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn expire(
    writer: &mut dyn Writer,
    header: &mut Header,
    due: &Due,
    storing: Storing,
) -> Result<Option<EntryRecord>, StoreError> {
    let record = writer.get(Table::Entries, &due.key)?;
    let record = record.map(|record| records::decode_entry(&record));
    let record = record.transpose()?;
    let Some(record) = record.filter(|record| record.expires_at() == Some(due.at_ms)) else {
        writer.remove(Table::Expiries, &row(due.at_ms, &due.key))?;
        return Ok(None);
    };
    let head = header.feed.head;
    let record = state::expire(writer, header, &due.key, record, storing)?;
    Ok((header.feed.head > head).then_some(record))
}

/// Makes the index of a store that has none, a bounded number of entries in a transaction;
/// where it is interrupted, it begins anew with the next opening. What expired while there
/// was no index is told of then.
///
/// # Errors
/// [`StoreError`].
pub fn complete(storage: &dyn Storage) -> Result<(), StoreError> {
    let done = super::read(storage, |reader| {
        Ok(reader.get(Table::Meta, records::META_EXPIRIES)?.is_some())
    })?;
    let mut from = (!done).then(Vec::new);
    while let Some(begin) = from.take() {
        storage.write(&mut |writer| {
            from = complete_from(writer, &begin)?;
            Ok(Finish::Commit)
        })?;
    }
    Ok(())
}

/// Does a part of it; where the next one begins, or `None` when all is done.
fn complete_from(writer: &mut dyn Writer, begin: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut looked_at = 0;
    let mut found = Vec::new();
    let mut next = None;
    state::each(writer, Table::Entries, begin, None, |key, record| {
        if looked_at == COMPLETE_ENTRIES_MAX {
            next = Some(key.to_vec());
            return Ok(ControlFlow::Break(()));
        }
        looked_at += 1;
        let at_ms = records::decode_entry(record)?.expires_at();
        found.extend(at_ms.map(|at_ms| row(at_ms, key)));
        Ok(ControlFlow::Continue(()))
    })?;
    for row in found {
        writer.insert(Table::Expiries, &row, &[])?;
    }
    if next.is_none() {
        writer.insert(Table::Meta, records::META_EXPIRIES, &[1])?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests;
