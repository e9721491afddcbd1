//! What the tables mean together: state, dot index, feed, vector and digest, kept
//! consistent by being changed in one transaction and only here.
//!
//! **Feed.** Every change that is taken in gets the next local position, and so does the
//! end of a document that expires (`expiries.rs`). Watchers and sinks read from a position
//! on and see each change once, in order. The last positions are kept (`feed_bounds.rs`);
//! a reader that stood further back is told so.
//!
//! **Digest.** The sum mod 2^256 of `blake3(key, version)` over all entries, tombstones
//! included; of an entry of several parts, all parts and their versions go in. It does not depend on the order in which changes came, so
//! two replicas with the same digest hold the same entries.

use std::ops::ControlFlow;

use super::chunks::{self, Chunk, row_of};
use super::expiries;
use super::feed_bounds::{self, FeedBounds};
use super::history::{self, Keep};
use super::records::{self, EntryRecord};
use super::{Reader, StoreError, Table, Writer};
use crate::model::document::{Document, Merged, Write};
use crate::model::{
    Change, Collection, Delta, Dot, Entry, Frontier, Key, Origin, Seq, SeqRange, SeqSet, Timestamp,
    VersionVector,
};

/// A page of documents or changes is closed when it holds this many bytes or more,
/// however many were asked for.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// Ends of the feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeedEnds {
    /// The position of the latest change; 0 when there was none.
    pub head: u64,
    /// The latest position that is no longer there; 0 when all are.
    pub floor: u64,
    /// How many bytes it keeps of documents that were superseded since.
    pub past_bytes: u64,
}

/// Order-independent fingerprint of a store's entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest([u64; 4]);

impl Digest {
    /// The digest's bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*chunk);
        }
        Self(limbs)
    }

    pub(crate) fn add(&mut self, other: Digest) {
        let mut carry = false;
        for (limb, addend) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = carrying_add(*limb, addend, carry);
        }
    }

    pub(crate) fn subtract(&mut self, other: Digest) {
        // a - b = a + !b + 1, mod 2^256.
        let mut carry = true;
        for (limb, subtrahend) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = carrying_add(*limb, !subtrahend, carry);
        }
    }

    pub(crate) fn of(key: &[u8], document: &Document) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key);
        document.hash_into(&mut hasher);
        Self::from_bytes(hasher.finalize().as_bytes())
    }
}

fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// What a store says about itself when it is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Under which origin it writes.
    pub origin: Origin,
    /// The latest timestamp that it issued or took over.
    pub clock: Timestamp,
    /// Its feed.
    pub feed: FeedEnds,
    /// What is to be kept of the feed; not in the store.
    pub bounds: FeedBounds,
    /// Its digest.
    pub digest: Digest,
}

/// Reads the header; `None` in a store that was never begun.
///
/// # Errors
/// [`StoreError`].
pub fn header(reader: &dyn Reader) -> Result<Option<Header>, StoreError> {
    let Some(origin) = reader.get(Table::Meta, records::META_ORIGIN)? else {
        return Ok(None);
    };
    let origin = records::decode_origin(Table::Meta, &origin)?;
    let clock = Timestamp(u64::from_be_bytes(
        meta(reader, records::META_CLOCK)?.unwrap_or_default(),
    ));
    let digest = Digest::from_bytes(&meta(reader, records::META_DIGEST)?.unwrap_or_default());
    Ok(Some(Header {
        origin,
        clock,
        feed: feed_ends(reader)?,
        bounds: FeedBounds::default(),
        digest,
    }))
}

/// Writes what changes with every transaction.
///
/// # Errors
/// [`StoreError`].
pub fn set_header(writer: &mut dyn Writer, header: &Header) -> Result<(), StoreError> {
    let mut set = |key, value: &[u8]| writer.insert(Table::Meta, key, value);
    set(records::META_ORIGIN, &records::encode_origin(header.origin))?;
    set(records::META_CLOCK, &header.clock.0.to_be_bytes())?;
    set(records::META_DIGEST, &header.digest.to_bytes())?;
    set(records::META_PAST, &header.feed.past_bytes.to_be_bytes())?;
    let mut feed = header.feed.head.to_be_bytes().to_vec();
    feed.extend(header.feed.floor.to_be_bytes());
    set(records::META_FEED, &feed)
}

/// Reads the ends of the feed.
///
/// # Errors
/// [`StoreError`].
pub fn feed_ends(reader: &dyn Reader) -> Result<FeedEnds, StoreError> {
    let bytes: [u8; 16] = meta(reader, records::META_FEED)?.unwrap_or_default();
    let number = u128::from_be_bytes(bytes);
    let half = |shift: u32| u64::try_from((number >> shift) & u128::from(u64::MAX)).unwrap_or(0);
    let past_bytes = meta(reader, records::META_PAST)?.unwrap_or_default();
    Ok(FeedEnds {
        head: half(64),
        floor: half(0),
        past_bytes: u64::from_be_bytes(past_bytes),
    })
}

fn meta<const N: usize>(reader: &dyn Reader, key: &[u8]) -> Result<Option<[u8; N]>, StoreError> {
    let damaged = StoreError::Damaged {
        table: Table::Meta,
        detail: "a value has the wrong length",
    };
    reader
        .get(Table::Meta, key)?
        .map(|bytes| bytes.try_into())
        .transpose()
        .map_err(|_| damaged)
}

/// Reads the version vector.
///
/// # Errors
/// [`StoreError`].
pub fn vector(reader: &dyn Reader) -> Result<VersionVector, StoreError> {
    let mut vector = VersionVector::default();
    each(reader, Table::Vector, &[], None, |key, value| {
        let origin = records::decode_origin(Table::Vector, key)?;
        for range in records::decode_set(value)?.ranges() {
            vector.insert_range(origin, range);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(vector)
}

/// Writes one origin's part of the version vector; `None` removes it.
///
/// # Errors
/// [`StoreError`].
pub fn set_vector(
    writer: &mut dyn Writer,
    origin: Origin,
    set: Option<&SeqSet>,
) -> Result<(), StoreError> {
    let key = records::encode_origin(origin);
    match set {
        Some(set) => writer.insert(Table::Vector, &key, &records::encode_set(set)),
        None => writer.remove(Table::Vector, &key),
    }
}

/// Reads the document of one key, with its place in the feed.
///
/// # Errors
/// [`StoreError`].
pub fn entry(reader: &dyn Reader, key: &Key) -> Result<Option<EntryRecord>, StoreError> {
    reader
        .get(Table::Entries, &records::encode_key(key))?
        .map(|bytes| records::decode_entry(&bytes))
        .transpose()
}

/// What a write makes of what its key holds.
#[derive(Clone, Debug)]
pub struct Merging {
    before: Option<EntryRecord>,
    /// The document with what the write still has to say.
    pub document: Document,
    merged: Merged,
}

impl Merging {
    /// Merges a write into what its key holds.
    pub fn of(before: Option<EntryRecord>, write: &Write) -> Self {
        let mut document = before
            .as_ref()
            .map_or_else(Document::default, |before| before.document.clone());
        let merged = document.merge(write);
        Self {
            before,
            document,
            merged,
        }
    }

    /// What its key held before, and whether it is to hold something else.
    pub(crate) fn change(&self) -> (Option<&Document>, bool) {
        let before = self.before.as_ref().map(|before| &before.document);
        (before, self.merged.taken)
    }
}

/// When a change is stored, and what is kept of what was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Storing {
    /// Milliseconds since 1970 by this node's clock.
    pub now_ms: u64,
    /// The older versions that the collection asks for.
    pub keep: Keep,
}

/// What a write has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What the key held had expired, and its watchers had not been told yet: its end, which
    /// has a position of its own before that of the write.
    pub ended: Option<EntryRecord>,
    /// The document; it stands at the feed's head.
    pub record: EntryRecord,
}

/// Stores what the write with this dot has made of its key: in the state, the dot index,
/// the expiry index, the history and the feed; and brings the header up to date (written
/// later, by [`set_header`]). `None` if all of the write had been superseded.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub fn store(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &Key,
    dot: Dot,
    storing: Storing,
    merging: Merging,
) -> Result<Option<Stored>, StoreError> {
    let Merging {
        before,
        document,
        merged,
    } = merging;
    if !merged.taken {
        return Ok(None);
    }
    let key = records::encode_key(key);
    let (mut ended, mut added) = (None, 0);
    if let Some(mut current) = before {
        if current
            .expires_at()
            .is_some_and(|at_ms| at_ms <= storing.now_ms)
        {
            let head = header.feed.head;
            current = expire(writer, header, &key, current, storing)?;
            ended = (header.feed.head > head).then(|| current.clone());
        }
        header.digest.subtract(Digest::of(&key, &current.document));
        for Dot { origin, seq } in merged.died {
            let row = records::encode_dots_row(origin, row_of(seq));
            writer.change(Table::Dots, &row, &mut |row| chunks::remove(row, seq))?;
        }
        expiries::remove(writer, &key, &current)?;
        added = retire(writer, header, &key, &current, storing)?;
    }
    header.digest.add(Digest::of(&key, &document));
    let Dot { origin, seq } = dot;
    let row = records::encode_dots_row(origin, row_of(seq));
    writer.change(Table::Dots, &row, &mut |row| chunks::set(row, seq, &key))?;
    let record = EntryRecord {
        expired: document.is_expired(storing.now_ms),
        document,
        position: header.feed.head + 1,
    };
    expiries::set(writer, &key, &record)?;
    put_at_head(writer, header, &key, &record, added)?;
    Ok(Some(Stored { ended, record }))
}

/// Notes that a document is seen as expired from now on. It gets the next position of the
/// feed if readers see something else than before.
///
/// # Errors
/// [`StoreError`]; the transaction is lost then.
pub(super) fn expire(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
    current: EntryRecord,
    storing: Storing,
) -> Result<EntryRecord, StoreError> {
    expiries::remove(writer, key, &current)?;
    let mut record = EntryRecord {
        expired: true,
        ..current.clone()
    };
    if record.entry() == current.entry() {
        writer.insert(Table::Entries, key, &records::encode_entry(&record))?;
    } else {
        record.position = header.feed.head + 1;
        let added = retire(writer, header, key, &current, storing)?;
        put_at_head(writer, header, key, &record, added)?;
    }
    Ok(record)
}

/// Keeps a record for those who read the feed, and where it is asked for in the history, as
/// another one takes its place: how many bytes it takes in the feed.
pub(super) fn retire(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
    current: &EntryRecord,
    storing: Storing,
) -> Result<usize, StoreError> {
    history::keep(writer, key, current, storing.keep, storing.now_ms)?;
    let position = current.position;
    if position <= header.feed.floor {
        return Ok(0);
    }
    let row = row_of(position).to_be_bytes();
    writer.change(Table::Feed, &row, &mut |row| chunks::remove(row, position))?;
    let past = records::encode_past(key, current);
    writer.insert(Table::Past, &position.to_be_bytes(), &past)?;
    header.feed.past_bytes += feed_bounds::length(&past);
    Ok(past.len())
}

/// Stores a record that has the next position of the feed; `added` bytes have joined the
/// past for it.
pub(super) fn put_at_head(
    writer: &mut dyn Writer,
    header: &mut Header,
    key: &[u8],
    record: &EntryRecord,
    added: usize,
) -> Result<(), StoreError> {
    header.feed.head += 1;
    let position = record.position;
    writer.insert_owned(Table::Entries, key.to_vec(), records::encode_entry(record))?;
    let row = row_of(position).to_be_bytes();
    writer.change(Table::Feed, &row, &mut |row| {
        if row.is_empty() {
            // All others of the row follow, as a rule with the same transaction.
            row.reserve(FEED_ROW_BYTES);
        }
        chunks::set(row, position, key);
    })?;
    feed_bounds::trim(writer, header, added)
}

/// Room for a row of the feed, with keys of usual length.
const FEED_ROW_BYTES: usize = 1024;

/// One change of the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedItem {
    /// Its position.
    pub position: u64,
    /// The change.
    pub change: Change,
    /// What is left of the document, or that nothing is, is so because it has expired.
    pub expired: bool,
}

impl FeedItem {
    /// What a record is told as; `None` where nothing was ever written.
    pub fn of(key: Key, record: &EntryRecord) -> Option<Self> {
        let entry = record.entry()?;
        Some(Self {
            position: record.position,
            change: Change { key, entry },
            expired: record.expired,
        })
    }
}

/// Reads the changes after a position in order, at most `limit` and about `bytes`: each
/// document as it was after the change. One that has expired since is still seen here, and
/// its end at a later position.
///
/// # Errors
/// [`StoreError`].
pub fn feed_after(
    reader: &dyn Reader,
    after: u64,
    limit: usize,
    bytes: usize,
) -> Result<Vec<FeedItem>, StoreError> {
    let mut items = Vec::new();
    let mut weight = 0;
    let FeedEnds { head, floor, .. } = feed_ends(reader)?;
    let mut position = after.saturating_add(1).max(floor + 1);
    while position <= head && items.len() < limit && weight < bytes {
        let row = row_of(position);
        let live = reader.get(Table::Feed, &row.to_be_bytes())?;
        let mut live = Chunk::new(Table::Feed, row, live.as_deref().unwrap_or_default());
        let mut next = live.next().transpose()?;
        // All positions of this row, whether they are the last of their key or not.
        while position <= head && row_of(position) == row && items.len() < limit && weight < bytes {
            while next.is_some_and(|(live, _)| live < position) {
                next = live.next().transpose()?;
            }
            let key = next.filter(|(live, _)| *live == position);
            let item = feed_item(reader, position, key.map(|(_, key)| key))?;
            weight += item.change.weight();
            items.push(item);
            position += 1;
        }
    }
    Ok(items)
}

/// The change at a position: that of a key whose last it is, or one of the past.
fn feed_item(
    reader: &dyn Reader,
    position: u64,
    last_of: Option<&[u8]>,
) -> Result<FeedItem, StoreError> {
    let damaged = |detail| StoreError::Damaged {
        table: Table::Feed,
        detail,
    };
    let (key, record) = match last_of {
        Some(key) => {
            let record = reader.get(Table::Entries, key)?;
            let record = record.ok_or(damaged("a position names a key that is not there"))?;
            (records::decode_key(key)?, records::decode_entry(&record)?)
        }
        None => {
            let past = reader.get(Table::Past, &position.to_be_bytes())?;
            let past = past.ok_or(damaged("a position is missing"))?;
            let (key, record) = records::decode_past(&past)?;
            (records::decode_key(&key)?, record)
        }
    };
    let item = FeedItem::of(key, &record);
    item.ok_or(damaged("a position names a key without a version"))
}

/// The live writes of one origin within a range of sequence numbers, ascending, each with
/// those of its parts that have a say. `take` says whether to go on after each.
///
/// # Errors
/// [`StoreError`].
pub fn live_writes(
    reader: &dyn Reader,
    origin: Origin,
    range: SeqRange,
    take: &mut dyn FnMut(Seq, Delta) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let damaged = |detail| StoreError::Damaged {
        table: Table::Dots,
        detail,
    };
    let from = records::encode_dots_row(origin, row_of(range.first));
    each(reader, Table::Dots, &from, None, |row, bytes| {
        let (found, row) = records::decode_dots_row(row)?;
        if found != origin || row > row_of(range.last) {
            return Ok(ControlFlow::Break(()));
        }
        for item in Chunk::new(Table::Dots, row, bytes) {
            let (seq, key) = item?;
            if seq < range.first {
                continue;
            }
            if seq > range.last {
                break;
            }
            let record = reader.get(Table::Entries, key)?;
            let record = record.ok_or(damaged("a dot names a key that is not there"))?;
            let document = records::decode_entry(&record)?.document;
            let write = document
                .into_write(Dot { origin, seq })
                .ok_or(damaged("a dot names a key that has nothing of it"))?;
            let key = records::decode_key(key)?;
            if take(seq, Delta { key, write }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Some of a collection's documents, in order of their keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The documents; none of them is a deletion.
    pub documents: Vec<Change>,
    /// Whether the page was closed before the end: go on after its last key.
    pub more: bool,
    /// The writes that it rests on, those of the deletions among its keys included.
    pub seen: Frontier,
}

/// A page of the documents of a collection: those whose names begin with `prefix` and
/// come after `after`, at most `limit` and about [`PAGE_BYTES`], as they are at `now_ms`.
///
/// # Errors
/// [`StoreError`].
pub fn documents(
    reader: &dyn Reader,
    collection: &Collection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    now_ms: u64,
) -> Result<Page, StoreError> {
    let begin = records::encode_prefix(collection, prefix);
    let mut from = begin.clone();
    if let Some(after) = after {
        // The smallest key after `after`, where that lies beyond the prefix's start.
        let mut next = records::encode_prefix(collection, after);
        next.push(0);
        from = from.max(next);
    }
    let mut page = Page::default();
    let mut bytes = 0;
    each(reader, Table::Entries, &from, None, |key, record| {
        if !key.starts_with(&begin) {
            return Ok(ControlFlow::Break(()));
        }
        let document = records::decode_entry(record)?.document;
        let entry = Entry::of(&document, now_ms).filter(|entry| !entry.is_tombstone());
        let Some(entry) = entry else {
            document.note_writes(&mut page.seen);
            return Ok(ControlFlow::Continue(()));
        };
        if page.documents.len() >= limit || bytes >= PAGE_BYTES {
            page.more = true;
            return Ok(ControlFlow::Break(()));
        }
        let change = Change {
            key: records::decode_key(key)?,
            entry,
        };
        bytes += change.weight();
        document.note_writes(&mut page.seen);
        page.documents.push(change);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// Every document with its key, tombstones included, in order: for comparison in tests.
///
/// # Errors
/// [`StoreError`].
pub fn dump(reader: &dyn Reader) -> Result<Vec<(Key, Document)>, StoreError> {
    let mut all = Vec::new();
    each(reader, Table::Entries, &[], None, |key, record| {
        let document = records::decode_entry(record)?.document;
        all.push((records::decode_key(key)?, document));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// A scan whose visitor can fail.
pub(crate) fn each(
    reader: &dyn Reader,
    table: Table,
    from: &[u8],
    to: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    reader.scan(table, from, to, &mut |key, value| match visit(key, value) {
        Ok(flow) => flow,
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}
