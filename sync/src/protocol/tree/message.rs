//! What replicas say to each other beyond the full mesh.

use super::Census;
use crate::model::{Delta, Origin, PeerId, Seq, VersionVector};

/// A message along a link of the overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeMessage {
    /// Writes of anybody, passed on. Those of one origin are in order.
    Forward {
        /// The writes.
        changes: Vec<Delta>,
    },
    /// What the sender has on disk, as far as it has changed.
    Have(Have),
    /// What the receiver pushes comes sooner another way: tell of it, and push no more.
    Prune,
    /// Push from now on, and these first, as far as they are still at hand.
    Graft {
        /// Which writes the sender lacks.
        wanted: VersionVector,
    },
    /// Not all of what the receiver has asked for is at hand: it is to be pulled.
    Gone,
    /// Who has all writes of `origin` up to `upto` on disk?
    RollCall {
        /// Whose writes; it is the one who asks.
        origin: Origin,
        /// Up to which.
        upto: Seq,
        /// Number of the question. Of two of one origin the higher one counts.
        round: u64,
    },
    /// Who has how many writes of `origin` on disk.
    Present {
        /// Who asked.
        origin: Origin,
        /// Up to which the sender has them.
        own: Option<Seq>,
        /// Up to which others have them, as they told the sender.
        others: Vec<(PeerId, Seq)>,
    },
    /// How those stand that the sender has counted.
    Census(Box<Census>),
}

/// What a replica has of the origins that have changed since it last told on this link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Have {
    /// The origin under which the sender writes now.
    pub origin: Origin,
    /// Chosen by the sender when it was opened: its changes are counted anew.
    pub life: u64,
    /// All origins are in it that changed after this one of the sender's changes, counted
    /// from 1; after 0, all origins there are, ...
    pub after: u64,
    /// ... and up to this one.
    pub upto: u64,
    /// Up to which of the receiver's changes the sender has heard of all.
    pub heard: u64,
    /// Of each of these origins, all that the sender has.
    pub vector: VersionVector,
}
