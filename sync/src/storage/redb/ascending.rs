//! Many changes of one table, in the order of their keys.
//!
//! An insert alone goes down from the root, and where its leaf is full leaves two that are
//! half full: in the order of the keys each of them stays so. A cursor stays where it is, and
//! fills the leaves. It takes rows only into the gap at which it stands, so it is for runs of
//! rows between which the table has none: what a snapshot brings, and what is numbered one
//! after the other. Where rows are scattered, opening a cursor for each would cost a second
//! way down, so after each that was opened in vain more rows are inserted without one.

use std::iter::Peekable;
use std::ops::Bound;

use redb::CursorError;

use super::{database_error, storage_error};
use crate::storage::{RowChange, StoreError};

type Table<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// New rows one after the other before a cursor is opened, at most.
const RELUCTANCE_MAX: u32 = 64;

pub(super) fn apply<'r>(
    table: &mut Table<'_>,
    changes: &mut dyn Iterator<Item = RowChange<'r>>,
) -> Result<(), StoreError> {
    let mut changes = changes.peekable();
    let (mut new, mut reluctance) = (0, 1);
    while let Some((key, value)) = changes.next() {
        let Some(value) = value else {
            table.remove(key).map_err(storage_error)?;
            new = 0;
            continue;
        };
        let before = table.insert(key, value).map_err(storage_error)?;
        new = if before.is_none() { new + 1 } else { 0 };
        drop(before);
        if new >= reluctance && matches!(changes.peek(), Some((_, Some(_)))) {
            new = 0;
            reluctance = match run_after(table, key, &mut changes)? {
                0 => RELUCTANCE_MAX.min(2 * reluctance),
                _ => 1,
            };
        }
    }
    Ok(())
}

/// Inserts the rows that belong right after a key, as long as they follow one another in the
/// table, too; how many these were.
fn run_after<'r>(
    table: &mut Table<'_>,
    key: &[u8],
    changes: &mut Peekable<&mut dyn Iterator<Item = RowChange<'r>>>,
) -> Result<usize, StoreError> {
    let mut cursor = table
        .upper_bound_mut(Bound::Included(key))
        .map_err(storage_error)?;
    let mut inserted = 0;
    while let Some((key, Some(value))) = changes.peek() {
        match cursor.insert_before(*key, *value) {
            Ok(()) => {}
            Err(CursorError::UnorderedKey) => break,
            Err(CursorError::Storage(error)) => return Err(storage_error(error)),
            Err(error) => return Err(database_error(error)),
        }
        inserted += 1;
        changes.next();
    }
    cursor.close().map_err(storage_error)?;
    Ok(inserted)
}
