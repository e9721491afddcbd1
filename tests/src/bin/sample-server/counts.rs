//! How often each request id was seen: the proof that nothing is sent twice.
//!
//! An id is counted when the head of its request arrives, before its body is
//! read and before any switch may delay or break off the answer, so that an
//! attempt whose answer was lost counts as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::routes::Server;

/// Ids remembered at most; beyond them `/count` answers 507.
const IDS_MAX: usize = 1_000_000;
/// Longest id in bytes; a longer one answers 400.
const ID_LENGTH_MAX: usize = 128;

/// Times each id was seen.
#[derive(Default)]
pub(crate) struct Counts(Mutex<HashMap<String, u64>>);

/// The table is full: the caller should `DELETE /counts` first.
#[derive(Debug, PartialEq)]
struct Full;

impl Counts {
    fn add(&self, id: &str) -> Result<u64, Full> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(id) {
            *count += 1;
            return Ok(*count);
        }
        if counts.len() >= IDS_MAX {
            return Err(Full);
        }
        counts.insert(id.to_owned(), 1);
        Ok(1)
    }

    fn of(&self, id: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(id).copied().unwrap_or(0)
    }

    /// How many ids, how many requests, and the ids seen more than once.
    fn totals(&self) -> Value {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut repeated: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        repeated.sort();
        let repeated: Vec<_> = repeated
            .iter()
            .map(|(id, count)| json!({ "id": id, "count": count }))
            .collect();
        json!({
            "ids": counts.len(),
            "requests": counts.values().sum::<u64>(),
            "duplicates": repeated,
        })
    }

    fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

type Refusal = (StatusCode, Json<Value>);

pub(crate) async fn count(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let id = request_id(request.headers())?.to_owned();
    let count = server.counts.add(&id).map_err(|Full| {
        refuse(
            StatusCode::INSUFFICIENT_STORAGE,
            "too many ids; DELETE /counts starts anew",
        )
    })?;
    drain(request.into_body()).await;
    Ok(Json(
        json!({ "id": id, "count": count, "port": server.address.port() }),
    ))
}

pub(crate) async fn seen(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Json<Value> {
    let count = server.counts.of(&id);
    Json(json!({ "id": id, "count": count }))
}

pub(crate) async fn totals(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(server.counts.totals())
}

pub(crate) async fn clear(State(server): State<Arc<Server>>) -> StatusCode {
    server.counts.clear();
    StatusCode::NO_CONTENT
}

fn request_id(headers: &HeaderMap) -> Result<&str, Refusal> {
    let id = headers
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default();
    match id.len() {
        0 => Err(refuse(
            StatusCode::BAD_REQUEST,
            "the header X-Request-Id is missing",
        )),
        1..=ID_LENGTH_MAX => Ok(id),
        _ => Err(refuse(
            StatusCode::BAD_REQUEST,
            "X-Request-Id is longer than 128 bytes",
        )),
    }
}

fn refuse(status: StatusCode, error: &str) -> Refusal {
    (status, Json(json!({ "error": error })))
}

/// Reads a body to its end, keeping nothing of it.
async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_seen_more_than_once_are_duplicates() {
        let counts = Counts::default();
        assert_eq!(counts.add("a"), Ok(1));
        assert_eq!(counts.add("b"), Ok(1));
        assert_eq!(counts.add("a"), Ok(2));
        let totals = counts.totals();
        assert_eq!(totals["ids"], 2);
        assert_eq!(totals["requests"], 3);
        assert_eq!(totals["duplicates"], json!([{ "id": "a", "count": 2 }]));
        assert_eq!((counts.of("a"), counts.of("c")), (2, 0));
    }
}
