//! Writes that were taken out of the state and wait for people to decide about them
//! (`protocol/fill.rs`): in `meta`, so that they survive everything that the state survives.
//!
//! In go writes, each under the next number; out come pages of them, in that order, until
//! they are forgotten. A number is never given twice, so that who has looked at one and
//! decides later decides about that one. What can fail: reading and writing the store.
//!
//! | key | value |
//! |---|---|
//! | `exports` | how many there are u64, the next number u64 |
//! | `exported`, number u64 | length of the key u16, the key, and a record as in `entries` |

use std::ops::ControlFlow;

use super::records::{self, Cursor, EntryRecord};
use super::{Reader, StoreError, Table, Writer};
use crate::model::Delta;
use crate::model::document::Document;

const EXPORTS: &[u8] = b"exports";
const EXPORTED: &[u8] = b"exported";

/// A write that was taken out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported {
    /// By what it is named.
    pub number: u64,
    /// The write.
    pub delta: Delta,
}

/// How many there are, and which number comes next.
#[derive(Clone, Copy, Default)]
struct Exports {
    count: u64,
    next: u64,
}

/// Keeps a write that is being taken out of the state.
///
/// # Errors
/// [`StoreError`].
pub fn export(writer: &mut dyn Writer, delta: Delta) -> Result<(), StoreError> {
    let exports = exports(writer)?;
    let key = records::encode_key(&delta.key);
    let document = Document::from_writes(vec![delta.write]).map_err(|_| StoreError::Damaged {
        table: Table::Entries,
        detail: "a write of a document is not valid",
    })?;
    let record = EntryRecord {
        document,
        position: 0,
        expired: false,
    };
    let past = records::encode_past(&key, &record);
    writer.insert(Table::Meta, &row_key(exports.next), &past)?;
    let exports = Exports {
        count: exports.count + 1,
        next: exports.next + 1,
    };
    set_exports(writer, exports)
}

/// How many writes were taken out and not forgotten since.
///
/// # Errors
/// [`StoreError`].
pub fn exported_count(reader: &dyn Reader) -> Result<u64, StoreError> {
    Ok(exports(reader)?.count)
}

/// All writes that were taken out.
///
/// # Errors
/// [`StoreError`].
pub fn exported(reader: &dyn Reader) -> Result<Vec<Exported>, StoreError> {
    Ok(exported_page(reader, 0, usize::MAX, usize::MAX)?.0)
}

/// Those from a number on, by number: at most `most`, and no more once they take `bytes`.
/// And whether there are more.
///
/// # Errors
/// [`StoreError`].
pub fn exported_page(
    reader: &dyn Reader,
    from: u64,
    most: usize,
    bytes: usize,
) -> Result<(Vec<Exported>, bool), StoreError> {
    let (mut page, mut weight, mut more) = (Vec::new(), 0, false);
    let mut outcome = Ok(());
    let (from, to) = (row_key(from), row_key(u64::MAX));
    reader.scan(Table::Meta, &from, Some(&to), &mut |key, row| {
        if page.len() >= most || weight >= bytes {
            more = true;
            return ControlFlow::Break(());
        }
        weight += row.len();
        match decode(key, row) {
            Ok(one) => page.extend(one),
            Err(error) => {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    outcome.map(|()| (page, more))
}

/// The write with this number, unless it was forgotten.
///
/// # Errors
/// [`StoreError`].
pub fn exported_one(reader: &dyn Reader, number: u64) -> Result<Option<Delta>, StoreError> {
    let key = row_key(number);
    let Some(row) = reader.get(Table::Meta, &key)? else {
        return Ok(None);
    };
    Ok(decode(&key, &row)?.map(|one| one.delta))
}

/// Forgets a write that was taken out.
///
/// # Errors
/// [`StoreError`].
pub fn forget_exported(writer: &mut dyn Writer, number: u64) -> Result<(), StoreError> {
    let key = row_key(number);
    if writer.get(Table::Meta, &key)?.is_none() {
        return Ok(());
    }
    writer.remove(Table::Meta, &key)?;
    let exports = exports(writer)?;
    let count = exports.count.saturating_sub(1);
    set_exports(writer, Exports { count, ..exports })
}

fn exports(reader: &dyn Reader) -> Result<Exports, StoreError> {
    let Some(row) = reader.get(Table::Meta, EXPORTS)? else {
        return Ok(Exports::default());
    };
    let mut cursor = Cursor::new(Table::Meta, &row);
    Ok(Exports {
        count: cursor.u64()?,
        next: cursor.u64()?,
    })
}

fn set_exports(writer: &mut dyn Writer, exports: Exports) -> Result<(), StoreError> {
    let row = [exports.count.to_be_bytes(), exports.next.to_be_bytes()].concat();
    writer.insert(Table::Meta, EXPORTS, &row)
}

fn decode(key: &[u8], row: &[u8]) -> Result<Option<Exported>, StoreError> {
    let number = key.get(EXPORTED.len()..).unwrap_or_default();
    let number = Cursor::new(Table::Meta, number).u64()?;
    let (key, record) = records::decode_past(row)?;
    let key = records::decode_key(&key)?;
    let write = record.document.into_writes().into_iter().next();
    let delta = write.map(|write| Delta { key, write });
    Ok(delta.map(|delta| Exported { number, delta }))
}

fn row_key(number: u64) -> Vec<u8> {
    [EXPORTED, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{Finish, MemoryStorage, Storage, read};
    use super::*;
    use crate::model::{Collection, Dot, Epoch, Key, Origin, ReplicaId, Timestamp, Version};

    fn delta(seq: u64) -> Delta {
        let origin = Origin {
            replica: ReplicaId([7; 16]),
            epoch: Epoch(1),
        };
        let dot = Dot { origin, seq };
        let clock = Timestamp(seq);
        let document = Document::of_root(Version { clock, dot }, Some("1".into()));
        Delta {
            key: Key::new(Collection::new("users").unwrap(), "u1").unwrap(),
            write: document.writes()[0].clone(),
        }
    }

    fn change(storage: &MemoryStorage, work: impl Fn(&mut dyn Writer) -> Result<(), StoreError>) {
        let changed = storage.write(&mut |writer| {
            work(writer)?;
            Ok(Finish::Commit)
        });
        changed.unwrap();
    }

    fn numbers(page: &[Exported]) -> Vec<u64> {
        page.iter().map(|one| one.number).collect()
    }

    #[test]
    fn writes_that_are_taken_out_are_kept_in_order_and_read_in_pages() {
        let storage = MemoryStorage::default();
        for seq in 1..=5 {
            change(&storage, |writer| export(writer, delta(seq)));
        }
        let all = read(&storage, exported).unwrap();
        let deltas: Vec<Delta> = all.iter().map(|one| one.delta.clone()).collect();
        assert_eq!(deltas, (1..=5).map(delta).collect::<Vec<_>>());
        let page = |from, most, bytes| {
            let page = read(&storage, |reader| exported_page(reader, from, most, bytes));
            let (page, more) = page.unwrap();
            (numbers(&page), more)
        };
        assert_eq!(page(0, 2, usize::MAX), (vec![0, 1], true));
        assert_eq!(page(3, 2, usize::MAX), (vec![3, 4], false));
        assert_eq!(page(0, 9, 1), (vec![0], true));
        assert_eq!(page(5, 9, 9), (vec![], false));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_its_number_is_not_given_again() {
        let storage = MemoryStorage::default();
        for seq in 1..=3 {
            change(&storage, |writer| export(writer, delta(seq)));
        }
        // One that is gone already is not counted twice.
        for number in [2, 2, 0, 77] {
            change(&storage, |writer| forget_exported(writer, number));
        }
        assert_eq!(read(&storage, exported_count).unwrap(), 1);
        let one = |number| read(&storage, |reader| exported_one(reader, number)).unwrap();
        assert_eq!((one(0), one(1)), (None, Some(delta(2))));
        change(&storage, |writer| export(writer, delta(9)));
        assert_eq!(numbers(&read(&storage, exported).unwrap()), [1, 3]);
        assert_eq!(read(&storage, exported_count).unwrap(), 2);
    }
}
