//! How much of the past the feed keeps.
//!
//! The feed names changes by reference while they are the last of their key, and keeps the
//! whole document once another change has come: so its positions are bounded by number,
//! and what it keeps of the past by bytes. What is beyond either bound goes, the oldest
//! first; a reader that stood there is told so.
//!
//! No transaction clears a backlog: each change removes a few positions, and more of them
//! the larger the document is that it added. So removing costs no more than writing did,
//! and the bytes are beyond their bound by [`STEP_BYTES`] a position of the feed at most,
//! even where all positions before the first large document are small or live ones.

use super::chunks::row_of;
use super::records;
use super::state::{FeedEnds, Header};
use super::{Finish, Reader, Storage, StoreError, Table, Writer};

/// How many positions of the feed are kept.
pub const FEED_LENGTH: u64 = 262_144;

/// How many bytes of documents that were superseded since are kept for it.
pub const PAST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Positions that a change removes at most, ...
const STEPS: usize = 8;
/// ... and one more for each of so many bytes that it added to the past.
const STEP_BYTES: usize = 1024;

/// What is kept of the feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeedBounds {
    /// So many positions.
    pub positions: u64,
    /// So many bytes of superseded documents.
    pub past_bytes: u64,
}

impl Default for FeedBounds {
    fn default() -> Self {
        Self {
            positions: FEED_LENGTH,
            past_bytes: PAST_BYTES_MAX,
        }
    }
}

impl FeedBounds {
    fn are_exceeded(&self, feed: FeedEnds) -> bool {
        feed.head - feed.floor > self.positions || feed.past_bytes > self.past_bytes
    }
}

/// Moves the floor up by some positions, as long as the feed is beyond its bounds; `added`
/// bytes have just joined the past. The last position stays in any case.
pub(super) fn trim(
    writer: &mut dyn Writer,
    header: &mut Header,
    added: usize,
) -> Result<(), StoreError> {
    for _ in 0..STEPS + added / STEP_BYTES {
        let position = header.feed.floor + 1;
        if position >= header.feed.head || !header.bounds.are_exceeded(header.feed) {
            break;
        }
        let at = position.to_be_bytes();
        if let Some(past) = writer.get(Table::Past, &at)? {
            writer.remove(Table::Past, &at)?;
            header.feed.past_bytes = header.feed.past_bytes.saturating_sub(length(&past));
        }
        if row_of(position) != row_of(position + 1) {
            writer.remove(Table::Feed, &row_of(position).to_be_bytes())?;
        }
        header.feed.floor = position;
    }
    Ok(())
}

/// Counts what a store keeps of the past that was written by a version that did not.
///
/// # Errors
/// [`StoreError`].
pub fn count_past(storage: &dyn Storage) -> Result<(), StoreError> {
    storage.write(&mut |writer| {
        if writer.get(Table::Meta, records::META_PAST)?.is_some() {
            return Ok(Finish::Discard);
        }
        let bytes = past_bytes(writer)?;
        writer.insert(Table::Meta, records::META_PAST, &bytes.to_be_bytes())?;
        Ok(Finish::Commit)
    })
}

fn past_bytes(reader: &dyn Reader) -> Result<u64, StoreError> {
    let mut bytes = 0;
    reader.scan(Table::Past, &[], None, &mut |_, past| {
        bytes += length(past);
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

pub(super) fn length(past: &[u8]) -> u64 {
    past.len() as u64
}

#[cfg(test)]
mod tests;
