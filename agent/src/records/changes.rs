//! Signals that a collection of records has changed.
//!
//! One watch for each collection serves all who wait. A signal carries no data: whoever waits reads the records again, and several changes may come as one signal.

use std::sync::Arc;
use std::time::Duration;

use basic_sync::model::Collection;
use basic_sync::net::{Handle, WatchError};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use super::System;

/// Pause before the feed is read again after the store has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Wakes whenever a collection has changed.
#[derive(Debug)]
pub struct Changes {
    seen: watch::Receiver<u64>,
}

impl Changes {
    /// Waits for a change after the last one that this returned for. Waits forever once the replica has stopped.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One counter of changes for each collection.
#[derive(Debug)]
pub(super) struct Signals([watch::Sender<u64>; System::ALL.len()]);

impl Default for Signals {
    fn default() -> Self {
        Self(System::ALL.map(|_| watch::Sender::new(0)))
    }
}

impl Signals {
    pub(super) fn of(&self, system: System) -> Changes {
        let mut seen = self.sender(system).subscribe();
        seen.mark_unchanged();
        Changes { seen }
    }

    fn sender(&self, system: System) -> &watch::Sender<u64> {
        let [members, audit, keys, probes, probers, tasks, task_data] = &self.0;
        match system {
            System::Members => members,
            System::Audit => audit,
            System::Keys => keys,
            System::Probes => probes,
            System::Probers => probers,
            System::Tasks => tasks,
            System::TaskData => task_data,
        }
    }

    fn send(&self, system: System) {
        self.sender(system)
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Signals changes for as long as the replica runs. Begins with a signal for every collection, because what has
/// changed before the first look at the feed is not known; so it does after a gap in the feed.
pub(super) async fn signal(replica: Handle, signals: Arc<Signals>) {
    let following = System::ALL.map(|system| follow_always(&replica, system, &signals));
    join_all(following).await;
}

async fn follow_always(replica: &Handle, system: System, signals: &Signals) {
    let Ok(collection) = Collection::new(system.name()) else {
        return;
    };
    loop {
        let watching = replica.watch(Some(collection.clone()), "", None);
        signals.send(system);
        let ended = match watching {
            Ok(mut watch) => loop {
                // What came together is signalled once.
                match watch.next_ready().await {
                    Ok(_) => signals.send(system),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        match ended {
            WatchError::Gone => {}
            WatchError::Store(error) => {
                warn!(%error, "changes of the agents' records cannot be read");
                sleep(FAILED_PAUSE).await;
            }
            WatchError::Stopped => std::future::pending::<()>().await,
        }
    }
}
