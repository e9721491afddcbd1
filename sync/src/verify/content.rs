//! Digests of contents: of a key with everything that its row says, but for its place in the
//! feed, which is each node's own, and for what only remembers a deletion.
//!
//! **Deletions.** Nodes let go of a settled deletion at different times, so one that is still
//! remembered must count as one that is not: a document goes into its digest as it will be
//! when all of it is settled, and one of which nothing is left then as a key without a row.
//! (To leave out only what *is* settled would need one floor that all go by, and nothing
//! follows from a deletion that one node lacks as long as nobody has the document.) A
//! document that was deleted and is *there* on one node differs as before. So does a row
//! with a write that its own node's index does not know: that one is damaged.
//!
//! A promise to other versions of this program: the hash is over the row as
//! [`records`] draws it in format 3, without bytes 40 to 48. A row
//! that cannot be decoded has a digest too. A key without a row has the digest of zeros.

use std::borrow::Cow;

use super::indexes;
use crate::model::Timestamp;
use crate::model::document::Document;
use crate::storage::records::{self, EntryRecord};
use crate::storage::state::Digest;
use crate::storage::{Reader, StoreError};

/// Where a row's feed position is.
const POSITION: std::ops::Range<usize> = 40..48;

/// What is left of a document once all that is in it is settled.
pub fn lasting(document: &Document) -> Cow<'_, Document> {
    if !document.has_settled(Timestamp::LAST) {
        return Cow::Borrowed(document);
    }
    let mut document = document.clone();
    document.collect(Timestamp::LAST, &|_| true);
    Cow::Owned(document)
}

/// The digest of a key and its row of `entries` in this store.
///
/// # Errors
/// [`StoreError`].
pub fn of_entry(reader: &dyn Reader, key: &[u8], row: &[u8]) -> Result<Digest, StoreError> {
    // Most rows are one root that is there.
    if row.get(POSITION.end) == Some(&records::KIND_DOCUMENT) {
        return Ok(of_row(key, row));
    }
    let Ok(record) = records::decode_entry(row) else {
        return Ok(of_row(key, row));
    };
    let document = record.document;
    if !document.has_settled(Timestamp::LAST) {
        return Ok(of_row(key, row));
    }
    for write in document.writes() {
        if !indexes::names(reader, write.version.dot, key)? {
            return Ok(of_row(key, row));
        }
    }
    Ok(of_document(key, &document))
}

/// The digest of a key and a row, both as they are.
fn of_row(key: &[u8], row: &[u8]) -> Digest {
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
    let document = lasting(document);
    if document.is_empty() {
        return Digest::default();
    }
    let record = EntryRecord {
        document: document.into_owned(),
        position: 0,
        expired: false,
    };
    of_row(key, &records::encode_entry(&record))
}
