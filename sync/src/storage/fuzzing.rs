//! What must hold of the decoders of the store; see [`crate::fuzzing`].

use std::fmt::Debug;

use super::chunks::{self, CHUNK, Chunk};
use super::{StoreError, Table, ahead, records};
use crate::fuzzing::exact;

pub use super::journal::fuzzing::segment;

/// The value or the key of a row of any table: each decoder is given it, since the first
/// bytes of most records may be anything.
pub fn record(bytes: &[u8]) {
    if let Some(entry) = taken(records::decode_entry(bytes)) {
        let again = records::encode_entry(&entry);
        // The text of a document has no end of its own.
        let same = match entry.document.only_root() {
            Some(Some(_)) => taken(records::decode_entry(&again)),
            _ => Some(exact(&again, records::decode_entry)),
        };
        assert_eq!(same.as_ref(), Some(&entry));
    }
    if let Some((key, entry)) = taken(records::decode_past(bytes)) {
        let same = records::decode_past(&records::encode_past(&key, &entry));
        assert_eq!(taken(same), Some((key, entry)));
    }
    if let Some(set) = taken(records::decode_set(bytes)) {
        let again = records::encode_set(&set);
        assert_eq!(taken(records::decode_set(&again)), Some(set));
        assert!(records::decode_set(&[&again[..], &[0]].concat()).is_err());
    }
    if let Some(key) = taken(records::decode_key(bytes)) {
        assert_eq!(records::encode_key(&key), bytes);
    }
    if let Some((origin, row)) = taken(records::decode_dots_row(bytes)) {
        assert_eq!(records::encode_dots_row(origin, row), bytes);
        exact(bytes, records::decode_dots_row);
    }
    if let Some(origin) = taken(records::decode_origin(Table::Meta, bytes)) {
        assert_eq!(records::encode_origin(origin), bytes);
        exact(bytes, |bytes| records::decode_origin(Table::Meta, bytes));
    }
    if let Some(all) = taken(ahead::decode(bytes)) {
        assert_eq!(ahead::encode(all.iter()), bytes);
    }
    row(bytes);
}

/// A row of the dot index or the feed, at either end of what can be numbered.
fn row(bytes: &[u8]) {
    for row in [0, 7, u64::MAX / CHUNK, u64::MAX] {
        let items = Chunk::new(Table::Dots, row, bytes).collect::<Result<Vec<_>, _>>();
        let Some(items) = taken(items) else { continue };
        assert!(items.iter().all(|(n, _)| chunks::row_of(*n) == row));
        if items.is_sorted_by(|a, b| a.0 < b.0) {
            let mut again = Vec::new();
            for (number, text) in &items {
                chunks::set(&mut again, *number, text);
            }
            assert_eq!(again, bytes);
        }
    }
    // What is damaged is changed without harm to the process.
    let mut changed = bytes.to_vec();
    chunks::remove(&mut changed, 5);
    chunks::set(&mut changed, 9, b"users\0u1");
}

/// What was decoded; an error can only be that the record is damaged.
fn taken<T: Debug>(outcome: Result<T, StoreError>) -> Option<T> {
    match outcome {
        Ok(taken) => Some(taken),
        Err(StoreError::Damaged { .. }) => None,
        Err(other) => panic!("no damage: {other:?}"),
    }
}
