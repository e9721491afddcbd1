//! Watching: each change once, in the order in which this replica took it in.
//!
//! A watcher reads the store's feed from its cursor on. Once it has come to its end it is
//! told of each commit ([`super::hub`]), until it is too slow for that: then it reads on.
//! One that has fallen behind what the feed keeps is told so.
//!
//! The feed names each document once, with its last change, and not for ever: it is no way
//! to what is there. Who has nothing yet begins with a [`Snapshot`], all documents as they
//! are, and goes on with a watch from a place that was taken before the first of them was
//! read: it misses nothing, and what changed meanwhile it may see twice, in the same version
//! or a later one. etcd's clients put the same together from a read and a watch from its
//! revision; the lists that stream of Kubernetes are the model for doing it in one request.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::hub::{Filter, Found, Hub, Seen, Subscription};
use super::wall_ms;
use crate::model::{Change, Collection, Key, ReplicaId};
use crate::storage::listing::list_after;
use crate::storage::state;
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
    #[error("the changes after this cursor are no longer kept on this node")]
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
    hub: Arc<Hub>,
    filter: Filter,
    cursor: Cursor,
    stage: Stage,
}

enum Stage {
    /// Reading the store's feed.
    CatchingUp {
        /// Read and not yet returned.
        ready: VecDeque<Arc<Seen>>,
        /// Up to where it has been read.
        read_to: u64,
    },
    /// Told of each change as it comes.
    Live(Subscription),
}

impl Stage {
    fn after(position: u64) -> Self {
        Self::CatchingUp {
            ready: VecDeque::new(),
            read_to: position,
        }
    }
}

impl Watch {
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        hub: Arc<Hub>,
        cursor: Cursor,
        collection: Option<Collection>,
        prefix: String,
    ) -> Self {
        Self {
            storage,
            hub,
            filter: Filter { collection, prefix },
            cursor,
            stage: Stage::after(cursor.position),
        }
    }

    /// Where the watcher is: all changes up to here were returned, or did not fit
    /// its filter. While nothing that fits comes, it moves on with the feed.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Waits for the next change. Can be dropped and called again without a loss.
    ///
    /// # Errors
    /// [`WatchError`]: the watch has ended.
    pub async fn next(&mut self) -> Result<Arc<Seen>, WatchError> {
        loop {
            match self.try_next()? {
                Some(seen) => return Ok(seen),
                None => {
                    if let Stage::Live(subscription) = &self.stage {
                        subscription.filled().await;
                    }
                    // A long stretch of changes that do not fit must not hold up others.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Waits for the next change and takes those that are there by then, up to a
    /// reasonable number. Can be dropped and called again without a loss.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_ready(&mut self) -> Result<Vec<Arc<Seen>>, WatchError> {
        let mut all = vec![self.next().await?];
        let mut bytes = 0;
        while all.len() < READ_AHEAD && bytes < READ_AHEAD_BYTES {
            // An error comes again with the next call.
            let Ok(Some(seen)) = self.try_next() else {
                break;
            };
            bytes += seen.item.change.weight();
            all.push(seen);
        }
        Ok(all)
    }

    /// The next change if it is at hand; without one, the stage may have changed.
    fn try_next(&mut self) -> Result<Option<Arc<Seen>>, WatchError> {
        match &mut self.stage {
            Stage::CatchingUp { ready, read_to } => {
                if let Some(seen) = ready.pop_front() {
                    self.cursor.position = seen.item.position;
                    return Ok(Some(seen));
                }
                let position = *read_to;
                self.cursor.position = position;
                self.stage = match self.hub.subscribe_at(position, &self.filter) {
                    Some(subscription) => Stage::Live(subscription),
                    None => self.read(position)?,
                };
                Ok(None)
            }
            Stage::Live(subscription) => {
                match subscription.take() {
                    Found::Change(seen) => {
                        self.cursor.position = seen.item.position;
                        return Ok(Some(seen));
                    }
                    Found::Nothing(head) => self.cursor.position = head,
                    Found::Overflow => self.stage = Stage::after(self.cursor.position),
                    Found::End => return Err(WatchError::Stopped),
                }
                Ok(None)
            }
        }
    }

    /// Reads what comes after a position.
    fn read(&self, position: u64) -> Result<Stage, WatchError> {
        let (floor, items) = storage::read(&*self.storage, |reader| {
            Ok((
                state::feed_ends(reader)?.floor,
                state::feed_after(reader, position, READ_AHEAD, READ_AHEAD_BYTES)?,
            ))
        })?;
        if position < floor {
            return Err(WatchError::Gone);
        }
        let read_to = items.last().map_or(position, |last| last.position);
        let fitting = items.into_iter().filter(|item| self.filter.fits(item));
        Ok(Stage::CatchingUp {
            ready: fitting.map(Seen::new).collect(),
            read_to,
        })
    }
}

/// All documents that fit, as they are when they are read.
pub struct Snapshot {
    storage: Arc<dyn Storage>,
    filter: Filter,
    after: Option<Key>,
    ended: bool,
}

impl Snapshot {
    pub(super) fn begin(
        storage: Arc<dyn Storage>,
        collection: Option<Collection>,
        prefix: String,
    ) -> Self {
        Self {
            storage,
            filter: Filter { collection, prefix },
            after: None,
            ended: false,
        }
    }

    /// The next documents, in the order of their keys, and none that is deleted; maybe none
    /// at all where many in a row do not fit. `None` at the end.
    ///
    /// # Errors
    /// [`WatchError::Store`]; the same documents may be asked for again.
    pub fn next_documents(&mut self) -> Result<Option<Vec<Change>>, WatchError> {
        if self.ended {
            return Ok(None);
        }
        let filter = (self.filter.collection.as_ref(), self.filter.prefix.as_str());
        let step = storage::read(&*self.storage, |reader| {
            let after = self.after.as_ref();
            list_after(reader, filter, after, READ_AHEAD_BYTES, wall_ms())
        })?;
        self.ended = step.next.is_none();
        self.after = step.next;
        Ok(Some(step.documents))
    }
}
