//! Events: what happened, to whom, why, on which evidence.
//!
//! In go the transitions that membership concludes, what follows from members' announcements (the health of their
//! servers, their keys), verdicts on servers without an agent, decisions of operators from the audit, and the agent's
//! own start and stop. Each becomes one [`Record`] in the [`Journal`], one log line, and where configured one delivery
//! to the [`Hooks`]. Every node records what it sees itself; two nodes may see things differently or in another order,
//! and a record says whose it is.
//!
//! - [`record`], [`kind`]: what is kept. [`filter`]: which of it is wanted.
//! - `transition`, `announced`, `servers`, `decisions`, `lifecycle`: where it comes from, as pure functions.
//! - [`journal`]: in order, numbered, bounded, on disk, read from any place that is still kept.
//! - [`hooks`]: a command and a webhook.
//! - `recorder`: the task that brings these together.
//!
//! Nothing here can stop the agent, except a webhook by https on a system that trusts nobody, which is said at the
//! start: a disk that is full or a hook that fails is said and counted, and everything else goes on.

mod announced;
mod decisions;
pub mod filter;
pub mod hooks;
pub mod journal;
pub mod kind;
mod lifecycle;
mod log;
pub mod record;
mod recorder;
mod servers;
mod transition;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use basic_membership::{Cluster, Identity};

use crate::config::EventsConfig;
use crate::records::Records;
use decisions::Decisions;

pub use filter::Filter;
pub use hooks::{HookStatus, Hooks, TlsError};
pub use journal::{Journal, JournalStatus, ReadError};
pub use kind::Kind;
pub use lifecycle::StopReason;
pub use record::{EventId, Fact, Record};

/// How long the hooks may take for the last events when the agent stops.
const HOOKS_MAX: Duration = Duration::from_secs(3);
/// How long the disk may take for them.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The events of this node. Clones share them.
#[derive(Debug, Clone)]
pub struct Events {
    identity: Identity,
    journal: Journal,
    hooks: Hooks,
}

/// What runs behind [`Events`] for as long as the agent does.
pub struct Background<W> {
    /// Writes the journal.
    pub writing: W,
    recorder: recorder::Start,
}

impl Events {
    /// Opens the journal in the data directory, records that the agent has started, and sets up the hooks.
    ///
    /// # Errors
    /// [`TlsError`], if a webhook by https is configured and cannot be used.
    pub fn open(
        data_dir: &Path,
        config: &EventsConfig,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<(Events, Background<impl Future<Output = ()> + Send + use<>>), TlsError> {
        let hooks = Hooks::new(config, identity.id.clone())?;
        let journal::Start {
            journal,
            writing,
            kept,
        } = Journal::open(data_dir, identity.id.clone(), now);
        let events = Events {
            identity: identity.clone(),
            journal,
            hooks,
        };
        let own = |record: &&Arc<Record>| {
            matches!(record.fact.kind, Kind::NodeStarted | Kind::NodeStopped)
        };
        let last = kept.iter().rfind(own).map(Arc::as_ref);
        events.note(lifecycle::started(identity, last, now));
        let decisions = Decisions::after(kept.iter().map(Arc::as_ref), now);
        let recorder = recorder::Start { decisions };
        Ok((events, Background { writing, recorder }))
    }

    /// Records that the agent begins to stop.
    pub fn stopping(&self, reason: &StopReason) {
        self.note(lifecycle::stopping(
            &self.identity,
            reason,
            SystemTime::now(),
        ));
    }

    /// Waits, within bounds, until the hooks have been told of the last events and the journal has them on disk.
    pub async fn close(&self) {
        self.hooks.idle(HOOKS_MAX).await;
        self.journal.flush(FLUSH_MAX).await;
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The hooks.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    fn note(&self, fact: Fact) {
        let record = self.journal.append(fact);
        log::line(&record);
        self.hooks.offer(&record);
    }
}

impl<W> Background<W> {
    /// Takes it apart: the task that writes the journal, the one that records what happens, the one that tells the
    /// hooks. Each runs for as long as the agent does.
    pub fn into_tasks(
        self,
        events: &Events,
        cluster: &Cluster,
        records: Records,
    ) -> (
        W,
        impl Future<Output = ()> + Send + 'static + use<W>,
        impl Future<Output = ()> + Send + 'static + use<W>,
    ) {
        let recording = self.recorder.run(events.clone(), cluster.clone(), records);
        let telling = events.hooks.clone().run(cluster.clone());
        (self.writing, recording, telling)
    }
}
