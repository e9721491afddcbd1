//! Bringing what is in memory into the base, on a thread of its own.

use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Finish, StoreError, Table, Writer};
use super::log::Log;
use super::{ACTIVE_BYTES_MAX, Applied, BEHIND_BYTES_MAX, Shared, lock, set_applied};

/// The oldest change waits so long in memory, and in the journal, at most.
const ACTIVE_AGE_MAX: Duration = Duration::from_secs(5);
/// How often the thread looks whether that is so.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After a failure it is tried again this much later.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Changes that are brought in one transaction, about: their pages take more than they do, and
/// the base has some 16 MB for them.
const PART_BYTES: usize = if cfg!(test) { 2_000 } else { 10 * 1024 * 1024 };

/// How the checkpoints stand.
#[derive(Default)]
pub(super) struct Checkpoints {
    stopping: bool,
    #[cfg(test)]
    crashed: bool,
    /// All that is committed is wanted in the base.
    wanted: bool,
    /// What the one under way will have brought, once it ends.
    frozen: Option<Applied>,
    /// Rows of the frozen layer that it has brought already.
    brought: usize,
    /// Why the last one failed; `true` for want of room.
    failed: Option<Failure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Full,
    Other,
}

impl Failure {
    fn error(self) -> StoreError {
        match self {
            Self::Full => StoreError::Full(std::io::ErrorKind::StorageFull.into()),
            Self::Other => StoreError::Io(std::io::Error::other(
                "the store's file is too far behind the journal and could not be written; it is tried again",
            )),
        }
    }
}

impl Shared {
    /// Waits while the base is too far behind; an error when it does not come on.
    pub(super) fn wait_for_room(&self) -> Result<(), StoreError> {
        if self.layers().active.bytes() < BEHIND_BYTES_MAX {
            return Ok(());
        }
        let mut checkpoints = lock(&self.checkpoints);
        loop {
            if self.layers().active.bytes() < BEHIND_BYTES_MAX {
                return Ok(());
            }
            if let Some(failure) = checkpoints.failed {
                return Err(failure.error());
            }
            let waited = self.changed.wait_timeout(checkpoints, LOOK_INTERVAL);
            (checkpoints, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Hands what is in memory to the thread, unless it has something or there is
    /// nothing.
    ///
    /// # Errors
    /// No new segment can be begun; the old one goes on growing.
    pub(super) fn freeze(&self, log: &mut Log) -> Result<(), StoreError> {
        // It belongs to this segment.
        if let Err(error) = self.settle(log) {
            log.failed = Some(error);
        }
        let mut layers = self.layers_mut();
        if layers.frozen.is_some() || layers.active.is_empty() {
            return Ok(());
        }
        log.turn_over()?;
        layers.frozen = Some(Arc::new(std::mem::take(&mut layers.active)));
        layers.active_since = None;
        drop(layers);
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.brought = 0;
        checkpoints.frozen = Some(Applied {
            seq: log.last_seq(),
            oldest: log.id(),
        });
        drop(checkpoints);
        self.changed.notify_all();
        Ok(())
    }

    /// The thread.
    pub(super) fn checkpoint_until_stopped(&self) {
        Log::prepare(lock(&self.log));
        loop {
            let stopping = self.wait_for_work();
            #[cfg(test)]
            if lock(&self.checkpoints).crashed {
                return;
            }
            // Without this thread all writes would wait for ever.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.checkpoint()));
            let outcome = outcome.unwrap_or_else(|_| Err(Failure::Other.error()));
            let failed = outcome.is_err();
            self.note(outcome);
            // What could not be brought is in the journal.
            if stopping && (failed || self.layers().active.is_empty()) {
                return;
            }
        }
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        if self.layers().frozen.is_none() {
            self.freeze(&mut lock(&self.log))?;
        }
        let frozen = lock(&self.checkpoints).frozen;
        frozen.map_or(Ok(()), |applied| self.bring(&applied))
    }

    /// Waits until there is something to do; whether it is the last time.
    fn wait_for_work(&self) -> bool {
        let mut checkpoints = lock(&self.checkpoints);
        if checkpoints.failed.is_some() && !checkpoints.stopping {
            let waited = self.changed.wait_timeout(checkpoints, RETRY_PAUSE);
            (checkpoints, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            return checkpoints.stopping;
        }
        loop {
            let layers = self.layers();
            let old = |since: Instant| since.elapsed() >= ACTIVE_AGE_MAX;
            let due = layers.frozen.is_some()
                || layers.active.bytes() >= ACTIVE_BYTES_MAX
                || layers.active_since.is_some_and(old);
            drop(layers);
            if due || checkpoints.stopping || checkpoints.wanted {
                return checkpoints.stopping;
            }
            let waited = self.changed.wait_timeout(checkpoints, LOOK_INTERVAL);
            (checkpoints, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Brings the frozen layer into the base and lets go of it.
    ///
    /// In parts, so that the pages that a transaction changes fit the base's memory: it would
    /// write those that do not, and read them again to write them once more. Between two parts
    /// the base is in no state that ever was; but readers see the frozen layer over it, and an
    /// opening replays all of the layer's records, since the mark comes with the last part.
    fn bring(&self, applied: &Applied) -> Result<(), StoreError> {
        let Some(frozen) = self.layers().frozen.clone() else {
            return Ok(());
        };
        // One that failed goes on where it was: else a disk that fails now and then would
        // let a large layer come to no end.
        let brought = lock(&self.checkpoints).brought;
        let mut rows = frozen.iter().skip(brought).peekable();
        let mut is_whole = false;
        while !is_whole {
            let mut count = 0;
            let written = self.base.write(&mut |writer| {
                (count, is_whole) = bring_part(&mut rows, writer)?;
                if is_whole {
                    set_applied(writer, applied)?;
                }
                Ok(Finish::Commit)
            });
            if written.is_err() {
                return self.mend_base(written);
            }
            lock(&self.checkpoints).brought += count;
        }
        {
            let mut layers = self.layers_mut();
            // The old view first: it keeps pages of the base from being used again.
            layers.base = None;
            layers.base = Some(self.base.snapshot()?);
            layers.frozen = None;
        }
        lock(&self.checkpoints).frozen = None;
        let mut log = lock(&self.log);
        log.forget_before(applied.oldest);
        Log::prepare(log);
        Ok(())
    }

    fn note(&self, outcome: Result<(), StoreError>) {
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.failed = match outcome {
            Ok(()) => None,
            Err(StoreError::Full(_)) => Some(Failure::Full),
            Err(_) => Some(Failure::Other),
        };
        if checkpoints.failed.is_none() {
            let layers = self.layers();
            if layers.frozen.is_none() && layers.active.is_empty() {
                checkpoints.wanted = false;
            }
        }
        self.changed.notify_all();
    }

    /// Waits until all that was committed before is in the base.
    pub(super) fn checkpoint_now(&self) -> Result<(), StoreError> {
        let goal = lock(&self.log).last_seq();
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.failed = None;
        loop {
            checkpoints.wanted = true;
            self.changed.notify_all();
            let brought = super::super::read(&*self.base, super::applied)?;
            if brought.is_some_and(|applied| applied.seq >= goal) {
                return Ok(());
            }
            if let Some(failure) = checkpoints.failed {
                return Err(failure.error());
            }
            let waited = self.changed.wait_timeout(checkpoints, LOOK_INTERVAL);
            (checkpoints, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Ends as a crash does: what is not in the base stays in the journal.
    #[cfg(test)]
    pub(super) fn crash(&self) {
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.crashed = true;
        checkpoints.stopping = true;
        drop(checkpoints);
        self.changed.notify_all();
    }

    /// Whether the thread has nothing to do.
    #[cfg(test)]
    pub(super) fn rests(&self) -> bool {
        let checkpoints = lock(&self.checkpoints);
        !checkpoints.wanted && checkpoints.frozen.is_none()
    }

    pub(super) fn stop_checkpoints(&self) {
        lock(&self.checkpoints).stopping = true;
        self.changed.notify_all();
    }
}

/// Brings what comes next: how many rows, and whether that is all.
fn bring_part<'b>(
    rows: &mut Peekable<impl Iterator<Item = (Table, &'b [u8], Option<&'b [u8]>)>>,
    writer: &mut dyn Writer,
) -> Result<(usize, bool), StoreError> {
    let (mut count, mut bytes) = (0, 0);
    while let Some((table, ..)) = rows.peek().copied() {
        if bytes >= PART_BYTES {
            return Ok((count, false));
        }
        let mut of_table = std::iter::from_fn(|| {
            let next = |(other, ..): &(Table, _, _)| *other == table && bytes < PART_BYTES;
            let (_, key, value) = rows.next_if(next)?;
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            count += 1;
            Some((key, value))
        });
        writer.apply(table, &mut of_table)?;
    }
    Ok((count, true))
}
