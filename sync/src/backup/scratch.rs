//! A store of its own in which a backup's writes are put together to documents, so that they
//! can be gone through in the order of their keys, whatever their number.

use std::path::Path;

use thiserror::Error;

use crate::model::{Collection, Delta, Epoch, Key, Origin, ReplicaId, Timestamp};
use crate::storage::records;
use crate::storage::state::{self, Digest, FeedEnds, Header, Merging, Page, Storing};
use crate::storage::{
    self, FeedBounds, Finish, JournaledStorage, OpenError, Storage, StoreError, Table,
};

/// Page cache of the store.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The store could not be made or used.
#[derive(Debug, Error)]
pub enum ScratchError {
    /// It cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It failed later.
    #[error("the documents of the backup cannot be put together")]
    Store(#[from] StoreError),
}

/// The store. It belongs to nobody: it never writes, and no peer hears of it.
pub struct Scratch {
    storage: JournaledStorage,
    header: Header,
}

impl Scratch {
    /// Makes one in an empty directory.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn new(directory: &Path) -> Result<Self, ScratchError> {
        let storage = JournaledStorage::open(directory, CACHE_BYTES)?;
        let header = Header {
            origin: Origin {
                replica: ReplicaId([0; 16]),
                epoch: Epoch(0),
            },
            clock: Timestamp(0),
            feed: FeedEnds::default(),
            bounds: FeedBounds::default(),
            digest: Digest::default(),
        };
        Ok(Self { storage, header })
    }

    /// Merges some of the backup's writes into what is there.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn take_in(&mut self, writes: &[Delta]) -> Result<(), ScratchError> {
        let header = &mut self.header;
        self.storage.write(&mut |writer| {
            for Delta { key, write } in writes {
                let merging = Merging::of(state::entry(writer, key)?, write);
                state::store(
                    writer,
                    header,
                    key,
                    write.version.dot,
                    Storing::default(),
                    merging,
                )?;
            }
            state::set_header(writer, header)?;
            Ok(Finish::Commit)
        })?;
        Ok(())
    }

    /// The names of the collections after this one, the first of them.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn collection_after(
        &self,
        after: Option<&Collection>,
    ) -> Result<Option<Collection>, ScratchError> {
        // Keys of a collection begin with its name and 0x00.
        let from = after.map_or_else(Vec::new, |name| [name.as_str().as_bytes(), &[1]].concat());
        let key = storage::read(&self.storage, |reader| {
            let mut first: Option<Result<Key, StoreError>> = None;
            reader.scan(Table::Entries, &from, None, &mut |key, _| {
                first = Some(records::decode_key(key));
                std::ops::ControlFlow::Break(())
            })?;
            first.transpose()
        })?;
        Ok(key.map(|key| key.collection().clone()))
    }

    /// As [`state::documents`].
    ///
    /// # Errors
    /// [`ScratchError`].
    pub fn documents(
        &self,
        collection: &Collection,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Page, ScratchError> {
        Ok(storage::read(&self.storage, |reader| {
            state::documents(reader, collection, "", after, limit, now_ms)
        })?)
    }
}
