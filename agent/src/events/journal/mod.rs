//! The journal: every event of this node, in order, bounded, and on disk.
//!
//! In go facts, which get their number ([`EventId`]) here; out come records, from any place that is still kept. The
//! latest [`MEMORY_RECORDS`] are in memory; older ones are read from the files that `segments` describes. Appending
//! never waits: one task writes what is new behind it, at once, and makes it durable at most once a second. So a
//! crash of the agent loses what a millisecond brought, and a power cut a second.
//!
//! Numbers only grow: the first of a run is the time of its start in milliseconds, or one more than the last on disk.
//! A number that was given out and lost is therefore not given out again, and a reader that resumes from it misses
//! nothing and sees nothing twice. If the files cannot be written, as on a full disk, that is said once, and the
//! journal goes on in memory; it is also said when they can be written again, which they then are, as far back as
//! memory goes.

mod segments;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use basic_membership::NodeId;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

use super::filter::Filter;
use super::record::{EventId, Fact, Record, millis};

use segments::{Opened, Segments};

/// Records kept in memory.
pub const MEMORY_RECORDS: usize = 2_000;
/// Name of the directory in the data directory.
const DIRECTORY: &str = "events";

/// The journal. Clones share it.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Shared>);

/// Why there are no records after a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Some of the records after it are no longer kept.
    #[error(
        "events right after {cursor} are no longer kept; what there is begins after {first}: go on from there, or from \"first\""
    )]
    Gone {
        /// The place that was asked for.
        cursor: EventId,
        /// The place of which everything after it is kept.
        first: EventId,
    },
    /// No event of this node has had that number.
    #[error(
        "this node has recorded no event {cursor}; its last is {newest}. A cursor belongs to the node that gave it, and to its data directory: go on from {newest}, or from \"first\""
    )]
    Unknown {
        /// The place that was asked for.
        cursor: EventId,
        /// The last event.
        newest: EventId,
    },
    /// The files cannot be read.
    #[error("the older events cannot be read from disk: {reason}")]
    Unreadable {
        /// What the operating system says.
        reason: String,
    },
}

/// How the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalStatus {
    /// The place of which everything after it is kept.
    pub first: EventId,
    /// The last event.
    pub newest: EventId,
    /// Why events are kept in memory only, if they are.
    pub failure: Option<String>,
    /// Events that were never written, because memory was full before the disk took them.
    pub unwritten: u64,
}

#[derive(Debug)]
struct Shared {
    own: NodeId,
    segments: Option<Arc<Path>>,
    memory: Mutex<Memory>,
    newest: watch::Sender<EventId>,
    /// Asks the writer to make everything up to here durable.
    wanted: watch::Sender<EventId>,
    /// What is durable.
    durable: watch::Sender<EventId>,
    disk: Mutex<Disk>,
}

/// The latest records, without a gap.
#[derive(Debug)]
struct Memory {
    records: VecDeque<Arc<Record>>,
    /// The last before them.
    after: EventId,
    next: EventId,
}

/// What is known of the files.
#[derive(Debug)]
struct Disk {
    /// The place of which everything after it is there; none without files.
    floor: Option<EventId>,
    failure: Option<String>,
    unwritten: u64,
}

/// A journal, the task that writes it, which runs for as long as the agent, and what the run before left.
pub(super) struct Start<F> {
    pub(super) journal: Journal,
    pub(super) writing: F,
    pub(super) kept: Vec<Arc<Record>>,
}

impl Journal {
    /// Opens the journal in a data directory. If it cannot be opened there, this is said, and it begins in memory.
    pub(super) fn open(
        data_dir: &Path,
        own: NodeId,
        now: SystemTime,
    ) -> Start<impl Future<Output = ()> + Send + use<>> {
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let start = millis(since).max(1);
        let directory = data_dir.join(DIRECTORY);
        let (opened, failure) = match Segments::open(&directory, EventId(start - 1)) {
            Ok(opened) => (Some(opened), None),
            Err(error) => {
                warn!(%error, directory = %directory.display(), "events are kept in memory only: their files cannot be used");
                (None, Some(error.to_string()))
            }
        };
        let (segments, kept, floor) = match opened {
            Some(Opened {
                segments,
                records,
                floor,
            }) => (Some(segments), records, floor),
            None => (None, Vec::new(), EventId(start - 1)),
        };
        let last = kept.last().map_or(floor, |record: &Arc<Record>| record.id);
        let next = EventId(start.max(last.0.saturating_add(1)));
        let surplus = kept.len().saturating_sub(MEMORY_RECORDS);
        let (older, latest) = kept.split_at(surplus);
        let memory = Memory {
            records: latest.iter().cloned().collect(),
            after: older.last().map_or(floor, |record| record.id),
            next,
        };
        let shared = Arc::new(Shared {
            own,
            segments: segments.as_ref().map(|_| Arc::from(directory)),
            memory: Mutex::new(memory),
            newest: watch::Sender::new(last),
            wanted: watch::Sender::new(last),
            durable: watch::Sender::new(last),
            disk: Mutex::new(Disk {
                floor: segments.as_ref().map(|_| floor),
                failure,
                unwritten: 0,
            }),
        });
        Start {
            writing: writer::run(Arc::clone(&shared), segments, last),
            journal: Journal(shared),
            kept,
        }
    }

    /// Takes a fact up as the next record.
    pub(super) fn append(&self, fact: Fact) -> Arc<Record> {
        let mut memory = self.0.memory();
        let record = Arc::new(Record {
            id: memory.next,
            fact,
            seen_by: self.0.own.clone(),
        });
        memory.next = EventId(memory.next.0.saturating_add(1));
        memory.records.push_back(Arc::clone(&record));
        if memory.records.len() > MEMORY_RECORDS
            && let Some(oldest) = memory.records.pop_front()
        {
            memory.after = oldest.id;
        }
        // Within the lock, so that the newest never goes back.
        self.0.newest.send_replace(record.id);
        record
    }

    /// The number of the last record, and a signal for those to come.
    pub fn newest(&self) -> watch::Receiver<EventId> {
        self.0.newest.subscribe()
    }

    /// The place of which everything after it is kept.
    pub fn first(&self) -> EventId {
        let in_memory = self.0.memory().after;
        self.0.disk().floor.unwrap_or(in_memory).min(in_memory)
    }

    /// The first records after a place, at most `limit`, without a gap.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn after(
        &self,
        cursor: EventId,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        {
            let memory = self.0.memory();
            let newest = *self.0.newest.borrow();
            if cursor > newest {
                return Err(ReadError::Unknown { cursor, newest });
            }
            if cursor >= memory.after {
                let begin = memory.records.partition_point(|record| record.id <= cursor);
                return Ok(memory.records.range(begin..).take(limit).cloned().collect());
            }
        }
        let found = self.read_disk(cursor, limit).await?;
        if found.is_empty() && limit > 0 {
            // Neither there nor in memory: they were never written.
            let first = self.0.memory().after;
            return Err(ReadError::Gone { cursor, first });
        }
        Ok(found)
    }

    /// The latest records that pass a filter, at most `limit`, in their order; and the place after the very last.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`].
    pub async fn latest(
        &self,
        filter: &Filter,
        limit: usize,
    ) -> Result<(Vec<Arc<Record>>, EventId), ReadError> {
        let (mut found, newest, before) = {
            let memory = self.0.memory();
            let passing = memory.records.iter().rev();
            let found: Vec<_> = passing
                .filter(|record| filter.passes(record))
                .take(limit)
                .cloned()
                .collect();
            (found, *self.0.newest.borrow(), memory.after)
        };
        let first = self.first();
        if found.len() < limit && first < before {
            let older = match self.read_disk(first, usize::MAX).await {
                Ok(older) => older,
                // Deleted meanwhile.
                Err(ReadError::Gone { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            let missing = limit - found.len();
            let older = older.into_iter().rev();
            let older = older.filter(|record| record.id <= before && filter.passes(record));
            found.extend(older.take(missing));
        }
        found.reverse();
        Ok((found, newest))
    }

    /// How the journal is.
    pub fn status(&self) -> JournalStatus {
        let first = self.first();
        let disk = self.0.disk();
        JournalStatus {
            first,
            newest: *self.0.newest.borrow(),
            failure: disk.failure.clone(),
            unwritten: disk.unwritten,
        }
    }

    /// Waits until everything so far is durable, or the files fail, or `limit` has passed.
    pub(super) async fn flush(&self, limit: Duration) {
        let newest = *self.0.newest.borrow();
        if self.0.segments.is_none() {
            return;
        }
        let mut durable = self.0.durable.subscribe();
        self.0.wanted.send_replace(newest);
        // A sender that is gone, or the time being over, ends it as well; what the disk says was logged.
        let _ = timeout(limit, durable.wait_for(|durable| *durable >= newest)).await;
    }

    async fn read_disk(
        &self,
        cursor: EventId,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, ReadError> {
        let nothing = || {
            let first = self.0.memory().after;
            ReadError::Gone { cursor, first }
        };
        let directory = self.0.segments.clone().ok_or_else(nothing)?;
        let read = spawn_blocking(move || segments::read(&directory, cursor, limit));
        let unreadable = |reason: String| ReadError::Unreadable { reason };
        let found = read
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        match found {
            Some((floor, records)) if cursor >= floor => Ok(records),
            Some((floor, _)) => Err(ReadError::Gone {
                cursor,
                first: floor,
            }),
            None => Err(nothing()),
        }
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What memory has after this place, and the place after which that is without a gap.
    fn unwritten(&self, written: EventId) -> (EventId, Vec<Arc<Record>>) {
        let memory = self.memory();
        let begin = memory
            .records
            .partition_point(|record| record.id <= written);
        let records = memory.records.range(begin..).cloned().collect();
        (memory.after.max(written), records)
    }
}

#[cfg(test)]
mod tests;
