//! Where replicated data lives.
//!
//! The seam is small: eight ordered tables of bytes ([`Table`]), a read view and an
//! atomic, durable transaction ([`Storage`]). [`MemoryStorage`] implements it for tests
//! and simulations, [`JournaledStorage`] for agents: a journal over a redb file
//! ([`RedbStorage`], which is a store by itself too). What the tables hold is
//! written once, above the seam: [`records`] draws the bytes, [`state`] keeps the
//! tables consistent with each other.
//!
//! Contract of a transaction: when [`Storage::write`] has returned `Ok`, everything
//! it wrote survives the loss of the process and of power; when it has returned
//! `Err`, readers see nothing of it, unless the disk failed in the very last step: then
//! the whole of it may come back with the next opening. Readers see whole transactions
//! only.

mod ahead;
pub(crate) mod chunks;
pub mod expiries;
mod exported;
mod feed_bounds;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod history;
mod journal;
pub mod listing;
mod memory;
pub mod mending;
pub mod records;
mod redb;
mod replace;
pub(crate) mod scan;
mod settlement;
pub mod state;
#[cfg(test)]
mod tests;
mod unclaimed;

use std::ops::ControlFlow;
use std::path::PathBuf;

use thiserror::Error;

pub use self::ahead::{DatedAhead, dated_ahead, set_dated_ahead};
pub use self::exported::{
    Exported, export, exported, exported_count, exported_one, exported_page, forget_exported,
};
pub use self::feed_bounds::{FEED_LENGTH, FeedBounds, PAST_BYTES_MAX, count_past};
pub use self::journal::JournaledStorage;
#[cfg(test)]
pub(crate) use self::memory::Failing;
pub use self::memory::MemoryStorage;
pub use self::redb::RedbStorage;
pub use self::replace::{Placing, entries_after, replace, rows_after};
pub use self::settlement::{
    Fill, FillDone, RosterLine, Settlement, Unindexed, set_settlement, settlement, unindexed,
};
pub(crate) use self::unclaimed::unclaimed;

/// The tables of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// Facts about the store itself: format, identity, clock, digest.
    Meta,
    /// Key → entry: the state.
    Entries,
    /// Dot → key: which write of an origin has a say in which key.
    Dots,
    /// Local position → key: the order in which this replica took changes in, of those
    /// that are the last of their key.
    Feed,
    /// Origin → set of sequence numbers: the version vector.
    Vector,
    /// Local position → document: changes after which others came.
    Past,
    /// Moment, key → nothing: which documents are to expire when.
    Expiries,
    /// Key, local position → document: older versions, of collections that keep them.
    History,
}

impl Table {
    /// All tables; the order is a promise to the journals on disk.
    pub const ALL: [Self; 8] = [
        Self::Meta,
        Self::Entries,
        Self::Dots,
        Self::Feed,
        Self::Vector,
        Self::Past,
        Self::Expiries,
        Self::History,
    ];

    const fn index_u8(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Entries => 1,
            Self::Dots => 2,
            Self::Feed => 3,
            Self::Vector => 4,
            Self::Past => 5,
            Self::Expiries => 6,
            Self::History => 7,
        }
    }

    /// Its place in [`Table::ALL`].
    const fn index(self) -> usize {
        self.index_u8() as usize
    }
}

/// Sees the pairs of a scan in ascending order; `Break` ends it.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// A consistent view of the tables.
pub trait Reader {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the pairs with `from <= key < to` in ascending order; without `to`,
    /// all from `from` on.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

/// What becomes of a row: its key, and its new value or that it is removed.
pub type RowChange<'r> = (&'r [u8], Option<&'r [u8]>);

/// A view that can be changed, and that sees its own changes.
pub trait Writer: Reader {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails; the transaction is lost then.
    fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Sets the value of a key, to bytes that need not be copied.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails; the transaction is lost then.
    fn insert_owned(
        &mut self,
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.insert(table, &key, &value)
    }

    /// Removes a key; nothing happens where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails; the transaction is lost then.
    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Changes the value of a key in place; where there is none, `change` begins with an
    /// empty one, and an empty one is removed.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails; the transaction is lost then.
    fn change(
        &mut self,
        table: Table,
        key: &[u8],
        change: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), StoreError> {
        let mut value = self.get(table, key)?.unwrap_or_default();
        change(&mut value);
        if value.is_empty() {
            self.remove(table, key)
        } else {
            self.insert(table, key, &value)
        }
    }

    /// Makes many changes of a table, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails; the transaction is lost then.
    fn apply<'r>(
        &mut self,
        table: Table,
        changes: &mut dyn Iterator<Item = RowChange<'r>>,
    ) -> Result<(), StoreError> {
        for (key, value) in changes {
            match value {
                Some(value) => self.insert(table, key, value)?,
                None => self.remove(table, key)?,
            }
        }
        Ok(())
    }
}

/// A store. One writer at a time; readers are never blocked by it.
pub trait Storage: Send + Sync {
    /// Runs `work` on the last committed state.
    ///
    /// # Errors
    /// What `work` returned, or [`StoreError`] when the medium fails.
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Runs `work` in a transaction and, if it says [`Finish::Commit`], makes its
    /// effects durable.
    ///
    /// # Errors
    /// What `work` returned, or [`StoreError`] when the medium fails; in both cases
    /// nothing was changed.
    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError>;

    /// The first half of [`Storage::write`]: what can be refused without a trace has been
    /// when it returns, but nothing is durable, and readers see nothing of it. A store that
    /// has no halves does it all. [`Storage::settle`] must follow before the next
    /// transaction.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn stage(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        self.write(work)
    }

    /// The second half: makes durable what was staged, if anything was.
    ///
    /// # Errors
    /// [`StoreError`] when the medium fails: readers see nothing of it, but all of it may
    /// come back with the next opening.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// Make its changes durable.
    Commit,
    /// It changed nothing, or nothing worth keeping; spare the disk.
    Discard,
}

/// Reads a value out of a store through [`Storage::read`].
///
/// Once more if the medium fails: a store opens a file anew that has failed, and who read at
/// that moment is to notice nothing of it, least of all while the disk is only full.
///
/// # Errors
/// As [`Storage::read`].
pub fn read<T>(
    storage: &dyn Storage,
    work: impl Fn(&dyn Reader) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    use StoreError::{Database, Full, Io};
    match read_once(storage, &work) {
        Err(Full(_) | Io(_) | Database(_)) => read_once(storage, &work),
        done => done,
    }
}

fn read_once<T>(
    storage: &dyn Storage,
    work: &impl Fn(&dyn Reader) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = None;
    storage.read(&mut |reader| {
        result = Some(work(reader)?);
        Ok(())
    })?;
    result.ok_or(StoreError::NotRun)
}

/// A store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file is there but is not a sound store.
    #[error(
        "the store {path} is damaged ({detail}); nothing was changed. Restore it from a backup, or move the data directory away and start again: the node then copies everything from its peers"
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// This node had a store here, and the file is gone.
    #[error(
        "the store {path} is missing, but this data directory had one. Restore it from a backup, or move the data directory away and start again: the node then copies everything from its peers"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "the store {path} is in use by another process; is an agent already running on this data directory?"
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// It was written by a newer version of this program.
    #[error(
        "the store {path} has format {found}, and this version reads formats up to {known}; use the newer version"
    )]
    TooNew {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The file system refused.
    #[error("the store {path} cannot be opened")]
    Io {
        /// The store's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed after it was opened.
    #[error("the store {path} cannot be read")]
    Store {
        /// The store's file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// A store that was open failed. No state has changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The medium has no room left.
    #[error("the disk is full")]
    Full(#[source] std::io::Error),
    /// The medium failed.
    #[error("the disk failed")]
    Io(#[source] std::io::Error),
    /// The database below failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Bytes in a table are not what this program writes.
    #[error("a record in table {table:?} is damaged: {detail}")]
    Damaged {
        /// Where.
        table: Table,
        /// What is wrong.
        detail: &'static str,
    },
    /// A storage returned without running the work it was given.
    #[error("the store did not run the work")]
    NotRun,
}
