//! What is asked for, and what came out.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::model::PeerId;
use crate::verify::{Difference, Fault, FaultKind, Reason};

/// What to compare, and whether to mend.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Check each node's own tables too, and the digest that it keeps.
    pub deep: bool,
    /// What to do about what is found.
    pub repair: Repair,
    /// How long it may take; what has not been looked at by then is said.
    pub limit: Duration,
}

/// What to do about what is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// Nothing.
    No,
    /// Say what would be done.
    Plan,
    /// Do it, if every node takes part.
    Apply,
    /// Do it with the nodes that take part.
    ApplyPartly,
}

/// It was not begun, or had to be ended. What was mended until then stays.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum VerifyError {
    /// One is under way from this node.
    #[error("a comparison is under way from this node; try again when it is done")]
    UnderWay,
    /// This node's own store cannot be read.
    #[error("this node's own store cannot be compared: {0}")]
    Own(String),
    /// Not all nodes take part, and nothing is mended without them.
    #[error(
        "{node} does not take part ({reason}), and what it holds may decide which copy is right; nothing was changed"
    )]
    Incomplete {
        /// Which.
        node: PeerId,
        /// Why not.
        reason: String,
    },
}

/// What a comparison came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// All nodes, this one first, then by name.
    pub nodes: Vec<NodeReport>,
    /// All keys were looked at.
    pub complete: bool,
    /// The first [`FINDINGS_MAX`] keys that differ; states are in the order of `nodes`.
    pub findings: Vec<Finding>,
    /// How many keys differ.
    pub differing: u64,
    /// Keys that differ, on nodes that had not come level in time: nothing can be said of
    /// them yet.
    pub undecided: u64,
    /// The first of them.
    pub undecided_keys: Vec<Bytes>,
    /// Keys at which nodes held different things only because some waited for writes of
    /// others: on their way when they were looked at, and no fault.
    pub in_flight: u64,
    /// Keys that were mended.
    pub mended: u64,
    /// How long it took.
    pub took: Duration,
}

/// Keys and faults that are listed at most.
pub const FINDINGS_MAX: usize = 1000;

/// A node's part in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// Which.
    pub node: PeerId,
    /// Why it did not take part to the end, if so.
    pub failed: Option<String>,
    /// How many documents were compared there, without those of which only a deletion is left.
    pub documents: u64,
    /// Rows of its own tables that were checked.
    pub rows: u64,
    /// Whether the digest that it keeps is that of its documents; `None` where that was not
    /// asked, or could not be found out.
    pub digest_right: Option<bool>,
    /// The first faults of its own tables.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub faulty: u64,
    /// How many faults were worked on.
    pub mended: u64,
}

/// A key that differs, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// In what.
    pub difference: Difference,
    /// What is to be done, where that was asked.
    pub remedy: Option<Remedy>,
}

/// What is to be done, or was, about a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remedy {
    /// Which nodes are to take what the key is to hold: their places in the list.
    pub nodes: Vec<usize>,
    /// Why it is that; `None` where no node has anything to take.
    pub reason: Option<Reason>,
    /// How far it has come.
    pub outcome: Outcome,
}

/// How far a remedy has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Only planned.
    Planned,
    /// All nodes hold the same.
    Mended,
    /// It was written to again and again meanwhile, or a node failed; try again.
    Open,
    /// No node has a copy that can be read.
    Impossible,
    /// It may have been deleted, so that a person must decide; nothing was done.
    Doubtful,
}

impl Report {
    /// Whether all nodes took part to the end, and nothing is wrong that was not mended, as far
    /// as was asked.
    pub fn is_clean(&self) -> bool {
        let well = |node: &NodeReport| {
            node.failed.is_none() && node.faulty == 0 && node.digest_right != Some(false)
        };
        let settled = self.differing == self.mended && self.undecided == 0;
        self.complete && settled && self.nodes.iter().all(well)
    }
}

impl NodeReport {
    pub(super) fn new(node: PeerId) -> Self {
        Self {
            node,
            failed: None,
            documents: 0,
            rows: 0,
            digest_right: None,
            faults: Vec::new(),
            faulty: 0,
            mended: 0,
        }
    }

    pub(super) fn note(&mut self, faults: &[Fault]) {
        let room = FINDINGS_MAX.saturating_sub(self.faults.len());
        self.faults.extend(faults.iter().take(room).cloned());
        self.faulty += u64::try_from(faults.len()).unwrap_or(u64::MAX);
        if faults.iter().any(|fault| fault.kind == FaultKind::Digest) {
            self.digest_right = Some(false);
        }
    }
}
