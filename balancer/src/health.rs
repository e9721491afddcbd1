//! What connect failures tell about an endpoint: passive ejection.
//!
//! In: outcomes, with the time of each. Out: whether the endpoint is ejected at a given time.
//! Consecutive connect failures eject for a time that doubles with every ejection; any answer
//! forgives everything. When an ejection is over, a single request goes first and the others wait
//! for its outcome, so that a host that swallows connection attempts costs one timeout a round and
//! not one a request. Nothing here can fail, sleep or read a clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::EjectionConfig;

/// The passive health of one endpoint, shared by all workers.
///
/// While nothing is wrong, a check is one relaxed load.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether `failures` differs from its default. Changed only under the lock.
    troubled: AtomicBool,
    failures: Mutex<Failures>,
}

/// A failure that ejected its endpoint, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) duration: Duration,
}

/// Connections that could not be opened since the endpoint answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) failures: u32,
    /// When the first of them failed.
    pub(crate) since: Instant,
}

impl Health {
    /// The failures since the last answer, if there are any.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let failures = self.lock();
        Some(Trouble {
            failures: failures.consecutive,
            since: failures.since?,
        })
    }

    /// Whether the endpoint is to be left out at `now`.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        self.troubled.load(Ordering::Relaxed) && self.lock().is_ejected(now)
    }

    /// Until when the endpoint is left out, if it is at `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        let until = self.lock().ejected_until?;
        (until > now).then_some(until)
    }

    /// The endpoint was picked at `now`.
    pub(crate) fn record_pick(&self, now: Instant, config: &EjectionConfig) {
        if self.troubled.load(Ordering::Relaxed) {
            self.lock().record_pick(now, config);
        }
    }

    /// The endpoint answered: all is forgiven. True if it had been ejected.
    pub(crate) fn record_answer(&self) -> bool {
        if !self.troubled.load(Ordering::Relaxed) {
            return false;
        }
        let mut failures = self.lock();
        let recovered = failures.ejections > 0;
        *failures = Failures::default();
        self.troubled.store(false, Ordering::Relaxed);
        recovered
    }

    /// No connection could be opened at `now`.
    pub(crate) fn record_connect_failure(
        &self,
        now: Instant,
        config: &EjectionConfig,
    ) -> Option<Ejection> {
        let mut failures = self.lock();
        self.troubled.store(true, Ordering::Relaxed);
        failures.record_connect_failure(now, config)
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        // Every update is whole before anything can panic, so a poisoned lock guards sound data.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failures since the last answer.
#[derive(Debug, Default)]
struct Failures {
    consecutive: u32,
    since: Option<Instant>,
    ejections: u32,
    ejected_until: Option<Instant>,
    /// An ejection ran out, and one request is trying the endpoint.
    on_trial: bool,
}

impl Failures {
    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| until > now)
    }

    fn record_pick(&mut self, now: Instant, config: &EjectionConfig) {
        let over = self.ejected_until.is_some_and(|until| until <= now);
        if over {
            self.on_trial = true;
            self.ejected_until = now.checked_add(config.trial);
        }
    }

    fn record_connect_failure(
        &mut self,
        now: Instant,
        config: &EjectionConfig,
    ) -> Option<Ejection> {
        self.consecutive = self.consecutive.saturating_add(1);
        self.since.get_or_insert(now);
        // Requests that were under way when it was ejected report the same incident once more.
        let same_incident = self.is_ejected(now) && !self.on_trial;
        if same_incident || self.consecutive < config.connect_failures.max(1) {
            return None;
        }
        let doublings = self.ejections.min(31);
        let duration = config
            .duration_base
            .saturating_mul(1 << doublings)
            .min(config.duration_max);
        self.ejections = self.ejections.saturating_add(1);
        self.on_trial = false;
        self.ejected_until = now.checked_add(duration);
        Some(Ejection { duration })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: EjectionConfig = EjectionConfig {
        connect_failures: 2,
        duration_base: Duration::from_secs(1),
        duration_max: Duration::from_secs(30),
        trial: Duration::from_secs(2),
    };

    fn ejected_once(now: Instant) -> Health {
        let health = Health::default();
        assert_eq!(health.record_connect_failure(now, &CONFIG), None);
        assert!(health.record_connect_failure(now, &CONFIG).is_some());
        health
    }

    #[test]
    fn trouble_begins_with_the_first_failure_and_ends_with_an_answer() {
        let now = Instant::now();
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        for second in 0..3 {
            health.record_connect_failure(now + Duration::from_secs(second), &CONFIG);
        }
        let trouble = health.trouble();
        assert_eq!(
            trouble,
            Some(Trouble {
                failures: 3,
                since: now
            })
        );
        health.record_answer();
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn one_failure_does_not_eject() {
        let now = Instant::now();
        let health = Health::default();
        health.record_connect_failure(now, &CONFIG);
        assert!(!health.is_ejected(now));
    }

    #[test]
    fn failures_with_an_answer_between_do_not_eject() {
        let now = Instant::now();
        let health = Health::default();
        for _ in 0..10 {
            health.record_connect_failure(now, &CONFIG);
            health.record_answer();
        }
        assert!(!health.is_ejected(now));
    }

    #[test]
    fn an_ejection_ends_by_itself() {
        let now = Instant::now();
        let health = ejected_once(now);
        assert!(health.is_ejected(now + Duration::from_millis(999)));
        assert!(!health.is_ejected(now + Duration::from_secs(1)));
    }

    #[test]
    fn late_reports_of_one_incident_do_not_prolong_the_ejection() {
        let now = Instant::now();
        let health = ejected_once(now);
        for _ in 0..50 {
            assert_eq!(health.record_connect_failure(now, &CONFIG), None);
        }
        assert!(!health.is_ejected(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_returning_endpoint_is_tried_by_one_request_only() {
        let now = Instant::now();
        let health = ejected_once(now);
        let back = now + Duration::from_secs(1);
        health.record_pick(back, &CONFIG);
        assert!(health.is_ejected(back), "others wait for the trial");
        assert!(!health.is_ejected(back + CONFIG.trial), "but not for ever");
    }

    #[test]
    fn a_failed_trial_ejects_for_twice_as_long_and_an_answer_forgives() {
        let mut now = Instant::now();
        let health = ejected_once(now);
        let mut expected = Duration::from_secs(2);
        for _ in 0..8 {
            now = health.ejected_until(now).unwrap();
            health.record_pick(now, &CONFIG);
            let ejection = health.record_connect_failure(now, &CONFIG).unwrap();
            assert_eq!(ejection.duration, expected);
            expected = (expected * 2).min(CONFIG.duration_max);
        }
        assert!(health.record_answer());
        assert!(!health.is_ejected(now));
        assert_eq!(
            ejected_once(now).ejected_until(now),
            Some(now + Duration::from_secs(1))
        );
    }

    proptest! {
        #[test]
        fn no_ejection_outlasts_the_longest_or_starts_below_the_threshold(
            steps in prop::collection::vec((0u8..3, 0u64..4_000), 1..200),
        ) {
            let mut now = Instant::now();
            let health = Health::default();
            let mut consecutive = 0;
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                match step {
                    0 => { health.record_answer(); consecutive = 0; }
                    1 => { health.record_connect_failure(now, &CONFIG); consecutive += 1; }
                    _ => health.record_pick(now, &CONFIG),
                }
                if consecutive < CONFIG.connect_failures {
                    prop_assert!(!health.is_ejected(now));
                }
                prop_assert!(!health.is_ejected(now + CONFIG.duration_max));
            }
        }
    }
}
