//! The guard against our own stalls.
//!
//! A process that was stopped, swapped out or starved for a second finds all
//! others silent when it wakes, though their heartbeats wait unread in its
//! socket. That is the one cause of false alarms that was measured. So the
//! driver tells this guard of each of its ticks, and asks it before it concludes
//! anything, since after a stall other work may come before the late tick. After
//! a tick that was too late, nobody is called failed until the hold is over.
//! Time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// Remembers the last tick and the last stall.
#[derive(Debug)]
pub(crate) struct StallGuard {
    period: Duration,
    threshold: Duration,
    hold: Duration,
    due: Instant,
    held_until: Option<Instant>,
    delay: Duration,
    delay_max: Duration,
}

impl StallGuard {
    pub(crate) fn new(
        period: Duration,
        threshold: Duration,
        hold: Duration,
        now: Instant,
    ) -> StallGuard {
        StallGuard {
            period,
            threshold,
            hold,
            due: now + period,
            held_until: None,
            delay: Duration::ZERO,
            delay_max: Duration::ZERO,
        }
    }

    /// Notes a tick. Its delay, if it came so late that a hold begins.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Duration> {
        self.delay = now.saturating_duration_since(self.due);
        self.delay_max = self.delay_max.max(self.delay);
        let begins = !self.is_held(now);
        let stalled = self.holds(now);
        self.due = now + self.period;
        (begins && stalled).then_some(self.delay)
    }

    /// Whether removals are held back: the next tick is too late already, or one
    /// was a short while ago.
    pub(crate) fn holds(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.due) > self.threshold {
            self.held_until = Some(now + self.hold);
        }
        self.is_held(now)
    }

    /// Expects the next tick from now on: the driver was busy, not stalled.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.due = now + self.period;
    }

    /// How late the last tick came, and how late the latest of all.
    pub(crate) fn delays(&self) -> (Duration, Duration) {
        (self.delay, self.delay_max)
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn guard(start: Instant) -> StallGuard {
        StallGuard::new(100 * MS, 500 * MS, 2000 * MS, start)
    }

    #[test]
    fn a_late_tick_holds_removals_and_a_later_one_holds_them_longer() {
        let start = Instant::now();
        let mut guard = guard(start);
        assert_eq!(guard.tick(start + 600 * MS), None, "late, and not too late");
        assert!(!guard.holds(start + 600 * MS));
        assert_eq!(guard.tick(start + 1201 * MS), Some(501 * MS));
        assert_eq!(guard.tick(start + 3000 * MS), None, "held already");
        assert_eq!(guard.tick(start + 3100 * MS), None);
        assert!(guard.holds(start + 3700 * MS));
        assert_eq!(guard.delays(), (Duration::ZERO, 1699 * MS));
        for ms in (3200..6000).step_by(100) {
            guard.tick(start + ms * MS);
        }
        assert!(!guard.holds(start + 6000 * MS));
    }

    #[test]
    fn what_comes_between_the_stall_and_the_late_tick_is_held_too() {
        let start = Instant::now();
        let mut guard = guard(start);
        assert!(!guard.holds(start + 600 * MS));
        assert!(guard.holds(start + 601 * MS));
    }

    #[test]
    fn a_driver_that_was_busy_is_not_called_stalled() {
        let start = Instant::now();
        let mut guard = guard(start);
        guard.resume(start + 5000 * MS);
        assert_eq!(guard.tick(start + 5100 * MS), None);
        assert!(!guard.holds(start + 5100 * MS));
    }
}
