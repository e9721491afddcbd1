//! Changes that put a store right: a document in place of what its key holds, whatever that
//! is; index, vector and feed as the documents say.
//!
//! They belong to the same transaction as everything else that changes, and trust nothing of
//! what they mend: a row that should name this key and names another one is left alone.

use bytes::Bytes;

use super::chunks::{self, Chunk, row_of};
use super::records::{self, EntryRecord};
use super::state::{Digest, Header, put_at_head};
use super::{StoreError, Table, Writer, expiries, feed_bounds};
use crate::model::Dot;
use crate::model::document::Document;
use crate::verify::{content, indexes};

/// Positions of the feed that one piece of work gives up at most.
const TRIM_MAX: u64 = 1024;

/// One piece of work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mend {
    /// Let a key hold this document, if it holds what is expected.
    Replace {
        /// The key of `entries`.
        key: Bytes,
        /// The digest of what it must hold before.
        expected: Digest,
        /// What it is to hold.
        document: Document,
    },
    /// Let index, vector and feed say of a key what its document says.
    Entry {
        /// The key of `entries`.
        key: Bytes,
    },
    /// Let the index say of a write and a key what the document says.
    Dot {
        /// Which write.
        dot: Dot,
        /// The key of `entries`.
        key: Bytes,
    },
    /// Let the feed say at this position what there is: a last change, a past one; or let it
    /// begin after the position.
    Feed {
        /// Where.
        position: u64,
    },
    /// Go on summing up all documents; with the last of them compare with the digest that is
    /// kept.
    Sum {
        /// Which sum.
        id: u64,
        /// Whether it begins here; that ends any other.
        begin: bool,
        /// Whether to keep what comes out.
        settle: bool,
    },
}

/// What became of a piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mended {
    /// It is as it should be.
    Done,
    /// There is more of it to do; ask again.
    More,
    /// The key holds something else by now; nothing was done.
    Changed,
    /// The sum is done, and what the store kept was wrong.
    WasWrong,
    /// Another sum was begun meanwhile; this one must begin anew.
    Lost,
}

/// Lets a key hold this document, if it holds what is expected; returns what was replaced,
/// where that could be read, and what is there now.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn replace(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
    expected: Digest,
    document: &Document,
    now_ms: u64,
) -> Result<Result<(Option<Document>, EntryRecord), Mended>, StoreError> {
    let row = writer.get(Table::Entries, key)?;
    let found = match &row {
        Some(row) => content::of_entry(writer, key, row)?,
        None => Digest::default(),
    };
    if found != expected {
        return Ok(Err(Mended::Changed));
    }
    if found == content::of_document(key, document) {
        return Ok(Err(Mended::Done));
    }
    let row = row.unwrap_or_default();
    let before = records::decode_entry(&row).ok();
    if let Some(before) = &before {
        header.digest.subtract(Digest::of(key, &before.document));
        expiries::remove(writer, key, before)?;
        for write in before.document.writes() {
            let dot = write.version.dot;
            if !indexes::has(document, dot) && indexes::names(writer, dot, key)? {
                unset_dot(writer, dot)?;
            }
        }
    }
    // Of a row that cannot be read the place may still be right.
    let position = before.as_ref().map(|before| before.position);
    let position = position.or_else(|| row.get(40..48)?.try_into().ok().map(u64::from_be_bytes));
    let added = retire(writer, header, key, before.as_ref(), position, document)?;
    header.digest.add(Digest::of(key, document));
    for write in document.writes() {
        set_dot(writer, write.version.dot, key)?;
    }
    let record = EntryRecord {
        document: document.clone(),
        position: header.feed.head + 1,
        expired: document.is_expired(now_ms),
    };
    expiries::set(writer, key, &record)?;
    put_at_head(writer, header, key, &record, added)?;
    Ok(Ok((before.map(|before| before.document), record)))
}

/// Makes the last change of a key a past one, if the feed has it; how many bytes that adds to
/// the past.
fn retire(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
    before: Option<&EntryRecord>,
    position: Option<u64>,
    document: &Document,
) -> Result<usize, StoreError> {
    let kept = header.feed.floor + 1..=header.feed.head;
    let Some(position) = position.filter(|position| kept.contains(position)) else {
        return Ok(0);
    };
    if !indexes::is_last(writer, position, key)? {
        return Ok(0);
    }
    unset_feed(writer, position)?;
    // Who reads on from here sees the mended document where there is no other.
    let past = before.cloned().unwrap_or_else(|| EntryRecord {
        document: document.clone(),
        position,
        expired: false,
    });
    let past = records::encode_past(key, &past);
    set_past(writer, header, position, &past)?;
    Ok(past.len())
}

fn set_past(
    writer: &mut dyn Writer,
    header: &mut Header,
    position: u64,
    past: &[u8],
) -> Result<(), StoreError> {
    unset_past(writer, header, position)?;
    header.feed.past_bytes += feed_bounds::length(past);
    writer.insert(Table::Past, &position.to_be_bytes(), past)
}

fn unset_past(
    writer: &mut dyn Writer,
    header: &mut Header,
    position: u64,
) -> Result<(), StoreError> {
    let at = position.to_be_bytes();
    if let Some(past) = writer.get(Table::Past, &at)? {
        let length = feed_bounds::length(&past);
        header.feed.past_bytes = header.feed.past_bytes.saturating_sub(length);
        writer.remove(Table::Past, &at)?;
    }
    Ok(())
}

/// Lets indexes and feed say of a key what its document says; returns the record.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn mend_entry(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
) -> Result<Option<EntryRecord>, StoreError> {
    let row = writer.get(Table::Entries, key)?;
    let Some(record) = row.and_then(|row| records::decode_entry(&row).ok()) else {
        return Ok(None);
    };
    for write in record.document.writes() {
        set_dot(writer, write.version.dot, key)?;
    }
    expiries::set(writer, key, &record)?;
    let position = record.position;
    let kept = header.feed.floor + 1..=header.feed.head;
    if position <= header.feed.floor || indexes::is_last(writer, position, key)? {
        return Ok(Some(record));
    }
    if kept.contains(&position) && is_free(writer, position)? {
        let row = row_of(position);
        writer.change(Table::Feed, &row.to_be_bytes(), &mut |bytes| {
            keep_readable(Table::Feed, row, bytes);
            chunks::set(bytes, position, key);
        })?;
        return Ok(Some(record));
    }
    let position = header.feed.head + 1;
    let record = EntryRecord { position, ..record };
    put_at_head(writer, header, key, &record, 0)?;
    Ok(Some(record))
}

/// Whether the feed has nothing at a position.
fn is_free(writer: &dyn Writer, position: u64) -> Result<bool, StoreError> {
    let past = writer.get(Table::Past, &position.to_be_bytes())?;
    Ok(past.is_none() && indexes::last_at(writer, position)?.is_none())
}

/// Lets the index say of a write and a key what the document says.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn mend_dot(writer: &mut dyn Writer, dot: Dot, key: &[u8]) -> Result<(), StoreError> {
    let row = writer.get(Table::Entries, key)?;
    let record = row.and_then(|row| records::decode_entry(&row).ok());
    if record.is_some_and(|record| indexes::has(&record.document, dot)) {
        return set_dot(writer, dot, key);
    }
    if indexes::names(writer, dot, key)? {
        return unset_dot(writer, dot);
    }
    // Nothing but what can be read stays in the row.
    let row = records::encode_dots_row(dot.origin, row_of(dot.seq));
    writer.change(Table::Dots, &row, &mut |bytes| {
        keep_readable(Table::Dots, row_of(dot.seq), bytes);
    })
}

/// Lets the feed say at a position what there is, or begin after it. There may be more to do.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn mend_feed(
    writer: &mut dyn Writer,
    header: &mut Header,
    position: u64,
) -> Result<Mended, StoreError> {
    if position <= header.feed.floor || position > header.feed.head {
        return Ok(Mended::Done);
    }
    let number = row_of(position);
    writer.change(Table::Feed, &number.to_be_bytes(), &mut |bytes| {
        keep_readable(Table::Feed, number, bytes);
    })?;
    let key = indexes::last_at(writer, position)?;
    if let Some(key) = key {
        let entry = writer.get(Table::Entries, &key)?;
        let record = entry.and_then(|row| records::decode_entry(&row).ok());
        match record {
            Some(record) if record.position == position => return Ok(Mended::Done),
            Some(record) => {
                unset_feed(writer, position)?;
                let past = records::encode_past(&key, &EntryRecord { position, ..record });
                set_past(writer, header, position, &past)?;
                return Ok(Mended::Done);
            }
            None => {}
        }
    } else if writer.get(Table::Past, &position.to_be_bytes())?.is_some() {
        return Ok(Mended::Done);
    }
    trim(writer, header, position)
}

/// Moves the feed's beginning towards a position.
fn trim(writer: &mut dyn Writer, header: &mut Header, upto: u64) -> Result<Mended, StoreError> {
    let end = upto.min(header.feed.floor.saturating_add(TRIM_MAX));
    for position in header.feed.floor + 1..=end {
        unset_past(writer, header, position)?;
        if row_of(position) != row_of(position + 1) {
            writer.remove(Table::Feed, &row_of(position).to_be_bytes())?;
        }
    }
    header.feed.floor = end;
    Ok(match end < upto {
        true => Mended::More,
        false => Mended::Done,
    })
}

fn keep_readable(table: Table, number: u64, bytes: &mut Vec<u8>) {
    let mut kept = Vec::new();
    for (number, text) in Chunk::new(table, number, bytes).map_while(Result::ok) {
        chunks::set(&mut kept, number, text);
    }
    *bytes = kept;
}

fn set_dot(writer: &mut dyn Writer, dot: Dot, key: &[u8]) -> Result<(), StoreError> {
    let number = row_of(dot.seq);
    let row = records::encode_dots_row(dot.origin, number);
    writer.change(Table::Dots, &row, &mut |bytes| {
        keep_readable(Table::Dots, number, bytes);
        chunks::set(bytes, dot.seq, key);
    })
}

fn unset_dot(writer: &mut dyn Writer, dot: Dot) -> Result<(), StoreError> {
    let row = records::encode_dots_row(dot.origin, row_of(dot.seq));
    writer.change(Table::Dots, &row, &mut |bytes| {
        chunks::remove(bytes, dot.seq);
    })
}

fn unset_feed(writer: &mut dyn Writer, position: u64) -> Result<(), StoreError> {
    let row = row_of(position).to_be_bytes();
    writer.change(Table::Feed, &row, &mut |bytes| {
        chunks::remove(bytes, position);
    })
}
