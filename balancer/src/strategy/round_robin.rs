//! Each in turn, by weight: exact, because all workers share one counter.
//!
//! With equal weights, any run of picks gives each of n candidates the same number, give or take
//! one, for one relaxed atomic addition. With different weights the turns walk over a line on which
//! each candidate owns as many points as its weight (divided by what the weights have in common),
//! with a stride of about the golden section that shares no factor with the length of the line.
//! So every point is met once in each round, which makes the shares exact, and the turns of one
//! candidate lie as far apart as they can (the three-distance theorem: V. T. Sós, 1958), which makes
//! them smooth. A candidate of weight 0 is chosen only where no other has a weight.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A turn counter.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    turn: AtomicUsize,
}

impl RoundRobin {
    /// The position whose turn it is among candidates with these weights; `None` if there are none.
    /// No turn is used up then.
    pub(crate) fn choose(&self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        let mut others = weights.clone();
        let first = others.next()?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (count, equal) = others.fold((1, true), |(count, equal), weight| {
            (count + 1, equal && weight == first)
        });
        if equal {
            return Some(turn % count);
        }
        // Collected, because health may change who is a candidate from one look to the next.
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let unit = weights.iter().copied().fold(0, gcd).max(1);
        let length = weights.iter().sum::<u64>() / unit;
        let mut point = point(turn, length.max(1));
        weights.iter().position(|weight| {
            let owned = point < weight / unit;
            point = point.saturating_sub(weight / unit);
            owned
        })
    }
}

/// The point of the line that `turn` meets.
fn point(turn: usize, length: u64) -> u64 {
    let golden = (u128::from(length) * GOLDEN_SECTION) >> 64;
    let stride = (golden.max(1)..).find(|stride| gcd_wide(*stride, length.into()) == 1);
    // One more than the length shares no factor with it, so that there always is one.
    let stride = stride.unwrap_or(1);
    let point = (turn as u128 % u128::from(length)) * stride % u128::from(length);
    u64::try_from(point).unwrap_or_default()
}

/// 0.618…, the smaller to the larger part of the golden section, times 2^64.
const GOLDEN_SECTION: u128 = 0x9e37_79b9_7f4a_7c15;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn gcd_wide(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd_wide(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn counts(strategy: &RoundRobin, weights: &[u32], window: usize) -> Vec<usize> {
        let mut counts = vec![0usize; weights.len()];
        for _ in 0..window {
            counts[strategy.choose(weights.iter().copied()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(RoundRobin::default().choose([].into_iter()), None);
    }

    #[test]
    fn the_turns_of_a_heavy_candidate_are_spread() {
        let strategy = RoundRobin::default();
        let picks: Vec<_> = (0..10)
            .map(|_| strategy.choose([100, 100, 300].into_iter()).unwrap())
            .collect();
        assert_eq!(picks, [0, 2, 1, 2, 2, 0, 2, 1, 2, 2]);
    }

    #[test]
    fn weightless_candidates_share_what_nobody_else_can_take() {
        let strategy = RoundRobin::default();
        assert_eq!(counts(&strategy, &[0, 0], 10), [5, 5]);
        assert_eq!(counts(&strategy, &[0, 7, 0], 10), [0, 10, 0]);
    }

    proptest! {
        #[test]
        fn any_window_of_turns_is_spread_to_within_one(
            candidates in 1usize..20,
            before in 0usize..100,
            window in 0usize..500,
        ) {
            let strategy = RoundRobin::default();
            let weights = vec![100; candidates];
            counts(&strategy, &weights, before);
            let counts = counts(&strategy, &weights, window);
            let most = counts.iter().max().unwrap();
            let least = counts.iter().min().unwrap();
            prop_assert!(most - least <= 1, "{counts:?}");
        }

        #[test]
        fn a_round_gives_each_its_weight_whatever_turn_it_begins_at(
            weights in prop::collection::vec(0u32..40, 1..8),
            before in 0usize..100,
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let strategy = RoundRobin::default();
            counts(&strategy, &weights, before);
            let counts = counts(&strategy, &weights, total as usize);
            let expected: Vec<usize> = weights.iter().map(|weight| *weight as usize).collect();
            prop_assert_eq!(counts, expected);
        }

        #[test]
        fn shares_are_within_one_percent_of_the_weights_after_ten_thousand_turns(
            weights in prop::collection::vec(1u32..=65_535, 2..6),
        ) {
            const TURNS: u32 = 10_000;
            let total: u32 = weights.iter().sum();
            let counts = counts(&RoundRobin::default(), &weights, TURNS as usize);
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = f64::from(TURNS) * f64::from(*weight) / f64::from(total);
                let off = (*count as f64 - expected).abs();
                prop_assert!(off <= f64::from(TURNS) / 100.0, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn threads_that_share_the_counter_spread_exactly() {
        let strategy = RoundRobin::default();
        let counts: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        let chosen = strategy.choose([100; 3].into_iter()).unwrap();
                        counts[chosen].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(
            counts
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 4_000)
        );
    }
}
