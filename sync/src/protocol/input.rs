//! What goes into a replica and what comes out.

use std::time::Duration;

use thiserror::Error;

use super::Message;
use crate::model::document::{Action, Revision};
use crate::model::{Delta, Key, PeerId, VersionVector};
use crate::storage::StoreError;
use crate::storage::mending::{Mend, Mended};

/// The present, as the driver tells it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// Milliseconds since 1970; may step in either direction.
    pub wall_ms: u64,
    /// Time since some fixed moment; never runs backwards. For deadlines.
    pub elapsed: Duration,
}

/// Number by which a caller recognises the reply to its write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Something that happened to a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A client wants to write.
    Write(WriteRequest),
    /// Writes come back from a backup.
    TakeIn(TakeIn),
    /// Messages to this peer can be sent from now on.
    LinkUp(PeerId),
    /// Messages to this peer go nowhere from now on.
    LinkDown(PeerId),
    /// These are our peers, and no others.
    Peers(Vec<PeerId>),
    /// A peer says something.
    Message(PeerId, Message),
    /// Pieces of work that put the store right, to be done in order.
    Mend(RequestId, Vec<Mend>),
    /// Somebody has decided about writes that were taken out.
    Decide(Decide),
    /// An operator has removed this node: its replicas are given up at once.
    GiveUp(PeerId),
    /// Time has passed.
    Tick,
    /// The replica will stop: answer the writes that wait for peers with what they have.
    Settle,
}

/// A client's write: operations that take effect together or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteRequest {
    /// Comes back with the reply.
    pub id: RequestId,
    /// What to write, at least one.
    pub operations: Vec<Operation>,
    /// On how many peers' disks, besides this one, before the reply.
    pub acks: AckTarget,
    /// How long to wait for them at most.
    pub acks_timeout: Duration,
}

/// A part of a backup, to be taken in as if a peer had sent it: every write under its own
/// version, so that nothing newer is written over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakeIn {
    /// Comes back with the answer.
    pub id: RequestId,
    /// The writes.
    pub changes: Vec<Delta>,
    /// With the last part: what the replica has once all parts are in.
    pub claim: Option<VersionVector>,
}

/// What to do with writes that were taken out ([`storage::exported`](crate::storage::exported)):
/// all of it or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decide {
    /// Comes back with the answer.
    pub id: RequestId,
    /// Which, by number.
    pub numbers: Vec<u64>,
    /// Whether to make them again, as new writes, before they are forgotten.
    pub write: bool,
}

/// What became of the writes of a part of a backup; durable.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TakenIn {
    /// They were new here and have a say now.
    pub taken_in: u64,
    /// They were new here, and what is here is newer.
    pub superseded: u64,
    /// They, or their successors, were here.
    pub repeated: u64,
    /// Of those, writes of documents that were deleted since: they stay so.
    pub deleted: u64,
    /// They are of a replica that was given up, and from before what is settled: whether they
    /// were deleted since is not known. They were kept aside.
    pub exported: u64,
}

/// One operation of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Which document.
    pub key: Key,
    /// What to do with it.
    pub action: Action,
    /// Under which condition.
    pub condition: Condition,
    /// How long it lives from now on; without it, as the collection says.
    pub ttl: Option<Duration>,
}

impl Operation {
    /// An operation without a condition.
    pub fn new(key: Key, action: Action) -> Self {
        Self {
            key,
            action,
            condition: Condition::Always,
            ttl: None,
        }
    }

    /// Bytes that it brings, key included.
    pub fn weight(&self) -> usize {
        let body = match &self.action {
            Action::Put(body) | Action::Patch(body) => body.len(),
            Action::Delete => 0,
        };
        self.key.name().len() + body
    }
}

/// A condition on what this node holds for a key before the write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// None.
    Always,
    /// The document is at this revision (`If-Match`).
    Is(Revision),
    /// There is a document (`If-Match: *`).
    Exists,
    /// There is no document (`If-None-Match: *`).
    Absent,
}

/// On how many peers' disks a write must be before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckTarget {
    /// On this node's disk alone.
    Local,
    /// And on those of this many peers.
    Peers(usize),
    /// And on those of every peer that is known when the write comes. Beyond a full mesh,
    /// those that are not linked to are asked (`tree/calls.rs`).
    All,
}

/// Something a replica wants done. Whatever it has to say is already durable, but what
/// [`stage`](super::stage) returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The answer to a write.
    Reply(RequestId, Result<WriteReceipt, WriteRefused>),
    /// What became of pieces of work.
    Mended(RequestId, Vec<Mended>),
    /// The answer to [`Input::TakeIn`].
    TakenIn(RequestId, Result<TakenIn, WriteRefused>),
    /// Send to one peer.
    Send(PeerId, Message),
    /// Send to every linked peer.
    Broadcast(Message),
    /// Send to these peers, if any.
    Multicast(Vec<PeerId>, Message),
}

/// A write is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteReceipt {
    /// The revision of the document after each operation, in their order.
    pub revisions: Vec<Revision>,
    /// How many peers had it on disk when the reply was given.
    pub acks: usize,
    /// Whether that is as many as were asked for.
    pub complete: bool,
}

/// A write was refused; nothing of it took effect.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WriteRefused {
    /// No operation.
    #[error("the write holds no operation")]
    Empty,
    /// Too many operations.
    #[error("the write holds {count} operations; at most {most} are allowed in one")]
    TooManyOperations {
        /// How many.
        count: usize,
        /// How many are allowed.
        most: usize,
    },
    /// A document is or would become too large.
    #[error("the document has {bytes} bytes; at most {most} are allowed")]
    DocumentTooLarge {
        /// How many.
        bytes: usize,
        /// How many are allowed in its collection.
        most: usize,
    },
    /// The operation does not fit the collection's merge rule; what to send instead.
    #[error("{0}")]
    Unfit(String),
    /// The operation does not fit what the key holds; what to do about it.
    #[error("{0}")]
    Conflict(String),
    /// The operations together are too large.
    #[error("the write has {bytes} bytes in all; at most {most} are allowed in one")]
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many are allowed.
        most: usize,
    },
    /// One of several operations is refused, and the others with it.
    #[error("operation {index}: {reason}")]
    Operation {
        /// Which one, counted from 0.
        index: usize,
        /// Why.
        reason: Box<WriteRefused>,
    },
    /// There is nothing to delete.
    #[error("there is no document {0:?}")]
    NotFound(Key),
    /// The condition does not hold.
    #[error("the document {key:?} is not as the condition demands")]
    ConditionFailed {
        /// Which document.
        key: Key,
        /// Its revision, if there is one.
        current: Option<Revision>,
    },
    /// Too many writes are waiting for peers.
    #[error(
        "too many writes are waiting for other nodes; try again shortly, or write without acks"
    )]
    TooManyWaiting,
    /// Nothing can be restored here now.
    #[error(
        "this node takes over a snapshot and cannot tell yet what was deleted; restore on another node, or when it is done"
    )]
    Filling,
    /// The writes were decided about meanwhile.
    #[error("write {0} is not among those that were kept aside; list them again")]
    NotExported(u64),
    /// The disk is full.
    #[error("the disk of this node is full; free some space, writes are accepted again then")]
    DiskFull,
    /// The store failed while it made the write durable: whether it did is not known.
    #[error("this node's disk failed; the write may or may not have been done: {0}")]
    Storage(String),
}

impl WriteRefused {
    /// Why, whichever operation it is about.
    pub fn reason(&self) -> &WriteRefused {
        match self {
            Self::Operation { reason, .. } => reason.reason(),
            other => other,
        }
    }

    /// The same for the operation at `index` of several.
    pub(super) fn of_operation(self, index: usize) -> Self {
        match self {
            // About all of them.
            Self::TooLarge { .. } => self,
            reason => Self::Operation {
                index,
                reason: Box::new(reason),
            },
        }
    }
}

impl From<&StoreError> for WriteRefused {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::DiskFull,
            other => Self::Storage(other.to_string()),
        }
    }
}
