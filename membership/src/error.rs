//! The errors of this crate: one enum for each kind of operation.
//!
//! Every message says what the person at the keyboard can do next. None of
//! these operations changes anything when it fails, unless the variant says so.
//! What a peer sends never ends in one of these errors: it is refused, counted
//! and shown by [`Diagnostics`](crate::Diagnostics).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::name::{ClusterName, NodeId};

/// Why a text is not a node id or a cluster name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is empty.
    #[error("the name is empty; use 1 to 64 of A-Z a-z 0-9 . _ -")]
    Empty,
    /// The text has more than 64 bytes.
    #[error("the name has {len} bytes; at most 64 are allowed")]
    TooLong {
        /// Length found, in bytes.
        len: usize,
    },
    /// The text contains a character that is not allowed.
    #[error("the name contains {found:?}; use only A-Z a-z 0-9 . _ -")]
    Character {
        /// The first character that is not allowed.
        found: char,
    },
}

/// Why the identity of this node could not be read, made or advanced.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The data directory could not be made.
    #[error(
        "the data directory {} cannot be created; check its parent and its permissions",
        path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The identity file exists and could not be read.
    #[error("the identity file {} cannot be read; check its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The identity file could not be written durably. The incarnation was not used.
    #[error(
        "the identity file {} cannot be written; check free space and permissions",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The identity file is damaged. A new id is never made in silence.
    #[error(
        "the identity file {} is damaged ({what}); restore it from a backup, or, if this node may \
         come back as a new member, remove it and start again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The configured id is not the one that this data directory belongs to.
    #[error(
        "the configuration names this node {configured}, but {} belongs to node {persisted}; \
         configure {persisted}, or give {configured} a data directory of its own",
        path.display()
    )]
    OtherNode {
        /// The id from the configuration.
        configured: NodeId,
        /// The id in the file.
        persisted: NodeId,
        /// The file.
        path: PathBuf,
    },
    /// The system's random source failed.
    #[error("the system's random source failed, so that no node id can be made")]
    Random {
        /// What the system said.
        source: getrandom::Error,
    },
}

/// Why the roster was not read or not written. Membership goes on without it.
#[derive(Debug, Error)]
pub(crate) enum RosterError {
    /// The file exists and could not be read or moved aside. It is left alone.
    #[error(
        "the roster {} cannot be read, and is not written over; check its permissions, or move it \
         away, and start the agent again",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged and was moved aside.
    #[error(
        "the roster {} is damaged ({what}) and was moved to {}; nothing is lost but addresses to \
         look for the cluster at, which come again when any seed answers",
        path.display(),
        aside.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file belongs to another cluster and was moved aside.
    #[error(
        "the roster {} is that of cluster {of} and was moved to {}; if this node has not changed \
         its cluster on purpose, correct [node] cluster",
        path.display(),
        aside.display()
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// The cluster that it belongs to.
        of: ClusterName,
    },
    /// The file could not be written durably; it is as it was before.
    #[error("the roster {} cannot be written; check free space and permissions", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why gossip could not be started.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The address other nodes are told cannot be reached by anybody.
    #[error(
        "{advertise} cannot be advertised: {what}; set an address and port that other nodes can \
         reach"
    )]
    Advertise {
        /// The address.
        advertise: SocketAddr,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A seed is neither `address:port` nor `name:port`.
    #[error(
        "seed {seed:?} is not of the form host:port, such as 10.0.0.2:9400 or \
         basic.example.org:9400"
    )]
    Seed {
        /// The seed as given.
        seed: String,
    },
    /// There are too many seeds.
    #[error("{count} seeds are given; at most {max} are used, and any one that answers is enough")]
    TooManySeeds {
        /// Seeds given.
        count: usize,
        /// Seeds allowed.
        max: usize,
    },
    /// A setting is outside of what works.
    #[error("{setting} is out of range: {allowed}")]
    Setting {
        /// Name of the field of [`Config`](crate::Config).
        setting: &'static str,
        /// The range.
        allowed: &'static str,
    },
    /// The metadata to start with is not valid.
    #[error("this node's metadata cannot be announced")]
    Metadata(#[source] MetadataError),
    /// The socket, the thread or its runtime could not be set up.
    #[error("gossip could not be started: {what} failed")]
    Start {
        /// The step that failed.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// chitchat refused to start.
    #[error("the gossip protocol could not be started: {reason}")]
    Protocol {
        /// What chitchat said.
        reason: String,
    },
}

/// Why metadata could not be announced. The old metadata stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// All fields together are too large for gossip.
    #[error(
        "the metadata takes {len} bytes, more than the {max} that gossip carries; use fewer \
         or shorter labels"
    )]
    TooLarge {
        /// Encoded size in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// One field is not valid.
    #[error("{field} is not valid: {what}")]
    Field {
        /// The field of [`Metadata`](crate::Metadata).
        field: &'static str,
        /// What is wrong with it and what is allowed.
        what: &'static str,
    },
    /// The node is leaving or has stopped; nothing more is announced.
    #[error("this node is leaving or has stopped; its metadata can no longer change")]
    Stopped,
}

/// Why a leave did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaveError {
    /// Gossip has already stopped, by an earlier leave or stop.
    #[error("this node has already left or stopped")]
    Stopped,
}
