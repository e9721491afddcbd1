//! Digests of contents: of a key with everything that its row says, but for its place in the
//! feed, which is each node's own.
//!
//! A promise to other versions of this program: the hash is over the row as
//! [`records`] draws it in format 3, without bytes 40 to 48. A row
//! that cannot be decoded has a digest too. A key without a row has the digest of zeros.

use crate::model::document::Document;
use crate::storage::records::{self, EntryRecord};
use crate::storage::state::Digest;

/// Where a row's feed position is.
const POSITION: std::ops::Range<usize> = 40..48;

/// The digest of a key and its row of `entries`, both as they are stored.
pub fn of_row(key: &[u8], row: &[u8]) -> Digest {
    let (before, after) = match (row.get(..POSITION.start), row.get(POSITION.end..)) {
        (Some(before), Some(after)) => (before, after),
        _ => (row, &[][..]),
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(before);
    // What a node has told its own watchers is no difference.
    match after.split_first() {
        Some((&records::KIND_PARTS_EXPIRED, rest)) => {
            hasher.update(&[records::KIND_PARTS]);
            hasher.update(rest);
        }
        _ => {
            hasher.update(after);
        }
    }
    Digest::from_bytes(hasher.finalize().as_bytes())
}

/// The digest of a key and what it is to hold.
pub fn of_document(key: &[u8], document: &Document) -> Digest {
    if document.is_empty() {
        return Digest::default();
    }
    let record = EntryRecord {
        document: document.clone(),
        position: 0,
        expired: false,
    };
    of_row(key, &records::encode_entry(&record))
}
