//! Signals that a collection of records has changed.
//!
//! One task reads the store's feed for all who wait, so that a busy store is read once for them and not once each. A
//! signal carries no data: whoever waits reads the records again, and several changes may come as one signal.

use std::sync::Arc;
use std::time::Duration;

use basic_sync::net::{Handle, WatchError};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use super::System;

/// Pause before the feed is read again after the store has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two looks at the feed. A decision that is noticed a blink later does no harm; a look for each commit of a
/// busy store would cost its clients.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

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
        let [members, audit, keys, probes, probers] = &self.0;
        match system {
            System::Members => members,
            System::Audit => audit,
            System::Keys => keys,
            System::Probes => probes,
            System::Probers => probers,
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
    loop {
        let watching = replica.watch(None, "", None);
        System::ALL
            .into_iter()
            .for_each(|system| signals.send(system));
        let ended = match watching {
            Ok(watch) => follow(watch, &signals).await,
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

async fn follow(mut watch: basic_sync::net::Watch, signals: &Signals) -> WatchError {
    loop {
        let mut changed = [false; System::ALL.len()];
        let mut next = Some(watch.next().await);
        // What came in one commit is signalled once.
        while let Some(read) = next {
            let item = match read {
                Ok(item) => item,
                Err(error) => return error,
            };
            let collection = item.change.key.collection().as_str();
            let found = System::ALL.iter().position(|one| one.name() == collection);
            if let Some(flag) = found.and_then(|index| changed.get_mut(index)) {
                *flag = true;
            }
            next = watch.next().now_or_never();
        }
        for (system, changed) in System::ALL.into_iter().zip(changed) {
            if changed {
                signals.send(system);
            }
        }
        sleep(LOOK_PAUSE).await;
    }
}
