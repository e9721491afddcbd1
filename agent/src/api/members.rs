//! Members: list, one, leave.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use basic_membership::{Member, NodeId};
use serde::Serialize;

use super::Api;
use super::extract::Named;
use super::problem::Problem;

#[derive(Serialize)]
struct List {
    #[serde(rename = "self")]
    own_id: String,
    members: Vec<View>,
}

/// A member as the API shows it.
#[derive(Serialize)]
struct View {
    id: String,
    state: &'static str,
    /// Since when this node has seen it in this state.
    since: String,
    incarnation: u64,
    addresses: Addresses,
    labels: BTreeMap<String, String>,
    weight: u32,
    app: App,
    /// How long ago its heartbeat last advanced here.
    last_heartbeat_ms: Option<u64>,
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

impl From<&Member> for View {
    fn from(member: &Member) -> Self {
        let metadata = &member.metadata;
        let app_since = std::time::Duration::from_millis(metadata.app.since_ms);
        let age = member.heartbeat_age;
        Self {
            id: member.id.to_string(),
            state: member.state.as_str(),
            since: rfc3339(member.since),
            incarnation: member.incarnation.0,
            addresses: Addresses {
                peer: member.peer.to_string(),
                api: metadata.api.map(|api| api.to_string()),
                app: metadata.app.address.clone(),
            },
            labels: metadata.labels.clone(),
            weight: metadata.weight,
            app: App {
                healthy: metadata.app.healthy,
                since: std::time::UNIX_EPOCH
                    .checked_add(app_since)
                    .map_or_else(String::new, rfc3339),
                reason: metadata.app.reason.clone(),
            },
            last_heartbeat_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            phi: member.phi,
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
    let members = members.iter().map(View::from).collect();
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
    let found = id
        .parse::<NodeId>()
        .ok()
        .and_then(|id| members.find(&id).cloned());
    let member = found.ok_or_else(|| not_a_member(&id))?;
    Ok(Json(View::from(&member)).into_response())
}

/// `DELETE /v1/members/{id}`: this node drains, tells the others, and stops.
pub(super) async fn leave(
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let own = &api.cluster.identity().id;
    if id != own.as_str() {
        let members = api.cluster.members();
        let other = id
            .parse::<NodeId>()
            .ok()
            .and_then(|id| members.find(&id).cloned());
        let other = other.ok_or_else(|| not_a_member(&id))?;
        let at = other
            .metadata
            .api
            .map_or_else(String::new, |api| format!(" (its API: http://{api})"));
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a node leaves by its own agent; ask the agent of {id}{at}, not that of {own}"),
        ));
    }
    api.stop.send_replace(true);
    let body = serde_json::json!({ "id": id, "state": "leaving" });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

fn not_a_member(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no member is called \"{id}\"; GET /v1/members lists them"),
    )
}
