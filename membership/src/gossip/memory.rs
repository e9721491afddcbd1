//! The driver's side of the roster: notes, calls, and keeps it on disk.
//!
//! The roster itself is shared with the handles, which read it; only the driver
//! writes to it. Without a path there is a roster all the same, which lasts as
//! long as the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use crate::directive::Directives;
use crate::heartbeat::Moment;
use crate::member::Members;
use crate::name::ClusterName;
use crate::roster::caller::Caller;
use crate::roster::keeper::Keeper;

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
    caller: Caller,
    changed: bool,
}

impl Memory {
    /// Reads the roster from `path`, if it is to be kept there.
    pub(super) fn open(path: Option<PathBuf>, cluster: ClusterName, shared: Arc<Shared>) -> Memory {
        let keeper = path.map(|path| {
            let (keeper, roster) = Keeper::open(path, cluster);
            *shared.roster() = roster;
            keeper
        });
        Memory {
            shared,
            keeper,
            caller: Caller::default(),
            changed: false,
        }
    }

    /// Takes in the members as they are now.
    pub(super) fn note(&mut self, members: &Members, directives: &Directives, now: Moment) {
        let mut roster = self.shared.roster();
        self.changed |= roster.note(members, directives, now.wall);
    }

    /// Whom to call at this tick, if anybody.
    pub(super) fn call(&mut self, members: &Members, now: Instant) -> Option<SocketAddr> {
        self.caller.next(&self.shared.roster(), members, now)
    }

    /// Writes what is due; never waits for a disk.
    pub(super) async fn keep(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        if keeper.is_due(self.changed, now).await {
            let roster = self.shared.roster().clone();
            keeper.begin(roster, now);
            self.changed = false;
        }
    }

    /// Writes the roster a last time, and waits for it.
    pub(super) async fn finish(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        let roster = self.shared.roster().clone();
        keeper.finish(roster, now).await;
    }

    /// What is wrong with the file, for people.
    pub(super) fn problem(&self) -> Option<String> {
        self.keeper.as_ref().and_then(Keeper::problem)
    }
}
