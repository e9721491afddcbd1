//! Hybrid logical clocks: wall-clock time that respects causality (Kulkarni, Demirbas et
//! al., "Logical Physical Clocks", 2014), and that no wrong clock drags along.
//!
//! A timestamp is one `u64`: 48 bits of milliseconds since 1970 and a 16-bit
//! counter. Comparing two of them as integers compares them in time.
//!
//! A clock takes over what it observes only within a bound of its own wall clock, and
//! lets go of what it holds once its wall clock has been set back by more. So it is never
//! further ahead than the bound, whatever others say and whatever it said itself. What is
//! newer than a version that lies further ahead is found by that version's
//! [`successor`](Timestamp::successor), and not by the clock.

use std::fmt;

/// Counter bits below the milliseconds.
const COUNTER_BITS: u32 = 16;

/// A reading of a hybrid logical clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The last date that a write may bear: in the year 8659. A clock issues none after
    /// half the range (the year 6429), so that between the two there is room for more
    /// successors than can ever be written.
    pub const LAST: Self = Self(3 << 62);
    const ISSUED_MAX: Self = Self(1 << 63);

    /// The first timestamp of a millisecond.
    pub fn from_millis(wall_ms: u64) -> Self {
        Self(wall_ms.min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next timestamp. The counter carries into the milliseconds, so that a
    /// burst of more than 65,536 writes within one millisecond borrows from the next.
    pub fn successor(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether it lies more than `bound_ms` after `wall_ms`.
    pub fn is_ahead(self, wall_ms: u64, bound_ms: u64) -> bool {
        self.millis() > wall_ms.saturating_add(bound_ms)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}+{}",
            self.millis(),
            self.0 & ((1 << COUNTER_BITS) - 1)
        )
    }
}

/// The clock of one replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HybridClock {
    last: Timestamp,
}

impl HybridClock {
    /// Continues from what [`Self::last`] said earlier.
    pub fn resume(last: Timestamp) -> Self {
        Self { last }
    }

    /// The latest timestamp issued or taken over.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Issues a timestamp: greater than all that were issued or taken over, and not less
    /// than the wall clock; but where those lie more than `bound_ms` ahead of it, the
    /// wall clock was wrong then, and the clock begins anew from it.
    pub fn tick(&mut self, wall_ms: u64, bound_ms: u64) -> Timestamp {
        let wall = Timestamp::from_millis(wall_ms).min(Timestamp::ISSUED_MAX);
        self.last = if self.last.is_ahead(wall_ms, bound_ms) {
            wall
        } else {
            self.last.successor().max(wall)
        };
        self.last
    }

    /// Takes over another replica's timestamp, and says whether it did: not if it lies
    /// more than `bound_ms` after this node's wall clock.
    pub fn observe(&mut self, seen: Timestamp, wall_ms: u64, bound_ms: u64) -> bool {
        let ahead = seen.is_ahead(wall_ms, bound_ms);
        if !ahead {
            self.last = self.last.max(seen);
        }
        !ahead
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND_MS: u64 = 500;

    proptest! {
        #[test]
        fn ticks_grow_unless_the_wall_clock_was_set_back_by_more_than_the_bound(
            walls in proptest::collection::vec(0u64..4_000, 1..64),
        ) {
            let mut clock = HybridClock::default();
            for wall in walls {
                let before = clock.last();
                let now = clock.tick(wall, BOUND_MS);
                if before.millis() <= wall + BOUND_MS {
                    prop_assert!(now > before);
                } else {
                    prop_assert_eq!(now, Timestamp::from_millis(wall));
                }
            }
        }

        #[test]
        fn a_clock_is_never_further_ahead_than_the_bound(
            steps in proptest::collection::vec((0u64..100_000, proptest::option::of(0u64..1 << 40)), 1..64),
        ) {
            let mut clock = HybridClock::default();
            for (wall, seen) in steps {
                if let Some(seen) = seen {
                    clock.observe(Timestamp(seen), wall, BOUND_MS);
                }
                let now = clock.tick(wall, BOUND_MS);
                prop_assert!(now.millis() >= wall);
                // The counter may carry into the next millisecond.
                prop_assert!(now <= Timestamp::from_millis(wall + BOUND_MS + 1));
            }
        }

        #[test]
        fn a_tick_after_what_was_taken_over_is_later_than_it(seen in 0u64..1 << 56, wall in 0u64..1 << 40) {
            let mut clock = HybridClock::default();
            if clock.observe(Timestamp(seen), wall, BOUND_MS) {
                prop_assert!(clock.tick(wall, BOUND_MS) > Timestamp(seen));
            } else {
                prop_assert_eq!(clock, HybridClock::default());
            }
        }
    }

    #[test]
    fn a_clock_too_far_ahead_is_not_taken_over() {
        let mut clock = HybridClock::default();
        assert!(!clock.observe(Timestamp::from_millis(10_501), 10_000, BOUND_MS));
        assert_eq!(clock.last(), Timestamp::default());
        assert!(clock.observe(Timestamp::from_millis(10_500), 10_000, BOUND_MS));
    }

    #[test]
    fn no_wall_clock_issues_a_date_after_which_there_is_none() {
        let mut clock = HybridClock::default();
        for _ in 0..3 {
            assert!(clock.tick(u64::MAX, BOUND_MS) < Timestamp::LAST);
        }
    }
}
