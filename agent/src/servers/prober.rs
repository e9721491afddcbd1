//! Probes the servers that this agent owns, and publishes what it finds.
//!
//! In: the servers, the members, names as they resolve. Out: verdicts in `agent.probes`, one document a server, for
//! every agent to go by. An agent that becomes the owner of a server begins to ask at once and writes its first
//! verdict over the last owner's; one that is no longer the owner stops asking and leaves the verdict where it is. An
//! agent that cannot write is passed over as an owner. A server whose name does not resolve, or leads where no server
//! may be, is not well, for that reason. A verdict that cannot be written is written as soon as it can be.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use basic_balancer::probe::{AppHealth, AppState, Probe, ProbeConfig};
use basic_membership::{Cluster, Members, NodeId};
use http::uri::PathAndQuery;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::address::AddressFault;
use super::attendance::{self, Attendance, Sign};
use super::owner;
use super::registry::{self, Registry};
use super::server::{Server, Servers};
use super::verdict::Verdict;
use crate::names::{Lookup, Names};
use crate::records::{RecordError, Records, System};

/// How often the published verdict is compared with what was found. It bounds how long another's outdated verdict
/// stands, and how often two agents that both believe to be the owner can write.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked at which agents can write.
const ATTENDANCE_INTERVAL: Duration = Duration::from_secs(2);

/// How servers are asked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time from one check to the next.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
}

/// Probes for as long as the agent runs.
pub async fn run(registry: Registry, cluster: Cluster, pace: Pace) {
    let own = cluster.identity().id.clone();
    let records = registry.records().clone();
    // Apart from the probing, which must not wait for a disk.
    let giving_signs = attendance::give_signs(records, own.clone(), registry.watch());
    tokio::join!(giving_signs, probe(registry, cluster, own, pace));
}

async fn probe(registry: Registry, cluster: Cluster, own: NodeId, pace: Pace) {
    let mut servers = registry.watch();
    let mut members = cluster.watch();
    let mut prober = Prober {
        records: registry.records().clone(),
        registry,
        own,
        pace,
        names: Names::default(),
        attendance: Attendance::default(),
        attending: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let mut look = interval(ATTENDANCE_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let known = servers.borrow_and_update().clone();
        let seen = members.borrow_and_update().clone();
        prober.look_for_signs(&known, &seen);
        prober.attend_to_own(&known, &seen);
        tokio::select! {
            Ok(()) = servers.changed() => prober.forget_unregistered(&seen).await,
            Ok(()) = members.changed() => {}
            () = prober.names.resolved() => {}
            _ = look.tick() => {}
            Some(_) = prober.tasks.join_next() => {}
        }
    }
}

struct Prober {
    registry: Registry,
    records: Records,
    own: NodeId,
    pace: Pace,
    names: Names,
    attendance: Attendance,
    attending: HashMap<NodeId, (Duty, AbortHandle)>,
    tasks: JoinSet<()>,
}

/// One server to attend to. Another duty ends the attention to the last one and begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Duty {
    server: NodeId,
    /// As registered.
    address: String,
    health: String,
    /// Where that leads; or why it cannot be asked there.
    target: Result<SocketAddr, String>,
}

impl Prober {
    /// Sees which agents can write. While there are no servers nobody gives signs, and nobody misses any.
    fn look_for_signs(&mut self, servers: &Servers, members: &Members) {
        if servers.is_empty() {
            self.attendance = Attendance::default();
            return;
        }
        match self.records.all::<Sign>(System::Probers) {
            Ok(signs) => {
                let agents = owner::agents(members);
                self.attendance.observe(agents, &signs, Instant::now());
            }
            Err(error) => warn!(%error, "it cannot be read which agents can write"),
        }
    }

    /// Whether this agent has to attend to the server.
    fn owns(&self, server: &NodeId, members: &Members) -> bool {
        let now = Instant::now();
        let is_able = |agent: &NodeId| self.attendance.is_able(agent, now);
        owner::of(server, members, is_able) == Some(&self.own)
    }

    /// Begins with what is new among this agent's own servers, and ends what no longer is.
    fn attend_to_own(&mut self, servers: &Servers, members: &Members) {
        let own = servers.iter().filter(|server| {
            // A node with an agent that has taken the name meanwhile keeps it.
            members.find(&server.id).is_none() && self.owns(&server.id, members)
        });
        let own: Vec<&Server> = own.collect();
        let mut duties: HashMap<NodeId, Duty> = HashMap::new();
        for server in &own {
            if let Some(duty) = duty(server, &mut self.names, |target| {
                self.registry.judge(target, members)
            }) {
                duties.insert(server.id.clone(), duty);
            }
        }
        self.names.retain(|name| {
            own.iter()
                .any(|server| server.registration.address.to_string() == name)
        });
        self.attending.retain(|id, (duty, task)| {
            let stays = duties.get(id) == Some(duty) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, duty) in duties {
            if self.attending.contains_key(&id) {
                continue;
            }
            let attention = attend(
                self.records.clone(),
                self.own.clone(),
                duty.clone(),
                self.pace,
            );
            let task = self.tasks.spawn(attention);
            self.attending.insert(id, (duty, task));
        }
    }

    /// Deletes verdicts on what is registered no longer, where this agent would be the owner.
    async fn forget_unregistered(&self, members: &Members) {
        if let Err(error) = self.try_forget_unregistered(members).await {
            warn!(%error, "verdicts on servers that were unregistered cannot be deleted");
        }
    }

    async fn try_forget_unregistered(&self, members: &Members) -> Result<(), RecordError> {
        let verdicts = self.records.all::<Verdict>(System::Probes)?;
        let ids = verdicts
            .iter()
            .filter_map(|(key, _)| key.parse::<NodeId>().ok());
        for id in ids.filter(|id| self.owns(id, members)) {
            if !self.registry.is_registered(&id)? {
                self.records.delete(System::Probes, id.as_str()).await?;
            }
        }
        Ok(())
    }
}

/// What there is to do for a server; `None` while its name is being resolved.
fn duty(
    server: &Server,
    names: &mut Names,
    judge: impl Fn(SocketAddr) -> Result<(), AddressFault>,
) -> Option<Duty> {
    let registration = &server.registration;
    let address = registration.address.to_string();
    let target = match names.look_up(&address) {
        Lookup::Pending => return None,
        Lookup::Failed => Err("its host does not resolve".to_owned()),
        Lookup::Found(target) => match judge(target) {
            // A node with an agent has begun to announce it meanwhile; it is a server all the same.
            Ok(()) | Err(AddressFault::App { .. }) => Ok(target),
            Err(fault) => Err(fault.to_string()),
        },
    };
    Some(Duty {
        server: server.id.clone(),
        address,
        health: registration.health.as_str().to_owned(),
        target,
    })
}

/// Asks a server, and publishes each new verdict, until it is aborted.
async fn attend(records: Records, own: NodeId, duty: Duty, pace: Pace) {
    let mut compare = interval(COMPARE_INTERVAL);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut publisher = Publisher {
        records,
        own,
        duty,
        was_refused: false,
    };
    let target = match &publisher.duty.target {
        Ok(target) => *target,
        Err(reason) => {
            let found = not_askable(reason);
            loop {
                compare.tick().await;
                publisher.publish(&found).await;
            }
        }
    };
    // Checked when it was registered: it begins with a slash and has no spaces.
    let path = PathAndQuery::try_from(publisher.duty.health.as_str())
        .unwrap_or_else(|_| PathAndQuery::from_static("/health"));
    let mut config = ProbeConfig::new(target, path);
    config.interval = pace.interval;
    config.timeout = pace.timeout;
    let probe = Probe::spawn(config);
    let mut health = probe.watch();
    loop {
        let found = health.borrow_and_update().clone();
        publisher.publish(&found).await;
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            _ = compare.tick() => {}
        }
    }
}

/// What is found of a server that cannot be asked at all: no number of checks would change it.
fn not_askable(reason: &str) -> AppHealth {
    AppHealth {
        state: AppState::Unhealthy,
        since: SystemTime::now(),
        consecutive_failures: u32::MAX,
        last_error: Some(reason.to_owned()),
        latency: None,
    }
}

struct Publisher {
    records: Records,
    own: NodeId,
    duty: Duty,
    /// Whether the last write was refused, so that it is said once.
    was_refused: bool,
}

impl Publisher {
    /// Writes the verdict if there is a new one.
    async fn publish(&mut self, found: &AppHealth) {
        let result = self.try_publish(found).await;
        if let Err(error) = &result
            && !self.was_refused
        {
            let node = &self.duty.server;
            warn!(%node, %error, "what was found of a server cannot be written; the other agents go by its last verdict");
        }
        self.was_refused = result.is_err();
    }

    async fn try_publish(&self, found: &AppHealth) -> Result<(), RecordError> {
        let Duty {
            server, address, ..
        } = &self.duty;
        if !self.is_registered()? {
            return Ok(());
        }
        let known = match self.records.get::<Verdict>(System::Probes, server.as_str()) {
            Err(RecordError::Unintelligible { .. }) => None,
            known => known?,
        };
        let Some(verdict) = Verdict::after(known.as_ref(), found, &self.own, address) else {
            return Ok(());
        };
        self.records
            .put(System::Probes, server.as_str(), &verdict)
            .await?;
        let Verdict {
            healthy, reason, ..
        } = verdict;
        info!(node = %server, address, healthy, reason, "new verdict on a server without an agent");
        Ok(())
    }

    /// Whether the server is still registered at this address: its duty ends only a moment after its registration.
    fn is_registered(&self) -> Result<bool, RecordError> {
        let registration = registry::registration(&self.records, &self.duty.server)?;
        Ok(registration
            .is_some_and(|registration| registration.address.to_string() == self.duty.address))
    }
}

#[cfg(test)]
mod tests;
