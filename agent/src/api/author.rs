//! The cluster in the JSON of Basic Server's own author, for pages and scripts that know it: `/api/v1/cluster/status` and
//! `/api/v1/cluster/nodes`.
//!
//! Field names and types are his; what they mean here stands with each. Counts of requests, and what an app took to answer,
//! are those of this agent's proxy: they differ from agent to agent, everything else does not for long. He knows four states
//! where we have ten ([`Status`]). Nodes that have left or were removed are not told of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use basic_balancer::EndpointSnapshot;
use basic_balancer::metrics::ProxyMetrics;
use basic_membership::{JoinMark, Member, MemberState};
use serde::Serialize;

use super::Api;
use super::members::rfc3339;
use crate::servers::Server;

#[derive(Serialize)]
struct StatusAnswer {
    enabled: bool,
    status: Cluster,
}

#[derive(Serialize)]
struct NodesAnswer {
    enabled: bool,
    nodes: BTreeMap<String, Node>,
}

#[derive(Serialize)]
struct Cluster {
    cluster_id: String,
    total_nodes: usize,
    active_nodes: usize,
    failed_nodes: usize,
    total_requests: u64,
    successful_requests: u64,
    /// Those that this agent's proxy had to answer itself.
    failed_requests: u64,
    /// Until the head of a response, in nanoseconds.
    average_response_time: u64,
    last_updated: String,
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Node {
    config: NodeConfig,
    /// When its last heartbeat came; of a server without an agent, since when it is in its state.
    last_seen: String,
    /// Requests with it now.
    connections: u64,
    /// Until the head of a response, in nanoseconds on average.
    response_time: u64,
    /// Of what was sent to it, the part that was answered, from 0 to 1; 1 where nothing was sent.
    success_rate: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct NodeConfig {
    node_id: String,
    /// Of its app.
    host: String,
    port: u16,
    weight: u32,
    status: Status,
    /// Its labels.
    metadata: BTreeMap<String, String>,
    /// When it joined or was registered.
    created_at: String,
    /// Since when it is in its state.
    updated_at: String,
}

/// The author's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// It takes requests.
    Active,
    /// It is there and takes none: it starts, it drains, it leaves, or its app is not well.
    Inactive,
    /// Its heartbeats have stopped, or an operator called it failed.
    Failed,
    /// It is away on purpose.
    Maintenance,
}

impl Status {
    /// `None` for one that is no longer of the cluster.
    fn of(state: MemberState, healthy: bool) -> Option<Self> {
        match state {
            MemberState::Active | MemberState::Suspect if healthy => Some(Self::Active),
            MemberState::Active
            | MemberState::Suspect
            | MemberState::Joining
            | MemberState::CatchingUp
            | MemberState::Draining
            | MemberState::Leaving => Some(Self::Inactive),
            MemberState::Failed => Some(Self::Failed),
            MemberState::Maintenance => Some(Self::Maintenance),
            MemberState::Left | MemberState::Removed => None,
        }
    }
}

impl Node {
    fn of_member(member: &Member, endpoints: &[EndpointSnapshot], now: SystemTime) -> Option<Self> {
        let app = &member.metadata.app;
        let status = Status::of(member.state, app.healthy)?;
        let (host, port) = host_and_port(app.address.as_deref().unwrap_or_default());
        let config = NodeConfig {
            node_id: member.id.to_string(),
            host,
            port,
            weight: member.weight(),
            status,
            metadata: member.metadata.labels.clone(),
            created_at: rfc3339(moment(member.metadata.joined)),
            updated_at: rfc3339(member.since),
        };
        let age = member.heartbeat_age.unwrap_or_default();
        let last_seen = now.checked_sub(age).unwrap_or(UNIX_EPOCH);
        Some(Self::with(config, last_seen, endpoints))
    }

    fn of_server(server: &Server, endpoints: &[EndpointSnapshot]) -> Option<Self> {
        let registration = &server.registration;
        let healthy = server.verdict().is_some_and(|verdict| verdict.healthy);
        let status = Status::of(server.state(), healthy)?;
        let config = NodeConfig {
            node_id: server.id.to_string(),
            host: registration.address.host().to_owned(),
            port: registration.address.port(),
            weight: server.weight(),
            status,
            metadata: registration.labels.clone(),
            created_at: rfc3339(moment(server.registered)),
            updated_at: rfc3339(server.since),
        };
        Some(Self::with(config, server.since, endpoints))
    }

    fn with(config: NodeConfig, last_seen: SystemTime, endpoints: &[EndpointSnapshot]) -> Self {
        let mut endpoints = endpoints.iter();
        let known = endpoints.find(|known| known.endpoint.id.as_str() == config.node_id);
        let sent = known.map_or(0, |known| known.answered + known.failures);
        Self {
            config,
            last_seen: rfc3339(last_seen),
            connections: known.map_or(0, |known| known.in_flight),
            response_time: known.map_or(0, |known| average(known.waited, known.answered)),
            success_rate: match (known, sent) {
                (None, _) | (_, 0) => 1.0,
                #[allow(clippy::cast_precision_loss)] // a rate, to be looked at
                (Some(known), sent) => known.answered as f64 / sent as f64,
            },
        }
    }
}

/// `GET /api/v1/cluster/status`.
pub(super) async fn status(State(api): State<Api>) -> Response {
    let endpoints = api.balancer.snapshot(Instant::now());
    let nodes = nodes(&api, &endpoints);
    let answered = endpoints.iter().map(|known| known.answered).sum();
    let waited = endpoints.iter().map(|known| known.waited).sum();
    let (total_requests, failed_requests) = requests(&api.proxy);
    let status = Cluster {
        cluster_id: api.config.node.cluster.to_string(),
        total_nodes: nodes.len(),
        active_nodes: with(&nodes, Status::Active),
        failed_nodes: with(&nodes, Status::Failed),
        total_requests,
        successful_requests: total_requests.saturating_sub(failed_requests),
        failed_requests,
        average_response_time: average(waited, answered),
        last_updated: rfc3339(SystemTime::now()),
        nodes,
    };
    let enabled = true;
    Json(StatusAnswer { enabled, status }).into_response()
}

/// `GET /api/v1/cluster/nodes`.
pub(super) async fn list(State(api): State<Api>) -> Response {
    let endpoints = api.balancer.snapshot(Instant::now());
    Json(NodesAnswer {
        enabled: true,
        nodes: nodes(&api, &endpoints),
    })
    .into_response()
}

/// How many nodes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeCounts {
    pub(super) total: usize,
    /// Those that take requests.
    pub(super) active: usize,
}

/// As in `/api/v1/cluster/status`.
pub(super) fn node_counts(api: &Api, endpoints: &[EndpointSnapshot]) -> NodeCounts {
    let nodes = nodes(api, endpoints);
    NodeCounts {
        total: nodes.len(),
        active: with(&nodes, Status::Active),
    }
}

fn with(nodes: &BTreeMap<String, Node>, status: Status) -> usize {
    let of_status = nodes.values().filter(|node| node.config.status == status);
    of_status.count()
}

fn nodes(api: &Api, endpoints: &[EndpointSnapshot]) -> BTreeMap<String, Node> {
    let now = SystemTime::now();
    let servers = api.registry.servers();
    let servers = servers
        .iter()
        .filter_map(|server| Node::of_server(server, endpoints));
    let members = api.cluster.members();
    let members = members
        .iter()
        .filter_map(|member| Node::of_member(member, endpoints, now));
    // Where an id is of both, it is the node that counts.
    let nodes = servers.chain(members);
    nodes
        .map(|node| (node.config.node_id.clone(), node))
        .collect()
}

/// All that were sound, and those of them that no app has answered.
fn requests(proxy: &ProxyMetrics) -> (u64, u64) {
    let failed = proxy.failed.value() + proxy.no_endpoint.value() + proxy.loops.value();
    (proxy.requests.value(), failed)
}

/// In nanoseconds; 0 of nothing.
fn average(waited: Duration, answered: u64) -> u64 {
    let nanoseconds = waited.as_nanos().checked_div(answered.into());
    nanoseconds.map_or(0, |average| u64::try_from(average).unwrap_or(u64::MAX))
}

fn host_and_port(address: &str) -> (String, u16) {
    let parsed = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parsed.unwrap_or((address, 0));
    (host.trim_matches(['[', ']']).to_owned(), port)
}

fn moment(mark: JoinMark) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(mark.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_one_of_the_authors_or_none() {
        use MemberState as S;
        let told = |state| Status::of(state, true);
        for state in [S::Active, S::Suspect] {
            assert_eq!(told(state), Some(Status::Active));
            assert_eq!(Status::of(state, false), Some(Status::Inactive));
        }
        for state in [S::Joining, S::CatchingUp, S::Draining, S::Leaving] {
            assert_eq!(told(state), Some(Status::Inactive));
        }
        assert_eq!(told(S::Failed), Some(Status::Failed));
        assert_eq!(told(S::Maintenance), Some(Status::Maintenance));
        assert_eq!((told(S::Left), told(S::Removed)), (None, None));
    }

    #[test]
    fn an_address_is_taken_apart_whichever_its_family() {
        assert_eq!(
            host_and_port("10.0.0.1:8080"),
            ("10.0.0.1".to_owned(), 8080)
        );
        assert_eq!(host_and_port("[fd77::1]:80"), ("fd77::1".to_owned(), 80));
        assert_eq!(host_and_port(""), (String::new(), 0));
    }

    #[test]
    fn nothing_takes_no_time_on_average() {
        assert_eq!(average(Duration::ZERO, 0), 0);
        assert_eq!(average(Duration::from_micros(9), 2), 4500);
    }
}
