//! Status: alive, ready, and the whole in one document.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use basic_balancer::{Admission, EndpointSnapshot};
use basic_membership::{AnnouncedState, Member};
use basic_sync::storage::DatedAhead;
use serde::Serialize;

use super::Api;
use super::findings::{self, Finding};
use super::members::rfc3339;
use super::problem::Problem;
use super::sync::trust_name;
use super::vitals::{Conflict, Disk, Events, Gossip, Process, Store, millis};
use crate::host::{DiskSpace, OpenFiles};
use crate::operations::decision::Order;
use crate::records::System;

#[derive(Serialize)]
struct Status {
    cluster: String,
    #[serde(rename = "self")]
    own_id: String,
    state: &'static str,
    ready: bool,
    version: &'static str,
    uptime_seconds: f64,
    /// `total`, and how many are in each state.
    members: BTreeMap<&'static str, usize>,
    app: App,
    proxy: Proxy,
    sync: Sync,
    process: Process,
    /// `null` where the system does not tell.
    disk: Option<Disk>,
    store: Store,
    gossip: Gossip,
    events: Events,
    /// The keys that are installed here, the one in use first.
    keys: Vec<String>,
    /// Why no writes are taken here for the time being, if so.
    writes_refused: Option<String>,
    /// Two processes have this node's id.
    identity_conflict: Option<Conflict>,
    /// The most urgent first.
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct App {
    url: String,
    healthy: Option<bool>,
    since: String,
    reason: Option<String>,
    latency_ms: Option<f64>,
}

#[derive(Serialize)]
struct Proxy {
    listen: String,
    requests: u64,
    failed: u64,
    retried: u64,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Endpoint {
    id: String,
    target: String,
    admission: &'static str,
    in_flight: u64,
    requests: u64,
    failures: u64,
    ejected: bool,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct Sync {
    caught_up: bool,
    origin: String,
    written: u64,
    digest: String,
    peers: Vec<Peer>,
    /// Writes that came with dates far ahead of this node's clock, since it started.
    writes_dated_ahead: u64,
    /// Who made such writes, until their dates have come.
    dated_ahead: Vec<Dated>,
    /// A snapshot is being taken over.
    filling: bool,
    /// Writes that were kept aside, and wait for a decision.
    exported: u64,
}

#[derive(Serialize)]
struct Dated {
    origin: String,
    writes: u64,
    /// The latest date, in milliseconds since 1970, and the document that was written under it.
    latest_ms: u64,
    collection: String,
    key: String,
}

#[derive(Serialize)]
struct Peer {
    id: String,
    connected: bool,
    /// Writes that it has and this node lacks, and for how long this node has known of the oldest.
    behind: u64,
    behind_ms: Option<u64>,
    /// Writes of this node that it has not acknowledged, and the age of the oldest.
    unacknowledged: u64,
    unacknowledged_ms: Option<u64>,
    /// Whether anything is taken from it; as in `/v1/sync/peers`.
    trust: &'static str,
    last_error: Option<String>,
}

/// `GET /healthz`: the agent runs.
pub(super) async fn alive() -> Response {
    Json(serde_json::json!({ "status": "ok" })).into_response()
}

/// `GET /readyz`: the node has caught up and takes traffic.
pub(super) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    match api.cluster.metadata().announced {
        AnnouncedState::Active => {
            Ok(Json(serde_json::json!({ "status": "ready" })).into_response())
        }
        state => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "this node is {}; `basic-agent status` tells what it waits for",
                state.as_str()
            ),
        )),
    }
}

/// `GET /v1/status`.
pub(super) async fn status(State(api): State<Api>) -> Response {
    Json(describe(&api)).into_response()
}

fn describe(api: &Api) -> Status {
    let members: Vec<Member> = api.cluster.members().iter().cloned().collect();
    let mut counts = BTreeMap::from([("total", members.len())]);
    for member in &members {
        *counts.entry(member.state.as_str()).or_default() += 1;
    }
    let health = api.app_health.borrow().clone();
    let endpoints = api.balancer.snapshot(Instant::now());
    let replica = api.replica.status().borrow().clone();
    let links = api.replica.links();
    // A store that cannot be read has other ways to say so.
    let exported = api.replica.exported_count().unwrap_or(0);
    let announced = api.cluster.metadata().announced;
    let gossip = api.cluster.diagnostics();
    let own = members.iter().find(|member| member.is_self);
    let own_address = own.map_or(api.config.peer.listen, |own| own.peer);
    let conflict = api.operations.latch().closed();
    let disk = DiskSpace::at(&api.config.node.data_dir).ok();
    let store = api.replica.disk();
    let files = OpenFiles::of_this_process();
    let journal = api.events.journal().status();
    let hooks = api.events.hooks().status();
    let findings = findings::all(&findings::Facts {
        config: &api.config,
        own_id: &api.cluster.identity().id,
        own_address,
        announced,
        members: &members,
        servers: api.registry.servers().as_slice(),
        health: &health,
        peers: &replica.peers,
        dated_ahead: &replica.dated_ahead,
        roster: &replica.roster,
        filling: replica.filling,
        exported,
        clock_ahead: api.clock.ahead(),
        links: &links,
        endpoints: &endpoints,
        gossip: &gossip,
        peer_port: &api.peer_port.snapshot(),
        conflict: conflict.as_ref(),
        orders: &orders(api),
        store: &store,
        disk,
        files,
        journal: &journal,
        hooks: &hooks,
        uptime: api.began.elapsed(),
        now: SystemTime::now(),
    });
    let peers = api.replica.lags().into_iter().filter_map(|lag| {
        // Beyond a full mesh, most are neither linked to nor heard of.
        let known = lag.status.filter(|known| known.near)?;
        Some(Peer {
            id: known.peer.to_string(),
            connected: known.linked,
            behind: known.behind,
            behind_ms: lag.behind_for.map(millis),
            unacknowledged: known.unacknowledged,
            unacknowledged_ms: lag.unacknowledged_for.map(millis),
            trust: trust_name(known.trust),
            last_error: lag.link.and_then(|link| link.last_error),
        })
    });
    Status {
        cluster: api.config.node.cluster.to_string(),
        own_id: api.cluster.identity().id.to_string(),
        state: announced.as_str(),
        ready: announced == AnnouncedState::Active,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.began.elapsed().as_secs_f64(),
        members: counts,
        app: App {
            url: format!("http://{}", api.config.app.url.host_port()),
            healthy: match health.state {
                basic_balancer::probe::AppState::Unknown => None,
                _ => Some(health.is_healthy()),
            },
            since: rfc3339(health.since),
            reason: health.last_error.clone().filter(|_| !health.is_healthy()),
            latency_ms: health.latency.map(|latency| latency.as_secs_f64() * 1e3),
        },
        proxy: Proxy {
            listen: api.proxy_address.to_string(),
            requests: api.proxy.requests.value(),
            failed: api.proxy.failed.value() + api.proxy.no_endpoint.value(),
            retried: api.proxy.retries.value(),
            endpoints: endpoints.iter().map(Endpoint::from).collect(),
        },
        sync: Sync {
            caught_up: announced == AnnouncedState::Active
                && replica.peers.iter().all(|peer| peer.behind == 0),
            origin: replica.origin.to_string(),
            written: replica.written,
            digest: hex(&replica.digest.to_bytes()),
            peers: peers.collect(),
            writes_dated_ahead: replica.counters.dated_ahead,
            dated_ahead: replica.dated_ahead.iter().map(Dated::from).collect(),
            filling: replica.filling,
            exported,
        },
        process: Process::from(files),
        disk: disk.map(Disk::from),
        store: Store::from(store),
        gossip: Gossip::new(
            own_address,
            &gossip,
            &members,
            api.cluster.roster().len(),
            api.config.gossip.phi,
        ),
        events: Events::new(journal, hooks),
        keys: own.map_or_else(Vec::new, |own| {
            own.metadata.keys.iter().map(ToString::to_string).collect()
        }),
        writes_refused: api.replica.writes_refused().map(|why| why.to_string()),
        identity_conflict: conflict.map(Conflict::from),
        findings,
    }
}

/// Who decided what about members, by the key of the decision. A store that cannot be read has other ways to say so;
/// without it, the findings lack only the names.
fn orders(api: &Api) -> BTreeMap<String, Order> {
    let documents = api.records.all::<Order>(System::Members);
    documents.unwrap_or_default().into_iter().collect()
}

impl From<&DatedAhead> for Dated {
    fn from(one: &DatedAhead) -> Self {
        Self {
            origin: one.origin.to_string(),
            writes: one.writes,
            latest_ms: one.latest.millis(),
            collection: one.key.collection().to_string(),
            key: one.key.name().to_owned(),
        }
    }
}

impl From<&EndpointSnapshot> for Endpoint {
    fn from(known: &EndpointSnapshot) -> Self {
        Self {
            id: known.endpoint.id.as_str().to_owned(),
            target: known.endpoint.target.to_string(),
            admission: match known.endpoint.admission {
                Admission::Accepting => "accepting",
                Admission::Draining => "draining",
                Admission::Refusing(basic_balancer::Refusal::Unhealthy) => "unhealthy",
                Admission::Refusing(basic_balancer::Refusal::Unreachable) => "unreachable",
                Admission::Refusing(basic_balancer::Refusal::CatchingUp) => "catching-up",
                Admission::Refusing(basic_balancer::Refusal::Returning) => "returning",
                Admission::Refusing(basic_balancer::Refusal::Administrative) => "maintenance",
            },
            in_flight: known.in_flight,
            requests: known.picked,
            failures: known.failures,
            ejected: known.ejected_for.is_some(),
            last_error: known.last_error.clone(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
