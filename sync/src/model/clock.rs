//! Hybrid logical clocks: wall-clock time that never runs backwards and respects
//! causality (Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014).
//!
//! A timestamp is one `u64`: 48 bits of milliseconds since 1970 and a 16-bit
//! counter. Comparing two of them as integers compares them in time.

use std::fmt;

use thiserror::Error;

/// Counter bits below the milliseconds.
const COUNTER_BITS: u32 = 16;

/// A reading of a hybrid logical clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
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

/// A timestamp was refused because it lies too far in this node's future.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "a clock is {ahead_ms} ms ahead of this node's, more than the {bound_ms} ms that are tolerated"
)]
pub struct ClockAhead {
    /// How far ahead, in milliseconds.
    pub ahead_ms: u64,
    /// What is tolerated, in milliseconds.
    pub bound_ms: u64,
}

/// The clock of one replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HybridClock {
    last: Timestamp,
}

impl HybridClock {
    /// Continues from the highest timestamp that was ever issued or observed here.
    pub fn resume(last: Timestamp) -> Self {
        Self { last }
    }

    /// The highest timestamp issued or observed so far.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Issues a timestamp greater than all that were issued or observed, and not
    /// less than the wall clock.
    pub fn tick(&mut self, wall_ms: u64) -> Timestamp {
        self.last = self.last.successor().max(Timestamp::from_millis(wall_ms));
        self.last
    }

    /// Takes note of another replica's timestamp.
    ///
    /// # Errors
    /// [`ClockAhead`] when it lies more than `bound_ms` after this node's wall
    /// clock; nothing changes then, so that one broken clock cannot drag every
    /// other clock with it.
    pub fn observe(
        &mut self,
        seen: Timestamp,
        wall_ms: u64,
        bound_ms: u64,
    ) -> Result<(), ClockAhead> {
        let ahead_ms = seen.millis().saturating_sub(wall_ms);
        if ahead_ms > bound_ms {
            return Err(ClockAhead { ahead_ms, bound_ms });
        }
        self.last = self.last.max(seen);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ticks_only_grow_whatever_the_wall_clock_does(walls in proptest::collection::vec(0u64..1 << 40, 1..64)) {
            let mut clock = HybridClock::default();
            let mut before = clock.last();
            for wall in walls {
                let now = clock.tick(wall);
                prop_assert!(now > before);
                prop_assert!(now.millis() >= wall);
                before = now;
            }
        }

        #[test]
        fn a_tick_after_an_observation_is_later_than_it(seen in 0u64..1 << 56, wall in 0u64..1 << 40) {
            let mut clock = HybridClock::default();
            if clock.observe(Timestamp(seen), wall, 1_000).is_ok() {
                prop_assert!(clock.tick(wall) > Timestamp(seen));
            } else {
                prop_assert_eq!(clock, HybridClock::default());
            }
        }
    }

    #[test]
    fn a_clock_too_far_ahead_is_refused_and_not_adopted() {
        let mut clock = HybridClock::default();
        let error = clock
            .observe(Timestamp::from_millis(10_501), 10_000, 500)
            .unwrap_err();
        assert_eq!(error.ahead_ms, 501);
        assert_eq!(clock.last(), Timestamp::default());
        clock
            .observe(Timestamp::from_millis(10_500), 10_000, 500)
            .unwrap();
    }
}
