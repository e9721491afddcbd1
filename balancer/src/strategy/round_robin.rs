//! Each in turn: exact, because all workers share one counter.
//!
//! With a steady set of n candidates, any run of picks gives each of them the same number, give or
//! take one. One relaxed atomic addition is all it costs.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A turn counter.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    turn: AtomicUsize,
}

impl RoundRobin {
    /// The position whose turn it is among `candidates`; `None` if there are none.
    pub(crate) fn choose(&self, candidates: usize) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        turn.checked_rem(candidates)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(RoundRobin::default().choose(0), None);
    }

    proptest! {
        #[test]
        fn any_window_of_turns_is_spread_to_within_one(
            candidates in 1usize..20,
            before in 0usize..100,
            window in 0usize..500,
        ) {
            let strategy = RoundRobin::default();
            for _ in 0..before {
                strategy.choose(candidates);
            }
            let mut counts = vec![0usize; candidates];
            for _ in 0..window {
                counts[strategy.choose(candidates).unwrap()] += 1;
            }
            let most = counts.iter().max().unwrap();
            let least = counts.iter().min().unwrap();
            prop_assert!(most - least <= 1, "{counts:?}");
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
                        counts[strategy.choose(3).unwrap()].fetch_add(1, Ordering::Relaxed);
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
