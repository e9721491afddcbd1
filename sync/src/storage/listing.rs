//! The documents that are there, of one collection or all, a step at a time.

use std::ops::ControlFlow;

use super::state::each;
use super::{Reader, StoreError, Table, records};
use crate::model::{Change, Collection, Entry, Key};

/// Entries that one step looks at, whether they are documents that fit or not.
const STEP: usize = 4096;

/// One step of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// What was found, in the order of the keys; none of it is a deletion.
    pub documents: Vec<Change>,
    /// The key after which to go on; none at the end.
    pub next: Option<Key>,
}

/// The documents after a key, as they are at `now_ms`: of one collection or all, those whose
/// names begin with `prefix`. A step ends at `bytes` or a little above, too.
///
/// # Errors
/// [`StoreError`].
pub fn list_after(
    reader: &dyn Reader,
    (collection, prefix): (Option<&Collection>, &str),
    after: Option<&Key>,
    bytes: usize,
    now_ms: u64,
) -> Result<Step, StoreError> {
    let begin = collection.map_or_else(Vec::new, |collection| {
        records::encode_prefix(collection, prefix)
    });
    let from = after.map(|after| {
        let mut next = records::encode_key(after);
        // The smallest key after it.
        next.push(0);
        next
    });
    let from = from.unwrap_or_default().max(begin.clone());
    let mut step = Step::default();
    let (mut looked_at, mut taken) = (0, 0);
    each(reader, Table::Entries, &from, None, |key, record| {
        if !key.starts_with(&begin) {
            return Ok(ControlFlow::Break(()));
        }
        let key = records::decode_key(key)?;
        looked_at += 1;
        let document = match key.name().starts_with(prefix) {
            true => Entry::of(&records::decode_entry(record)?.document, now_ms),
            false => None,
        };
        let ends = |taken: usize| looked_at >= STEP || taken >= bytes;
        if let Some(entry) = document.filter(|entry| !entry.is_tombstone()) {
            let change = Change { key, entry };
            taken += change.weight();
            step.next = ends(taken).then(|| change.key.clone());
            step.documents.push(change);
        } else {
            step.next = ends(taken).then_some(key);
        }
        Ok(match step.next {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    })?;
    Ok(step)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::document::Document;
    use crate::model::numbered::dot;
    use crate::model::{Timestamp, Version};
    use crate::storage::records::EntryRecord;
    use crate::storage::{Finish, MemoryStorage, Storage, Writer, read};

    /// The names of the documents in a store, each of one collection of three, and whether
    /// they were deleted.
    fn store(entries: &BTreeMap<(u8, String), bool>) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let mut seq = 0;
        let mut fill = |writer: &mut dyn Writer| {
            for ((collection, name), deleted) in entries {
                seq += 1;
                let version = Version {
                    clock: Timestamp::from_millis(seq),
                    dot: dot(1, seq),
                };
                let value = (!deleted).then(|| b"1".as_slice().into());
                let record = EntryRecord {
                    document: Document::of_root(version, value),
                    ..EntryRecord::default()
                };
                let key = records::encode_key(&key(*collection, name));
                writer.insert(Table::Entries, &key, &records::encode_entry(&record))?;
            }
            Ok(Finish::Commit)
        };
        storage.write(&mut fill).unwrap();
        storage
    }

    fn collection(number: u8) -> Collection {
        Collection::new(&format!("c{number}")).unwrap()
    }

    fn key(number: u8, name: &str) -> Key {
        Key::new(collection(number), name).unwrap()
    }

    proptest! {
        #[test]
        fn all_steps_together_name_what_is_there_and_fits_once_and_in_order(
            entries in proptest::collection::btree_map((0..3_u8, "[ab]{1,4}"), any::<bool>(), 0..40),
            only in proptest::option::of(0..3_u8),
            prefix in "[ab]{0,2}",
            bytes in 1..200_usize,
        ) {
            let storage = store(&entries);
            let only = only.map(collection);
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let filter = (only.as_ref(), prefix.as_str());
                let step = read(&storage, |reader| {
                    list_after(reader, filter, after.as_ref(), bytes, 0)
                }).unwrap();
                found.extend(step.documents.into_iter().map(|found| found.key));
                let Some(next) = step.next else { break };
                prop_assert!(after < Some(next.clone()), "it comes on");
                after = Some(next);
            }
            let there = entries.iter().filter(|(_, deleted)| !**deleted);
            let mut expected: Vec<Key> = there.map(|((at, name), _)| key(*at, name)).collect();
            expected.retain(|key| {
                only.as_ref().is_none_or(|only| only == key.collection())
                    && key.name().starts_with(&prefix)
            });
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
