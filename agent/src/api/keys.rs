//! The keys of the cluster: which there are, who has which, rotate, retire.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use basic_membership::{KeyId, NodeId};
use serde::Serialize;
use serde_json::json;

use super::Api;
use super::data;
use super::extract::{Named, Params};
use super::members::rfc3339;
use super::operations::{DecisionQuery, actor, words};
use super::problem::Problem;
use super::server::ClientAddress;
use crate::keys::rotation::MemberKeys;
use crate::keys::{RetireError, RotateError, Way};

/// What `GET /v1/keys` answers.
#[derive(Serialize)]
struct View {
    #[serde(rename = "self")]
    own_id: String,
    /// The key that this node seals with and shows.
    in_use: KeyId,
    /// The key that all come to use; another one than `in_use` while a rotation is not complete here.
    newest: KeyId,
    keys: Vec<KeyView>,
    retired: Vec<RetiredView>,
    members: Vec<MemberView>,
}

#[derive(Serialize)]
struct KeyView {
    id: KeyId,
    /// When it was made; none for the one that the cluster began with.
    created: Option<String>,
    in_use: bool,
}

#[derive(Serialize)]
struct RetiredView {
    id: KeyId,
    at: String,
}

#[derive(Serialize)]
struct MemberView {
    id: String,
    state: &'static str,
    /// Whether a rotation waits for it.
    live: bool,
    in_use: Option<KeyId>,
    installed: Vec<KeyId>,
}

impl From<MemberKeys> for MemberView {
    fn from(member: MemberKeys) -> Self {
        Self {
            id: member.id.to_string(),
            state: member.state.as_str(),
            live: member.live,
            in_use: member.keys.first().copied(),
            installed: member.keys,
        }
    }
}

/// `GET /v1/keys`; ids only, never a secret.
pub(super) async fn list(State(api): State<Api>) -> Response {
    let ring = api.keys.ring();
    let in_use = ring.in_use().id;
    let keys = ring.installed().map(|key| KeyView {
        id: key.id,
        created: (key.created_ms > 0).then(|| moment(key.created_ms)),
        in_use: key.id == in_use,
    });
    let retired = ring.retired().iter().map(|(id, at_ms)| RetiredView {
        id: *id,
        at: moment(*at_ms),
    });
    Json(View {
        own_id: api.cluster.identity().id.to_string(),
        in_use,
        newest: ring.newest().id,
        keys: keys.collect(),
        retired: retired.collect(),
        members: api
            .keys
            .members()
            .into_iter()
            .map(MemberView::from)
            .collect(),
    })
    .into_response()
}

/// `POST /v1/keys/rotate`: answers as soon as the new key is recorded here.
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let actor = actor(&words(body).await?, client)?;
    let rotation = api.keys.rotate(&actor).await.map_err(not_rotated)?;
    let body = json!({ "id": rotation.id, "previous": rotation.previous });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// `POST /v1/keys/{id}/retire`.
pub(super) async fn retire(
    State(api): State<Api>,
    Named(id): Named<String>,
    Params(query): Params<DecisionQuery>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let id: KeyId = id
        .parse()
        .map_err(|error: basic_membership::KeyIdError| Problem::bad_request(error.to_string()))?;
    let actor = actor(&words(body).await?, client)?;
    let retired = api.keys.retire(id, query.force, &actor).await;
    retired.map_err(not_retired)?;
    Ok(Json(json!({ "id": id, "retired": true })).into_response())
}

fn not_rotated(error: RotateError) -> Problem {
    let next = match error {
        RotateError::UnderWay {
            ref waiting, way, ..
        } => next_step(waiting, way),
        RotateError::Full { .. } => {
            "`basic-agent keys list`, then `basic-agent keys retire ID`".to_owned()
        }
        RotateError::Record(error) => return data::record_failed(error),
        RotateError::Secret(_) | RotateError::Random(_) => return Problem::internal(&error),
    };
    Problem::new(StatusCode::CONFLICT, error.to_string()).with_next(next)
}

fn not_retired(error: RetireError) -> Problem {
    let detail = error.to_string();
    match error {
        RetireError::Unknown { .. } => {
            Problem::new(StatusCode::NOT_FOUND, detail).with_next("`basic-agent keys list`")
        }
        RetireError::InUse { .. } => {
            Problem::new(StatusCode::CONFLICT, detail).with_next("`basic-agent keys rotate`")
        }
        RetireError::Needed { members, way, .. } => {
            Problem::new(StatusCode::CONFLICT, detail).with_next(next_step(&members, way))
        }
        RetireError::Away { .. } => Problem::new(StatusCode::CONFLICT, detail).with_next(
            "start them and let them take up the newer key, or retire it with --force and let them `basic-agent join` with a fresh token",
        ),
        RetireError::Record(error) => data::record_failed(error),
    }
}

/// What to do about members that lack a key, by name: where, and which command.
fn next_step(members: &[NodeId], way: Way) -> String {
    let names: Vec<&str> = members.iter().map(NodeId::as_str).collect();
    let names = names.join(", ");
    match way {
        Way::Recorded => format!(
            "it comes to {names} by itself; if it does not, `basic-agent status` and the agent's log on {names} say what is in the way, and `basic-agent remove` takes out a node that will not be repaired"
        ),
        Way::ByHand => format!(
            "this node was given the key by its configuration or a token, so it does not come to {names} by itself: `basic-agent token` here, `basic-agent join` with that token on {names}"
        ),
    }
}

fn moment(ms: u64) -> String {
    let since = std::time::Duration::from_millis(ms);
    let time = std::time::UNIX_EPOCH.checked_add(since);
    time.map_or_else(String::new, rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_rotation_up_is_named_with_what_to_do_there() {
        let way = |way| {
            let waiting = vec!["n3".parse().unwrap()];
            let problem = not_rotated(RotateError::UnderWay {
                id: "00000001".parse().unwrap(),
                waiting,
                way,
            });
            format!("{problem:?}")
        };
        let recorded = way(Way::Recorded);
        assert!(recorded.contains("log on n3"), "{recorded}");
        let by_hand = way(Way::ByHand);
        assert!(by_hand.contains("with that token on n3"), "{by_hand}");
    }
}
