//! A cluster of three in which nothing is wrong, for tests that change one thing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use basic_balancer::probe::{AppHealth, AppState};
use basic_balancer::{Admission, Endpoint, EndpointId, EndpointSnapshot};
use basic_membership::{
    AnnouncedState, ClockOffset, Diagnostics, Directive, Incarnation, Member, MemberState,
    Metadata, NodeId,
};
use basic_sync::net::{DiskStatus, LinkStatus};
use basic_sync::protocol::PeerStatus;
use basic_sync::storage::{DatedAhead, RosterLine};

use super::{Code, Facts, Finding, Severity};
use crate::config::{Config, Sources};
use crate::events::{EventId, HookStatus, JournalStatus};
use crate::host::{DiskSpace, OpenFiles};
use crate::operations::TwoNodes;
use crate::operations::decision::Order;
use crate::peer_port::StatisticsSnapshot;
use crate::servers::Server;
use crate::wiring::clock::OwnClockAhead;

/// What n1 sees.
pub(super) struct Scene {
    pub(super) config: Config,
    pub(super) announced: AnnouncedState,
    pub(super) members: Vec<Member>,
    pub(super) servers: Vec<Server>,
    pub(super) health: AppHealth,
    pub(super) peers: Vec<PeerStatus>,
    pub(super) links: Vec<LinkStatus>,
    pub(super) endpoints: Vec<EndpointSnapshot>,
    pub(super) gossip: Diagnostics,
    pub(super) conflict: Option<TwoNodes>,
    pub(super) dated_ahead: Vec<DatedAhead>,
    pub(super) roster: Vec<RosterLine>,
    pub(super) filling: bool,
    pub(super) exported: u64,
    pub(super) clock_ahead: Option<OwnClockAhead>,
    pub(super) orders: BTreeMap<String, Order>,
    pub(super) store: DiskStatus,
    pub(super) disk: Option<DiskSpace>,
    pub(super) files: OpenFiles,
    pub(super) journal: JournalStatus,
    pub(super) hooks: Vec<HookStatus>,
    pub(super) uptime: Duration,
}

impl Scene {
    /// Three members, up for an hour.
    pub(super) fn healthy() -> Self {
        let names = ["n1", "n2", "n3"];
        Self {
            config: Config::load(&Sources::default()).unwrap().config,
            announced: AnnouncedState::Active,
            members: names.iter().map(|name| member(name)).collect(),
            servers: Vec::new(),
            health: AppHealth {
                state: AppState::Healthy,
                since: now(),
                consecutive_failures: 0,
                last_error: None,
                latency: None,
            },
            peers: Vec::new(),
            links: Vec::new(),
            endpoints: names.iter().map(|name| endpoint(name)).collect(),
            gossip: Diagnostics {
                last_inbound: Some(Duration::from_millis(100)),
                ..Diagnostics::default()
            },
            conflict: None,
            dated_ahead: Vec::new(),
            roster: Vec::new(),
            filling: false,
            exported: 0,
            clock_ahead: None,
            orders: BTreeMap::new(),
            store: DiskStatus::default(),
            disk: Some(DiskSpace {
                free: 50 << 30,
                total: 100 << 30,
            }),
            files: OpenFiles {
                soft: Some(65_536),
                hard: None,
                open: Some(100),
            },
            journal: JournalStatus {
                first: EventId(0),
                newest: EventId(7),
                failure: None,
                unwritten: 0,
            },
            hooks: Vec::new(),
            uptime: Duration::from_secs(3600),
        }
    }

    pub(super) fn member(&mut self, id: &str) -> &mut Member {
        let mut members = self.members.iter_mut();
        members.find(|member| member.id.as_str() == id).unwrap()
    }

    pub(super) fn endpoint(&mut self, id: &str) -> &mut EndpointSnapshot {
        let mut endpoints = self.endpoints.iter_mut();
        endpoints
            .find(|known| known.endpoint.id.as_str() == id)
            .unwrap()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        super::all(&Facts {
            config: &self.config,
            own_id: &"n1".parse::<NodeId>().unwrap(),
            own_address: "10.0.0.1:9400".parse().unwrap(),
            announced: self.announced,
            members: &self.members,
            servers: &self.servers,
            health: &self.health,
            peers: &self.peers,
            dated_ahead: &self.dated_ahead,
            roster: &self.roster,
            filling: self.filling,
            exported: self.exported,
            clock_ahead: self.clock_ahead,
            links: &self.links,
            endpoints: &self.endpoints,
            gossip: &self.gossip,
            peer_port: &StatisticsSnapshot::default(),
            conflict: self.conflict.as_ref(),
            orders: &self.orders,
            store: &self.store,
            disk: self.disk,
            files: self.files,
            journal: &self.journal,
            hooks: &self.hooks,
            uptime: self.uptime,
            now: now(),
        })
    }

    /// The only finding there is, which must have this code.
    pub(super) fn only(&self, code: Code) -> Finding {
        let findings = self.findings();
        match findings.as_slice() {
            [finding] if finding.code == code => finding.clone(),
            other => panic!("expected one {code:?}, found {other:#?}"),
        }
    }
}

impl Finding {
    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A moment that is the same in every run.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn member(id: &str) -> Member {
    let number = id.trim_start_matches('n');
    let is_self = id == "n1";
    let mut metadata = Metadata::new(1);
    metadata.announced = AnnouncedState::Active;
    metadata.app.healthy = true;
    metadata.app.address = Some(format!("10.0.0.{number}:8080"));
    metadata.api = Some("127.0.0.1:9401".parse().unwrap());
    Member {
        id: id.parse().unwrap(),
        incarnation: Incarnation(1),
        state: MemberState::Active,
        since: now() - Duration::from_secs(600),
        peer: format!("10.0.0.{number}:9400").parse().unwrap(),
        metadata: Arc::new(metadata),
        heartbeat_age: (!is_self).then_some(Duration::from_millis(200)),
        phi: (!is_self).then_some(0.8),
        is_self,
        live: true,
        directive: Directive::default(),
        clock_offset: (!is_self).then_some(ClockOffset(3)),
    }
}

fn endpoint(id: &str) -> EndpointSnapshot {
    let number = id.trim_start_matches('n');
    EndpointSnapshot {
        endpoint: Endpoint {
            id: EndpointId::new(id),
            target: format!("10.0.0.{number}:8080").parse().unwrap(),
            weight: 100,
            local: id == "n1",
            admission: Admission::Accepting,
        },
        in_flight: 0,
        picked: 10,
        answered: 10,
        waited: Duration::from_millis(20),
        failures: 0,
        connect_failures: 0,
        ejections: 0,
        ejected_for: None,
        failing: 0,
        failing_for: None,
        last_error: None,
    }
}
