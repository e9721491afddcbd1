//! Serving and making pulls: how a replica gets what it lacks.
//!
//! The asker sends its version vector; the server sends every live write that the
//! vector lacks, in chunks, and with the last chunk a **claim**: the vector that
//! the asker may then take as its own. The claim is what carries the knowledge of
//! superseded writes, which no longer exist anywhere to be sent.
//!
//! The claim must not be early (DESIGN §6, trap (a)): a superseded write counts as
//! taken in only when a successor of it is. While a pull runs the server goes on
//! taking in writes, and one of these may supersede a write that the scan has not
//! yet reached; its successor then has a dot that the scan may have passed. So the
//! server scans in passes. A pass goes over all dots that the asker lacks of a
//! *goal*, the server's vector when the pass began. If the server's vector is still
//! the goal when the pass ends, nothing has changed meanwhile and the goal can be
//! claimed. Otherwise another pass covers what came since; it is shorter than the
//! one before as long as a pull is faster than the writing. By induction on the
//! chain of successors, each write of the claim or one that supersedes it was sent.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use super::{Config, PullChunk};
use crate::model::{Origin, PeerId, SeqRange, VersionVector};
use crate::storage::{Reader, StoreError, state};

/// A pull that this replica makes.
#[derive(Clone, Debug)]
pub(super) struct Pulling {
    pub(super) peer: PeerId,
    pub(super) session: u64,
    /// Number of the chunk that must come next.
    pub(super) next_index: u64,
    /// When it is given up.
    pub(super) deadline: Duration,
}

/// A pull that this replica serves.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) peer: PeerId,
    pub(super) session: u64,
    pub(super) deadline: Duration,
    /// What the asker has, and what earlier passes have sent.
    base: VersionVector,
    /// Our vector when this pass began.
    goal: VersionVector,
    /// What is still to be scanned in this pass.
    todo: VecDeque<(Origin, SeqRange)>,
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
        let todo = asker.missing_from(own).into();
        Self {
            peer,
            session,
            deadline,
            base: asker,
            goal: own.clone(),
            todo,
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
        let mut chunk = PullChunk {
            session: self.session,
            index: self.next_index,
            changes: Vec::new(),
            claim: None,
        };
        self.next_index += 1;
        let mut bytes = 0;
        loop {
            let Some((origin, range)) = self.todo.pop_front() else {
                if self.goal == *own {
                    chunk.claim = Some(own.clone());
                    return Ok(chunk);
                }
                self.base.merge(&self.goal);
                self.goal = own.clone();
                self.todo = self.base.missing_from(&self.goal).into();
                continue;
            };
            let mut stopped_at = None;
            state::live_writes(reader, origin, range, &mut |seq, change| {
                bytes += change.weight();
                chunk.changes.push(change);
                if bytes >= config.chunk_bytes || chunk.changes.len() >= config.chunk_changes {
                    stopped_at = Some(seq);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            if let Some(seq) = stopped_at {
                if seq < range.last {
                    self.todo.push_front((
                        origin,
                        SeqRange {
                            first: seq + 1,
                            last: range.last,
                        },
                    ));
                }
                return Ok(chunk);
            }
        }
    }
}
