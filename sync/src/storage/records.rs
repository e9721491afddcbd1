//! The bytes of the store, format 2. Numbers are big-endian, so that keys sort as
//! numbers do.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `format` | u32, 2 |
//! | meta | `origin` | replica 16 bytes, epoch u64 |
//! | meta | `clock` | u64, the highest hybrid timestamp issued or observed |
//! | meta | `feed` | u64 head, u64 floor: the last position given, the last one trimmed |
//! | meta | `digest` | 32 bytes, sum mod 2^256 over all entries (see [`super::state`]) |
//! | meta | `journal` | u64 seq, u64 segment: the last record of the journal that is in this file, and the oldest segment that may hold later ones |
//! | entries | collection, 0x00, key | clock u64, origin 24, seq u64, feed position u64, kind u8 (0 tombstone, 1 document), document |
//! | dots | origin 24, seq u64 | the key of `entries` whose version this is |
//! | feed | position u64 | 0x00 and the key of `entries` whose last change this is; or, once a later change took its place, 0x01, length of that key u16, the key, and the old record as in `entries` |
//! | vector | origin 24 | pairs of u64, first and last of each range of sequence numbers |
//!
//! Format 1 is the same without a journal; it becomes format 2 when it is opened. The
//! journal's own bytes are drawn in `journal/segment.rs`.
//!
//! An origin is its replica (16 bytes) and its epoch (u64). A change is kept in the
//! feed by reference while it is the live one, so that a document that is written
//! once is stored once.

use bytes::Bytes;

use super::{StoreError, Table};
use crate::model::{
    Collection, Dot, Entry, Epoch, Key, Origin, ReplicaId, Seq, SeqRange, SeqSet, Timestamp,
    Version,
};

/// The format that this program writes.
pub const FORMAT: u32 = 2;

/// Key in `meta` of the format number.
pub const META_FORMAT: &[u8] = b"format";
/// Key in `meta` of the store's origin.
pub const META_ORIGIN: &[u8] = b"origin";
/// Key in `meta` of the clock.
pub const META_CLOCK: &[u8] = b"clock";
/// Key in `meta` of the feed's head and floor.
pub const META_FEED: &[u8] = b"feed";
/// Key in `meta` of the digest.
pub const META_DIGEST: &[u8] = b"digest";

/// Key in `meta` of how far the journal has been brought into the file.
pub const META_JOURNAL: &[u8] = b"journal";

/// An entry with its place in the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryRecord {
    /// The entry.
    pub entry: Entry,
    /// The feed position of the change that made it.
    pub position: u64,
}

/// A record of the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FeedRecord {
    /// The change is the live version of this key of `entries`.
    Live(Vec<u8>),
    /// The change was superseded; this is what it was.
    Superseded(Vec<u8>, EntryRecord),
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

/// Encodes a dot as a key of `dots`.
pub fn encode_dot(dot: Dot) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..24].copy_from_slice(&encode_origin(dot.origin));
    bytes[24..].copy_from_slice(&dot.seq.to_be_bytes());
    bytes
}

/// The sequence number of a key of `dots`.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_dot(bytes: &[u8]) -> Result<Dot, StoreError> {
    let mut cursor = Cursor {
        table: Table::Dots,
        rest: bytes,
    };
    let dot = Dot {
        origin: cursor.origin()?,
        seq: cursor.u64()?,
    };
    cursor.end()?;
    Ok(dot)
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

/// Encodes an entry.
pub fn encode_entry(record: &EntryRecord) -> Vec<u8> {
    let EntryRecord { entry, position } = record;
    let document = entry.value.as_deref().unwrap_or_default();
    let mut bytes = Vec::with_capacity(49 + document.len());
    bytes.extend_from_slice(&entry.version.clock.0.to_be_bytes());
    bytes.extend_from_slice(&encode_dot(entry.version.dot));
    bytes.extend_from_slice(&position.to_be_bytes());
    bytes.push(u8::from(entry.value.is_some()));
    bytes.extend_from_slice(document);
    bytes
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
    let clock = Timestamp(cursor.u64()?);
    let dot = Dot {
        origin: cursor.origin()?,
        seq: cursor.u64()?,
    };
    let position = cursor.u64()?;
    let value = match cursor.take(1)? {
        [0] if cursor.rest.is_empty() => None,
        [1] => Some(Bytes::copy_from_slice(cursor.rest)),
        _ => return Err(cursor.damaged("an entry is of an unknown kind")),
    };
    Ok(EntryRecord {
        entry: Entry {
            version: Version { clock, dot },
            value,
        },
        position,
    })
}

/// Encodes a record of the feed.
pub fn encode_feed(record: &FeedRecord) -> Vec<u8> {
    match record {
        FeedRecord::Live(key) => {
            let mut bytes = Vec::with_capacity(1 + key.len());
            bytes.push(0);
            bytes.extend_from_slice(key);
            bytes
        }
        FeedRecord::Superseded(key, entry) => {
            let entry = encode_entry(entry);
            let mut bytes = Vec::with_capacity(3 + key.len() + entry.len());
            bytes.push(1);
            // A key is at most 64 + 1 + 512 bytes.
            let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&entry);
            bytes
        }
    }
}

/// Decodes a record of the feed.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn decode_feed(bytes: &[u8]) -> Result<FeedRecord, StoreError> {
    let mut cursor = Cursor {
        table: Table::Feed,
        rest: bytes,
    };
    match cursor.take(1)? {
        [0] => Ok(FeedRecord::Live(cursor.rest.to_vec())),
        [1] => {
            let length = usize::from(u16::from_be_bytes(cursor.array()?));
            let key = cursor.take(length)?.to_vec();
            Ok(FeedRecord::Superseded(key, decode_entry(cursor.rest)?))
        }
        _ => Err(cursor.damaged("a feed record is of an unknown kind")),
    }
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
struct Cursor<'b> {
    table: Table,
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    fn damaged(&self, detail: &'static str) -> StoreError {
        StoreError::Damaged {
            table: self.table,
            detail,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], StoreError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.damaged("a record is too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(self.damaged("a record is too short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        self.array().map(u64::from_be_bytes)
    }

    fn origin(&mut self) -> Result<Origin, StoreError> {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = EntryRecord> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64));
        (
            any::<u64>(),
            any::<[u8; 16]>(),
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            value,
        )
            .prop_map(|(clock, replica, epoch, seq, position, value)| {
                let origin = Origin {
                    replica: ReplicaId(replica),
                    epoch: Epoch(epoch),
                };
                let version = Version {
                    clock: Timestamp(clock),
                    dot: Dot { origin, seq },
                };
                EntryRecord {
                    entry: Entry {
                        version,
                        value: value.map(Bytes::from),
                    },
                    position,
                }
            })
    }

    proptest! {
        #[test]
        fn records_survive_their_bytes(entry in entry(), name in "[a-z梁]{1,20}") {
            prop_assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry.clone());
            let key = Key::new(Collection::new("users").unwrap(), &name).unwrap();
            prop_assert_eq!(decode_key(&encode_key(&key)).unwrap(), key.clone());
            for record in [FeedRecord::Live(encode_key(&key)), FeedRecord::Superseded(encode_key(&key), entry.clone())] {
                prop_assert_eq!(decode_feed(&encode_feed(&record)).unwrap(), record);
            }
            let dot = entry.entry.version.dot;
            prop_assert_eq!(decode_dot(&encode_dot(dot)).unwrap(), dot);
        }

        #[test]
        fn any_bytes_decode_or_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = decode_entry(&bytes);
            let _ = decode_feed(&bytes);
            let _ = decode_set(&bytes);
            let _ = decode_key(&bytes);
            let _ = decode_dot(&bytes);
            let _ = decode_origin(Table::Meta, &bytes);
        }
    }

    #[test]
    fn the_bytes_of_an_entry_are_those_of_format_1() {
        let origin = Origin {
            replica: ReplicaId([0xab; 16]),
            epoch: Epoch(2),
        };
        let version = Version {
            clock: Timestamp(1),
            dot: Dot { origin, seq: 3 },
        };
        let entry = Entry {
            version,
            value: Some(Bytes::from_static(b"{}")),
        };
        let bytes = encode_entry(&EntryRecord { entry, position: 4 });
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 1];
        expected.extend([0xab; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 4]);
        expected.extend([1, b'{', b'}']);
        assert_eq!(bytes, expected);
    }
}
