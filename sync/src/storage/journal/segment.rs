//! The bytes of a journal segment, format 1. Numbers are big-endian.
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 8 | `BASICJNL` |
//! | 8 | 4 | format, 1 |
//! | 12 | 8 | number of this segment |
//! | 20 | 8 | length of the good part of the segment before it; 0 for the first |
//! | 28 | 32 | random key of this segment's checksums |
//! | 60 | 16 | blake3 of the above, cut |
//! | 76 | 4 | 0 |
//!
//! Then records, one for each transaction, each beginning at a multiple of 16:
//!
//! | bytes | record |
//! |---|---|
//! | 4 | `0xB51C0DE5` |
//! | 4 | length of the body |
//! | 8 | sequence number, dense from 1 over all segments |
//! | 16 | blake3 of the fields above and the body, keyed with the segment's key, cut |
//! | n | body: for each change the table u8, 0 (removed) or 1 (set) u8, length of the key u16, length of the value u32, key, value |
//!
//! The key makes sure that nobody who writes documents can write what looks like a
//! record, and that what an earlier use left in the segment does not.

use super::super::{StoreError, Table};
use super::layers::Batch;

pub(super) const HEADER_BYTES: usize = 80;
/// In a segment that was not begun yet all of these are zeros, whatever follows them.
pub(super) const BLOCK_BYTES: usize = 4096;
const RECORD_HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 16;
const MAGIC: &[u8; 8] = b"BASICJNL";
const MARK: [u8; 4] = 0xB51C_0DE5_u32.to_be_bytes();
const FORMAT: u32 = 1;

/// The beginning of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Its number.
    pub(super) id: u64,
    /// How much of the segment before it counts.
    pub(super) before_length: u64,
    /// Key of its checksums.
    pub(super) key: [u8; 32],
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.before_length.to_be_bytes());
        bytes.extend_from_slice(&self.key);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..16]);
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    /// `None` where no header was ever wholly written.
    pub(super) fn decode(segment: &[u8]) -> Option<Self> {
        let (fields, rest) = segment.split_at_checked(60)?;
        let checksum = rest.get(..16)?;
        let sound = fields.starts_with(MAGIC)
            && fields[8..12] == FORMAT.to_be_bytes()
            && blake3::hash(fields).as_bytes()[..16] == *checksum;
        if !sound {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(*fields.get(at..)?.first_chunk()?));
        Some(Self {
            id: number(12)?,
            before_length: number(20)?,
            key: *fields.get(28..)?.first_chunk()?,
        })
    }
}

/// Writes a record into an empty buffer.
///
/// # Errors
/// [`StoreError::Io`] when the transaction is too large to be one.
pub(super) fn encode_record(
    key: &[u8; 32],
    seq: u64,
    changes: &Batch,
    record: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let too_large = || StoreError::Io(std::io::Error::other("the transaction is too large"));
    record.clear();
    record.resize(RECORD_HEADER_BYTES, 0);
    for (table, row, value) in changes.iter() {
        record.push(table.index_u8());
        record.push(u8::from(value.is_some()));
        let value = value.unwrap_or_default();
        let row_length = u16::try_from(row.len()).map_err(|_| too_large())?;
        let value_length = u32::try_from(value.len()).map_err(|_| too_large())?;
        record.extend_from_slice(&row_length.to_be_bytes());
        record.extend_from_slice(&value_length.to_be_bytes());
        record.extend_from_slice(row);
        record.extend_from_slice(value);
    }
    let length = u32::try_from(record.len() - RECORD_HEADER_BYTES).map_err(|_| too_large())?;
    record[..4].copy_from_slice(&MARK);
    record[4..8].copy_from_slice(&length.to_be_bytes());
    record[8..16].copy_from_slice(&seq.to_be_bytes());
    let checksum = checksum(key, &record[..16], &record[RECORD_HEADER_BYTES..]);
    record[16..32].copy_from_slice(&checksum);
    record.resize(record.len().next_multiple_of(ALIGNMENT), 0);
    Ok(())
}

fn checksum(key: &[u8; 32], fields: &[u8], body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(fields).update(body);
    let mut cut = [0; 16];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    cut
}

/// A record as it is found.
pub(super) struct Record<'s> {
    pub(super) seq: u64,
    pub(super) body: &'s [u8],
    /// Where the next one begins.
    pub(super) end: usize,
}

/// The record that begins at `at`, if a sound one does.
pub(super) fn record_at<'s>(key: &[u8; 32], segment: &'s [u8], at: usize) -> Option<Record<'s>> {
    let (header, rest) = segment.get(at..)?.split_at_checked(RECORD_HEADER_BYTES)?;
    if header[..4] != MARK {
        return None;
    }
    let length = usize::try_from(u32::from_be_bytes(*header[4..].first_chunk()?)).ok()?;
    let body = rest.get(..length)?;
    if checksum(key, &header[..16], body) != header[16..32] {
        return None;
    }
    let end = at + RECORD_HEADER_BYTES + length;
    Some(Record {
        seq: u64::from_be_bytes(*header[8..].first_chunk()?),
        body,
        end: end.next_multiple_of(ALIGNMENT),
    })
}

/// Whether a sound record that comes after that with number `seq` begins anywhere from `at` on.
pub(super) fn has_record_after(key: &[u8; 32], segment: &[u8], at: usize, seq: u64) -> bool {
    let places = (at.next_multiple_of(ALIGNMENT)..segment.len()).step_by(ALIGNMENT);
    // So many records have room. Others need not be hashed: what looks like the beginning of
    // a large one can be there as often as somebody liked to write it.
    let most = (segment.len() / RECORD_HEADER_BYTES) as u64;
    let follows = |place: &usize| {
        let number = segment.get(place + 8..place + 16);
        number
            .and_then(|bytes| bytes.first_chunk())
            .is_some_and(|bytes| (seq + 1..=seq + most).contains(&u64::from_be_bytes(*bytes)))
    };
    places
        .filter(follows)
        .any(|place| record_at(key, segment, place).is_some())
}

/// Takes the changes of a record's body into a batch; `None` if they make no sense.
pub(super) fn replay(mut body: &[u8], into: &mut Batch) -> Option<()> {
    while !body.is_empty() {
        let (fields, rest) = body.split_first_chunk::<8>()?;
        let table = Table::ALL.get(usize::from(fields[0])).copied()?;
        let row_length = usize::from(u16::from_be_bytes([fields[2], fields[3]]));
        let value_length = u32::from_be_bytes([fields[4], fields[5], fields[6], fields[7]]);
        let (row, rest) = rest.split_at_checked(row_length)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(value_length).ok()?)?;
        let value = match fields[1] {
            0 if value.is_empty() => None,
            1 => Some(value.to_vec()),
            _ => return None,
        };
        into.set(table, row.to_vec(), value);
        body = rest;
    }
    Some(())
}
