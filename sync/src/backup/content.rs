//! What is in the frames: writes, claims and the two texts, as bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::document::Part;
use crate::model::{Delta, Origin, SeqRange, Timestamp, VersionVector};
use crate::storage::records::{self, Cursor};
use crate::storage::{StoreError, Table};

/// Why a content makes no sense.
pub(super) type Fault = String;

/// Whether a write deletes a whole document.
pub(super) fn deletes(delta: &Delta) -> bool {
    let parts = &delta.write.parts;
    parts.iter().any(|write| write.part == Part::Root)
        && parts.iter().all(|write| write.value.is_none())
}

pub(super) fn encode_write(content: &mut Vec<u8>, delta: &Delta) {
    let key = records::encode_key(&delta.key);
    // A key is at most 64 + 1 + 512 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    content.extend_from_slice(&length.to_be_bytes());
    content.extend_from_slice(&key);
    records::put_write(content, &delta.write);
}

pub(super) fn decode_writes(content: &[u8]) -> Result<Vec<Delta>, Fault> {
    let mut cursor = Cursor::new(Table::Entries, content);
    let mut writes = Vec::new();
    while !cursor.is_at_end() {
        let delta = decode_write(&mut cursor).map_err(|error| fault(&error))?;
        let version = delta.write.version;
        let seq = version.dot.seq;
        if SeqRange::checked(seq, seq).is_none() || version.clock > Timestamp::LAST {
            return Err("a version is out of range".to_owned());
        }
        let sound = delta.write.check();
        sound.map_err(|error| format!("a write of {:?} breaks the rules: {error}", delta.key))?;
        writes.push(delta);
    }
    Ok(writes)
}

fn decode_write(cursor: &mut Cursor<'_>) -> Result<Delta, StoreError> {
    let length = usize::from(cursor.u16()?);
    let key = records::decode_key(cursor.take(length)?)?;
    let write = cursor.write()?;
    Ok(Delta { key, write })
}

/// The vector as contents of about `most` bytes or less each.
pub(super) fn encode_claim(vector: &VersionVector, most: usize) -> Vec<Vec<u8>> {
    const RANGE_BYTES: usize = 16;
    let mut contents = Vec::new();
    let mut content: Vec<u8> = Vec::new();
    for (origin, set) in vector.iter() {
        let ranges: Vec<SeqRange> = set.ranges().collect();
        for ranges in ranges.chunks((most / RANGE_BYTES).max(1)) {
            if !content.is_empty() && content.len() + ranges.len() * RANGE_BYTES > most {
                contents.push(std::mem::take(&mut content));
            }
            content.extend_from_slice(&records::encode_origin(origin));
            let count = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
            content.extend_from_slice(&count.to_be_bytes());
            for range in ranges {
                content.extend_from_slice(&range.first.to_be_bytes());
                content.extend_from_slice(&range.last.to_be_bytes());
            }
        }
    }
    contents.push(content);
    contents
}

pub(super) fn decode_claim(content: &[u8]) -> Result<VersionVector, Fault> {
    let mut cursor = Cursor::new(Table::Vector, content);
    let mut vector = VersionVector::default();
    while !cursor.is_at_end() {
        let (origin, ranges) = decode_ranges(&mut cursor).map_err(|error| fault(&error))?;
        for range in ranges {
            let range = range.ok_or("a range of sequence numbers is wrong")?;
            vector.insert_range(origin, range);
        }
    }
    Ok(vector)
}

fn decode_ranges(cursor: &mut Cursor<'_>) -> Result<(Origin, Vec<Option<SeqRange>>), StoreError> {
    let origin = cursor.origin()?;
    let count = cursor.length()?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        ranges.push(SeqRange::checked(cursor.u64()?, cursor.u64()?));
    }
    Ok((origin, ranges))
}

pub(super) fn encode_text(text: &impl Serialize) -> Vec<u8> {
    // Structs of texts and numbers have a JSON form.
    serde_json::to_vec(text).unwrap_or_default()
}

pub(super) fn decode_text<T: DeserializeOwned>(content: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(content).map_err(|error| error.to_string())
}

fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Damaged { detail, .. } => (*detail).to_owned(),
        other => other.to_string(),
    }
}
