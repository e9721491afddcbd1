//! Whether and when to try again, for anything that is delivered somewhere.
//!
//! Owns the count of attempts of one delivery and nothing else. In goes how each attempt ended and a random number;
//! out comes [`Next`]: done, again after a delay, or given up. No clock, no IO. A failure that may pass
//! ([`Failure::Passing`]) is retried, at most as often as the [`RetryPolicy`] says; one that will not
//! ([`Failure::Lasting`]) ends the delivery at once.
//!
//! The delay doubles with each retry up to a longest one, so that what is overloaded is asked ever less. At random it
//! is made up to half longer, and never shorter: those who failed together do not come back together, and an operator
//! who says five seconds gets five.

use std::time::Duration;

/// How often and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries at most, not counting the first attempt.
    pub retries: u32,
    /// Time before the first of them.
    pub interval: Duration,
    /// Time before any of them at most, but for what is added at random.
    pub longest: Duration,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may go better the next time.
    Passing,
    /// It will not.
    Lasting,
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is delivered.
    Done,
    /// Try again after so long.
    RetryAfter(Duration),
    /// Nothing: it has failed.
    GiveUp,
}

/// One thing that is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    policy: RetryPolicy,
    attempts: u32,
}

impl RetryPolicy {
    /// Time before a retry, the first being number 1. `random` is uniform over all numbers.
    pub fn delay(&self, retry: u32, random: u64) -> Duration {
        let doublings = retry.saturating_sub(1).min(31);
        let longest = self.longest.max(self.interval);
        let delay = self.interval.saturating_mul(1 << doublings).min(longest);
        // 53 bits are what a float holds.
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        delay.saturating_add(delay.mul_f64(part / 2.0))
    }
}

impl Failure {
    /// What the status of an HTTP answer says about an attempt to deliver something.
    ///
    /// # Errors
    /// The failure: passing where the server is at fault, or says that it will be ready later.
    pub fn of_http_status(status: u16) -> Result<(), Failure> {
        match status {
            200..=299 => Ok(()),
            408 | 425 | 429 | 500..=599 => Err(Failure::Passing),
            _ => Err(Failure::Lasting),
        }
    }
}

impl Delivery {
    /// One of which so many attempts have been made already.
    pub fn new(policy: RetryPolicy, attempts: u32) -> Self {
        Self { policy, attempts }
    }

    /// Attempts that have ended.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt has ended.
    pub fn ended(&mut self, outcome: Result<(), Failure>, random: u64) -> Next {
        self.attempts = self.attempts.saturating_add(1);
        match outcome {
            Ok(()) => Next::Done,
            Err(Failure::Passing) if self.attempts <= self.policy.retries => {
                Next::RetryAfter(self.policy.delay(self.attempts, random))
            }
            Err(Failure::Passing | Failure::Lasting) => Next::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            retries: 3,
            interval: Duration::from_secs(5),
            longest: Duration::from_secs(300),
        }
    }

    /// Delivers to a target that answers by a script; how often it took it, the delays, and the end.
    fn deliver(policy: RetryPolicy, script: &[u16]) -> (usize, Vec<Duration>, Next) {
        let mut delivery = Delivery::new(policy, 0);
        let (mut taken, mut delays) = (0, Vec::new());
        for status in script {
            let outcome = Failure::of_http_status(*status);
            taken += usize::from(outcome.is_ok());
            match delivery.ended(outcome, 0) {
                Next::RetryAfter(delay) => delays.push(delay),
                end => return (taken, delays, end),
            }
        }
        panic!("the script ends before the delivery: {delays:?}");
    }

    #[test]
    fn after_500_and_500_a_200_is_delivered_once_with_two_retries() {
        let seconds = |seconds: &[u64]| seconds.iter().map(|s| Duration::from_secs(*s)).collect();
        let delivered = deliver(policy(), &[500, 500, 200, 200]);
        assert_eq!(delivered, (1, seconds(&[5, 10]), Next::Done));
        let failed = deliver(policy(), &[503, 429, 500, 500, 200]);
        assert_eq!(failed, (0, seconds(&[5, 10, 20]), Next::GiveUp));
        let refused = deliver(policy(), &[500, 400, 200]);
        assert_eq!(refused, (0, seconds(&[5]), Next::GiveUp));
        let never = RetryPolicy {
            retries: 0,
            ..policy()
        };
        assert_eq!(deliver(never, &[500, 200]), (0, vec![], Next::GiveUp));
    }

    #[test]
    fn attempts_of_an_earlier_life_count() {
        let mut delivery = Delivery::new(policy(), 3);
        assert_eq!(delivery.ended(Err(Failure::Passing), 0), Next::GiveUp);
        assert_eq!(delivery.attempts(), 4);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_shorter_than_asked_for_nor_half_longer_than_the_longest(
            interval_ms in 1u64..400_000, longest_ms in 1u64..400_000, retry: u32, random: u64,
        ) {
            let policy = RetryPolicy {
                retries: 3,
                interval: Duration::from_millis(interval_ms),
                longest: Duration::from_millis(longest_ms),
            };
            let delay = policy.delay(retry, random);
            let longest = policy.longest.max(policy.interval);
            prop_assert!(policy.interval <= delay && delay <= longest + longest / 2, "{delay:?}");
        }

        #[test]
        fn a_later_retry_waits_no_less_for_the_same_random_number(retry in 1u32..40, random: u64) {
            prop_assert!(policy().delay(retry, random) <= policy().delay(retry + 1, random));
        }

        #[test]
        fn every_script_of_failures_ends_after_the_retries_that_are_allowed(
            retries in 0u32..20, lasting_at in proptest::option::of(0usize..25), random: u64,
        ) {
            let policy = RetryPolicy { retries, ..policy() };
            let mut delivery = Delivery::new(policy, 0);
            let mut seen = 0;
            loop {
                let lasting = lasting_at == Some(seen as usize);
                let failure = if lasting { Failure::Lasting } else { Failure::Passing };
                match delivery.ended(Err(failure), random) {
                    Next::RetryAfter(_) => seen += 1,
                    end => {
                        prop_assert_eq!(end, Next::GiveUp);
                        break;
                    }
                }
            }
            let expected = lasting_at.map_or(retries, |at| retries.min(u32::try_from(at).unwrap()));
            prop_assert_eq!(seen, expected);
        }
    }
}
