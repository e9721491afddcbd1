//! What is wrong, as far as this node can tell: fact, since when, cause, evidence, next command.
//!
//! Pure: [`Facts`] go in, [`Finding`]s come out, the most urgent first. Each file has the findings
//! of one subject, each finding is one function of the facts. An error is something that does not
//! work now; a warning works and deserves a look, or is as an operator wants it and should not be
//! forgotten. A finding has a [`Code`] that stays the same from version to version, for scripts.

mod apps;
mod clocks;
mod disk;
mod identity;
mod keys;
mod members;
mod network;
mod own;
mod servers;
mod settled;

#[cfg(test)]
mod scene;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use basic_balancer::EndpointSnapshot;
use basic_balancer::probe::AppHealth;
use basic_membership::{AnnouncedState, Diagnostics, Member, NodeId};
use basic_sync::net::{DiskStatus, LinkStatus};
use basic_sync::protocol::PeerStatus;
use basic_sync::storage::{DatedAhead, RosterLine};
use serde::Serialize;

use super::members::rfc3339;
use crate::config::Config;
use crate::events::{HookStatus, JournalStatus};
use crate::host::{DiskSpace, OpenFiles};
use crate::operations::TwoNodes;
use crate::operations::decision::Order;
use crate::peer_port::StatisticsSnapshot;
use crate::servers::Server;
use crate::wiring::clock::OwnClockAhead;

/// How long a node may take to start, and to find the others, before it is worth a word.
const START_MAX: Duration = Duration::from_secs(10);

/// How urgent a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// It does not work.
    Error,
    /// It works, and deserves a look.
    Warning,
}

/// What a finding is about, the more urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Code {
    /// Two processes have one node id.
    IdentityConflict,
    /// The disk under the data directory does not answer.
    DiskStuck,
    /// The last write was refused for want of room.
    DiskFull,
    /// The last write failed on the disk.
    DiskFailed,
    /// The disk under the data directory is full, or nearly.
    DiskNearlyFull,
    /// An agent with another secret, or of another cluster, speaks to this one.
    StrangeAgent,
    /// A member's heartbeats have stopped.
    MemberFailed,
    /// An app is not healthy.
    AppUnhealthy,
    /// What answers in the place of an app is another service.
    AppMistaken,
    /// A member's app cannot be reached from here.
    AppUnreachable,
    /// A member has no address that requests may go to.
    NoEndpoint,
    /// Data does not reach a member.
    ReplicationBroken,
    /// A member's data belongs to a cluster with a history of its own.
    ReplicaForeign,
    /// A member lacks deletions that were let go of.
    ReplicaStale,
    /// A member was away for too long, and was given up.
    ReplicaFenced,
    /// This node takes over a snapshot.
    Filling,
    /// Writes were kept aside, and wait for a decision.
    WritesExported,
    /// A clock is off.
    ClockOff,
    /// Writes came with dates far ahead.
    DatedAhead,
    /// Other nodes do not reach this one.
    NotReached,
    /// No other member was found.
    Alone,
    /// A seed does not answer, or its name does not resolve.
    SeedSilent,
    /// This agent gets too little of the machine.
    Stalled,
    /// The limit of open files is nearly reached, or too low.
    FileLimit,
    /// This node is still catching up.
    CatchingUp,
    /// A member is in doubt.
    MemberSuspect,
    /// A member was removed and still runs.
    RemovedStillRuns,
    /// A member is out of rotation by an operator's decision.
    OperatorDecision,
    /// Not all members use the same key.
    KeysDiffer,
    /// What is known of members cannot be kept.
    RosterLost,
    /// Events are not kept on disk.
    JournalLost,
    /// A hook is not told of events.
    HookFails,
}

/// One thing that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    severity: Severity,
    code: Code,
    /// The member that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// What is wrong.
    fact: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What is most likely behind it.
    cause: String,
    /// How that is known.
    evidence: String,
    /// What to do now.
    next: String,
}

/// What is looked at.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) own_id: &'a NodeId,
    /// Where other nodes are told to reach this one.
    pub(super) own_address: SocketAddr,
    pub(super) announced: AnnouncedState,
    pub(super) members: &'a [Member],
    /// Those without an agent.
    pub(super) servers: &'a [Server],
    pub(super) health: &'a AppHealth,
    pub(super) peers: &'a [PeerStatus],
    /// Who wrote with dates far ahead of this node's clock.
    pub(super) dated_ahead: &'a [DatedAhead],
    /// The replicas of the cluster, also those that were given up.
    pub(super) roster: &'a [RosterLine],
    /// This node takes over a snapshot.
    pub(super) filling: bool,
    /// Writes that were kept aside, and wait for a decision.
    pub(super) exported: u64,
    /// This node's clock is ahead, and it takes no writes for it.
    pub(super) clock_ahead: Option<OwnClockAhead>,
    pub(super) links: &'a [LinkStatus],
    pub(super) endpoints: &'a [EndpointSnapshot],
    pub(super) gossip: &'a Diagnostics,
    pub(super) peer_port: &'a StatisticsSnapshot,
    /// Two processes have this node's id, and it takes no writes for it.
    pub(super) conflict: Option<&'a TwoNodes>,
    /// Who decided what about members, by the key of the decision.
    pub(super) orders: &'a BTreeMap<String, Order>,
    /// How the disk does under the store.
    pub(super) store: &'a DiskStatus,
    /// `None` where it cannot be told.
    pub(super) disk: Option<DiskSpace>,
    pub(super) files: OpenFiles,
    pub(super) journal: &'a JournalStatus,
    pub(super) hooks: &'a [HookStatus],
    pub(super) uptime: Duration,
    pub(super) now: SystemTime,
}

/// Everything that needs attention.
pub(super) fn all(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = identity::findings(facts)
        .chain(members::findings(facts))
        .chain(apps::findings(facts))
        .chain(servers::findings(facts))
        .chain(network::findings(facts))
        .chain(settled::findings(facts))
        .chain(clocks::findings(facts))
        .chain(disk::findings(facts))
        .chain(own::findings(facts))
        .chain(keys::findings(facts))
        .collect();
    // Stable: members stay in the order of their ids.
    findings.sort_by_key(|finding| (finding.severity, finding.code));
    findings
}

impl Finding {
    fn error(code: Code, fact: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, fact)
    }

    fn warning(code: Code, fact: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, fact)
    }

    fn about(self, node: &NodeId) -> Self {
        Self {
            node: Some(node.to_string()),
            ..self
        }
    }

    fn since(self, since: SystemTime) -> Self {
        Self {
            since: Some(rfc3339(since)),
            ..self
        }
    }

    fn cause(self, cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            ..self
        }
    }

    fn evidence(self, evidence: impl Into<String>) -> Self {
        Self {
            evidence: evidence.into(),
            ..self
        }
    }

    fn next(self, next: impl Into<String>) -> Self {
        Self {
            next: next.into(),
            ..self
        }
    }

    fn new(severity: Severity, code: Code, fact: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            node: None,
            fact: fact.into(),
            since: None,
            cause: String::new(),
            evidence: String::new(),
            next: String::new(),
        }
    }
}

impl Facts<'_> {
    /// The other members that this node hears.
    fn others_live(&self) -> impl Iterator<Item = &Member> {
        let others = self.members.iter().filter(|member| !member.is_self);
        others.filter(|member| member.live)
    }

    /// How a member is named in a sentence, at its beginning or after a comma.
    fn named(&self, member: &Member) -> String {
        if member.is_self {
            format!("{} (this node)", member.id)
        } else {
            member.id.to_string()
        }
    }
}

/// What is heard of a member, as evidence.
fn heard(member: &Member, facts: &Facts<'_>) -> String {
    let age = match member.heartbeat_age {
        Some(age) if member.live => format!("its last heartbeat came {age:.1?} ago"),
        Some(age) => format!("no heartbeat for {age:.1?}"),
        None => "it was never heard by this node".to_owned(),
    };
    let phi = member.phi.map_or_else(String::new, |phi| {
        format!(", phi {phi:.1} (limit {})", facts.config.gossip.phi)
    });
    format!("{age}{phi}")
}

/// The command that asks a member's own agent.
fn ask_its_agent(member: &Member) -> String {
    match member.metadata.api {
        Some(api) => format!("on its host: basic-agent status --api http://{api}"),
        None => format!("look at the agent on {}", member.peer.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::scene::Scene;
    use super::*;
    use basic_membership::MemberState;

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        assert_eq!(Scene::healthy().findings(), []);
    }

    #[test]
    fn errors_come_first_and_then_what_is_more_urgent() {
        let mut scene = Scene::healthy();
        scene.member("n2").state = MemberState::Suspect;
        scene.member("n3").state = MemberState::Failed;
        scene.member("n3").live = false;
        scene.disk = Some(DiskSpace {
            free: 0,
            total: 1 << 40,
        });
        let codes: Vec<Code> = scene.findings().iter().map(|found| found.code).collect();
        assert_eq!(
            codes,
            [
                Code::DiskNearlyFull,
                Code::MemberFailed,
                Code::MemberSuspect
            ]
        );
    }

    #[test]
    fn a_finding_is_told_with_everything_a_person_needs() {
        let mut scene = Scene::healthy();
        scene.member("n3").state = MemberState::Failed;
        scene.member("n3").live = false;
        let json = serde_json::to_value(scene.findings()).unwrap();
        let found = &json[0];
        assert_eq!(found["severity"], "error");
        assert_eq!(found["code"], "member-failed");
        assert_eq!(found["node"], "n3");
        for field in ["fact", "since", "cause", "evidence", "next"] {
            assert!(
                !found[field].as_str().unwrap().is_empty(),
                "{field}: {json}"
            );
        }
    }
}
