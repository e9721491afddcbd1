//! The record of writes that came with a date far ahead (`protocol/ahead.rs`): one value
//! in `meta`, a writer after the other as origin 24, writes u64, date u64, and of the last
//! document its length u16 and its key as in `entries`. All of it is bounded by the bound
//! on the writers.

use super::records::{self, Cursor};
use super::{Reader, StoreError, Table, Writer};
use crate::model::{Key, Origin, Timestamp};

/// Key in `meta` of the record.
const META_AHEAD: &[u8] = b"ahead";

/// Writes of one origin that came with a date far ahead of this replica's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatedAhead {
    /// Who wrote them.
    pub origin: Origin,
    /// How many were taken in.
    pub writes: u64,
    /// The latest of their dates.
    pub latest: Timestamp,
    /// The document that was written under it.
    pub key: Key,
}

/// Reads the record.
///
/// # Errors
/// [`StoreError`].
pub fn dated_ahead(reader: &dyn Reader) -> Result<Vec<DatedAhead>, StoreError> {
    decode(&reader.get(Table::Meta, META_AHEAD)?.unwrap_or_default())
}

/// Reads the bytes of the record.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<DatedAhead>, StoreError> {
    let mut cursor = Cursor::new(Table::Meta, bytes);
    let mut all = Vec::new();
    while !cursor.is_at_end() {
        let (origin, writes, latest) = (cursor.origin()?, cursor.u64()?, cursor.u64()?);
        let length = usize::from(cursor.u16()?);
        all.push(DatedAhead {
            origin,
            writes,
            latest: Timestamp(latest),
            key: records::decode_key(cursor.take(length)?)?,
        });
    }
    Ok(all)
}

/// Writes the record.
///
/// # Errors
/// [`StoreError`].
pub fn set_dated_ahead<'a>(
    writer: &mut dyn Writer,
    all: impl Iterator<Item = &'a DatedAhead>,
) -> Result<(), StoreError> {
    let bytes = encode(all);
    match bytes.is_empty() {
        true => writer.remove(Table::Meta, META_AHEAD),
        false => writer.insert(Table::Meta, META_AHEAD, &bytes),
    }
}

/// The bytes of the record.
pub(super) fn encode<'a>(all: impl Iterator<Item = &'a DatedAhead>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in all {
        bytes.extend(records::encode_origin(one.origin));
        bytes.extend(one.writes.to_be_bytes());
        bytes.extend(one.latest.0.to_be_bytes());
        let key = records::encode_key(&one.key);
        // A key is at most 64 + 1 + 512 bytes.
        let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(key);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{Finish, MemoryStorage, Storage, read};
    use super::*;
    use crate::model::{Collection, Epoch, ReplicaId};

    #[test]
    fn the_record_is_read_as_it_was_written_and_a_damaged_one_is_an_error() {
        let one = |number: u8| DatedAhead {
            origin: Origin {
                replica: ReplicaId([number; 16]),
                epoch: Epoch(7),
            },
            writes: 3,
            latest: Timestamp::from_millis(9_000),
            key: Key::new(Collection::new("users").unwrap(), "u1").unwrap(),
        };
        let storage = MemoryStorage::default();
        let set = |all: &[DatedAhead]| {
            storage.write(&mut |writer| {
                set_dated_ahead(writer, all.iter())?;
                Ok(Finish::Commit)
            })
        };
        for all in [vec![one(1), one(2)], vec![]] {
            set(&all).unwrap();
            assert_eq!(read(&storage, dated_ahead).unwrap(), all);
        }
        let cut = storage.write(&mut |writer| {
            writer.insert(Table::Meta, META_AHEAD, &[1; 30])?;
            Ok(Finish::Commit)
        });
        cut.unwrap();
        let damaged = read(&storage, dated_ahead).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged { .. }));
    }
}
