//! Who wrote something, and as which of its writes.

use std::fmt;
use std::sync::Arc;

/// Identity of a replica's data directory: 128 random bits, minted with the store.
///
/// It is not the identity of the node: a node that loses its disk comes back as
/// the same member with another replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub [u8; 16]);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({self})")
    }
}

/// One life of a store: 48 bits of milliseconds since 1970 when it began, 16 random
/// bits, and always greater than the life before.
///
/// The random bits keep two processes apart that began with copies of one store in
/// the same millisecond, or with a clock that was set back since the life before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch that follows `self` when the wall clock shows `wall_ms`.
    pub fn next(self, wall_ms: u64, random: u16) -> Self {
        let random = u64::from(random);
        let fresh = (wall_ms << u16::BITS) | random;
        let later = self.0.saturating_add(1 + random);
        Self(if fresh > self.0 { fresh } else { later })
    }
}

/// A source of writes: one life of one store. Sequence numbers are dense within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The store.
    pub replica: ReplicaId,
    /// Its life.
    pub epoch: Epoch,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.replica, self.epoch.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Number of a write within its origin, counted from 1 without gaps, at most [`SEQ_MAX`].
pub type Seq = u64;

/// The highest number there can be: half the range, so that the number after it and
/// the length of any range are numbers too.
pub const SEQ_MAX: Seq = u64::MAX >> 1;

/// Name under which a connected peer is known: the node id that its certificate
/// carries. Opaque to this crate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// Wraps a node's name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The node's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_begin_under_a_clock_that_was_set_back_are_told_apart() {
        let first = Epoch(0).next(5_000, 7);
        assert_ne!(first.next(1_000, 1), first.next(1_000, 2));
    }

    #[test]
    fn an_epoch_grows_even_when_the_clock_stands_still_or_steps_back() {
        let first = Epoch(0).next(1_000, 7);
        assert!(first.next(5_000, 0) > first);
        assert_eq!(first.next(1_000, 0), Epoch(first.0 + 1));
        assert!(first.next(3, u16::MAX) > first);
    }
}
