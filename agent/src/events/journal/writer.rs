//! The task that writes the journal behind the agent's back.
//!
//! It takes what memory has and the files lack, so there is no queue between the two: if the disk is slow or full for
//! long, the oldest leave memory unwritten, are counted, and the files go on after the gap.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::segments::Segments;
use super::{EventId, Shared};

/// Time from a write to its being made durable, if nobody asks for it earlier.
const SYNC_DELAY: Duration = Duration::from_secs(1);
/// Pause before a disk that has failed is tried again.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Writes for as long as it runs; does nothing without files.
pub(super) async fn run(shared: Arc<Shared>, segments: Option<Segments>, last: EventId) {
    let Some(segments) = segments else {
        return std::future::pending().await;
    };
    let mut newest = shared.newest.subscribe();
    let mut wanted = shared.wanted.subscribe();
    let mut writer = Writer {
        shared,
        segments: Some(segments),
        written: last,
        sync_at: None,
        retry_at: None,
    };
    // What was appended before this began.
    newest.mark_changed();
    loop {
        let due = writer.retry_at.or(writer.sync_at);
        tokio::select! {
            changed = newest.changed(), if writer.retry_at.is_none() => {
                if changed.is_err() {
                    return std::future::pending().await;
                }
                writer.write(false).await;
            }
            Ok(()) = wanted.changed() => writer.write(true).await,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                writer.write(true).await;
            }
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    /// Away while they are written.
    segments: Option<Segments>,
    written: EventId,
    /// When what is written has to be made durable.
    sync_at: Option<Instant>,
    /// When a disk that has failed is tried again.
    retry_at: Option<Instant>,
}

impl Writer {
    async fn write(&mut self, durably: bool) {
        let Some(mut segments) = self.segments.take() else {
            return;
        };
        let (after, records) = self.shared.unwritten(self.written);
        let lost = after > self.written && after > segments.last();
        let sync = durably || self.sync_at.is_some_and(|at| at <= Instant::now());
        let writing = spawn_blocking(move || {
            let result = segments.append(after, &records).and_then(|()| match sync {
                true => segments.sync(),
                false => Ok(()),
            });
            (segments, result)
        });
        let Ok((segments, result)) = writing.await else {
            // It panicked, and the files with it.
            self.fail(&io::Error::other("writing them failed"), None);
            return;
        };
        let last = segments.last();
        if lost && last > after {
            self.count_lost(after);
        }
        self.written = self.written.max(last);
        let floor = segments.floor();
        self.segments = Some(segments);
        match result {
            Ok(()) => {
                self.succeed(floor);
                if sync {
                    self.sync_at = None;
                    self.shared.durable.send_replace(self.written);
                } else {
                    self.sync_at
                        .get_or_insert_with(|| Instant::now() + SYNC_DELAY);
                }
            }
            Err(error) => self.fail(&error, Some(floor)),
        }
    }

    /// Everything up to `after` has left memory unwritten, since what was written last.
    fn count_lost(&self, after: EventId) {
        // Numbers of one run are dense, so the difference is their count, unless a run began between the two.
        let missing = after.0.saturating_sub(self.written.0);
        let mut disk = self.shared.disk();
        disk.unwritten = disk.unwritten.saturating_add(missing);
        drop(disk);
        warn!(
            missing,
            "events left memory before the disk took them; they are lost to the journal"
        );
    }

    fn succeed(&mut self, floor: EventId) {
        self.retry_at = None;
        let mut disk = self.shared.disk();
        disk.floor = Some(floor);
        let recovered = disk.failure.take().is_some();
        drop(disk);
        if recovered {
            info!("events are kept on disk again");
        }
    }

    fn fail(&mut self, error: &io::Error, floor: Option<EventId>) {
        self.retry_at = Some(Instant::now() + FAILED_PAUSE);
        let mut disk = self.shared.disk();
        disk.floor = floor.or(disk.floor);
        let first = disk.failure.replace(error.to_string()).is_none();
        drop(disk);
        if first {
            warn!(%error, "events are kept in memory only, because their files cannot be written; free space on the disk of the data directory");
        }
    }
}
