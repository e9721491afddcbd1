//! The bytes of the store, format 4. Numbers are big-endian, so that keys sort as
//! numbers do.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `format` | u32, 4 |
//! | meta | `origin` | replica 16 bytes, epoch u64 |
//! | meta | `clock` | u64, the latest hybrid timestamp issued or taken over |
//! | meta | `ahead` | who wrote with dates far ahead, drawn in `ahead.rs` |
//! | meta | `feed` | u64 head, u64 floor: the last position given, the last one trimmed |
//! | meta | `past` | u64, the bytes of all values in `past` |
//! | meta | `expiries` | u8, 1: `expiries` is complete |
//! | meta | `digest` | 32 bytes, sum mod 2^256 over all entries (see [`super::state`]) |
//! | meta | `roster`, `floor`, `heard`, `horizon`, `fill` | what is settled, drawn in `settlement.rs` |
//! | meta | `exported`, `exports` | writes that were taken out, drawn in `exported.rs` |
//! | meta | `journal` | u64 seq, u64 segment: the last record of the journal that is in this file, and the oldest segment that may hold later ones |
//! | entries | collection, 0x00, key | an entry, see below |
//! | dots | origin 24, row u64 | of each seq from 32·row on: the key of `entries` in which this write has a say (see `chunks.rs`) |
//! | feed | row u64 | of each position from 32·row on: the key of `entries` whose last change this is |
//! | past | position u64 | once a later change took its place: length of the key u16, the key, and the old record as in `entries` |
//! | expiries | u64, key of `entries` | nothing: the document expires at so many milliseconds since 1970, which watchers have not been told |
//! | history | see `history.rs` | older versions of documents, where they are asked for |
//! | vector | origin 24 | pairs of u64, first and last of each range of sequence numbers |
//!
//! An entry is the clock u64, origin 24 and seq u64 of its greatest version, its feed
//! position u64, a kind u8, and by kind:
//! - 0: nothing. One write of a root that deletes.
//! - 1: the document. One write of a root.
//! - 2: its writes, ascending by version, each as clock u64, origin 24, seq u64, count u32
//!   of its parts; and each part as a kind u8, what names it, 0 or 1 u8 for no value or one,
//!   and if 1 its length u32 and the value. Parts by kind: 0 root, 1 field (length u16, name),
//!   2 tally (origin 24), 3 reset (origin 24), 4 set, 5 element (origin 24, seq u64,
//!   index u16), 6 expiry.
//! - 3: the same, and at its feed position the document is seen as it is once its expiry
//!   has come.
//!
//! Formats 1 (without a journal) and 2 have entries of kinds 0 and 1 only, a row for each
//! dot (`dots`: origin 24, seq u64 → key) and one for each position of the feed (`feed`:
//! position u64 → 0x00 and the key; or 0x01 and what `past` has now). Format 3 lacks
//! `expiries` and `history`, and entries of kind 3. They become format 4 when they are opened. The journal's own bytes are drawn in `journal/segment.rs`.
//!
//! An origin is its replica (16 bytes) and its epoch (u64). A change is kept in the
//! feed by reference while it is the live one, so that a document that is written
//! once is stored once.

use bytes::Bytes;

use super::{StoreError, Table};
use crate::model::document::{Document, Part, PartWrite, Tag, Write};
use crate::model::{
    Collection, Dot, Entry, Epoch, Key, Origin, ReplicaId, Seq, SeqRange, SeqSet, Timestamp,
    Version,
};

/// The format that this program writes.
pub const FORMAT: u32 = 4;

/// Key in `meta` of the format number.
pub const META_FORMAT: &[u8] = b"format";
/// Key in `meta` of the store's origin.
pub const META_ORIGIN: &[u8] = b"origin";
/// Key in `meta` of the clock.
pub const META_CLOCK: &[u8] = b"clock";
/// Key in `meta` of the feed's head and floor.
pub const META_FEED: &[u8] = b"feed";
/// Key in `meta` of the bytes of the past.
pub const META_PAST: &[u8] = b"past";
/// Key in `meta` of whether the expiry index is complete.
pub const META_EXPIRIES: &[u8] = b"expiries";
/// Key in `meta` of the digest.
pub const META_DIGEST: &[u8] = b"digest";

/// Key in `meta` of how far the journal has been brought into the file.
pub const META_JOURNAL: &[u8] = b"journal";

/// A document with its place in the feed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryRecord {
    /// The document.
    pub document: Document,
    /// The feed position of the change that made it.
    pub position: u64,
    /// At that position it is seen as it is once its expiry has come. Never set where there
    /// is no expiry.
    pub expired: bool,
}

impl EntryRecord {
    /// What watchers are told at its position. It does not depend on when they read it, so
    /// that each sees a document first and then its end.
    pub fn entry(&self) -> Option<Entry> {
        Entry::of(&self.document, if self.expired { u64::MAX } else { 0 })
    }

    /// When the document expires, in milliseconds since 1970, if it is not seen as expired
    /// already.
    pub fn expires_at(&self) -> Option<u64> {
        let at_ms = self.document.expires_at();
        at_ms.filter(|_| !self.expired)
    }
}

/// Encodes an origin.
pub fn encode_origin(origin: Origin) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&origin.replica.0);
    bytes[16..].copy_from_slice(&origin.epoch.0.to_be_bytes());
    bytes
}

/// Decodes an origin.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_origin(table: Table, bytes: &[u8]) -> Result<Origin, StoreError> {
    let mut cursor = Cursor { table, rest: bytes };
    let origin = cursor.origin()?;
    cursor.end()?;
    Ok(origin)
}

fn encode_dot(dot: Dot) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..24].copy_from_slice(&encode_origin(dot.origin));
    bytes[24..].copy_from_slice(&dot.seq.to_be_bytes());
    bytes
}

/// Encodes a row of an origin's numbers as a key of `dots`.
pub fn encode_dots_row(origin: Origin, row: u64) -> [u8; 32] {
    encode_dot(Dot { origin, seq: row })
}

/// Decodes a key of `dots`.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_dots_row(bytes: &[u8]) -> Result<(Origin, u64), StoreError> {
    let mut cursor = Cursor {
        table: Table::Dots,
        rest: bytes,
    };
    let row = (cursor.origin()?, cursor.u64()?);
    cursor.end()?;
    Ok(row)
}

/// Encodes a key as a key of `entries`.
pub fn encode_key(key: &Key) -> Vec<u8> {
    let mut bytes = encode_prefix(key.collection(), key.name());
    bytes.shrink_to_fit();
    bytes
}

/// The beginning of all keys of a collection whose names begin with `prefix`.
pub fn encode_prefix(collection: &Collection, prefix: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(collection.as_str().len() + 1 + prefix.len());
    bytes.extend_from_slice(collection.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(prefix.as_bytes());
    bytes
}

/// Decodes a key of `entries`.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_key(bytes: &[u8]) -> Result<Key, StoreError> {
    let damaged = |detail| StoreError::Damaged {
        table: Table::Entries,
        detail,
    };
    let split = bytes
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(damaged("a key has no collection"))?;
    let (collection, name) = bytes.split_at(split);
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| damaged("a key is not UTF-8"));
    let collection =
        Collection::new(text(collection)?).map_err(|_| damaged("a collection's name is wrong"))?;
    Key::new(collection, text(&name[1..])?).map_err(|_| damaged("a key's name is wrong"))
}

const KIND_TOMBSTONE: u8 = 0;
/// Kind of an entry: one root that has a value.
pub(crate) const KIND_DOCUMENT: u8 = 1;
/// Kind of an entry: writes of several parts.
pub(crate) const KIND_PARTS: u8 = 2;
/// Kind of an entry: the same, and this node's watchers were told that it has expired.
pub(crate) const KIND_PARTS_EXPIRED: u8 = 3;

/// Encodes an entry. A document that was never written has none.
pub fn encode_entry(record: &EntryRecord) -> Vec<u8> {
    let EntryRecord {
        document,
        position,
        expired,
    } = record;
    let text = document.only_root();
    let rest = text.map_or(document.weight(), |text| text.map_or(0, Bytes::len));
    let mut bytes = Vec::with_capacity(49 + rest);
    let Some(version) = document.version() else {
        return bytes;
    };
    put_version(&mut bytes, version);
    bytes.extend_from_slice(&position.to_be_bytes());
    match text {
        Some(None) => bytes.push(KIND_TOMBSTONE),
        Some(Some(text)) => {
            bytes.push(KIND_DOCUMENT);
            bytes.extend_from_slice(text);
        }
        None => {
            bytes.push(match expired {
                true => KIND_PARTS_EXPIRED,
                false => KIND_PARTS,
            });
            document
                .writes()
                .iter()
                .for_each(|write| put_write(&mut bytes, write));
        }
    }
    bytes
}

fn put_version(bytes: &mut Vec<u8>, version: Version) {
    bytes.extend_from_slice(&version.clock.0.to_be_bytes());
    bytes.extend_from_slice(&encode_dot(version.dot));
}

pub(crate) fn put_write(bytes: &mut Vec<u8>, write: &Write) {
    put_version(bytes, write.version);
    put_length(bytes, write.parts.len());
    for PartWrite { part, value } in &write.parts {
        match part {
            Part::Root => bytes.push(0),
            Part::Field(name) => {
                bytes.push(1);
                // At most `FIELD_BYTES_MAX`.
                let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(name.as_bytes());
            }
            Part::Tally(origin) => {
                bytes.push(2);
                bytes.extend_from_slice(&encode_origin(*origin));
            }
            Part::Reset(origin) => {
                bytes.push(3);
                bytes.extend_from_slice(&encode_origin(*origin));
            }
            Part::Set => bytes.push(4),
            Part::Element(Tag { dot, index }) => {
                bytes.push(5);
                bytes.extend_from_slice(&encode_dot(*dot));
                bytes.extend_from_slice(&index.to_be_bytes());
            }
            Part::Expiry => bytes.push(6),
        }
        bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put_length(bytes, value.len());
            bytes.extend_from_slice(value);
        }
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // A write is at most some megabytes.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
}

/// Decodes an entry.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_entry(bytes: &[u8]) -> Result<EntryRecord, StoreError> {
    let mut cursor = Cursor {
        table: Table::Entries,
        rest: bytes,
    };
    let version = cursor.version()?;
    let position = cursor.u64()?;
    let [kind] = cursor.array()?;
    let document = match kind {
        KIND_TOMBSTONE if cursor.rest.is_empty() => Document::of_root(version, None),
        KIND_DOCUMENT => Document::of_root(version, Some(Bytes::copy_from_slice(cursor.rest))),
        KIND_PARTS | KIND_PARTS_EXPIRED => {
            let mut writes = Vec::new();
            while !cursor.rest.is_empty() {
                writes.push(cursor.write()?);
            }
            let whole = Document::from_writes(writes).ok();
            whole
                .filter(|document| document.version() == Some(version))
                .ok_or(cursor.damaged("the parts of an entry contradict each other"))?
        }
        _ => return Err(cursor.damaged("an entry is of an unknown kind")),
    };
    Ok(EntryRecord {
        document,
        position,
        expired: kind == KIND_PARTS_EXPIRED,
    })
}

/// Encodes a change after which others came: the key of `entries`, and what it held.
pub fn encode_past(key: &[u8], entry: &EntryRecord) -> Vec<u8> {
    let entry = encode_entry(entry);
    let mut bytes = Vec::with_capacity(2 + key.len() + entry.len());
    // A key is at most 64 + 1 + 512 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&entry);
    bytes
}

/// Decodes a change after which others came.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_past(bytes: &[u8]) -> Result<(Vec<u8>, EntryRecord), StoreError> {
    let mut cursor = Cursor {
        table: Table::Past,
        rest: bytes,
    };
    let length = usize::from(cursor.u16()?);
    let key = cursor.take(length)?.to_vec();
    Ok((key, decode_entry(cursor.rest)?))
}

/// Encodes a set of sequence numbers.
pub fn encode_set(set: &SeqSet) -> Vec<u8> {
    let ends = set.ranges().flat_map(|range| [range.first, range.last]);
    ends.flat_map(Seq::to_be_bytes).collect()
}

/// Decodes a set of sequence numbers.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_set(bytes: &[u8]) -> Result<SeqSet, StoreError> {
    let mut cursor = Cursor {
        table: Table::Vector,
        rest: bytes,
    };
    let mut set = SeqSet::default();
    while !cursor.rest.is_empty() {
        let range = SeqRange::checked(cursor.u64()?, cursor.u64()?);
        set.insert(range.ok_or(cursor.damaged("a range of sequence numbers is wrong"))?);
    }
    Ok(set)
}

/// Reads fields off the front of a record.
pub(crate) struct Cursor<'b> {
    table: Table,
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    pub(crate) fn new(table: Table, rest: &'b [u8]) -> Self {
        Self { table, rest }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn damaged(&self, detail: &'static str) -> StoreError {
        StoreError::Damaged {
            table: self.table,
            detail,
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'b [u8], StoreError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.damaged("a record is too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(self.damaged("a record is too short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StoreError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, StoreError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A length, or a count of things that take at least a byte each.
    pub(crate) fn length(&mut self) -> Result<usize, StoreError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).ok();
        length
            .filter(|length| *length <= self.rest.len())
            .ok_or(self.damaged("a record is too short"))
    }

    fn dot(&mut self) -> Result<Dot, StoreError> {
        Ok(Dot {
            origin: self.origin()?,
            seq: self.u64()?,
        })
    }

    fn version(&mut self) -> Result<Version, StoreError> {
        Ok(Version {
            clock: Timestamp(self.u64()?),
            dot: self.dot()?,
        })
    }

    pub(crate) fn write(&mut self) -> Result<Write, StoreError> {
        let version = self.version()?;
        let count = self.length()?;
        let mut parts = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            parts.push(self.part()?);
        }
        Ok(Write { version, parts })
    }

    fn part(&mut self) -> Result<PartWrite, StoreError> {
        let part = match self.array()? {
            [0] => Part::Root,
            [1] => {
                let length = usize::from(self.u16()?);
                let name = std::str::from_utf8(self.take(length)?);
                Part::Field(
                    name.map_err(|_| self.damaged("a field is not UTF-8"))?
                        .into(),
                )
            }
            [2] => Part::Tally(self.origin()?),
            [3] => Part::Reset(self.origin()?),
            [4] => Part::Set,
            [5] => Part::Element(Tag {
                dot: self.dot()?,
                index: self.u16()?,
            }),
            [6] => Part::Expiry,
            _ => return Err(self.damaged("a part is of an unknown kind")),
        };
        let value = match self.array()? {
            [0] => None,
            [1] => {
                let length = self.length()?;
                Some(Bytes::copy_from_slice(self.take(length)?))
            }
            _ => return Err(self.damaged("a part is of an unknown kind")),
        };
        Ok(PartWrite { part, value })
    }

    pub(crate) fn origin(&mut self) -> Result<Origin, StoreError> {
        Ok(Origin {
            replica: ReplicaId(self.array()?),
            epoch: Epoch(self.u64()?),
        })
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged("a record is too long"))
        }
    }
}

#[cfg(test)]
mod tests;
