//! The front door: an operator's decision is checked, stored here with its audit record, and from then on applied by
//! every node.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basic_balancer::{Admission, Balancer};
use basic_membership::{AnnouncedState, Cluster, Directive, MemberState, NodeId};
use basic_sync::net::WriteError;
use basic_sync::protocol::WriteRefused;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

use super::audit::{Actor, ActorError, AuditEntry, AuditLog};
use super::conflict::{ConflictLatch, TwoNodes};
use super::decision::{self, DecisionView, Kind, Order, RemovalOrder, WeightOrder};
use super::subject::{self, NotFound, Subject};
use crate::records::{Batch, RecordError, Records, System};

/// How long a decision may take to show in this node's own view before it is answered without.
const SHOWN_MAX: Duration = Duration::from_secs(2);
/// How long the record of a request to leave may keep the node from leaving.
const RECORD_MAX: Duration = Duration::from_secs(2);

/// What an operator can decide about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It finishes what it has and gets nothing new.
    Drain,
    /// No longer.
    Undrain,
    /// It counts as failed, whatever its heartbeats say.
    Fail,
    /// No longer; for this node itself also: it is the one of two with one id that goes on.
    Revive,
    /// This share of the load; `None` for the one that it announces.
    Weight(Option<u32>),
    /// It is no member any longer, until it joins again.
    Remove,
}

/// What became of a decision.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The node.
    pub id: NodeId,
    /// Whether anything changed; a decision that is in force already changes nothing, and is not recorded again.
    pub changed: bool,
    /// Whether it ended a conflict of two nodes with one id: this one takes writes again.
    pub ended_conflict: bool,
    /// Its state as this node sees it now; `None` for one that is away, or a server without an agent.
    pub state: Option<MemberState>,
    /// All that is in force about it now.
    pub decision: DecisionView,
}

/// A decision does not apply, or could not be stored; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is no such node.
    #[error("no node is called \"{node}\"{}; known are {}", did_you_mean(.nearest.as_deref()), .known.join(", "))]
    Unknown {
        /// What was asked for.
        node: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// It was removed.
    #[error(
        "{node} was removed; it comes back by `basic-agent join TOKEN` on its own machine, and then it can be decided about"
    )]
    Removed {
        /// Which.
        node: NodeId,
    },
    /// No other node takes requests.
    #[error(
        "{node} is the only node that takes requests now: without it, clients get errors; bring another one up first, or insist (--force, or ?force=true of a request)"
    )]
    LastOne {
        /// Which.
        node: NodeId,
    },
    /// It has left in good order.
    #[error("{node} has left, so it cannot be called failed; remove it if it shall not come back")]
    HasLeft {
        /// Which.
        node: NodeId,
    },
    /// Nobody has said that it failed.
    #[error(
        "no operator called {node} failed: its heartbeats have stopped, and it returns by itself when its agent runs again and can be reached"
    )]
    NotByOperator {
        /// Which.
        node: NodeId,
    },
    /// Another process with this node's id is still there.
    #[error("{0}; the other is still heard")]
    RivalHeard(TwoNodes),
    /// Too many words.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The decision could not be read or stored.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Takes operators' decisions. Clones share it.
#[derive(Debug, Clone)]
pub struct Operations {
    cluster: Cluster,
    records: Records,
    balancer: Balancer,
    audit: AuditLog,
    latch: ConflictLatch,
    /// One decision at a time, so that what the audit says was in force before is true.
    deciding: Arc<Mutex<()>>,
}

impl Action {
    /// Its name in the API, the command line and the audit record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Fail => "fail",
            Self::Revive => "revive",
            Self::Weight(_) => "weight",
            Self::Remove => "remove",
        }
    }

    /// The directive with this decision made.
    fn applied_to(self, directive: Directive, subject: &Subject) -> Directive {
        match self {
            Self::Drain => Directive {
                drain: true,
                ..directive
            },
            Self::Undrain => Directive {
                drain: false,
                ..directive
            },
            Self::Fail => Directive {
                failed: true,
                ..directive
            },
            Self::Revive => Directive {
                failed: false,
                ..directive
            },
            Self::Weight(weight) => Directive {
                weight,
                ..directive
            },
            Self::Remove if directive.removes(subject.joined()) => directive,
            Self::Remove => Directive {
                removed: Some(subject.joined()),
                ..directive
            },
        }
    }

    /// Whether it keeps a node from getting requests.
    fn takes_out(self) -> bool {
        match self {
            Self::Drain | Self::Fail | Self::Remove | Self::Weight(Some(0)) => true,
            Self::Undrain | Self::Revive | Self::Weight(_) => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Operations {
    /// Of a running agent.
    pub fn new(
        cluster: Cluster,
        records: Records,
        balancer: Balancer,
        latch: ConflictLatch,
    ) -> Self {
        let audit = AuditLog::new(records.clone(), cluster.identity().id.clone());
        Self {
            cluster,
            records,
            balancer,
            audit,
            latch,
            deciding: Arc::default(),
        }
    }

    /// The record of who decided what.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Whether two nodes have this node's id.
    pub fn latch(&self) -> &ConflictLatch {
        &self.latch
    }

    /// Decides about the node that is called `name`. Returns when the decision is on disk here and shows in this node's
    /// view of its members. `force` takes out even the last node that takes requests.
    ///
    /// # Errors
    /// [`OperationError`]; nothing has changed.
    pub async fn decide(
        &self,
        name: &str,
        action: Action,
        actor: &Actor,
        force: bool,
    ) -> Result<Outcome, OperationError> {
        let deciding = self.deciding.lock().await;
        let documents = subject::documents(&self.records)?;
        let subject = subject::find(name, &self.cluster, &documents).map_err(|error| {
            let NotFound { nearest, known } = error;
            let node = name.chars().take(64).collect();
            OperationError::Unknown {
                node,
                nearest,
                known,
            }
        })?;
        let (directives, _) = decision::directives(&documents);
        let before = directives.get(subject.id()).copied().unwrap_or_default();
        let after = action.applied_to(before, &subject);
        self.check(action, &subject, &before, force)?;

        let opened = match action {
            Action::Revive => self.open_latch(&subject)?,
            _ => None,
        };
        let ended_conflict = opened.is_some();
        let mut changed =
            after != before || ended_conflict || (action == Action::Remove && is_server(&subject));
        if changed {
            let entry = AuditEntry {
                action: action.to_string(),
                node: subject.id().to_string(),
                order: self.audit.order(actor),
                before: json!(DecisionView::of(&before, subject.joined())),
                after: json!(DecisionView::of(&after, subject.joined())),
            };
            let recorded = match changes(action, &subject, &before, &entry.order, &documents) {
                Ok(changes) => self.record(changes, &entry, opened.is_some()).await,
                Err(error) => Err(error),
            };
            changed = match (recorded, opened) {
                (Ok(recorded), _) => recorded,
                (Err(error), opened) => {
                    // What is not on record is not in force.
                    if let Some(conflict) = opened {
                        self.latch.close_again(conflict);
                    }
                    return Err(error.into());
                }
            };
        }
        drop(deciding);
        let state = self.shown(&subject, after).await;
        Ok(Outcome {
            id: subject.id().clone(),
            changed,
            ended_conflict,
            state,
            decision: DecisionView::of(&after, subject.joined()),
        })
    }

    /// Writes a decision with its record; whether anything has changed. Where somebody has lifted it on another node at
    /// the same moment nothing has, unless more was decided than the documents say: that is recorded `even_alone`.
    pub(super) async fn record(
        &self,
        changes: Batch,
        entry: &AuditEntry,
        even_alone: bool,
    ) -> Result<bool, RecordError> {
        match self.audit.write(changes, entry).await {
            Err(RecordError::Write(WriteError::Refused(WriteRefused::NotFound(_)))) => {
                if even_alone {
                    self.audit.write(Batch::default(), entry).await?;
                }
                Ok(even_alone)
            }
            written => written.map(|()| true),
        }
    }

    /// Records that this agent was asked to leave. It leaves also if that cannot be recorded: a node whose disk is full
    /// must be able to go.
    pub async fn record_leave(&self, actor: &Actor) {
        let entry = AuditEntry {
            action: "leave".to_owned(),
            node: self.cluster.identity().id.to_string(),
            order: self.audit.order(actor),
            before: json!({ "state": self.cluster.metadata().announced.as_str() }),
            after: json!({ "state": AnnouncedState::Leaving.as_str() }),
        };
        match timeout(RECORD_MAX, self.audit.write(Batch::default(), &entry)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "that this node was asked to leave is not in the audit record");
            }
            Err(_) => warn!(
                "that this node was asked to leave may not be in the audit record: the disk does not answer"
            ),
        }
    }

    fn check(
        &self,
        action: Action,
        subject: &Subject,
        before: &Directive,
        force: bool,
    ) -> Result<(), OperationError> {
        let node = || subject.id().clone();
        let state = subject.member().map(|member| member.state);
        if action != Action::Remove && before.removes(subject.joined()) {
            return Err(OperationError::Removed { node: node() });
        }
        match action {
            Action::Fail if state == Some(MemberState::Left) => {
                return Err(OperationError::HasLeft { node: node() });
            }
            Action::Revive if state == Some(MemberState::Failed) && !before.failed => {
                return Err(OperationError::NotByOperator { node: node() });
            }
            _ => {}
        }
        if action.takes_out() && !force && self.is_last_one(subject.id()) {
            return Err(OperationError::LastOne { node: node() });
        }
        Ok(())
    }

    /// Whether requests go to this node and, in the ordinary course, to no other.
    fn is_last_one(&self, id: &NodeId) -> bool {
        let endpoints = self.balancer.snapshot(Instant::now());
        let mut accepting = endpoints
            .iter()
            .map(|known| &known.endpoint)
            .filter(|endpoint| endpoint.admission == Admission::Accepting)
            .peekable();
        accepting.peek().is_some() && accepting.all(|endpoint| endpoint.id.as_str() == id.as_str())
    }

    /// Ends a conflict about this node's own id; which, if there was one.
    fn open_latch(&self, subject: &Subject) -> Result<Option<TwoNodes>, OperationError> {
        if *subject.id() != self.cluster.identity().id {
            return Ok(None);
        }
        self.latch.open().map_err(OperationError::RivalHeard)
    }

    /// The member's state once the decision shows in it.
    async fn shown(&self, subject: &Subject, decided: Directive) -> Option<MemberState> {
        let mut changes = self.cluster.watch();
        let shown = changes.wait_for(|members| {
            let member = members.find(subject.id());
            member.is_none_or(|member| member.directive == decided)
        });
        // What is stored is in force, even if this node's own gossip is too busy to show it.
        let _ = timeout(SHOWN_MAX, shown).await;
        let members = self.cluster.members();
        members.find(subject.id()).map(|member| member.state)
    }
}

fn is_server(subject: &Subject) -> bool {
    matches!(subject, Subject::Server(..))
}

/// The documents that a decision writes and deletes.
fn changes(
    action: Action,
    subject: &Subject,
    before: &Directive,
    order: &Order,
    documents: &[(String, serde_json::Value)],
) -> Result<Batch, RecordError> {
    let id = subject.id();
    let batch = Batch::default();
    let order = order.clone();
    Ok(match action {
        Action::Drain => batch.put(System::Members, &Kind::Drain.key(id), &order)?,
        Action::Undrain => batch.delete(System::Members, &Kind::Drain.key(id))?,
        Action::Fail => batch.put(System::Members, &Kind::Fail.key(id), &order)?,
        Action::Revive if before.failed => batch.delete(System::Members, &Kind::Fail.key(id))?,
        // It ends a conflict, which is no document.
        Action::Revive => batch,
        Action::Weight(Some(weight)) => {
            let order = WeightOrder { weight, order };
            batch.put(System::Members, &Kind::Weight.key(id), &order)?
        }
        Action::Weight(None) => batch.delete(System::Members, &Kind::Weight.key(id))?,
        // A server is nothing but its documents. The removal of a node that had its id before is none of them.
        Action::Remove if is_server(subject) => {
            let prefix = format!("{id}/");
            let removal = Kind::Removed.key(id);
            let about = documents.iter().filter(|(key, _)| key.starts_with(&prefix));
            let mut batch = batch;
            for (key, _) in about.filter(|(key, _)| *key != removal) {
                batch = batch.delete(System::Members, key)?;
            }
            batch
        }
        Action::Remove => {
            let joined = subject.joined();
            let order = RemovalOrder { joined, order };
            batch.put(System::Members, &Kind::Removed.key(id), &order)?
        }
    })
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean \"{nearest}\"?")
    })
}
