//! Tasks: `ClusterSyncTask` in the author's JSON, and what has become of it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use basic_sync::model::VALUE_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::Api;
use super::data;
use super::extract::{Named, Params};
use super::problem::Problem;
use crate::sync_tasks::task::collection_of;
use crate::sync_tasks::{Status, SubmitError, Submitted, Task, TaskError, TaskView};

/// Largest body: the largest document, and what stands around it.
const BODY_MAX: usize = VALUE_BYTES_MAX + 64 * 1024;
/// Tasks in one answer unless asked otherwise, and at most.
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;

/// `?status=&limit=` of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    status: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    task_id: &'a str,
    status: Status,
}

#[derive(Serialize)]
struct Listing {
    items: Vec<TaskView>,
}

/// `POST /v1/sync/tasks`.
pub(super) async fn submit(State(api): State<Api>, body: Body) -> Result<Response, Problem> {
    let body = data::collect(body, BODY_MAX).await?;
    let task = Task::from_json(&body).map_err(|error| malformed(&error))?;
    data::writable(collection_of(&task.data_type))?;
    match api.sync_tasks.submit(task).await.map_err(refused)? {
        Submitted::Known(view) => Ok(Json(view).into_response()),
        Submitted::New(view) => {
            let location = format!("/v1/sync/tasks/{}", escaped(&view.task_id));
            let body = Json(Accepted {
                task_id: &view.task_id,
                status: view.told.status,
            });
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], body).into_response())
        }
    }
}

/// `GET /v1/sync/tasks/{id}`.
pub(super) async fn get(
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let found = match crate::sync_tasks::task::is_id(&id) {
        true => api.sync_tasks.get(&id).map_err(data::record_failed)?,
        false => None,
    };
    match found {
        Some(view) => Ok(Json(view).into_response()),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "there is no such task on this node; of those that are done the newest 1,000 are kept, for seven days",
        )),
    }
}

/// `GET /v1/sync/tasks`: those that this node has accepted.
pub(super) async fn list(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit must be a number from 1 to {LIST_MAX}"
        )));
    }
    let status = query.status.as_deref().map(status).transpose()?;
    let items = api.sync_tasks.list(status, limit);
    Ok(Json(Listing { items }).into_response())
}

fn status(name: &str) -> Result<Status, Problem> {
    let found = Status::ALL
        .into_iter()
        .find(|status| status.as_str() == name);
    found.ok_or_else(|| {
        Problem::bad_request("status must be queued, running, retrying, completed or failed")
    })
}

fn malformed(error: &TaskError) -> Problem {
    let problem = Problem::bad_request(error.to_string());
    match error {
        TaskError::Malformed(_) | TaskError::Missing(_) | TaskError::NotAnObject => problem.with_next(
            "send {\"task_id\":\"t1\",\"source_node\":\"n1\",\"target_nodes\":[],\"data_type\":\"user\",\
             \"data\":{\"id\":1},\"priority\":0,\"timestamp\":\"2025-09-19T08:15:47Z\"}; only data_type and data must be there",
        ),
        _ => problem,
    }
}

fn refused(error: SubmitError) -> Problem {
    let detail = error.to_string();
    match error {
        SubmitError::Unknown { .. } => Problem::bad_request(detail)
            .with_next("`basic-agent members` lists them; an empty target_nodes stands for all"),
        SubmitError::OtherContents(_) => Problem::new(StatusCode::CONFLICT, detail),
        SubmitError::Full(_) => Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_next(
            "send it again later, with a higher priority, or to another node; GET /v1/sync/tasks?status=retrying shows \
             whether a target is down",
        ),
        SubmitError::Merge { .. } | SubmitError::Task(_) => Problem::bad_request(detail),
        SubmitError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
        SubmitError::Random => Problem::internal(&error),
        SubmitError::Record(error) => data::record_failed(error),
    }
}

/// An id as one segment of a path (RFC 3986, section 2.3).
fn escaped(id: &str) -> String {
    let mut text = String::new();
    for byte in id.bytes() {
        match byte {
            b'-' | b'_' | b'~' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            // Dots too: a segment of nothing but dots is a step up, or none.
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment_of_a_path() {
        assert_eq!(escaped("user_sync-1~x"), "user_sync-1~x");
        assert_eq!(escaped("../a b?梁"), "%2E%2E%2Fa%20b%3F%E6%A2%81");
    }

    #[test]
    fn every_status_is_found_by_its_name() {
        for known in Status::ALL {
            assert_eq!(status(known.as_str()).ok(), Some(known));
            assert_eq!(serde_json::json!(known), known.as_str());
        }
        assert!(status("done").is_err());
    }
}
