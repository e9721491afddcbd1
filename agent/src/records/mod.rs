//! The agents' own records: typed documents in reserved collections of the replicated store.
//!
//! What operators decide, who did it, which keys there are, what probes have found: each is a JSON document in a
//! collection whose name begins with [`RESERVED_PREFIX`]. They replicate, merge and survive like everything else in
//! the store; the data API keeps clients from writing them. In go serialisable values, out come the same, and a
//! signal ([`Changes`]) when anything of a collection has changed here, whoever wrote it.
//!
//! A write can be refused as any other can; nothing has changed then. A document that cannot be read as what it
//! should be, because a newer agent wrote it, is [`RecordError::Unintelligible`] where it is asked for by its key, and
//! passed over with one warning where a whole collection is read.

mod batch;
mod changes;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use basic_sync::model::document::Revision;
use basic_sync::model::{Collection, InvalidName, Key, Version};
use basic_sync::net::{Handle, ReadError, WriteError};
use basic_sync::protocol::{AckTarget, Operation, WriteRefused};
use basic_sync::storage::state::Page;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

pub use batch::Batch;
pub use changes::Changes;

use changes::Signals;

/// How the names of all collections begin that belong to the agents.
pub const RESERVED_PREFIX: &str = "agent.";

/// Documents read at once.
const PAGE: usize = 500;
/// Unreadable documents of which it is remembered that they were mentioned.
const MENTIONED_MAX: usize = 1024;

/// A collection of the agents' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// What operators have decided about nodes, one document a decision, and servers without an agent.
    Members,
    /// Who decided what, when, from where and why.
    Audit,
    /// Sealed secrets.
    Keys,
    /// What probes of servers without an agent have found.
    Probes,
    /// Which agents can write what their probes find.
    Probers,
    /// Tasks to bring data to nodes, and what has become of them.
    Tasks,
    /// The data of tasks that is not written yet.
    TaskData,
}

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The key cannot name a document.
    #[error(transparent)]
    Key(#[from] InvalidName),
    /// The store cannot be read.
    #[error("the agents' records cannot be read")]
    Read(#[from] ReadError),
    /// The write was refused, or it is not known whether it was done.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The value has no JSON form; nothing was written.
    #[error("the record {collection}/{key} cannot be written as JSON")]
    Encode {
        /// The name of the collection.
        collection: &'static str,
        /// The key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The document is not what it should be; another version of the agent may have written it.
    #[error("the record {collection}/{key} is not understood; did a newer agent write it?")]
    Unintelligible {
        /// The name of the collection.
        collection: &'static str,
        /// The key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Access to the records. Clones share it.
#[derive(Clone)]
pub struct Records {
    replica: Handle,
    signals: Arc<Signals>,
    mentioned: Arc<Mutex<HashSet<(String, Version)>>>,
}

impl System {
    /// All of them.
    pub const ALL: [System; 7] = [
        Self::Members,
        Self::Audit,
        Self::Keys,
        Self::Probes,
        Self::Probers,
        Self::Tasks,
        Self::TaskData,
    ];

    /// The name of the collection.
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "agent.members",
            Self::Audit => "agent.audit",
            Self::Keys => "agent.keys",
            Self::Probes => "agent.probes",
            Self::Probers => "agent.probers",
            Self::Tasks => "agent.tasks",
            Self::TaskData => "agent.task-data",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<System> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Whether it is about the nodes, secrets and work of one cluster, and of use in no other: a backup of it is not
    /// restored. What a task was to bring about is in the documents; brought back, it would be done once more.
    pub fn is_bound(self) -> bool {
        match self {
            Self::Members
            | Self::Keys
            | Self::Probes
            | Self::Probers
            | Self::Tasks
            | Self::TaskData => true,
            Self::Audit => false,
        }
    }

    fn key(self, name: &str) -> Result<Key, InvalidName> {
        Key::new(Collection::new(self.name())?, name)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Records {
    /// The records in this replica, and the task that signals their changes, which runs for as long as the replica.
    pub fn new(replica: Handle) -> (Records, impl Future<Output = ()> + Send + 'static) {
        let signals = Arc::new(Signals::default());
        let signalling = changes::signal(replica.clone(), Arc::clone(&signals));
        let records = Records {
            replica,
            signals,
            mentioned: Arc::default(),
        };
        (records, signalling)
    }

    /// The record with this key, as far as this node knows.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn get<T: DeserializeOwned>(
        &self,
        system: System,
        key: &str,
    ) -> Result<Option<T>, RecordError> {
        Ok(self.find(system, key)?.map(|(value, _)| value))
    }

    /// The same with the revision that it is at.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn find<T: DeserializeOwned>(
        &self,
        system: System,
        key: &str,
    ) -> Result<Option<(T, Revision)>, RecordError> {
        let entry = self.replica.entry(&system.key(key)?)?;
        let found = entry.and_then(|entry| Some((entry.value?, entry.revision)));
        let Some((document, revision)) = found else {
            return Ok(None);
        };
        let decoded = serde_json::from_slice(&document);
        decoded
            .map(|value| Some((value, revision)))
            .map_err(|source| RecordError::Unintelligible {
                collection: system.name(),
                key: key.to_owned(),
                source,
            })
    }

    /// The JSON text that is kept under this key.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn text(&self, system: System, key: &str) -> Result<Option<Bytes>, RecordError> {
        let entry = self.replica.entry(&system.key(key)?)?;
        Ok(entry.and_then(|entry| entry.value))
    }

    /// Every record of a collection in the order of the keys, but for those that are not understood.
    ///
    /// # Errors
    /// [`RecordError::Read`].
    pub fn all<T: DeserializeOwned>(
        &self,
        system: System,
    ) -> Result<Vec<(String, T)>, RecordError> {
        let collection = Collection::new(system.name())?;
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let Page {
                documents, more, ..
            } = self
                .replica
                .documents(&collection, "", after.as_deref(), PAGE)?;
            after = documents.last().map(|last| last.key.name().to_owned());
            for change in documents {
                let Some(document) = change.entry.value else {
                    continue;
                };
                let name = change.key.name();
                match serde_json::from_slice(&document) {
                    Ok(value) => found.push((name.to_owned(), value)),
                    Err(error) => self.mention(&change.key, change.entry.revision.version, &error),
                }
            }
            if !more || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Writes a record; returns when it is durable here.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn put<T: Serialize>(
        &self,
        system: System,
        key: &str,
        value: &T,
    ) -> Result<(), RecordError> {
        let batch = Batch::default().put(system, key, value)?;
        self.write(batch).await
    }

    /// Deletes a record; whether there was one.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn delete(&self, system: System, key: &str) -> Result<bool, RecordError> {
        match self.write(Batch::default().delete(system, key)?).await {
            Ok(()) => Ok(true),
            Err(RecordError::Write(WriteError::Refused(WriteRefused::NotFound(_)))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes and deletes several records together: all or none. An empty batch is done at once.
    ///
    /// # Errors
    /// [`RecordError`]; a record to delete that is not there is [`WriteRefused::NotFound`].
    pub async fn write(&self, batch: Batch) -> Result<(), RecordError> {
        self.commit(batch).await.map(drop)
    }

    /// The same, and says which revisions the records are at then, in their order.
    ///
    /// # Errors
    /// As for [`Records::write`].
    pub async fn commit(&self, batch: Batch) -> Result<Vec<Revision>, RecordError> {
        let operations: Vec<Operation> = batch.into_operations();
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let written = self
            .replica
            .write(operations, AckTarget::Local, Duration::ZERO)
            .await;
        // Which of the records is refused for what is of no use to whoever writes them together.
        match written {
            Ok(receipt) => Ok(receipt.revisions),
            Err(WriteError::Refused(refused)) => {
                Err(WriteError::Refused(refused.reason().clone()).into())
            }
            Err(other) => Err(other.into()),
        }
    }

    /// A signal for every change of a collection from now on, whichever node made it.
    pub fn changes(&self, system: System) -> Changes {
        self.signals.of(system)
    }

    fn mention(&self, key: &Key, version: Version, error: &serde_json::Error) {
        let mut mentioned = self
            .mentioned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if mentioned.len() >= MENTIONED_MAX {
            mentioned.clear();
        }
        if mentioned.insert((format!("{key:?}"), version)) {
            warn!(record = ?key, %error, "a record is not understood and has no effect; did a newer agent write it?");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
