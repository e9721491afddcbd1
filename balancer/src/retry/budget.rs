//! How much of the traffic may be repeats.
//!
//! A fixed number of retries multiplies the load on servers just when they are failing: with three
//! attempts each, an outage triples the traffic. A budget bounds repeats by a share of what came
//! in lately, so that an outage costs that share and no more; a small allowance lets quiet times
//! retry at all. The idea is Finagle's, and tower's `retry::budget`.
//!
//! Time is cut into slots. A request deposits into the current slot, a repeat withdraws from it,
//! and the balance is the sum over the last [`SLOTS`] slots plus the allowance. In: requests and
//! wishes to repeat, with the time of each. Out: yes or no. Each worker has its own.

use std::time::{Duration, Instant};

/// Into how many slots the window is cut. More slots forget more smoothly.
const SLOTS: usize = 10;

/// What one repeat costs. Deposits are shares of this.
const REPEAT: i64 = 1_000;

/// How much of the traffic of one worker may be repeats.
#[derive(Clone, Debug)]
pub struct BudgetConfig {
    /// Repeats for each request of the window, from 0 (none) to 1,000. Default 0.2.
    pub share: f64,
    /// Repeats a second that are allowed even without traffic. Default 10.
    pub per_second_min: u32,
    /// How far back requests count. Default 10 s; at least 10 ms.
    pub window: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            share: 0.2,
            per_second_min: 10,
            window: Duration::from_secs(10),
        }
    }
}

/// The account of one worker.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    deposit: i64,
    allowance: i64,
    slot_length: Duration,
    slots: [i64; SLOTS],
    current: usize,
    current_began: Instant,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant, config: &BudgetConfig) -> Self {
        let window = config.window.max(Duration::from_millis(10));
        let seconds = i64::try_from(window.as_secs().max(1)).unwrap_or(i64::MAX);
        Self {
            deposit: deposit_of(config.share),
            allowance: i64::from(config.per_second_min)
                .saturating_mul(seconds)
                .saturating_mul(REPEAT),
            slot_length: window / 10,
            slots: [0; SLOTS],
            current: 0,
            current_began: now,
        }
    }

    /// A request came in.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let slot = &mut self.slots[self.current];
        *slot = slot.saturating_add(self.deposit);
    }

    /// Takes one repeat from the account, if there is one in it.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        self.advance(now);
        let saved = self
            .slots
            .iter()
            .fold(0i64, |sum, slot| sum.saturating_add(*slot));
        if saved.saturating_add(self.allowance) < REPEAT {
            return false;
        }
        self.slots[self.current] -= REPEAT;
        true
    }

    /// Forgets the slots that have left the window.
    fn advance(&mut self, now: Instant) {
        let mut behind = now.saturating_duration_since(self.current_began);
        for _ in 0..SLOTS {
            if behind < self.slot_length {
                return;
            }
            behind -= self.slot_length;
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = 0;
            self.current_began += self.slot_length;
        }
        // Nothing of the window is left, so where the next slot begins is free.
        if behind >= self.slot_length {
            self.current_began = now;
        }
    }
}

/// A share as what one request deposits. A share that is no number counts as none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to at most a million"
)]
fn deposit_of(share: f64) -> i64 {
    (share.clamp(0.0, 1_000.0) * REPEAT as f64).round() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(share: f64, per_second_min: u32) -> BudgetConfig {
        BudgetConfig {
            share,
            per_second_min,
            window: Duration::from_secs(10),
        }
    }

    fn withdrawals(budget: &mut RetryBudget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn quiet_times_may_repeat_the_allowance_of_a_window() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now, &config(0.2, 10));
        assert_eq!(withdrawals(&mut budget, now), 100);
    }

    #[test]
    fn requests_pay_for_a_share_of_repeats() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now, &config(0.2, 0));
        for _ in 0..1_000 {
            budget.deposit(now);
        }
        assert_eq!(withdrawals(&mut budget, now), 200);
    }

    #[test]
    fn the_window_forgets_both_requests_and_repeats() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now, &config(0.5, 1));
        for _ in 0..100 {
            budget.deposit(now);
        }
        assert_eq!(withdrawals(&mut budget, now), 60);
        for later in [10, 1_000_000] {
            let then = now + Duration::from_secs(later);
            assert_eq!(withdrawals(&mut budget, then), 10);
        }
    }

    #[test]
    fn a_share_that_is_no_number_is_none() {
        assert_eq!(
            [
                deposit_of(f64::NAN),
                deposit_of(-1.0),
                deposit_of(f64::INFINITY)
            ],
            [0, 0, 1_000 * REPEAT]
        );
    }

    proptest! {
        /// Within one window, repeats never exceed the allowance plus the share of requests.
        #[test]
        fn repeats_are_bounded_by_traffic(
            steps in prop::collection::vec((any::<bool>(), 0u64..100), 1..100),
            per_second_min in 0u32..3,
        ) {
            let mut now = Instant::now();
            let mut budget = RetryBudget::new(now, &config(0.25, per_second_min));
            let (mut requests, mut repeats) = (0u64, 0u64);
            for (is_request, wait) in steps {
                now += Duration::from_millis(wait);
                if is_request {
                    budget.deposit(now);
                    requests += 1;
                } else {
                    repeats += u64::from(budget.withdraw(now));
                }
            }
            prop_assert!(repeats * 4 <= u64::from(per_second_min) * 40 + requests);
        }
    }
}
