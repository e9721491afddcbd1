//! Writes that documents hold and that a version vector does not contain.

use std::ops::ControlFlow;

use super::chunks::{CHUNK, Chunk, row_of};
use super::records::{decode_dots_row, encode_dots_row};
use super::state::each;
use super::{Reader, StoreError, Table};
use crate::model::{Dot, VersionVector};

/// Those that the dot index names, in the order of their dots: at least `most` of them, and
/// some more, or else all.
///
/// It passes over whatever the vector contains, so that it costs a look-up for each of its
/// ranges.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn unclaimed(
    reader: &dyn Reader,
    vector: &VersionVector,
    most: usize,
) -> Result<Vec<Dot>, StoreError> {
    let mut found = Vec::new();
    let mut from = Some(Vec::new());
    while let Some(begin) = from.take() {
        each(reader, Table::Dots, &begin, None, |place, bytes| {
            let (origin, row) = decode_dots_row(place)?;
            for item in Chunk::new(Table::Dots, row, bytes) {
                let (seq, _) = item?;
                let dot = Dot { origin, seq };
                if !vector.contains(dot) {
                    found.push(dot);
                }
            }
            if found.len() >= most {
                return Ok(ControlFlow::Break(()));
            }
            let next = row.saturating_add(1).saturating_mul(CHUNK);
            let claimed = vector.of(origin);
            let gap = claimed.map_or(Some(next), |claimed| claimed.next_missing(next));
            let gap = row_of(gap.unwrap_or(u64::MAX));
            if gap <= row.saturating_add(1) {
                return Ok(ControlFlow::Continue(()));
            }
            from = Some(encode_dots_row(origin, gap).to_vec());
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::SeqRange;
    use crate::model::numbered::{dot, origin};
    use crate::storage::{Finish, MemoryStorage, Storage, Writer, chunks, read};

    fn index(dots: &BTreeSet<Dot>) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let mut fill = |writer: &mut dyn Writer| {
            for dot in dots {
                let row = encode_dots_row(dot.origin, row_of(dot.seq));
                writer.change(Table::Dots, &row, &mut |row| {
                    chunks::set(row, dot.seq, b"k");
                })?;
            }
            Ok(Finish::Commit)
        };
        storage.write(&mut fill).unwrap();
        storage
    }

    proptest! {
        #[test]
        fn it_is_what_one_finds_by_looking_at_each(
            dots in proptest::collection::btree_set((1..4u8, 1..400u64), 0..60),
            ranges in proptest::collection::vec((1..4u8, 1..400u64, 0..120u64), 0..8),
        ) {
            let dots: BTreeSet<Dot> = dots.into_iter().map(|(at, seq)| dot(at, seq)).collect();
            let mut vector = VersionVector::default();
            for (at, first, more) in ranges {
                let last = first + more;
                vector.insert_range(origin(at), SeqRange { first, last });
            }
            let storage = index(&dots);
            let found = |most| read(&storage, |reader| unclaimed(reader, &vector, most)).unwrap();
            let mut expected: Vec<Dot> = dots.into_iter().collect();
            expected.retain(|dot| !vector.contains(*dot));
            prop_assert_eq!(&found(usize::MAX), &expected);
            let some = found(3);
            prop_assert!(some.len() >= expected.len().min(3));
            prop_assert_eq!(&expected[..some.len()], &some[..]);
        }
    }
}
