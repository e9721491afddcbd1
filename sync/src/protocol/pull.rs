//! Serving and making pulls: how a replica gets what it lacks.
//!
//! The asker sends its version vector; the server sends every live write that the
//! vector lacks, in chunks, and with the last chunk a **claim**: the vector that
//! the asker may then take as its own. The claim is what carries the knowledge of
//! superseded writes, which no longer exist anywhere to be sent.
//!
//! Why the claim is right, while the server goes on taking in writes, stands with the
//! [`Scan`] that reads them.

use std::collections::VecDeque;
use std::time::Duration;

use super::pieces::Pieces;
use super::{Config, PullChunk, SnapshotChunk};
use crate::model::{PeerId, VersionVector};
use crate::storage::scan::{Bounds, Portion, Scan};
use crate::storage::{Reader, StoreError};

/// A pull that this replica makes.
#[derive(Clone, Debug)]
pub(super) struct Pulling {
    pub(super) peer: PeerId,
    pub(super) session: u64,
    /// Number of the chunk that must come next.
    pub(super) next_index: u64,
    /// When it is given up.
    pub(super) deadline: Duration,
    /// It is a snapshot.
    pub(super) snapshot: bool,
    /// Parts of a snapshot that have come and are still to be taken over, in order.
    pub(super) parts: VecDeque<SnapshotChunk>,
    /// What has come of a document that comes in pieces.
    pub(super) pieces: Option<Pieces>,
    /// The last part, of which all documents were taken over.
    pub(super) last: Option<SnapshotChunk>,
}

/// A pull that this replica serves.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) peer: PeerId,
    pub(super) session: u64,
    pub(super) deadline: Duration,
    /// What is still to be sent.
    scan: Scan,
    next_index: u64,
}

impl Serving {
    /// Begins to serve a pull of an asker that has `asker`, with ours at `own`.
    pub(super) fn begin(
        peer: PeerId,
        session: u64,
        asker: VersionVector,
        own: &VersionVector,
        deadline: Duration,
    ) -> Self {
        Self {
            peer,
            session,
            deadline,
            scan: Scan::begin(asker, own),
            next_index: 0,
        }
    }

    /// The next chunk; the last one carries the claim. `own` is this replica's
    /// vector now.
    pub(super) fn next_chunk(
        &mut self,
        reader: &dyn Reader,
        own: &VersionVector,
        config: &Config,
    ) -> Result<PullChunk, StoreError> {
        let bounds = Bounds {
            bytes: config.chunk_bytes,
            writes: config.chunk_changes,
        };
        let own = |_: &dyn Reader| Ok(own.clone());
        let Portion { changes, claim } = self.scan.next(reader, &own, bounds, &|_| true)?;
        let index = self.next_index;
        self.next_index += 1;
        Ok(PullChunk {
            session: self.session,
            index,
            changes,
            claim,
        })
    }
}
