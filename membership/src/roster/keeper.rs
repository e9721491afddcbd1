//! When the roster is written, and where that happens.
//!
//! The driver must never wait for a disk: a heartbeat late by one slow fsync is
//! a false alarm elsewhere. So a write runs beside it, one at a time, with a copy
//! of the roster as it was then; what changes meanwhile goes into the next one.
//! A change of the set is written at once, at most each [`PAUSE`]; that somebody
//! was seen again, each [`INTERVAL`]; and the whole once more at the end. A write
//! that fails is said once, and tried again. A file that is there and cannot be
//! read is never written over: this process then keeps its roster in memory.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Roster, store};
use crate::error::RosterError;
use crate::name::ClusterName;

/// A change of the set is written no more often than this. Short, since a node that is killed
/// in it knows nobody of those it has just met; while a thousand join, a write of some hundred
/// kilobytes.
const PAUSE: Duration = Duration::from_millis(200);
/// How old the times of the last sight in the file may become.
const INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the file in step with the roster.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    cluster: ClusterName,
    begun: Option<Instant>,
    running: Option<JoinHandle<Result<(), RosterError>>>,
    problem: Option<RosterError>,
}

impl Keeper {
    /// Reads the file, and keeps it from now on.
    pub(crate) fn open(path: PathBuf, cluster: ClusterName) -> (Keeper, Roster) {
        let mut problem = None;
        let roster = store::load(&path, &cluster).unwrap_or_else(|error| {
            warn!(error = describe(&error), "going on without a roster");
            problem = Some(error);
            Roster::default()
        });
        let known = roster.iter().count();
        info!(path = %path.display(), known, "read the roster");
        let keeper = Keeper {
            path,
            cluster,
            begun: None,
            running: None,
            problem,
        };
        (keeper, roster)
    }

    /// Whether the roster is to be written now; `changed` says that its set
    /// differs from what was written last. Never while a write is on its way, and
    /// never over a file that could not be read.
    pub(crate) async fn is_due(&mut self, changed: bool, now: Instant) -> bool {
        let running = self.running.as_ref();
        if self.is_unread() || running.is_some_and(|task| !task.is_finished()) {
            return false;
        }
        self.settle().await;
        let pause = if changed || self.writing_failed() {
            PAUSE
        } else {
            INTERVAL
        };
        self.begun
            .is_none_or(|begun| now.saturating_duration_since(begun) >= pause)
    }

    /// Begins to write the roster, and does not wait.
    pub(crate) fn begin(&mut self, roster: Roster, now: Instant) {
        let (path, cluster) = (self.path.clone(), self.cluster.clone());
        self.begun = Some(now);
        self.running = Some(spawn_blocking(move || {
            store::save(&path, &cluster, &roster)
        }));
    }

    /// Writes the roster a last time, and waits for it.
    pub(crate) async fn finish(&mut self, roster: Roster, now: Instant) {
        if self.is_unread() {
            return;
        }
        self.settle().await;
        self.begin(roster, now);
        self.settle().await;
    }

    /// What is wrong with the file, for people.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(describe)
    }

    /// Waits for the write that runs, and says how it went if that is news.
    async fn settle(&mut self) {
        let Some(task) = self.running.take() else {
            return;
        };
        match task.await {
            Ok(Ok(())) => {
                if self.writing_failed() {
                    info!(path = %self.path.display(), "the roster is written again");
                    self.problem = None;
                }
            }
            Ok(Err(error)) => {
                if !self.writing_failed() {
                    error!(error = describe(&error), "trying on to write the roster");
                }
                self.problem = Some(error);
            }
            Err(panic) => error!(%panic, "the roster was not written"),
        }
    }

    /// Whether there is a file whose content nobody here knows.
    fn is_unread(&self) -> bool {
        matches!(self.problem, Some(RosterError::Read { .. }))
    }

    fn writing_failed(&self) -> bool {
        matches!(self.problem, Some(RosterError::Write { .. }))
    }
}

/// The whole chain of causes in one line.
fn describe(error: &RosterError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::roster::tests::known;

    fn cluster() -> ClusterName {
        "c".parse().unwrap()
    }

    #[tokio::test]
    async fn a_change_of_the_set_is_on_disk_when_the_keeper_finishes_and_read_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.json");
        let (mut keeper, roster) = Keeper::open(path.clone(), cluster());
        assert_eq!((roster, keeper.problem()), (Roster::default(), None));
        let now = Instant::now();
        assert!(keeper.is_due(true, now).await);
        keeper.begin(known(&["n1"]), now);
        assert!(
            !keeper.is_due(true, now).await,
            "too soon, but not for the end"
        );
        keeper.finish(known(&["n1", "n2"]), now).await;
        let (_, roster) = Keeper::open(path, cluster());
        assert_eq!(roster, known(&["n1", "n2"]));
    }

    #[tokio::test]
    async fn a_change_of_the_set_is_due_soon_and_mere_sights_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let (mut keeper, _) = Keeper::open(dir.path().join("roster.json"), cluster());
        let start = Instant::now();
        keeper.begin(known(&["n1"]), start);
        keeper.settle().await;
        assert!(!keeper.is_due(true, start + PAUSE / 2).await);
        assert!(keeper.is_due(true, start + PAUSE).await);
        assert!(!keeper.is_due(false, start + INTERVAL / 2).await);
        assert!(keeper.is_due(false, start + INTERVAL).await);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_not_written_over_and_told_about_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roster.json");
        // A link to itself: root too fails to read it, and could write over it.
        std::os::unix::fs::symlink("roster.json", &path).unwrap();
        let (mut keeper, roster) = Keeper::open(path.clone(), cluster());
        assert_eq!(roster, Roster::default());
        let now = Instant::now();
        assert!(!keeper.is_due(true, now + INTERVAL).await);
        keeper.finish(known(&["n1"]), now).await;
        assert!(keeper.problem().unwrap().contains("roster.json"));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[tokio::test]
    async fn a_roster_that_cannot_be_written_is_told_about_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("data");
        let (mut keeper, _) = Keeper::open(directory.join("roster.json"), cluster());
        let start = Instant::now();
        keeper.begin(known(&["n1"]), start);
        keeper.settle().await;
        assert!(keeper.problem().unwrap().contains("roster.json"));
        fs::create_dir(&directory).unwrap();
        assert!(keeper.is_due(false, start + PAUSE).await);
        keeper.begin(known(&["n1"]), start + PAUSE);
        keeper.settle().await;
        assert_eq!(keeper.problem(), None);
        assert!(directory.join("roster.json").exists());
    }
}
