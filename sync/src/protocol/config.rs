//! Bounds and intervals of a replica.

use std::collections::BTreeMap;
use std::time::Duration;

use super::overlay::Mesh;
use crate::model::document::Merge;
use crate::model::{Collection, PeerId, VALUE_BYTES_MAX};
use crate::storage::FeedBounds;
use crate::storage::history::Keep;

/// How a collection's documents are written and kept. Nodes should agree about it; while
/// they do not, documents converge all the same, since merging does not depend on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What an operation of a client means.
    pub merge: Merge,
    /// Largest document, in bytes.
    pub document_bytes_max: usize,
    /// How long a document lives after a put, or the patch that began it, that does not say so.
    pub ttl: Option<Duration>,
    /// Older versions that are kept of a document, on each node those that it went through.
    pub history: Keep,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            merge: Merge::Lww,
            document_bytes_max: VALUE_BYTES_MAX,
            ttl: None,
            history: Keep::default(),
        }
    }
}

/// The policies of all collections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policies {
    /// Those that have one of their own, by name.
    pub named: BTreeMap<String, Policy>,
    /// That of all others.
    pub other: Policy,
}

impl Policies {
    /// The policy of a collection.
    pub fn of(&self, collection: &Collection) -> &Policy {
        self.named.get(collection.as_str()).unwrap_or(&self.other)
    }
}

/// Bounds and intervals of a replica. The defaults suit a data centre.
#[derive(Clone, Debug)]
pub struct Config {
    /// How often it tells its peers what it has; each time varied by a fifth, so that
    /// the replicas of a cluster do not fall into step.
    pub vector_interval: Duration,
    /// How far ahead of this node's wall clock another's date may lie, in milliseconds, for
    /// this node's clock to take it over. One that lies further ahead stays with its
    /// document (`ahead.rs`).
    pub clock_ahead_max_ms: u64,
    /// How many pulls it serves at once; to others it says that it is busy.
    pub pulls_served_max: usize,
    /// A pull without progress for so long is given up, by both sides.
    pub pull_timeout: Duration,
    /// After a failed pull the same peer is not asked again for so long.
    pub pull_backoff: Duration,
    /// Chunks of a pull that may be under way without an answer.
    pub pull_window: usize,
    /// A chunk is closed when it holds this many bytes or more, ...
    pub chunk_bytes: usize,
    /// ... or this many changes.
    pub chunk_changes: usize,
    /// A document of more bytes goes into a snapshot in pieces of this size, about, or of one
    /// write. A window of them is under way at once.
    pub piece_bytes: usize,
    /// A push is closed when it holds this many bytes or more.
    pub push_bytes: usize,
    /// Operations in one write at most.
    pub operations_max: usize,
    /// Bytes in one write at most, keys included.
    pub write_bytes_max: usize,
    /// Writes that may wait for acknowledgements at once; above it they are refused.
    pub waiting_max: usize,
    /// The name of this node.
    pub name: PeerId,
    /// How long a deletion is remembered at least.
    pub tombstone_age: Duration,
    /// A replica that is away for longer is given up, if more than half of the others are
    /// here.
    pub absent_max: Duration,
    /// Who lacks so many writes, and most of all there are, takes over a snapshot.
    pub snapshot_from: u64,
    /// Memory for the dots of what a snapshot has brought, before they go to their index.
    pub index_bytes: usize,
    /// How often it tells how it stands, in intervals of vectors; beyond a full mesh one peer
    /// at a time, and the more seldom the longer its roster.
    pub standing_every: u32,
    /// How large a full mesh may be, and how many links a replica has beyond it.
    pub mesh: Mesh,
    /// After a commit that peers had been sent and that then failed: for how long nothing is
    /// sent before it is durable. Each such failure costs an origin, which stays in all
    /// vectors, so while a disk goes on failing they become twice as long, up to an hour.
    pub early_pause: Duration,
    /// In a tree: after what was taken in, how long until those are told of it to whom it is
    /// not pushed. Longer costs less where much is written, and time where the tree is broken.
    pub lazy_interval: Duration,
    /// In a tree: how long a write that was told of may take until it is asked for; longer
    /// than it takes along the tree, with a commit at each hop.
    pub graft_timeout: Duration,
    /// In a tree: bytes of the latest writes that are kept at hand for who asks.
    pub recent_bytes: usize,
    /// How the documents of each collection are kept.
    pub policies: Policies,
    /// Peers that are remembered at once; above it a new one is not taken note of.
    pub peers_max: usize,
    /// What is kept of the feed.
    pub feed: FeedBounds,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vector_interval: Duration::from_secs(1),
            clock_ahead_max_ms: 500,
            pulls_served_max: 2,
            pull_timeout: Duration::from_secs(5),
            pull_backoff: Duration::from_millis(500),
            pull_window: 4,
            chunk_bytes: 512 * 1024,
            chunk_changes: 1024,
            piece_bytes: 512 * 1024,
            push_bytes: 1024 * 1024,
            operations_max: 256,
            write_bytes_max: 1024 * 1024 + 64 * 1024,
            waiting_max: 16_384,
            name: PeerId::new(""),
            tombstone_age: Duration::from_secs(24 * 3600),
            absent_max: Duration::from_secs(7 * 24 * 3600),
            snapshot_from: 50_000,
            index_bytes: 12 * 1024 * 1024,
            standing_every: 10,
            early_pause: Duration::from_secs(60),
            mesh: Mesh::default(),
            lazy_interval: Duration::from_millis(100),
            graft_timeout: Duration::from_millis(500),
            recent_bytes: 4 * 1024 * 1024,
            policies: Policies::default(),
            peers_max: 1024,
            feed: FeedBounds::default(),
        }
    }
}
