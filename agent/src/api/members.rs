//! Members: list, one.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use basic_balancer::EndpointSnapshot;
use basic_membership::{Member, NodeId};
use serde::Serialize;

use super::Api;
use super::extract::Named;
use super::problem::Problem;
use super::reachable::Reachable;
use super::servers::ServerView;
use crate::operations::DecisionView;

#[derive(Serialize)]
struct List {
    #[serde(rename = "self")]
    own_id: String,
    members: Vec<Entry>,
}

/// One of the list.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Agent(View),
    Server(ServerView),
}

/// A member as the API shows it.
#[derive(Serialize)]
struct View {
    id: String,
    /// A server without an agent has another view.
    agent: bool,
    state: &'static str,
    /// Whether this node hears it.
    live: bool,
    /// Since when this node has seen it in this state.
    since: String,
    incarnation: u64,
    addresses: Addresses,
    labels: BTreeMap<String, String>,
    weight: u32,
    /// What operators have decided about it.
    decision: DecisionView,
    app: App,
    /// How long ago its heartbeat last advanced here.
    last_heartbeat_ms: Option<u64>,
    phi: Option<f64>,
    /// The same two, together.
    heartbeat: Heartbeat,
    /// Its clock minus this node's.
    clock_offset_ms: Option<i64>,
    /// Whether its app can be reached from here.
    reachable: Reachable,
}

#[derive(Serialize)]
struct Heartbeat {
    last_ms: Option<u64>,
    phi: Option<f64>,
}

#[derive(Serialize)]
struct Addresses {
    peer: String,
    api: Option<String>,
    app: Option<String>,
}

#[derive(Serialize)]
struct App {
    healthy: bool,
    since: String,
    reason: Option<String>,
}

impl View {
    /// `endpoints` is what this node's proxy knows.
    fn of(member: &Member, endpoints: &[EndpointSnapshot]) -> Self {
        let metadata = &member.metadata;
        let app_since = std::time::Duration::from_millis(metadata.app.since_ms);
        let age = member.heartbeat_age;
        let last_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        Self {
            id: member.id.to_string(),
            agent: true,
            state: member.state.as_str(),
            live: member.live,
            since: rfc3339(member.since),
            incarnation: member.incarnation.0,
            addresses: Addresses {
                peer: member.peer.to_string(),
                api: metadata.api.map(|api| api.to_string()),
                app: metadata.app.address.clone(),
            },
            labels: metadata.labels.clone(),
            weight: member.weight(),
            decision: DecisionView::of(&member.directive, metadata.joined),
            app: App {
                healthy: metadata.app.healthy,
                since: std::time::UNIX_EPOCH
                    .checked_add(app_since)
                    .map_or_else(String::new, rfc3339),
                reason: metadata.app.reason.clone(),
            },
            last_heartbeat_ms: last_ms,
            phi: member.phi,
            heartbeat: Heartbeat {
                last_ms,
                phi: member.phi,
            },
            clock_offset_ms: member.clock_offset.map(|offset| offset.0),
            reachable: Reachable::of(member.id.as_str(), endpoints, SystemTime::now()),
        }
    }
}

/// A moment as RFC 3339 text in UTC. One after the year 9999, which only a faulty
/// peer can announce, is no text.
pub(super) fn rfc3339(time: std::time::SystemTime) -> String {
    const YEAR_10000: std::time::Duration = std::time::Duration::from_secs(253_402_300_800);
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    if since >= YEAR_10000 {
        return String::new();
    }
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

/// `GET /v1/members`.
pub(super) async fn list(State(api): State<Api>) -> Response {
    let members = api.cluster.members();
    let servers = api.registry.servers();
    let endpoints = api.balancer.snapshot(Instant::now());
    let mut entries: BTreeMap<&NodeId, Entry> = servers
        .iter()
        .map(|server| {
            (
                &server.id,
                Entry::Server(ServerView::of(server, &endpoints)),
            )
        })
        .collect();
    let agents = members.iter();
    entries.extend(agents.map(|member| {
        let view = View::of(member, &endpoints);
        (&member.id, Entry::Agent(view))
    }));
    let members = entries.into_values().collect();
    Json(List {
        own_id: api.cluster.identity().id.to_string(),
        members,
    })
    .into_response()
}

/// `GET /v1/members/{id}`.
pub(super) async fn one(
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let members = api.cluster.members();
    let name = id.parse::<NodeId>().map_err(|_| not_a_member(&id))?;
    let endpoints = api.balancer.snapshot(Instant::now());
    if let Some(member) = members.find(&name) {
        return Ok(Json(View::of(member, &endpoints)).into_response());
    }
    let servers = api.registry.servers();
    let server = servers.find(&name).ok_or_else(|| not_a_member(&id))?;
    Ok(Json(ServerView::of(server, &endpoints)).into_response())
}

fn not_a_member(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no member is called \"{id}\"; GET /v1/members lists them"),
    )
}
