//! Hooks: a command or a webhook that is told of chosen events.
//!
//! In go records, as they are made; out comes one delivery for each, of the record's JSON, in order and one at a time
//! for each hook. What waits is bounded by [`QUEUE_MAX`]; when that is full the oldest is dropped, counted and said.
//! A delivery can fail; it is then logged and counted, and the next one begins.
//!
//! Every agent sees the events of the cluster. Under [`HooksOn::OneNode`] the agent that `owner` names for an event
//! delivers it, and if that one fails within `STANDBY`, the next one does, so the hook must be configured alike on
//! all. Delivery is at least once: while agents see different members, or when an owner fails after its delivery, an
//! event may be delivered by two; a receiver that minds compares node, kind and incarnation. What waits in an agent
//! that is killed is lost to the hooks of that agent, and never to its journal.

mod command;
mod lane;
mod owner;
mod payload;
mod queue;
mod statistics;
mod webhook;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use basic_membership::{Cluster, Incarnation, Member, MemberState, NodeId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::kind::Kind;
use super::record::Record;
use crate::config::{EventsConfig, HooksOn};

use command::CommandHook;
use lane::{Hook, Lane};
use queue::Queue;
use webhook::Webhook;

pub use statistics::HookStatus;
pub use webhook::TlsError;

/// Events that wait for one hook.
pub const QUEUE_MAX: usize = 256;
/// How long the failure of an event's owner makes the next one deliver it: enough for a slow hook.
const STANDBY: Duration = Duration::from_secs(60);

/// The hooks of this agent. Clones share them.
#[derive(Clone)]
pub struct Hooks(Arc<Shared>);

struct Shared {
    own: NodeId,
    on: HooksOn,
    kinds: Vec<Kind>,
    /// Events of which it is not yet known who delivers them.
    arriving: Queue<Job>,
    lanes: Vec<Lane>,
    /// Closed once no job holds on to it any more.
    open: watch::Sender<()>,
}

/// An event on its way to a hook.
#[derive(Clone)]
struct Job {
    record: Arc<Record>,
    _open: watch::Receiver<()>,
}

/// An event that another agent delivers, unless it fails.
struct Standby {
    record: Arc<Record>,
    owner: NodeId,
    incarnation: Incarnation,
    until: Instant,
}

/// Who has to deliver an event.
#[derive(Debug, PartialEq, Eq)]
enum Duty {
    Ours,
    Of(NodeId, Incarnation),
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    /// The hooks that are configured; none is called before [`Hooks::run`].
    ///
    /// # Errors
    /// If a webhook wants TLS and the system has no certificates to trust.
    pub(super) fn new(config: &EventsConfig, own: NodeId) -> Result<Hooks, TlsError> {
        let mut lanes = Vec::new();
        if let Some(command) = CommandHook::new(&config.command) {
            lanes.push(Lane::new(Hook::Command(command)));
        }
        if let Some(url) = &config.webhook {
            lanes.push(Lane::new(Hook::Webhook(Webhook::new(url)?)));
        }
        Ok(Hooks(Arc::new(Shared {
            own,
            on: config.hooks_on,
            kinds: config.on.kinds().to_vec(),
            arriving: Queue::new(QUEUE_MAX),
            lanes,
            open: watch::Sender::new(()),
        })))
    }

    /// Takes an event up, if a hook wants it. Never waits.
    pub(super) fn offer(&self, record: &Arc<Record>) {
        if self.0.lanes.is_empty() || !self.0.kinds.contains(&record.fact.kind) {
            return;
        }
        let job = Job {
            record: Arc::clone(record),
            _open: self.0.open.subscribe(),
        };
        if self.0.arriving.push(job).is_some() {
            self.0.lanes.iter().for_each(Lane::count_dropped);
        }
    }

    /// Delivers for as long as it runs.
    pub(super) async fn run(self, cluster: Cluster) {
        let lanes = self.0.lanes.iter().map(Lane::run);
        tokio::join!(
            self.dispatch(cluster),
            futures_util::future::join_all(lanes)
        );
    }

    /// Waits until nothing is to be delivered any more, or `limit` has passed.
    pub(super) async fn idle(&self, limit: Duration) {
        if timeout(limit, self.0.open.closed()).await.is_err() {
            tracing::warn!("the agent stops before its hooks have been told of all events");
        }
    }

    /// What the hooks have done, one entry for each that is configured.
    pub fn status(&self) -> Vec<HookStatus> {
        self.0.lanes.iter().map(Lane::status).collect()
    }

    async fn dispatch(&self, cluster: Cluster) {
        let mut changes = cluster.watch();
        let mut standby: VecDeque<Standby> = VecDeque::new();
        loop {
            tokio::select! {
                job = self.0.arriving.next() => {
                    let members = cluster.members();
                    match self.duty(&job.record, members.iter()) {
                        Duty::Ours => self.deliver(&job),
                        Duty::Of(owner, incarnation) => {
                            debug!(event = %job.record.id, %owner, "another agent tells the hooks");
                            standby.truncate(QUEUE_MAX - 1);
                            standby.push_front(Standby {
                                record: job.record,
                                owner,
                                incarnation,
                                until: Instant::now() + STANDBY,
                            });
                        }
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let members = changes.borrow_and_update().clone();
                    self.take_over(&mut standby, || members.iter(), Instant::now());
                }
            }
        }
    }

    fn deliver(&self, job: &Job) {
        for lane in &self.0.lanes {
            lane.push(job.clone());
        }
    }

    fn duty<'a>(&self, record: &Record, members: impl IntoIterator<Item = &'a Member>) -> Duty {
        let alone = self.0.on == HooksOn::EveryNode || record.fact.kind.is_own_affair();
        let owner = (!alone).then(|| owner::of(record, members)).flatten();
        match owner {
            Some(owner) if owner.id != self.0.own => Duty::Of(owner.id.clone(), owner.incarnation),
            // Also where no agent takes traffic: too often rather than never.
            _ => Duty::Ours,
        }
    }

    /// Delivers, or passes on, what owners were to deliver that have failed since.
    fn take_over<'a, M>(
        &self,
        standby: &mut VecDeque<Standby>,
        members: impl Fn() -> M,
        now: Instant,
    ) where
        M: Iterator<Item = &'a Member>,
    {
        standby.retain_mut(|event| {
            if event.until <= now {
                return false;
            }
            let is_well = |member: &Member| {
                member.id == event.owner
                    && member.incarnation == event.incarnation
                    && member.state != MemberState::Failed
            };
            if members().any(is_well) {
                return true;
            }
            match self.duty(&event.record, members()) {
                Duty::Ours => {
                    let record = Arc::clone(&event.record);
                    let _open = self.0.open.subscribe();
                    self.deliver(&Job { record, _open });
                    false
                }
                Duty::Of(owner, incarnation) => {
                    event.owner = owner;
                    event.incarnation = incarnation;
                    true
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
