//! Decisions of operators about nodes, and the record of them.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Api;
use super::data;
use super::extract::{Named, Params};
use super::problem::Problem;
use super::server::ClientAddress;
use crate::operations::decision::WEIGHT_MAX;
use crate::operations::{Action, Actor, ActorError, AuditEntry, OperationError, Outcome};

/// Largest body of a decision, in bytes.
const BODY_MAX: usize = 16 * 1024;
/// Audit entries in one answer unless asked otherwise, and at most.
const AUDIT_DEFAULT: usize = 100;
const AUDIT_MAX: usize = 1000;

/// `{"why","by"}`, both optional, of a decision; an empty body is none of both.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Words {
    why: Option<String>,
    by: Option<String>,
}

/// `{"weight","why","by"}` of a weight.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightOrder {
    weight: Value,
    why: Option<String>,
    by: Option<String>,
}

/// `?force=true` of a decision.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionQuery {
    #[serde(default)]
    pub(super) force: bool,
}

/// `?limit=&node=` of the audit record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    limit: Option<usize>,
    node: Option<String>,
}

/// `POST /v1/members/{id}/drain`, `undrain`, `fail` and `revive`.
pub(super) async fn decide(
    State(api): State<Api>,
    Named((id, action)): Named<(String, String)>,
    Params(query): Params<DecisionQuery>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let action = match action.as_str() {
        "drain" => Action::Drain,
        "undrain" => Action::Undrain,
        "fail" => Action::Fail,
        "revive" => Action::Revive,
        _ => {
            let detail = "a node can be told to drain, undrain, fail or revive; for its weight, \
                          PUT /v1/members/{id}/weight";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
    };
    let words = words(body).await?;
    let actor = actor(&words, client)?;
    carry_out(&api, &id, action, &actor, query.force).await
}

/// `PUT /v1/members/{id}/weight`.
pub(super) async fn weight(
    State(api): State<Api>,
    Named(id): Named<String>,
    Params(query): Params<DecisionQuery>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let order: WeightOrder = decode(&data::collect(body, BODY_MAX).await?)?;
    let weight = match &order.weight {
        Value::Null => None,
        number => Some(share(number)?),
    };
    let words = words_of(order.why, order.by);
    let actor = actor(&words, client)?;
    carry_out(&api, &id, Action::Weight(weight), &actor, query.force).await
}

/// `DELETE /v1/members/{id}`: for the agent's own node, it drains, tells the others and stops; any other is removed.
pub(super) async fn remove(
    State(api): State<Api>,
    Named(id): Named<String>,
    Params(query): Params<DecisionQuery>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let words = words(body).await?;
    let actor = actor(&words, client)?;
    if id == api.cluster.identity().id.as_str() {
        api.operations.record_leave(&actor).await;
        api.stop.send_replace(true);
        let body = json!({ "id": id, "state": "leaving" });
        return Ok((StatusCode::ACCEPTED, Json(body)).into_response());
    }
    carry_out(&api, &id, Action::Remove, &actor, query.force).await
}

/// `GET /v1/audit`: the newest decisions first.
pub(super) async fn audit(
    State(api): State<Api>,
    Params(query): Params<AuditQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(AUDIT_DEFAULT);
    if !(1..=AUDIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit must be a number from 1 to {AUDIT_MAX}"
        )));
    }
    let log = api.operations.audit().clone();
    let reading = tokio::task::spawn_blocking(move || log.newest(query.node.as_deref(), limit));
    let read = reading.await.map_err(|error| Problem::internal(&error))?;
    let items: Vec<AuditEntry> = read.map_err(data::record_failed)?;
    Ok(Json(json!({ "items": items })).into_response())
}

async fn carry_out(
    api: &Api,
    id: &str,
    action: Action,
    actor: &Actor,
    force: bool,
) -> Result<Response, Problem> {
    let decided = api.operations.decide(id, action, actor, force).await;
    let Outcome {
        id,
        changed,
        ended_conflict,
        state,
        decision,
    } = decided.map_err(problem)?;
    let mut body = json!({
        "id": id,
        "action": action.as_str(),
        "result": if changed { "done" } else { "unchanged" },
        "state": state,
        "decision": decision,
    });
    if ended_conflict {
        body["ended_conflict"] = json!(true);
    }
    Ok(Json(body).into_response())
}

fn problem(error: OperationError) -> Problem {
    let detail = error.to_string();
    match error {
        OperationError::Unknown { .. } => Problem::new(StatusCode::NOT_FOUND, detail)
            .with_next("`basic-agent members` lists them"),
        OperationError::Removed { .. } => Problem::new(StatusCode::CONFLICT, detail)
            .with_next("print a token by `basic-agent token` here, and join there"),
        OperationError::LastOne { .. } => Problem::new(StatusCode::CONFLICT, detail)
            .with_next("`basic-agent status` says why the others take no requests"),
        OperationError::HasLeft { node } => Problem::new(StatusCode::CONFLICT, detail)
            .with_next(format!("`basic-agent remove {node}`")),
        OperationError::NotByOperator { node } => Problem::new(StatusCode::CONFLICT, detail)
            .with_next(format!(
                "start the agent on {node}, or `basic-agent remove {node}`"
            )),
        OperationError::RivalHeard(conflict) => Problem::new(StatusCode::CONFLICT, detail)
            .with_next(format!(
                "stop the agent at {}, then try again; it counts as gone half a minute after it was last heard",
                conflict.rival
            )),
        OperationError::Actor(_) => Problem::bad_request(detail),
        OperationError::Record(error) => data::record_failed(error),
    }
}

/// Those of a body that says more than them.
pub(super) fn words_of(why: Option<String>, by: Option<String>) -> Words {
    Words { why, by }
}

/// Reads them.
pub(super) async fn words(body: Body) -> Result<Words, Problem> {
    let bytes = data::collect(body, BODY_MAX).await?;
    if bytes.is_empty() {
        return Ok(Words::default());
    }
    decode(&bytes)
}

/// Who asks, and why, for the record.
pub(super) fn actor(
    words: &Words,
    ClientAddress(address): ClientAddress,
) -> Result<Actor, Problem> {
    let from: IpAddr = address.ip().to_canonical();
    let actor = Actor::new(words.by.as_deref(), Some(from), words.why.as_deref());
    actor.map_err(|error: ActorError| Problem::bad_request(error.to_string()))
}

fn share(number: &Value) -> Result<u32, Problem> {
    let weight = number
        .as_u64()
        .and_then(|weight| u32::try_from(weight).ok());
    weight.filter(|weight| *weight <= WEIGHT_MAX).ok_or_else(|| {
        Problem::bad_request(format!(
            "weight must be a whole number from 0 to {WEIGHT_MAX}, or null for the one that the node announces"
        ))
    })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is not what this takes: {error}")))
}
