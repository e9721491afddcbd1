//! Answers from a store: digests of ranges, keys, documents.
//!
//! Each function reads one bounded stretch. While a stretch is read a commit may have to
//! wait (`storage/journal`), so stretches are small, and whoever walks far takes a new
//! snapshot for each.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::message::{Content, Held, Item, KEYS_MAX, RangeDigest};
use super::{content, indexes};
use crate::storage::state::{self, Digest, each};
use crate::storage::{Reader, StoreError, Table, records};

/// Rows of one stretch at most, ...
pub const STRETCH_ROWS: usize = 512;
/// ... and about how many bytes.
pub const STRETCH_BYTES: usize = 1024 * 1024;

/// A stretch of a range, summed.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// Its digest.
    pub digest: RangeDigest,
    /// The key after it, unless the range ends here.
    pub next: Option<Bytes>,
}

/// Sums the first keys of a range.
///
/// # Errors
/// [`StoreError`].
pub fn stretch(reader: &dyn Reader, from: &[u8], to: Option<&[u8]>) -> Result<Stretch, StoreError> {
    let mut stretch = Stretch::default();
    let (mut rows, mut bytes) = (0, 0);
    let mut outcome = Ok(());
    reader.scan(Table::Entries, from, to, &mut |key, row| {
        if rows >= STRETCH_ROWS || bytes >= STRETCH_BYTES {
            stretch.next = Some(Bytes::copy_from_slice(key));
            return ControlFlow::Break(());
        }
        rows += 1;
        bytes += key.len() + row.len();
        match content::of_entry(reader, key, row) {
            Ok(content) => stretch.digest.add(content),
            Err(error) => {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    outcome.map(|()| stretch)
}

/// The first keys of a range with their digests, and whether there are more.
///
/// # Errors
/// [`StoreError`].
pub fn items(
    reader: &dyn Reader,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<(Vec<Item>, bool), StoreError> {
    let (mut items, mut more, mut bytes) = (Vec::new(), false, 0);
    let mut outcome = Ok(());
    reader.scan(Table::Entries, from, to, &mut |key, row| {
        if items.len() >= STRETCH_ROWS || bytes >= STRETCH_BYTES {
            more = true;
            return ControlFlow::Break(());
        }
        bytes += key.len() + row.len();
        match content::of_entry(reader, key, row) {
            Ok(content) if content == Digest::default() => {}
            Ok(content) => items.push(Item {
                key: Bytes::copy_from_slice(key),
                content,
            }),
            Err(error) => {
                outcome = Err(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    outcome.map(|()| (items, more))
}

/// What the first of these keys hold: one at least, and about [`STRETCH_BYTES`].
///
/// # Errors
/// [`StoreError`].
pub fn documents(reader: &dyn Reader, keys: &[Bytes]) -> Result<Vec<Held>, StoreError> {
    let vector = state::vector(reader)?;
    let (mut all, mut bytes) = (Vec::new(), 0);
    for key in keys.iter().take(KEYS_MAX) {
        if bytes >= STRETCH_BYTES {
            break;
        }
        let Some(row) = reader.get(Table::Entries, key)? else {
            all.push(Held::default());
            continue;
        };
        bytes += row.len();
        let mut held = Held {
            digest: content::of_entry(reader, key, &row)?,
            content: Content::Damaged,
            loose: Vec::new(),
        };
        if let Ok(record) = records::decode_entry(&row) {
            for write in record.document.writes() {
                let dot = write.version.dot;
                if !vector.contains(dot) || !indexes::names(reader, dot, key)? {
                    held.loose.push(dot);
                }
            }
            held.content = Content::Document(record.document);
        }
        all.push(held);
    }
    Ok(all)
}

/// All readable documents of a store: for comparison in tests.
///
/// # Errors
/// [`StoreError`].
pub fn sum(reader: &dyn Reader) -> Result<RangeDigest, StoreError> {
    let mut digest = RangeDigest::default();
    each(reader, Table::Entries, &[], None, |key, row| {
        digest.add(content::of_entry(reader, key, row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(digest)
}
