//! Counts the results of checks and decides when the verdict changes. Pure.
//!
//! The first verdict needs only one result of either kind to be bad, or as many good ones as
//! configured: an app that has never answered is not given the benefit of the doubt.

use std::time::{Duration, SystemTime};

use super::{AppHealth, AppState};

/// The results so far.
#[derive(Debug)]
pub(super) struct Tally {
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    state: AppState,
    /// When the verdict last changed, if it has.
    since: Option<SystemTime>,
    successes: u32,
    failures: u32,
    last_error: Option<String>,
    latency: Option<Duration>,
}

impl Tally {
    /// Thresholds of zero count as one.
    pub(super) fn new(healthy_threshold: u32, unhealthy_threshold: u32) -> Self {
        Self {
            healthy_threshold: healthy_threshold.max(1),
            unhealthy_threshold: unhealthy_threshold.max(1),
            state: AppState::Unknown,
            since: None,
            successes: 0,
            failures: 0,
            last_error: None,
            latency: None,
        }
    }

    /// Takes in the result of a check at `now`: its latency, or what was wrong. True if the
    /// verdict changed.
    pub(super) fn record(&mut self, now: SystemTime, result: Result<Duration, String>) -> bool {
        match result {
            Ok(latency) => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
                self.latency = Some(latency);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.last_error = Some(error);
            }
        }
        let verdict = match self.state {
            AppState::Unknown if self.failures > 0 => AppState::Unhealthy,
            _ if self.successes >= self.healthy_threshold => AppState::Healthy,
            _ if self.failures >= self.unhealthy_threshold => AppState::Unhealthy,
            unchanged => unchanged,
        };
        let is_transition = verdict != self.state;
        if is_transition {
            self.state = verdict;
            self.since = Some(now);
        }
        is_transition
    }

    /// What has been found; it stands since `began` if there is no verdict yet.
    pub(super) fn health(&self, began: SystemTime) -> AppHealth {
        AppHealth {
            state: self.state,
            since: self.since.unwrap_or(began),
            consecutive_failures: self.failures,
            last_error: self.last_error.clone(),
            latency: self.latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Result<Duration, String> = Ok(Duration::from_millis(3));

    fn bad() -> Result<Duration, String> {
        Err("refused".to_owned())
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn one_bad_check_of_a_healthy_app_is_forgiven_and_two_are_not() {
        let mut tally = Tally::new(1, 2);
        assert!(tally.record(at(1), GOOD));
        assert!(!tally.record(at(2), bad()));
        assert!(!tally.record(at(3), GOOD));
        assert!(!tally.record(at(4), bad()));
        assert!(tally.record(at(5), bad()));
        let health = tally.health(at(0));
        assert_eq!(health.state, AppState::Unhealthy);
        assert_eq!((health.since, health.consecutive_failures), (at(5), 2));
        assert_eq!(health.last_error.as_deref(), Some("refused"));
    }

    #[test]
    fn a_first_bad_check_is_enough() {
        let mut tally = Tally::new(1, 5);
        assert!(tally.record(at(1), bad()));
        assert_eq!(tally.health(at(0)).state, AppState::Unhealthy);
    }

    #[test]
    fn return_takes_as_many_good_checks_as_configured() {
        let mut tally = Tally::new(3, 1);
        tally.record(at(1), bad());
        assert!(!tally.record(at(2), GOOD));
        assert!(!tally.record(at(3), GOOD));
        assert!(tally.record(at(4), GOOD));
        assert!(tally.health(at(0)).is_healthy());
    }

    #[test]
    fn before_the_first_verdict_nothing_is_claimed() {
        let mut tally = Tally::new(2, 2);
        assert_eq!(tally.health(at(7)).since, at(7));
        assert!(!tally.record(at(8), GOOD));
        assert_eq!(tally.health(at(7)).state, AppState::Unknown);
    }
}
