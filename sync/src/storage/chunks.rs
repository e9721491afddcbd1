//! Dense numbers mapped to short texts, many to a row.
//!
//! The dot index and the feed map numbers that are given one after the other to keys of
//! documents. With a row each they would cost more than the documents: most of the price
//! of a row is finding its place and copying its page. So [`CHUNK`] numbers share a row,
//! which as a rule is written by one commit.
//!
//! A row is a list, ascending by number, of: the number's place in its chunk (u8), the
//! length of the text (u16), the text.

use super::{StoreError, Table};

/// Numbers to a row.
pub(crate) const CHUNK: u64 = 32;

/// The row of a number.
pub(crate) fn row_of(number: u64) -> u64 {
    number / CHUNK
}

/// The texts of one row.
pub(crate) struct Chunk<'r> {
    table: Table,
    row: u64,
    rest: &'r [u8],
}

impl<'r> Chunk<'r> {
    /// Reads the row with this number.
    pub(crate) fn new(table: Table, row: u64, bytes: &'r [u8]) -> Self {
        Self {
            table,
            row,
            rest: bytes,
        }
    }
}

impl<'r> Iterator for Chunk<'r> {
    type Item = Result<(u64, &'r [u8]), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = split(self.rest);
        self.rest = item.as_ref().map_or(&[], |(_, _, rest)| rest);
        let damaged = |detail| StoreError::Damaged {
            table: self.table,
            detail,
        };
        let Some((place, text, _)) = item else {
            return Some(Err(damaged("a row of numbers is too short")));
        };
        let number = number(self.row, place);
        let number = number.ok_or_else(|| damaged("a row has a number that belongs to another"));
        Some(number.map(|number| (number, text)))
    }
}

/// The number at a place of a row, if it has such a place and there is such a row.
fn number(row: u64, place: u8) -> Option<u64> {
    let place = u64::from(place);
    let first = row.checked_mul(CHUNK)?;
    first.checked_add(place).filter(|_| place < CHUNK)
}

/// The first item of a row: its place, its text, and what follows.
fn split(row: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([place, high, low], rest) = row.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (text, rest) = rest.split_at_checked(length)?;
    Some((*place, text, rest))
}

/// Where the item of a number is in its row, or would be: begin and end.
fn find(row: &[u8], number: u64) -> (usize, usize) {
    let wanted = place(number);
    let mut begin = 0;
    // What is damaged ends the search; reading it tells.
    while let Some((place, text, _)) = row.get(begin..).and_then(split) {
        let end = begin + 3 + text.len();
        if place == wanted {
            return (begin, end);
        }
        if place > wanted {
            break;
        }
        begin = end;
    }
    (begin, begin)
}

fn place(number: u64) -> u8 {
    u8::try_from(number % CHUNK).unwrap_or(0)
}

/// What an item takes in its row, with a text of so many bytes.
pub(crate) fn item_bytes(text: u16) -> usize {
    3 + usize::from(text)
}

/// Sets the text of a number in its row.
pub(crate) fn set(row: &mut Vec<u8>, number: u64, text: &[u8]) {
    // A key is at most 64 + 1 + 512 bytes.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let (begin, end) = find(row, number);
    let [high, low] = length.to_be_bytes();
    let head = [place(number), high, low];
    if begin == row.len() {
        // As a rule: numbers are given in order.
        row.reserve(head.len() + text.len());
        row.extend_from_slice(&head);
        row.extend_from_slice(text);
        return;
    }
    row.splice(begin..end, head.into_iter().chain(text.iter().copied()));
}

/// Removes a number from its row.
pub(crate) fn remove(row: &mut Vec<u8>, number: u64) {
    let (begin, end) = find(row, number);
    row.drain(begin..end);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_is_a_map(steps in proptest::collection::vec((64..96_u64, proptest::option::of("[a-z]{0,9}")), 0..60)) {
            let mut row = Vec::new();
            let mut model = BTreeMap::new();
            for (number, text) in steps {
                match text {
                    Some(text) => {
                        set(&mut row, number, text.as_bytes());
                        model.insert(number, text.into_bytes());
                    }
                    None => {
                        remove(&mut row, number);
                        model.remove(&number);
                    }
                }
                let read: Result<BTreeMap<u64, Vec<u8>>, StoreError> = Chunk::new(Table::Dots, 2, &row)
                    .map(|item| item.map(|(number, text)| (number, text.to_vec())))
                    .collect();
                prop_assert_eq!(read.unwrap(), model.clone());
            }
        }

        #[test]
        fn a_number_is_where_it_is_looked_for(number in any::<u64>()) {
            prop_assert_eq!(super::number(row_of(number), place(number)), Some(number));
        }

        #[test]
        fn any_bytes_are_a_row_or_damaged(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), number in any::<u64>()) {
            for item in Chunk::new(Table::Dots, u64::MAX, &bytes).take(100) {
                let _ = item;
            }
            remove(&mut bytes, number);
            set(&mut bytes, number, b"x");
        }
    }

    /// A number that no row can have was added up, which overflowed.
    #[test]
    fn a_place_or_a_row_that_cannot_be_is_damaged() {
        for (row, place) in [(0, 32), (u64::MAX / CHUNK, 255), (u64::MAX, 0)] {
            let bytes = [place, 0, 1, b'x'];
            let item = Chunk::new(Table::Feed, row, &bytes).next();
            assert!(matches!(item, Some(Err(StoreError::Damaged { .. }))));
        }
        let bytes = [31, 0, 1, b'x'];
        let item = Chunk::new(Table::Feed, u64::MAX / CHUNK, &bytes).next();
        assert_eq!(item.unwrap().unwrap(), (u64::MAX, &b"x"[..]));
    }
}
