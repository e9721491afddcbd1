//! The merge rule of a collection: what remains when two writes of a key meet.
//!
//! A rule must be **commutative**, **associative** and **idempotent**, so that
//! replicas that have seen the same writes hold the same state, in whatever order
//! and however often the writes arrived. The property tests below check the laws.

use super::Version;

/// What becomes of an incoming write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// It takes the place of what is there.
    Replace,
    /// What is there stays; the incoming write is superseded.
    Keep,
}

/// Last writer wins on the whole document: the greater version stays. Versions of
/// different writes are never equal, so the outcome never depends on the order of
/// arrival. A deletion is a write like any other.
pub fn last_writer_wins(current: Option<&Version>, incoming: &Version) -> Resolution {
    match current {
        Some(current) if current >= incoming => Resolution::Keep,
        _ => Resolution::Replace,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Dot, Epoch, Origin, ReplicaId, Timestamp};

    fn version() -> impl Strategy<Value = Version> {
        // Few clocks and origins, so that ties in the first fields are common.
        (0u64..4, 0u8..3, 0u64..2, 1u64..4).prop_map(|(clock, replica, epoch, seq)| Version {
            clock: Timestamp(clock),
            dot: Dot {
                origin: Origin {
                    replica: ReplicaId([replica; 16]),
                    epoch: Epoch(epoch),
                },
                seq,
            },
        })
    }

    fn join(a: Option<Version>, b: Version) -> Option<Version> {
        match last_writer_wins(a.as_ref(), &b) {
            Resolution::Replace => Some(b),
            Resolution::Keep => a,
        }
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_idempotent_and_monotone(a in version(), b in version(), c in version()) {
            prop_assert_eq!(join(Some(a), b), join(Some(b), a));
            let left = join(join(Some(a), b), c);
            let right = join(Some(a), join(Some(b), c).unwrap_or(b));
            prop_assert_eq!(left, right);
            prop_assert_eq!(join(Some(a), a), Some(a));
            prop_assert!(join(Some(a), b) >= Some(a));
        }

        #[test]
        fn any_order_and_any_repetition_ends_in_the_same_state(
            versions in proptest::collection::vec(version(), 1..8),
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..16),
        ) {
            let in_order = versions.iter().fold(None, |state, version| join(state, *version));
            let mut shuffled: Vec<Version> = picks.iter().map(|pick| *pick.get(&versions)).collect();
            shuffled.extend(versions.iter().rev());
            prop_assert_eq!(shuffled.iter().fold(None, |state, version| join(state, *version)), in_order);
        }
    }
}
