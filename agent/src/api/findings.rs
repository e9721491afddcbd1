//! What is wrong, as far as this node can tell: fact, cause, evidence, next step.
//!
//! Pure: facts go in, findings come out, the most urgent first.

use std::time::{Duration, Instant, SystemTime};

use basic_balancer::EndpointSnapshot;
use basic_balancer::probe::{AppHealth, AppState};
use basic_membership::{
    AnnouncedState, Diagnostics, Member, MemberState, Members, NodeId, RejectReason, Rejection,
};
use basic_sync::net::LinkStatus;
use basic_sync::protocol::Status;
use serde::Serialize;

use super::members::rfc3339;
use crate::config::Config;
use crate::peer_port::StatisticsSnapshot;

/// How long a node may take to start before it is worth a word.
const START_MAX: Duration = Duration::from_secs(10);
/// Refused datagrams older than this are history.
const REJECTION_RECENT: Duration = Duration::from_secs(120);
/// A tick of gossip that was so late tells of an overloaded or stopped machine.
const TICK_DELAY_MAX: Duration = Duration::from_millis(500);

/// One thing that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// `error` or `warning`.
    severity: &'static str,
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
    pub(super) announced: AnnouncedState,
    pub(super) members: &'a Members,
    pub(super) health: &'a AppHealth,
    pub(super) replica: &'a Status,
    pub(super) links: &'a [LinkStatus],
    pub(super) endpoints: &'a [EndpointSnapshot],
    pub(super) gossip: &'a Diagnostics,
    pub(super) peer_port: &'a StatisticsSnapshot,
    pub(super) began: Instant,
}

/// Everything that needs attention.
pub(super) fn all(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = identity(facts)
        .into_iter()
        .chain(secrets(facts))
        .chain(
            facts
                .members
                .iter()
                .filter_map(|member| failed(facts, member)),
        )
        .chain(own_app(facts))
        .chain(facts.members.iter().filter_map(other_app))
        .chain(without_endpoint(facts))
        .chain(links(facts))
        .chain(clocks(facts))
        .chain(slow_start(facts))
        .chain(alone(facts))
        .chain(stalls(facts))
        .collect();
    findings.sort_by_key(|finding| finding.severity != "error");
    findings
}

fn identity(facts: &Facts<'_>) -> Option<Finding> {
    let conflict = facts.gossip.identity_conflict.as_ref()?;
    Some(Finding {
        severity: "error",
        fact: format!("another process announces this node's id, {}", facts.own_id),
        since: None,
        cause: "a data directory was copied, or two nodes have the same [node] id".into(),
        evidence: format!(
            "gossip from {} at {}",
            conflict.address,
            rfc3339(conflict.last)
        ),
        next: "stop one of the two; give it a data directory and an id of its own".into(),
    })
}

fn secrets(facts: &Facts<'_>) -> Vec<Finding> {
    let recent = |rejection: &&Rejection| {
        rejection
            .last
            .elapsed()
            .is_ok_and(|age| age < REJECTION_RECENT)
    };
    let recent = facts.gossip.rejections.iter().filter(recent);
    recent
        .filter_map(|rejection| {
            let (fact, cause, next) = match rejection.reason {
                RejectReason::OtherSecret => (
                    format!("an agent at {} has another peer secret", rejection.source),
                    "the secrets differ",
                    "give all agents the same secret: compare the files named by [peer] secret_file",
                ),
                RejectReason::OtherCluster => (
                    format!("an agent at {} belongs to another cluster", rejection.source),
                    "the same secret is used with another cluster name",
                    "set [node] cluster alike on all nodes",
                ),
                _ => return None,
            };
            Some(Finding {
                severity: "error",
                fact,
                since: Some(rfc3339(rejection.first)),
                cause: cause.into(),
                evidence: format!(
                    "{} datagrams could not be accepted, {} TLS handshakes failed for it",
                    rejection.count,
                    facts.peer_port.other_secret + facts.peer_port.other_cluster
                ),
                next: next.into(),
            })
        })
        .collect()
}

fn failed(facts: &Facts<'_>, member: &Member) -> Option<Finding> {
    if member.state != MemberState::Failed {
        return None;
    }
    let id = &member.id;
    let silent = member
        .heartbeat_age
        .map_or_else(String::new, |age| format!("no heartbeat for {age:.1?}"));
    let phi = member.phi.map_or_else(String::new, |phi| {
        format!(", phi {phi:.1} (limit {})", facts.config.gossip.phi)
    });
    Some(Finding {
        severity: "error",
        fact: format!("member {id} has failed"),
        since: Some(rfc3339(member.since)),
        cause: "its agent or its machine stopped, or the network to it is cut".into(),
        evidence: format!("{silent}{phi}"),
        next: format!(
            "look at the agent on {}; start it if it is down: it catches up and returns by itself",
            member.peer.ip()
        ),
    })
}

fn own_app(facts: &Facts<'_>) -> Option<Finding> {
    if facts.health.state != AppState::Unhealthy {
        return None;
    }
    let app = &facts.config.app;
    let url = format!("http://{}{}", app.url.host_port(), app.health.as_str());
    Some(Finding {
        severity: "error",
        fact: "the app beside this agent is not healthy; requests go to the other nodes".into(),
        since: Some(rfc3339(facts.health.since)),
        cause: facts
            .health
            .last_error
            .clone()
            .unwrap_or_else(|| "it does not answer".into()),
        evidence: format!(
            "{} checks of {url} in a row failed",
            facts.health.consecutive_failures
        ),
        next: format!("start or repair the app; `curl -i {url}` shows what the agent sees"),
    })
}

fn other_app(member: &Member) -> Option<Finding> {
    let app = &member.metadata.app;
    let counts = member.state == MemberState::Active && !member.is_self && !app.healthy;
    counts.then(|| Finding {
        severity: "warning",
        fact: format!(
            "the app of {} is not healthy; it takes no requests",
            member.id
        ),
        since: SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(app.since_ms))
            .map(rfc3339),
        cause: app
            .reason
            .clone()
            .unwrap_or_else(|| "its agent says so".into()),
        evidence: "announced by its agent".into(),
        next: match member.metadata.api {
            Some(api) => format!("on its host: basic-agent status --api http://{api}"),
            None => "look at the app on its host".into(),
        },
    })
}

fn without_endpoint(facts: &Facts<'_>) -> Vec<Finding> {
    let listed = |member: &Member| {
        let mut endpoints = facts.endpoints.iter();
        endpoints.any(|known| known.endpoint.id.as_str() == member.id.as_str())
    };
    let active = facts
        .members
        .iter()
        .filter(|member| member.state == MemberState::Active);
    active
        .filter(|member| !listed(member))
        .map(|member| {
            let announced = member.metadata.app.address.as_deref().unwrap_or("none");
            Finding {
                severity: "error",
                fact: format!("{} gets no requests although it is active", member.id),
                since: None,
                cause: "the address of its app does not resolve, or is not on its own host".into(),
                evidence: format!("it announces {announced}, its host is {}", member.peer.ip()),
                next: "set [app] advertise on its host to an address of that host".into(),
            }
        })
        .collect()
}

fn links(facts: &Facts<'_>) -> Vec<Finding> {
    let running = |link: &&LinkStatus| {
        facts
            .members
            .iter()
            .any(|member| member.id.as_str() == link.peer.id.as_str() && member.state.is_running())
    };
    let down = facts
        .links
        .iter()
        .filter(|link| !link.up && link.last_error.is_some());
    down.filter(running)
        .map(|link| Finding {
            severity: "error",
            fact: format!("no data goes to {} although it is alive", link.peer.id),
            since: None,
            cause: link.last_error.clone().unwrap_or_default(),
            evidence: format!(
                "a connection to {} fails; gossip reaches it",
                link.peer.address
            ),
            next: "if the cause is the network, let TCP through on the peer port as well as UDP"
                .into(),
        })
        .collect()
}

fn clocks(facts: &Facts<'_>) -> Vec<Finding> {
    let refused = facts
        .replica
        .peers
        .iter()
        .filter(|peer| peer.last_error.is_some());
    refused
        .map(|peer| Finding {
            severity: "error",
            fact: format!("writes of {} are not taken in", peer.peer),
            since: None,
            cause: peer.last_error.clone().unwrap_or_default(),
            evidence: format!(
                "{} messages were refused for their clock",
                facts.replica.counters.clocks_refused
            ),
            next: "set the clocks right (NTP) on both machines".into(),
        })
        .collect()
}

fn slow_start(facts: &Facts<'_>) -> Option<Finding> {
    let starting = matches!(
        facts.announced,
        AnnouncedState::Joining | AnnouncedState::CatchingUp
    );
    if !starting || facts.began.elapsed() < START_MAX {
        return None;
    }
    let waits = facts.replica.peers.iter().filter(|peer| !peer.caught_up);
    let waits: Vec<String> = waits
        .map(|peer| format!("{} ({} behind)", peer.peer, peer.behind))
        .collect();
    Some(Finding {
        severity: "warning",
        fact: "this node is still catching up and takes no traffic".into(),
        since: None,
        cause: "it fetches what its peers wrote while it was away".into(),
        evidence: format!("not yet level with: {}", waits.join(", ")),
        next: "wait; `basic-agent status` shows the numbers fall".into(),
    })
}

fn alone(facts: &Facts<'_>) -> Option<Finding> {
    let others = facts.members.iter().any(|member| !member.is_self);
    if others || facts.config.peer.seeds.is_empty() || facts.began.elapsed() < START_MAX {
        return None;
    }
    let seeds: Vec<String> = facts
        .config
        .peer
        .seeds
        .iter()
        .map(ToString::to_string)
        .collect();
    Some(Finding {
        severity: "warning",
        fact: "no other member was found".into(),
        since: None,
        cause: "no seed answers".into(),
        evidence: format!("seeds: {}", seeds.join(", ")),
        next: "start an agent on a seed, correct [peer] seeds, or let UDP through on the peer port"
            .into(),
    })
}

fn stalls(facts: &Facts<'_>) -> Option<Finding> {
    if facts.gossip.tick_delay < TICK_DELAY_MAX {
        return None;
    }
    Some(Finding {
        severity: "warning",
        fact: "this agent does not get enough processor time".into(),
        since: None,
        cause: "the machine is overloaded, or the process was stopped for a while".into(),
        evidence: format!(
            "its own gossip tick came {:.1?} late",
            facts.gossip.tick_delay
        ),
        next: "look at the load of this machine".into(),
    })
}
