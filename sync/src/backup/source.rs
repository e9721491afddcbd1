//! Making a backup of a store that goes on being written.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::content;
use super::frame::Kind;
use super::{BackupError, Manifest, Sealer, Totals};
use crate::model::{Collection, Delta, Key, VersionVector};
use crate::storage::scan::{Bounds, Portion, Scan};
use crate::storage::{self, Storage, StoreError, Table, state};

/// A content is closed when it holds this many bytes or more; a write is at most some 2 MiB.
const CONTENT_BYTES: usize = 512 * 1024;
/// What is read at once, while everything else can wait: as much as a chunk of a pull.
const PORTION: Bounds = Bounds {
    bytes: CONTENT_BYTES,
    writes: 4096,
};
/// After so many passes larger portions are read, so that the last of them is found to have
/// changed nothing although writes go on.
const PASSES_SMALL: u32 = 4;
const PORTION_LATE: Bounds = Bounds {
    bytes: 8 * CONTENT_BYTES,
    writes: 32_768,
};
/// After so many passes there is no hope left that an end comes.
pub const PASSES_MAX: u32 = 64;

/// What a backup is to be of.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Version of the program.
    pub agent: String,
    /// Of which collections; `None` for all, the agents' own included.
    pub collections: Option<BTreeSet<Collection>>,
}

/// A backup cannot go on.
#[derive(Debug, Error)]
pub enum BackupFailed {
    /// The store failed.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// What a snapshot has brought is not indexed yet.
    #[error(
        "this node is still taking over the data from others, and the backup would lack some of it; ask another node, or wait until it is ready"
    )]
    Filling,
    /// Documents change faster than they are read.
    #[error(
        "the documents change faster than the backup is read, so that it comes to no end ({passes} passes); write it to a quicker disk or when less is written"
    )]
    Restless {
        /// How often the store was gone over.
        passes: u32,
    },
    /// It would be longer than a backup can be.
    #[error("the backup cannot be written")]
    Frame(#[from] BackupError),
}

/// A backup under way.
pub struct Backup {
    storage: Arc<dyn Storage>,
    wanted: Option<BTreeSet<Collection>>,
    scan: Scan,
    sealer: Sealer,
    ready: VecDeque<Bytes>,
    content: Vec<u8>,
    totals: Totals,
    ended: bool,
    /// What is read at once, in the first passes and in later ones.
    portions: [Bounds; 2],
}

impl Backup {
    /// Begins one at `now_ms` since 1970. All that is in the store by now will be in it.
    ///
    /// # Errors
    /// [`BackupFailed::Store`], [`BackupFailed::Filling`].
    pub fn begin(
        storage: Arc<dyn Storage>,
        about: About,
        now_ms: u64,
    ) -> Result<Self, BackupFailed> {
        let (header, vector, unindexed) = storage::read(&*storage, |reader| {
            let (header, vector) = (state::header(reader)?, state::vector(reader)?);
            Ok((header, vector, storage::unindexed(reader)?))
        })?;
        if unindexed.is_some() {
            return Err(BackupFailed::Filling);
        }
        let header = header.ok_or(StoreError::Damaged {
            table: Table::Meta,
            detail: "the store has no origin",
        })?;
        let names =
            |wanted: &BTreeSet<Collection>| wanted.iter().map(ToString::to_string).collect();
        let manifest = Manifest {
            cluster: about.cluster,
            node: about.node,
            origin: header.origin.to_string(),
            began_ms: now_ms,
            agent: about.agent,
            collections: about.collections.as_ref().map(names),
        };
        let mut backup = Self {
            storage,
            wanted: about.collections,
            scan: Scan::begin(VersionVector::default(), &vector),
            sealer: Sealer::plain(),
            ready: VecDeque::new(),
            content: Vec::new(),
            totals: Totals::default(),
            ended: false,
            portions: [PORTION, PORTION_LATE],
        };
        let header = Bytes::copy_from_slice(&backup.sealer.header());
        backup.ready.push_back(header);
        backup.put(Kind::Manifest, &content::encode_text(&manifest))?;
        Ok(backup)
    }

    /// The next bytes, `None` after the end; `now_ms` since 1970. It reads the store, and does
    /// not hold it between two calls, however late the next one comes.
    ///
    /// # Errors
    /// [`BackupFailed`]; what was given out is no whole backup then.
    pub fn next_bytes(&mut self, now_ms: u64) -> Result<Option<Bytes>, BackupFailed> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.ended {
                return Ok(None);
            }
            self.read(now_ms)?;
        }
    }

    /// Reads so many writes at once, so that a few make many portions.
    #[cfg(test)]
    pub(super) fn set_portions(&mut self, early: usize, late: usize) {
        let bounds = |writes| Bounds {
            bytes: usize::MAX,
            writes,
        };
        self.portions = [bounds(early), bounds(late)];
    }

    /// Reads one portion, and gives what bytes it has made by then.
    #[cfg(test)]
    pub(super) fn step(&mut self, now_ms: u64) -> Result<Option<Vec<u8>>, BackupFailed> {
        if self.ended && self.ready.is_empty() {
            return Ok(None);
        }
        if !self.ended {
            self.read(now_ms)?;
        }
        Ok(Some(self.ready.drain(..).flatten().collect()))
    }

    /// How far it is.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    fn read(&mut self, now_ms: u64) -> Result<(), BackupFailed> {
        let passes = self.scan.passes();
        if passes > PASSES_MAX {
            return Err(BackupFailed::Restless { passes });
        }
        let [early, late] = self.portions;
        let bounds = if passes > PASSES_SMALL { late } else { early };
        let Portion { changes, claim } = self.portion(bounds)?;
        for delta in &changes {
            self.add(delta)?;
        }
        if let Some(claim) = claim {
            self.close()?;
            self.end(&claim, now_ms)?;
        }
        Ok(())
    }

    fn portion(&mut self, bounds: Bounds) -> Result<Portion, BackupFailed> {
        let mut portion = Some(Portion::default());
        let (scan, wanted) = (&mut self.scan, &self.wanted);
        let is_wanted = |key: &Key| {
            let wanted = wanted.as_ref();
            wanted.is_none_or(|wanted| wanted.contains(key.collection()))
        };
        self.storage.read(&mut |reader| {
            portion = match storage::unindexed(reader)? {
                None => Some(scan.next(reader, &state::vector, bounds, &is_wanted)?),
                Some(_) => None,
            };
            Ok(())
        })?;
        portion.ok_or(BackupFailed::Filling)
    }

    fn add(&mut self, delta: &Delta) -> Result<(), BackupError> {
        content::encode_write(&mut self.content, delta);
        self.totals.writes += 1;
        self.totals.deletions += u64::from(content::deletes(delta));
        if self.content.len() >= CONTENT_BYTES {
            self.close()?;
        }
        Ok(())
    }

    /// Makes a frame of the writes gathered so far.
    fn close(&mut self) -> Result<(), BackupError> {
        if self.content.is_empty() {
            return Ok(());
        }
        let content = std::mem::take(&mut self.content);
        self.totals.bytes += content.len() as u64;
        self.put(Kind::Writes, &content)
    }

    fn end(&mut self, claim: &VersionVector, now_ms: u64) -> Result<(), BackupError> {
        if self.wanted.is_none() {
            for content in content::encode_claim(claim, CONTENT_BYTES) {
                self.put(Kind::Claim, &content)?;
            }
        }
        self.totals.ended_ms = now_ms;
        self.totals.passes = self.scan.passes();
        self.put(Kind::End, &content::encode_text(&self.totals))?;
        self.ended = true;
        Ok(())
    }

    fn put(&mut self, kind: Kind, content: &[u8]) -> Result<(), BackupError> {
        let frame = self.sealer.content(kind, content)?;
        self.ready.push_back(frame);
        Ok(())
    }
}
