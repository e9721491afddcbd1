//! What replicas say to each other.

use super::fill::SnapshotChunk;
use super::standing::Standing;
use super::tree::TreeMessage;
use crate::model::{Delta, Key, Origin, Seq, VersionVector};
use crate::storage::RosterLine;

/// A message to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// New writes of the sender, in the order of their sequence numbers.
    Push {
        /// The writes. Each is of the sender's present origin.
        changes: Vec<Delta>,
    },
    /// What the sender has on disk. Sent when a link comes up, and from time to time.
    Vector {
        /// The origin under which the sender writes now.
        origin: Origin,
        /// What it has.
        vector: VersionVector,
    },
    /// The sender has all writes of `origin` up to `upto` on disk.
    Ack {
        /// Whose writes.
        origin: Origin,
        /// Up to which.
        upto: Seq,
    },
    /// Asks for everything that `vector` lacks.
    PullRequest {
        /// Chosen by the asker; all messages of the session carry it.
        session: u64,
        /// What the asker has.
        vector: VersionVector,
    },
    /// A part of the answer.
    PullChunk(PullChunk),
    /// The asker has taken in a chunk and is ready for another.
    PullMore {
        /// Which session.
        session: u64,
    },
    /// The sender serves as many sessions as it can; ask again later or elsewhere.
    Busy {
        /// Which session was not begun.
        session: u64,
    },
    /// As [`Message::Vector`], and how the sender stands with what is settled. Sent when a
    /// link comes up, when it has changed, and from time to time.
    Standing(Box<Standing>),
    /// Asks for a snapshot.
    SnapshotRequest {
        /// Chosen by the asker; all messages of the session carry it.
        session: u64,
        /// It has what comes up to this key.
        after: Option<Key>,
        /// Who asks.
        line: RosterLine,
    },
    /// A part of a snapshot.
    SnapshotChunk(Box<SnapshotChunk>),
    /// What is said beyond the full mesh.
    Tree(TreeMessage),
}

/// A part of the answer to a pull.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PullChunk {
    /// Which session.
    pub session: u64,
    /// Number of this chunk, from 0. A chunk that is missing ends the session.
    pub index: u64,
    /// Writes that the asker lacks.
    pub changes: Vec<Delta>,
    /// On the last chunk: everything that the asker has, once it has taken in all
    /// chunks of the session.
    pub claim: Option<VersionVector>,
}
