//! A store that answers after one short write to a log: journal, memory, file.
//!
//! Owns: the journal of a data directory and what it says that the redb file does
//! not hold yet. In: transactions. Out: durable transactions, reads over all layers.
//!
//! redb alone makes a transaction durable with two syncs and a copy of every page on
//! the way to each row. Here a transaction is **one record appended to a journal and
//! one sync** ([`log`]); what it changed is kept in memory ([`layers`]), over the
//! file; and a thread of its own brings it into the file in batches of some megabytes
//! ([`checkpoint`]), where rows that changed often are written once and pages that
//! hold many rows are copied once. This is how PostgreSQL, SQLite (in WAL mode) and
//! every LSM tree do it; redb stays the sorted base, with its checksums and its
//! atomic commits.
//!
//! Opening replays the records that the file lacks: some megabytes at most.
//!
//! What can fail, and what then:
//! - The journal cannot be written: the transaction has not happened. Room on the disk
//!   that comes back is used at once.
//! - Its sync fails: what the kernel kept is unknown, so that part of the journal is
//!   never trusted again: the next segment's header says where the last good record of
//!   this one ends (compare Rebello et al., "Can Applications Recover from fsync
//!   Failures?", 2020).
//! - The file cannot be written (a full disk): the changes stay in memory and in the
//!   journal and are tried again; writes go on up to a bound, then they are refused.
//! - A torn record at the very end is what a crash leaves: it was never acknowledged and
//!   is dropped. Damage anywhere else is told as such: nothing is dropped in silence.
//!
//! Lock order: `log`, then `layers`; `log`, then the segment that it makes ahead. A reader
//! holds `layers` shared while it reads, so reads are pages, not walks over everything.

mod checkpoint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod layers;
mod log;
mod medium;
mod segment;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use self::checkpoint::Checkpoints;
use self::layers::{Batch, View};
use self::log::Log;
use self::medium::{Directory, Medium};
use super::records;
use super::{
    Finish, MemoryStorage, OpenError, Reader, RedbStorage, Storage, StoreError, Table, Visit,
    Writer,
};

/// Changes in memory before they go to the file.
const ACTIVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Above it, writers wait for the file.
const BEHIND_BYTES_MAX: usize = 2 * ACTIVE_BYTES_MAX;

/// A view of the base as of one moment.
pub(in crate::storage) type Snapshot = Arc<dyn Reader + Send + Sync>;

/// What lies under the journal: a store of its own, and snapshots that stay as they are.
pub(in crate::storage) trait Base: Storage + 'static {
    /// The base as of its last transaction. All snapshots taken before must have been
    /// dropped if the base has failed.
    fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Whether it has failed, so that a new snapshot must be taken.
    fn has_failed(&self) -> bool;
}

/// A durable store in a data directory. See the module's documentation.
pub struct JournaledStorage {
    shared: Arc<Shared>,
    path: PathBuf,
    checkpointer: Option<JoinHandle<()>>,
}

/// What the store and its thread share.
struct Shared {
    base: Box<dyn Base>,
    /// The one writer's.
    log: Mutex<Log>,
    layers: RwLock<Layers>,
    checkpoints: Mutex<Checkpoints>,
    /// A checkpoint has ended, or one is wanted.
    changed: Condvar,
}

/// What readers see: the newer layers hide the older ones.
#[derive(Default)]
struct Layers {
    /// Changed since the last freeze.
    active: Batch,
    /// On its way to the base.
    frozen: Option<Arc<Batch>>,
    /// `None` while the base has failed and could not be opened anew.
    base: Option<Snapshot>,
    /// When the oldest change of `active` was made.
    active_since: Option<Instant>,
}

impl JournaledStorage {
    /// Opens the store in a data directory, or creates it in one that never had one.
    /// `cache_bytes` bounds the page cache of the file.
    ///
    /// # Errors
    /// [`OpenError`]: damaged, missing, in use, too new, or refused by the file
    /// system.
    pub fn open(directory: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        let base = RedbStorage::open(directory, cache_bytes)?;
        let path = base.path().to_owned();
        Self::begin(Box::new(base), Box::new(Directory::new(directory)), path)
    }

    /// Opens over any base and medium; `path` is for messages.
    fn begin(
        base: Box<dyn Base>,
        medium: Box<dyn Medium>,
        path: PathBuf,
    ) -> Result<Self, OpenError> {
        let at = |source| OpenError::Store {
            path: path.clone(),
            source,
        };
        let applied = super::read(&*base, applied).map_err(at)?;
        let (log, active) = Log::open(medium, applied.as_ref())?;
        if applied.is_none() {
            let begun = Applied {
                seq: 0,
                oldest: log.id(),
            };
            let begin = |writer: &mut dyn Writer| {
                set_applied(writer, &begun)?;
                Ok(Finish::Commit)
            };
            base.write(&mut { begin }).map_err(at)?;
        }
        let snapshot = base.snapshot().map_err(at)?;
        let active_since = (!active.is_empty()).then(Instant::now);
        let shared = Arc::new(Shared {
            base,
            log: Mutex::new(log),
            layers: RwLock::new(Layers {
                active,
                frozen: None,
                base: Some(snapshot),
                active_since,
            }),
            checkpoints: Mutex::default(),
            changed: Condvar::new(),
        });
        let checkpointer = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("checkpoints".to_owned())
                .spawn(move || shared.checkpoint_until_stopped())
                .map_err(|source| OpenError::Io {
                    path: path.clone(),
                    source,
                })?
        };
        Ok(Self {
            shared,
            path,
            checkpointer: Some(checkpointer),
        })
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings all that is committed into the file. It need not be called: a thread
    /// does it from time to time, and so does a clean end.
    ///
    /// # Errors
    /// [`StoreError`]: the file could not be written; nothing is lost.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.shared.checkpoint_now()
    }
}

impl Drop for JournaledStorage {
    fn drop(&mut self) {
        self.shared.stop_checkpoints();
        if let Some(thread) = self.checkpointer.take() {
            // It has no result; a panic in it has been reported by then.
            let _ = thread.join();
        }
    }
}

impl Storage for JournaledStorage {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let outcome = self.shared.layers().read_with(work);
        self.shared.mend_base(outcome)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.stage(work)?;
        self.settle()
    }

    fn stage(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        let outcome = self.shared.stage(work);
        self.shared.mend_base(outcome)
    }

    fn settle(&self) -> Result<(), StoreError> {
        let mut log = lock(&self.shared.log);
        match log.failed.take() {
            Some(error) => Err(error),
            None => self.shared.settle(&mut log),
        }
    }
}

impl Layers {
    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        work(&self.view(None)?)
    }

    fn view<'l>(&'l self, newest: Option<&'l Batch>) -> Result<View<'l>, StoreError> {
        let base = self.base.as_deref().ok_or_else(unavailable)?;
        Ok(View::new(
            [newest, Some(&self.active), self.frozen.as_deref()],
            base,
        ))
    }
}

impl Shared {
    fn stage(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.wait_for_room()?;
        let mut log = lock(&self.log);
        // Of somebody who has not come to it yet, and who is to be told.
        if let Err(error) = self.settle(&mut log) {
            log.failed = Some(error);
        }
        if log.failed.is_some() {
            return Err(StoreError::Io(std::io::Error::other(
                "the transaction before this one could not be made durable",
            )));
        }
        let changes = {
            let layers = self.layers();
            let mut transaction = Transaction {
                changes: Batch::default(),
                // Fails here when the base is away, and not in the middle.
                layers: layers.view(None).map(|_| &*layers)?,
            };
            match work(&mut transaction)? {
                Finish::Discard => return Ok(()),
                Finish::Commit => transaction.changes,
            }
        };
        log.write(&changes)?;
        log.staged = Some(changes);
        Ok(())
    }

    /// Makes durable what was staged, and shows it to readers.
    fn settle(&self, log: &mut Log) -> Result<(), StoreError> {
        let Some(changes) = log.staged.take() else {
            return Ok(());
        };
        log.sync()?;
        let full = {
            let mut layers = self.layers_mut();
            layers.active_since.get_or_insert_with(Instant::now);
            layers.active.absorb(changes);
            layers.frozen.is_none() && layers.active.bytes() >= ACTIVE_BYTES_MAX
        };
        if full {
            // The transaction is durable whatever becomes of this; it is tried again.
            let _ = self.freeze(log);
        }
        Ok(())
    }

    fn layers(&self) -> std::sync::RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers_mut(&self) -> std::sync::RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a base anew that has failed; the outcome stays what it was.
    fn mend_base<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if outcome.is_err() && (self.base.has_failed() || self.layers().base.is_none()) {
            let mut layers = self.layers_mut();
            // Of several readers that failed together, the first has done it.
            if self.base.has_failed() || layers.base.is_none() {
                // A base can be opened once only: first let go of it.
                layers.base = None;
                layers.base = self.base.snapshot().ok();
            }
        }
        outcome
    }
}

/// How far the base has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Applied {
    /// The last record that is in it.
    seq: u64,
    /// The oldest segment that may hold records that are not.
    oldest: u64,
}

fn applied(reader: &dyn Reader) -> Result<Option<Applied>, StoreError> {
    let Some(bytes) = reader.get(Table::Meta, records::META_JOURNAL)? else {
        return Ok(None);
    };
    let halves = bytes.as_chunks::<8>();
    match halves {
        ([seq, oldest], []) => Ok(Some(Applied {
            seq: u64::from_be_bytes(*seq),
            oldest: u64::from_be_bytes(*oldest),
        })),
        _ => Err(StoreError::Damaged {
            table: Table::Meta,
            detail: "a value has the wrong length",
        }),
    }
}

fn set_applied(writer: &mut dyn Writer, applied: &Applied) -> Result<(), StoreError> {
    let bytes = [applied.seq.to_be_bytes(), applied.oldest.to_be_bytes()].concat();
    writer.insert(Table::Meta, records::META_JOURNAL, &bytes)
}

/// A transaction: its changes over what is committed.
struct Transaction<'l> {
    changes: Batch,
    layers: &'l Layers,
}

impl Reader for Transaction<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.layers.view(Some(&self.changes))?.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let view = self.layers.view(Some(&self.changes))?;
        view.scan(table, from, to, visit)
    }
}

impl Writer for Transaction<'_> {
    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.insert_owned(table, key.to_vec(), value.to_vec())
    }

    fn insert_owned(
        &mut self,
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.changes.set(table, key, Some(value));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.changes.set(table, key.to_vec(), None);
        Ok(())
    }

    fn change(
        &mut self,
        table: Table,
        key: &[u8],
        change: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), StoreError> {
        if !self.changes.change(table, key, change) {
            let mut value = self.get(table, key)?.unwrap_or_default();
            change(&mut value);
            let value = Some(value).filter(|value| !value.is_empty());
            self.changes.set(table, key.to_vec(), value);
        }
        Ok(())
    }
}

impl Base for MemoryStorage {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Arc::new(self.fork()))
    }

    fn has_failed(&self) -> bool {
        false
    }
}

impl Reader for MemoryStorage {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        super::read(self, |reader| reader.get(table, key))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        Storage::read(self, &mut |reader| reader.scan(table, from, to, visit))
    }
}

fn unavailable() -> StoreError {
    StoreError::Io(std::io::Error::other(
        "the store's file failed and cannot be opened again yet",
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
