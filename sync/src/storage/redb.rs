//! A store in one file, by redb: copy-on-write B-trees, checksummed pages.
//!
//! Each transaction is fsynced before it counts (`Durability::Immediate`), and
//! "quick repair" keeps the allocator state with every commit, so that a store is
//! open at once after `kill -9`, whatever its size.
//!
//! A store is never begun silently in the place of one that was there: a marker
//! file beside it tells "had a store" from "is new", because redb itself takes an
//! empty file for a new database.

use std::fs;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError,
};

use self::runs::Runs;
use super::journal::{Base, Snapshot};
use super::records::{self, FORMAT};
use super::{Finish, OpenError, Reader, RowChange, Storage, StoreError, Table, Visit, Writer};

/// File name of the store within the data directory.
const FILE: &str = "store.redb";
/// File name of a store that is being made.
const UNFINISHED: &str = "store.redb.new";
/// File name of the marker that says that there was a store.
const MARKER: &str = "store.created";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Entries => "entries",
        // `dots` and `feed` are those of older formats.
        Table::Dots => "dot_rows",
        Table::Feed => "feed_rows",
        Table::Vector => "vector",
        Table::Past => "past",
        Table::Expiries => "expiries",
        Table::History => "history",
    })
}

/// A store in one file.
///
/// redb refuses all work once its file has failed. So after a failure the file is
/// opened anew before the next transaction: when a full disk has room again, the
/// store works again.
pub struct RedbStorage {
    database: RwLock<Database>,
    /// The file has failed since it was opened.
    failed: Arc<AtomicBool>,
    path: PathBuf,
    cache_bytes: usize,
}

impl RedbStorage {
    /// Opens the store in a data directory, or creates it in one that never had
    /// one. `cache_bytes` bounds the page cache.
    ///
    /// # Errors
    /// [`OpenError`]: damaged, missing, in use, too new, or refused by the file
    /// system. Nothing is created or changed then.
    pub fn open(directory: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        let marker = directory.join(MARKER);
        let io_error = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let had_store = marker.try_exists().map_err(io_error)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => Err(OpenError::Damaged {
                path,
                detail: "the file is empty".into(),
            }),
            Ok(_) => {
                let storage = Self::open_file(path, cache_bytes)?;
                if storage.check_format()? < FORMAT {
                    storage.upgrade()?;
                }
                if !had_store {
                    // The process ended between the last two steps of `create`.
                    create_marker(directory, &marker).map_err(|source| OpenError::Io {
                        path: storage.path.clone(),
                        source,
                    })?;
                }
                Ok(storage)
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
            Err(_) if had_store => Err(OpenError::Missing { path }),
            Err(_) => Self::create(directory, path, &marker, cache_bytes),
        }
    }

    /// Where the file of a data directory's store is, or would be.
    pub fn file_in(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Whether some process has the store of this data directory open. Nothing is
    /// changed: the lock on the file (flock(2)) is taken shared, and let go at once.
    ///
    /// # Errors
    /// What the operating system says; a store that does not exist is not open.
    pub fn is_open_elsewhere(directory: &Path) -> io::Result<bool> {
        let file = match fs::File::open(Self::file_in(directory)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_file(path: PathBuf, cache_bytes: usize) -> Result<Self, OpenError> {
        // Anything but a sound store must not be "repaired" into an empty one, and redb
        // may panic on bytes that are not its own.
        let opened = catch_unwind(|| open_database(&path, cache_bytes));
        match opened {
            Ok(Ok(database)) => Ok(Self {
                database: RwLock::new(database),
                failed: Arc::default(),
                path,
                cache_bytes,
            }),
            Ok(Err(error)) => Err(open_error(path, error)),
            Err(_) => Err(OpenError::Damaged {
                path,
                detail: "its pages contradict each other".into(),
            }),
        }
    }

    /// Makes a new store under another name and gives it its own when it is whole, so
    /// that a store is either absent or sound.
    fn create(
        directory: &Path,
        path: PathBuf,
        marker: &Path,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let unfinished = directory.join(UNFINISHED);
        let io_error = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        let file = fs::File::create_new(&unfinished).map_err(io_error)?;
        let database = database_in(file, cache_bytes);
        let database = database.map_err(|error| open_error(path.clone(), error))?;
        let storage = Self {
            database: RwLock::new(database),
            failed: Arc::default(),
            path: unfinished.clone(),
            cache_bytes,
        };
        storage.begin().map_err(|source| OpenError::Store {
            path: path.clone(),
            source,
        })?;
        fs::rename(&unfinished, &path).map_err(io_error)?;
        create_marker(directory, marker).map_err(io_error)?;
        Ok(Self { path, ..storage })
    }

    /// The first transaction of a new store.
    fn begin(&self) -> Result<(), StoreError> {
        self.write(&mut |writer| {
            writer.insert(Table::Meta, records::META_FORMAT, &FORMAT.to_be_bytes())?;
            Ok(Finish::Commit)
        })
    }

    fn upgrade(&self) -> Result<(), OpenError> {
        let upgraded = self
            .database()
            .and_then(|database| upgrade::upgrade(&database));
        upgraded.map_err(|source| OpenError::Store {
            path: self.path.clone(),
            source,
        })
    }

    /// The format of the file. Nothing else is taken for granted here: older formats have
    /// other tables.
    fn check_format(&self) -> Result<u32, OpenError> {
        let path = || self.path.clone();
        let read = |database: &Database| {
            let transaction = database.begin_read().map_err(database_error)?;
            let meta = transaction.open_table(definition(Table::Meta));
            let meta = meta.map_err(table_error)?;
            let format = meta.get(records::META_FORMAT).map_err(storage_error)?;
            Ok(format.map(|format| format.value().to_vec()))
        };
        let found = self.database().and_then(|database| read(&database));
        let found = found.map_err(|error| match error {
            StoreError::Database(error) => OpenError::Damaged {
                path: path(),
                detail: error.to_string(),
            },
            source => OpenError::Store {
                path: path(),
                source,
            },
        })?;
        let format = found.and_then(|bytes| bytes.try_into().ok().map(u32::from_be_bytes));
        match format {
            Some(found) if found > FORMAT => Err(OpenError::TooNew {
                path: path(),
                found,
                known: FORMAT,
            }),
            Some(found) => Ok(found),
            None => Err(OpenError::Damaged {
                path: path(),
                detail: "it has no format number".into(),
            }),
        }
    }

    /// The database, opened anew if it has failed.
    fn database(&self) -> Result<RwLockReadGuard<'_, Database>, StoreError> {
        if self.failed.load(Ordering::SeqCst) {
            let mut database = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Another thread may have done it meanwhile.
            if self.failed.load(Ordering::SeqCst) {
                // The file can be open once only: first let go of it.
                let placeholder = builder(0)
                    .create_with_backend(InMemoryBackend::new())
                    .map_err(database_error)?;
                drop(std::mem::replace(&mut *database, placeholder));
                *database = open_database(&self.path, self.cache_bytes).map_err(database_error)?;
                self.failed.store(false, Ordering::SeqCst);
            }
        }
        Ok(self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn note<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        note(&self.failed, outcome)
    }
}

/// Notes whether the file has failed.
fn note<T>(failed: &AtomicBool, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(StoreError::Full(_) | StoreError::Io(_) | StoreError::Database(_)) = outcome {
        failed.store(true, Ordering::SeqCst);
    }
    outcome
}

impl Storage for RedbStorage {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let database = self.database()?;
        self.note(read(&database, work))
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        let database = self.database()?;
        // Where pages cannot be right redb may panic. Whoever writes must live on and say so.
        let written = catch_unwind(AssertUnwindSafe(|| write(&database, work)));
        let broken = || io::Error::other("a page of the store's file cannot be right");
        self.note(written.unwrap_or_else(|_| Err(StoreError::Io(broken()))))
    }
}

fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    if file.metadata()?.len() == 0 {
        // redb would begin a new store in it.
        let error = io::Error::new(io::ErrorKind::InvalidData, "the file is empty");
        return Err(error.into());
    }
    database_in(file, cache_bytes)
}

/// What the file holds, or a new database if it is empty.
fn database_in(file: fs::File, cache_bytes: usize) -> Result<Database, DatabaseError> {
    builder(cache_bytes).create_with_backend(Runs::new(file)?)
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

fn read(
    database: &Database,
    work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    work(&open_tables(database)?)
}

type ReadTables = Tables<redb::ReadOnlyTable<&'static [u8], &'static [u8]>>;

fn open_tables(database: &Database) -> Result<ReadTables, StoreError> {
    let transaction = database.begin_read().map_err(database_error)?;
    let open = |table| {
        transaction
            .open_table(definition(table))
            .map_err(table_error)
    };
    Ok(Tables {
        meta: open(Table::Meta)?,
        entries: open(Table::Entries)?,
        dots: open(Table::Dots)?,
        feed: open(Table::Feed)?,
        vector: open(Table::Vector)?,
        past: open(Table::Past)?,
        expiries: open(Table::Expiries)?,
        history: open(Table::History)?,
    })
}

impl Base for RedbStorage {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let tables = self.note(self.database().and_then(|database| open_tables(&database)))?;
        Ok(Arc::new(Pinned {
            tables,
            failed: self.failed.clone(),
        }))
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

/// The tables as of one commit. redb uses no page of them again while they are held.
struct Pinned {
    tables: ReadTables,
    failed: Arc<AtomicBool>,
}

impl Reader for Pinned {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        note(&self.failed, self.tables.get(table, key))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        note(&self.failed, self.tables.scan(table, from, to, visit))
    }
}

fn write(
    database: &Database,
    work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(database_error)?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(database_error)?;
    transaction.set_quick_repair(true);
    let finish = {
        let open = |table| {
            transaction
                .open_table(definition(table))
                .map_err(table_error)
        };
        let mut tables = Tables {
            meta: open(Table::Meta)?,
            entries: open(Table::Entries)?,
            dots: open(Table::Dots)?,
            feed: open(Table::Feed)?,
            vector: open(Table::Vector)?,
            past: open(Table::Past)?,
            expiries: open(Table::Expiries)?,
            history: open(Table::History)?,
        };
        work(&mut tables)?
    };
    if finish == Finish::Discard {
        return transaction.abort().map_err(storage_error);
    }
    transaction.commit().map_err(|error| match error {
        redb::CommitError::Storage(error) => storage_error(error),
        other => database_error(other),
    })
}

/// All tables of one transaction, opened once.
struct Tables<T> {
    meta: T,
    entries: T,
    dots: T,
    feed: T,
    vector: T,
    past: T,
    expiries: T,
    history: T,
}

impl<T> Tables<T> {
    fn of(&self, table: Table) -> &T {
        match table {
            Table::Meta => &self.meta,
            Table::Entries => &self.entries,
            Table::Dots => &self.dots,
            Table::Feed => &self.feed,
            Table::Vector => &self.vector,
            Table::Past => &self.past,
            Table::Expiries => &self.expiries,
            Table::History => &self.history,
        }
    }

    fn of_mut(&mut self, table: Table) -> &mut T {
        match table {
            Table::Meta => &mut self.meta,
            Table::Entries => &mut self.entries,
            Table::Dots => &mut self.dots,
            Table::Feed => &mut self.feed,
            Table::Vector => &mut self.vector,
            Table::Past => &mut self.past,
            Table::Expiries => &mut self.expiries,
            Table::History => &mut self.history,
        }
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Reader for Tables<T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let guard = self.of(table).get(key).map_err(storage_error)?;
        Ok(guard.map(|guard| guard.value().to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let bounds = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        for pair in self
            .of(table)
            .range::<&[u8]>(bounds)
            .map_err(storage_error)?
        {
            let (key, value) = pair.map_err(storage_error)?;
            if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}

impl Writer for Tables<redb::Table<'_, &'static [u8], &'static [u8]>> {
    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.of_mut(table)
            .insert(key, value)
            .map(drop)
            .map_err(storage_error)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.of_mut(table)
            .remove(key)
            .map(drop)
            .map_err(storage_error)
    }

    fn apply<'r>(
        &mut self,
        table: Table,
        changes: &mut dyn Iterator<Item = RowChange<'r>>,
    ) -> Result<(), StoreError> {
        ascending::apply(self.of_mut(table), changes)
    }
}

fn create_marker(directory: &Path, marker: &Path) -> io::Result<()> {
    fs::File::create(marker)?.sync_all()?;
    fs::File::open(directory)?.sync_all()
}

fn open_error(path: PathBuf, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            OpenError::Io { path, source }
        }
        other => OpenError::Damaged {
            path,
            detail: other.to_string(),
        },
    }
}

fn storage_error(error: StorageError) -> StoreError {
    match error {
        StorageError::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            StoreError::Full(error)
        }
        StorageError::Io(error) => StoreError::Io(error),
        other => database_error(other),
    }
}

fn table_error(error: TableError) -> StoreError {
    match error {
        TableError::Storage(error) => storage_error(error),
        other => database_error(other),
    }
}

fn database_error(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database(Box::new(error))
}

mod ascending;
#[cfg(test)]
pub(super) mod lossy;
mod runs;
#[cfg(test)]
mod tests;
mod upgrade;
