//! Watching: each change once, in the order in which this replica took it in.
//!
//! A watcher reads the store's feed from its cursor on and then waits for the next
//! commit. Nothing is queued for it: a slow watcher reads later, and one that has
//! fallen behind the end of the feed is told so.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;

use super::wall_ms;
use crate::model::{Collection, ReplicaId};
use crate::storage::state::{self, FeedItem};
use crate::storage::{self, Storage, StoreError};

/// Changes read from the store at once, ...
const READ_AHEAD: usize = 256;
/// ... and about how many bytes of them at most: what a slow watcher holds in memory.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// A place in the feed of one store: all changes up to it have been seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Whose feed. Another node's feed has another order.
    pub replica: ReplicaId,
    /// The position of the last change seen.
    pub position: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.replica, self.position)
    }
}

/// The text is not a cursor.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("not a cursor; give one exactly as a watch returned it")]
pub struct ParseCursorError;

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (replica, position) = text.split_once('-').ok_or(ParseCursorError)?;
        let replica = u128::from_str_radix(replica, 16).map_err(|_| ParseCursorError)?;
        let position = u64::from_str_radix(position, 16).map_err(|_| ParseCursorError)?;
        Ok(Self {
            replica: ReplicaId(replica.to_be_bytes()),
            position,
        })
    }
}

/// A watch cannot go on.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The changes after the cursor are no longer kept, or it is another node's.
    #[error(
        "the changes after this cursor are no longer kept on this node; list the documents and watch from now on"
    )]
    Gone,
    /// The store failed.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The agent is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// A watcher's place in the feed.
pub struct Watch {
    storage: Arc<dyn Storage>,
    head: watch::Receiver<u64>,
    cursor: Cursor,
    collection: Option<Collection>,
    prefix: String,
    ready: VecDeque<FeedItem>,
}

impl Watch {
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        head: watch::Receiver<u64>,
        cursor: Cursor,
        collection: Option<Collection>,
        prefix: String,
    ) -> Self {
        Self {
            storage,
            head,
            cursor,
            collection,
            prefix,
            ready: VecDeque::new(),
        }
    }

    /// Where the watcher is: all changes up to here were returned, or did not fit
    /// its filter.
    pub fn cursor(&self) -> Cursor {
        match self.ready.front() {
            Some(next) => Cursor {
                position: next.position.saturating_sub(1),
                ..self.cursor
            },
            None => self.cursor,
        }
    }

    /// Waits for the next change. Can be dropped and called again without a loss.
    ///
    /// # Errors
    /// [`WatchError`]: the watch has ended.
    pub async fn next(&mut self) -> Result<FeedItem, WatchError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            self.head.borrow_and_update();
            if !self.read()? {
                self.head.changed().await.map_err(|_| WatchError::Stopped)?;
            }
            // A long stretch of changes that do not fit must not hold up others.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the next change and takes those that are there by then, at most
    /// [`READ_AHEAD`]. Can be dropped and called again without a loss.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_ready(&mut self) -> Result<Vec<FeedItem>, WatchError> {
        let first = self.next().await?;
        let rest = self.ready.drain(..);
        Ok(std::iter::once(first).chain(rest).collect())
    }

    /// Reads ahead; whether there was anything.
    fn read(&mut self) -> Result<bool, WatchError> {
        let position = self.cursor.position;
        let (floor, items) = storage::read(&*self.storage, |reader| {
            Ok((
                state::feed_ends(reader)?.floor,
                state::feed_after(reader, position, READ_AHEAD, READ_AHEAD_BYTES, wall_ms())?,
            ))
        })?;
        if position < floor {
            return Err(WatchError::Gone);
        }
        let Some(last) = items.last() else {
            return Ok(false);
        };
        self.cursor.position = last.position;
        let fits = |item: &FeedItem| {
            let key = &item.change.key;
            self.collection
                .as_ref()
                .is_none_or(|wanted| wanted == key.collection())
                && key.name().starts_with(&self.prefix)
        };
        let fitting: Vec<FeedItem> = items.into_iter().filter(fits).collect();
        self.ready.extend(fitting);
        Ok(true)
    }
}
