//! Origins and writes that are told apart by small numbers, for tests.

use super::{Dot, Epoch, Origin, ReplicaId, Seq};

/// The first origin of the replica with this number.
pub(crate) fn origin(number: u8) -> Origin {
    Origin {
        replica: ReplicaId([number; 16]),
        epoch: Epoch(1),
    }
}

/// A write of that origin.
pub(crate) fn dot(number: u8, seq: Seq) -> Dot {
    let origin = origin(number);
    Dot { origin, seq }
}
