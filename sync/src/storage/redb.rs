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
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError,
};

use super::records::{self, FORMAT};
use super::{Finish, OpenError, Reader, Storage, StoreError, Table, Visit, Writer};

/// File name of the store within the data directory.
const FILE: &str = "store.redb";
/// File name of the marker that says that there was a store.
const MARKER: &str = "store.created";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Entries => "entries",
        Table::Dots => "dots",
        Table::Feed => "feed",
        Table::Vector => "vector",
    })
}

/// A store in one file.
pub struct RedbStorage {
    database: Database,
    path: PathBuf,
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
        let length = match fs::metadata(&path) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(error)),
        };
        match length {
            None if had_store => return Err(OpenError::Missing { path }),
            Some(0) if had_store => {
                return Err(OpenError::Damaged {
                    path,
                    detail: "the file is empty".into(),
                });
            }
            _ => {}
        }

        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        // A sound store opens; anything else must not be "repaired" into an empty
        // one, and redb may panic on bytes that are not its own.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if had_store {
                builder.open(&path)
            } else {
                builder.create(&path)
            }
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(open_error(path, error)),
            Err(_) => {
                let detail = "its pages contradict each other".into();
                return Err(OpenError::Damaged { path, detail });
            }
        };
        let storage = Self { database, path };
        storage.prepare(had_store)?;
        if !had_store {
            let path = storage.path.clone();
            create_marker(directory, &marker).map_err(|source| OpenError::Io { path, source })?;
        }
        Ok(storage)
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all tables exist and checks the format.
    fn prepare(&self, had_store: bool) -> Result<(), OpenError> {
        let damaged = |detail: String| OpenError::Damaged {
            path: self.path.clone(),
            detail,
        };
        let store = |source| OpenError::Store {
            path: self.path.clone(),
            source,
        };
        if !had_store {
            return self
                .write(&mut |writer| {
                    writer.insert(Table::Meta, records::META_FORMAT, &FORMAT.to_be_bytes())?;
                    Ok(Finish::Commit)
                })
                .map_err(store);
        }
        let found = super::read(self, |reader| reader.get(Table::Meta, records::META_FORMAT));
        let found = found.map_err(|error| match error {
            StoreError::Database(error) => damaged(error.to_string()),
            other => store(other),
        })?;
        let found = found
            .and_then(|bytes| bytes.try_into().ok().map(u32::from_be_bytes))
            .ok_or_else(|| damaged("it has no format number".into()))?;
        if found > FORMAT {
            return Err(OpenError::TooNew {
                path: self.path.clone(),
                found,
                known: FORMAT,
            });
        }
        Ok(())
    }
}

impl Storage for RedbStorage {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_read().map_err(database)?;
        let open = |table| {
            transaction
                .open_table(definition(table))
                .map_err(table_error)
        };
        let tables = Tables {
            meta: open(Table::Meta)?,
            entries: open(Table::Entries)?,
            dots: open(Table::Dots)?,
            feed: open(Table::Feed)?,
            vector: open(Table::Vector)?,
        };
        work(&tables)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(database)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(database)?;
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
            };
            work(&mut tables)?
        };
        if finish == Finish::Discard {
            return transaction.abort().map_err(storage_error);
        }
        transaction.commit().map_err(|error| match error {
            redb::CommitError::Storage(error) => storage_error(error),
            other => database(other),
        })
    }
}

/// All tables of one transaction, opened once.
struct Tables<T> {
    meta: T,
    entries: T,
    dots: T,
    feed: T,
    vector: T,
}

impl<T> Tables<T> {
    fn of(&self, table: Table) -> &T {
        match table {
            Table::Meta => &self.meta,
            Table::Entries => &self.entries,
            Table::Dots => &self.dots,
            Table::Feed => &self.feed,
            Table::Vector => &self.vector,
        }
    }

    fn of_mut(&mut self, table: Table) -> &mut T {
        match table {
            Table::Meta => &mut self.meta,
            Table::Entries => &mut self.entries,
            Table::Dots => &mut self.dots,
            Table::Feed => &mut self.feed,
            Table::Vector => &mut self.vector,
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
        other => database(other),
    }
}

fn table_error(error: TableError) -> StoreError {
    match error {
        TableError::Storage(error) => storage_error(error),
        other => database(other),
    }
}

fn database(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database(Box::new(error))
}

#[cfg(test)]
mod tests;
