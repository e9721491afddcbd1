//! Whether the disk answers and works: the driver notes it, callers look.
//!
//! A disk can fail without an error: a sync that does not return, of a drive that dies,
//! of a network file system that is away, of a volume that is throttled. The driver is
//! inside it then and can tell nobody anything. So it notes when it goes in and when it
//! comes out, and those who wait for it look at the clock: once a commit has taken
//! longer than [`Options::disk_patience`](super::Options::disk_patience), the disk is
//! stuck. Nothing runs for that while all is well, and no waiter is woken by a commit
//! that is not its own.
//!
//! A failure that the disk does report is noted here too, until something could be
//! written again.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::driver::chain;
use crate::storage::StoreError;

/// How the disk of the store does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskStatus {
    /// How long it has not answered, once that is longer than it may be.
    pub stuck: Option<Duration>,
    /// Why nothing could be written the last time that there was something to write.
    pub failure: Option<DiskFailure>,
}

/// A failure that the disk has reported, and that may last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskFailure {
    /// There is no room; else it is broken in some other way.
    pub full: bool,
    /// What the operating system or the store said.
    pub reason: String,
    /// When it was first seen.
    pub since: SystemTime,
    /// When it was last seen.
    pub last: SystemTime,
}

/// The disk has not answered for so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stuck(pub(super) Duration);

/// What driver and callers share.
#[derive(Debug)]
pub(super) struct Disk {
    patience: Duration,
    began: Instant,
    /// When the commit under way was begun, in milliseconds from `began` and plus one;
    /// 0 while none is.
    entered: AtomicU64,
    failure: Mutex<Option<DiskFailure>>,
}

impl Disk {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            // With none at all, a wait would never let others run.
            patience: patience.max(Duration::from_millis(1)),
            began: Instant::now(),
            entered: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }

    /// Runs what may have to wait for the disk.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        self.entered.store(self.millis() + 1, Ordering::SeqCst);
        let outcome = work();
        self.entered.store(0, Ordering::SeqCst);
        outcome
    }

    /// Notes that a transaction has failed; whether the one before it had not.
    pub(super) fn failed(&self, error: &StoreError) -> bool {
        let now = SystemTime::now();
        let mut failure = self.failure();
        let since = failure.as_ref().map(|failure| failure.since);
        *failure = Some(DiskFailure {
            full: matches!(error, StoreError::Full(_)),
            reason: chain(error),
            since: since.unwrap_or(now),
            last: now,
        });
        since.is_none()
    }

    /// Notes that something was written; whether that ends a failure.
    pub(super) fn works(&self) -> bool {
        self.failure().take().is_some()
    }

    pub(super) fn status(&self) -> DiskStatus {
        DiskStatus {
            stuck: self.stuck().map(|Stuck(waited)| waited),
            failure: self.failure().clone(),
        }
    }

    /// Whether a commit has taken too long already.
    pub(super) fn stuck(&self) -> Option<Stuck> {
        self.waited()
            .filter(|waited| *waited >= self.patience)
            .map(Stuck)
    }

    /// Waits for what depends on the disk, but not for a stuck one.
    pub(super) async fn unless_stuck<F: Future>(&self, awaited: F) -> Result<F::Output, Stuck> {
        let mut awaited = pin!(awaited);
        loop {
            if let Some(stuck) = self.stuck() {
                return Err(stuck);
            }
            // A commit that begins later than now cannot be too late earlier than this.
            let left = self.patience - self.waited().unwrap_or_default().min(self.patience);
            if let Ok(output) = timeout(left, awaited.as_mut()).await {
                return Ok(output);
            }
        }
    }

    /// How long the commit under way has taken.
    fn waited(&self) -> Option<Duration> {
        let entered = self.entered.load(Ordering::SeqCst).checked_sub(1)?;
        Some(Duration::from_millis(self.millis().saturating_sub(entered)))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn failure(&self) -> MutexGuard<'_, Option<DiskFailure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_lasts_until_something_is_written() {
        let disk = Disk::new(Duration::from_secs(5));
        assert_eq!(disk.status(), DiskStatus::default());
        assert!(disk.failed(&StoreError::Full(io::ErrorKind::StorageFull.into())));
        let full = disk.status().failure.unwrap();
        assert!(full.full && full.reason.contains("full"), "{full:?}");
        assert!(!disk.failed(&StoreError::Io(io::Error::other("lost"))));
        let broken = disk.status().failure.unwrap();
        assert!(
            !broken.full && broken.reason.ends_with("lost"),
            "{broken:?}"
        );
        assert_eq!(broken.since, full.since);
        assert!(disk.works());
        assert!(!disk.works());
        assert_eq!(disk.status(), DiskStatus::default());
    }

    #[tokio::test]
    async fn only_a_commit_that_takes_too_long_ends_a_wait() {
        let disk = Disk::new(Duration::from_millis(1));
        // No commit is under way: others may take their time.
        let slow = tokio::time::sleep(Duration::from_millis(20));
        assert_eq!(disk.unless_stuck(slow).await, Ok(()));
        disk.entered.store(1, Ordering::SeqCst);
        let Err(Stuck(waited)) = disk.unless_stuck(std::future::pending::<()>()).await else {
            panic!("it waited for a stuck disk");
        };
        assert!(waited >= Duration::from_millis(1), "{waited:?}");
        // The next one ends, and nothing is under way.
        disk.within(|| ());
        assert_eq!(disk.stuck(), None);
        let patient = Disk::new(Duration::from_secs(3_600));
        assert!(patient.within(|| patient.status()).stuck.is_none());
    }
}
