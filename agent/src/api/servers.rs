//! Servers without an agent: registered here, and shown among the members.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use basic_balancer::EndpointSnapshot;
use serde::{Deserialize, Serialize};

use super::Api;
use super::data;
use super::extract::Params;
use super::members::rfc3339;
use super::problem::Problem;
use super::reachable::Reachable;
use super::server::ClientAddress;
use crate::operations::{Actor, DecisionView};
use crate::servers::{RegisterError, Request, Server};

/// Largest body of a registration, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// `?replace=true` of a registration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterQuery {
    #[serde(default)]
    replace: bool,
}

/// A server as the API shows it, in the shape of a member.
#[derive(Serialize)]
pub(super) struct ServerView {
    id: String,
    /// Never: a node with an agent has another view.
    agent: bool,
    state: &'static str,
    /// Since when, as far as this node knows.
    since: String,
    addresses: Addresses,
    labels: BTreeMap<String, String>,
    weight: u32,
    /// What operators have decided about it.
    decision: DecisionView,
    app: App,
    /// Whether this node's proxy reaches it.
    reachable: Reachable,
}

#[derive(Serialize)]
struct Addresses {
    /// None has one without an agent, ...
    peer: Option<String>,
    /// ... nor this.
    api: Option<String>,
    app: String,
}

#[derive(Serialize)]
struct App {
    /// What its probe has found; nothing yet while it is joining.
    healthy: Option<bool>,
    since: Option<String>,
    reason: Option<String>,
    latency_ms: Option<f64>,
    /// The path that is asked for health.
    health: String,
    /// The node whose agent asks.
    by: Option<String>,
}

impl ServerView {
    /// Of a server, with what this node's proxy knows of its endpoints.
    pub(super) fn of(server: &Server, endpoints: &[EndpointSnapshot]) -> Self {
        let registration = &server.registration;
        let verdict = server.verdict();
        Self {
            id: server.id.to_string(),
            agent: false,
            state: server.state().as_str(),
            since: rfc3339(server.since),
            addresses: Addresses {
                peer: None,
                api: None,
                app: registration.address.to_string(),
            },
            labels: registration.labels.clone(),
            weight: server.weight(),
            decision: DecisionView::of(&server.directive, server.registered),
            app: App {
                healthy: verdict.map(|verdict| verdict.healthy),
                since: verdict.map(|verdict| rfc3339(verdict.since())),
                reason: verdict.and_then(|verdict| verdict.reason.clone()),
                latency_ms: verdict.and_then(|verdict| verdict.latency_ms),
                health: registration.health.as_str().to_owned(),
                by: verdict.map(|verdict| verdict.by.to_string()),
            },
            reachable: Reachable::of(server.id.as_str(), endpoints, SystemTime::now()),
        }
    }
}

/// `POST /v1/members`: registers a server without an agent, in our shape or in that of the plan's `NodeConfig`.
pub(super) async fn register(
    State(api): State<Api>,
    Params(query): Params<RegisterQuery>,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let body = data::collect(body, BODY_MAX).await?;
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!("the body is not what this takes: {error}")).with_next(
            "send {\"id\":\"s1\",\"address\":\"10.0.0.9:8080\",\"health\":\"/health\",\"weight\":100}",
        )
    })?;
    let checked = request.check();
    let (id, registration) = checked.map_err(|error| Problem::bad_request(error.to_string()))?;
    let from = client.ip().to_canonical();
    let actor = Actor::new(request.by.as_deref(), Some(from), request.why.as_deref());
    let actor = actor.map_err(|error| Problem::bad_request(error.to_string()))?;
    let members = api.cluster.members();
    let audit = api.operations.audit();
    let registering =
        api.registry
            .register(id, registration, query.replace, &members, audit, &actor);
    let registered = registering.await.map_err(problem)?;
    let status = if registered.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let endpoints = api.balancer.snapshot(Instant::now());
    let view = ServerView::of(&registered.server, &endpoints);
    Ok((status, Json(view)).into_response())
}

fn problem(error: RegisterError) -> Problem {
    let detail = error.to_string();
    let conflict = |detail| Problem::new(StatusCode::CONFLICT, detail);
    match error {
        RegisterError::Agent { .. } => {
            conflict(detail).with_next("`basic-agent members` lists the ids that are taken")
        }
        RegisterError::Elsewhere { id, .. } => conflict(detail).with_next(format!(
            "if {id} has moved, repeat with ?replace=true (`basic-agent register --replace`)"
        )),
        RegisterError::Unintelligible { id } => conflict(detail).with_next(format!(
            "update this agent, or register on the node that {id} was registered on; to overwrite it, repeat with \
             ?replace=true (`basic-agent register --replace`)"
        )),
        RegisterError::Taken { id, .. } => conflict(detail).with_next(format!(
            "change the settings of {id}, or `basic-agent remove {id}` first"
        )),
        RegisterError::Full => conflict(detail).with_next(
            "`basic-agent remove` those that are gone; `basic-agent members` lists them",
        ),
        RegisterError::Unresolved(_) => {
            Problem::bad_request(detail).with_next("correct the name, or give an address instead")
        }
        RegisterError::Address(_) | RegisterError::Proxy(_) => Problem::bad_request(detail),
        RegisterError::Record(error) => data::record_failed(error),
    }
}
