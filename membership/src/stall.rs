//! The guard against our own stalls.
//!
//! A process that was stopped, swapped out or starved for a second finds all
//! others silent when it wakes, though their heartbeats wait unread in its
//! socket. That is the one cause of false alarms that was measured. So the
//! driver tells this guard how late its own tick came; after a tick that was too
//! late, nobody is called failed until the hold is over. Time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// Remembers the last stall.
#[derive(Debug)]
pub(crate) struct StallGuard {
    threshold: Duration,
    hold: Duration,
    held_until: Option<Instant>,
    delay: Duration,
    delay_max: Duration,
}

impl StallGuard {
    pub(crate) fn new(threshold: Duration, hold: Duration) -> StallGuard {
        StallGuard {
            threshold,
            hold,
            held_until: None,
            delay: Duration::ZERO,
            delay_max: Duration::ZERO,
        }
    }

    /// Notes a tick that was due at `due` and came at `now`. True if it came too
    /// late and the hold starts over.
    pub(crate) fn tick(&mut self, due: Instant, now: Instant) -> bool {
        self.delay = now.saturating_duration_since(due);
        self.delay_max = self.delay_max.max(self.delay);
        let stalled = self.delay > self.threshold;
        if stalled {
            self.held_until = Some(now + self.hold);
        }
        stalled
    }

    /// Whether removals are held back.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// How late the last tick came, and how late the latest of all.
    pub(crate) fn delays(&self) -> (Duration, Duration) {
        (self.delay, self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_tick_holds_removals_and_a_later_one_holds_them_longer() {
        let mut guard = StallGuard::new(500 * MS, 2000 * MS);
        let start = Instant::now();
        assert!(!guard.tick(start, start + 500 * MS));
        assert!(!guard.holds(start + 500 * MS));
        assert!(guard.tick(start, start + 501 * MS));
        assert!(guard.holds(start + 2500 * MS));
        assert!(!guard.holds(start + 2501 * MS));
        assert!(guard.tick(start, start + 3000 * MS));
        assert!(!guard.tick(start + 3000 * MS, start + 3000 * MS));
        assert!(guard.holds(start + 4999 * MS));
        assert_eq!(guard.delays(), (Duration::ZERO, 3000 * MS));
    }
}
