//! All that a store has and somebody lacks, read in bounded portions while it is written.
//!
//! Owns the place of such a reading; pulls and backups are made of it. In: what the other
//! has. Out: live writes, and with the last portion a **claim**: the vector that the other
//! may then take as its own. The claim is what carries the knowledge of superseded writes,
//! which no longer exist anywhere to be sent.
//!
//! The claim must not be early (DESIGN §6, trap (a)): a superseded write counts as had only
//! when a successor of it is. While the reading goes on writes are taken in, and one of these
//! may supersede a write that has not been read yet; its successor then has a dot that may
//! have been passed. So it is read in passes. A pass goes over all dots that the other lacks
//! of a *goal*, the vector when the pass began. If the vector is still the goal when the pass
//! ends, nothing has changed meanwhile and the goal can be claimed. Otherwise another pass
//! covers what came since; it is shorter than the one before as long as reading is faster
//! than writing. By induction on the chain of successors, each write of the claim or one that
//! supersedes it was read.
//!
//! What can fail: the store, after which the portion can be asked for again.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::{Reader, StoreError, state};
use crate::model::{Delta, Key, Origin, SeqRange, VersionVector};

/// Where a reading stands.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// What the other has, and what earlier passes have read.
    base: VersionVector,
    /// The store's vector when this pass began.
    goal: VersionVector,
    /// What is still to be read in this pass.
    todo: VecDeque<(Origin, SeqRange)>,
    passes: u32,
}

/// When a portion is closed: at the first of the two, or a little above it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of the writes in it.
    pub(crate) bytes: usize,
    /// Writes read for it, wanted or not.
    pub(crate) writes: usize,
}

/// What is read at once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Portion {
    /// Writes that the other lacks.
    pub(crate) changes: Vec<Delta>,
    /// With the last portion: what the other has once it has taken in all of them.
    pub(crate) claim: Option<VersionVector>,
}

impl Scan {
    /// Begins to read what `other` lacks, with the store's vector at `own`.
    pub(crate) fn begin(other: VersionVector, own: &VersionVector) -> Self {
        let todo = other.missing_from(own).into();
        Self {
            base: other,
            goal: own.clone(),
            todo,
            passes: 1,
        }
    }

    /// How many passes were begun.
    pub(crate) fn passes(&self) -> u32 {
        self.passes
    }

    /// The next portion, of the writes of those keys that are wanted. `own` is the store's
    /// vector as `reader` sees it; it is asked for at the end of a pass only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn next(
        &mut self,
        reader: &dyn Reader,
        own: &dyn Fn(&dyn Reader) -> Result<VersionVector, StoreError>,
        bounds: Bounds,
        is_wanted: &dyn Fn(&Key) -> bool,
    ) -> Result<Portion, StoreError> {
        let mut portion = Portion::default();
        let (mut bytes, mut writes) = (0, 0);
        loop {
            let Some(&(origin, range)) = self.todo.front() else {
                let own = own(reader)?;
                if self.goal == own {
                    portion.claim = Some(own);
                    return Ok(portion);
                }
                self.base.merge(&self.goal);
                self.todo = self.base.missing_from(&own).into();
                self.goal = own;
                self.passes = self.passes.saturating_add(1);
                continue;
            };
            let mut stopped_at = None;
            state::live_writes(reader, origin, range, &mut |seq, change| {
                writes += 1;
                if is_wanted(&change.key) {
                    bytes += change.weight();
                    portion.changes.push(change);
                }
                if bytes >= bounds.bytes || writes >= bounds.writes {
                    stopped_at = Some(seq);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            self.todo.pop_front();
            if let Some(seq) = stopped_at {
                if seq < range.last {
                    let first = seq + 1;
                    let last = range.last;
                    self.todo.push_front((origin, SeqRange { first, last }));
                }
                return Ok(portion);
            }
        }
    }
}
