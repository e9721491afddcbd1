//! Older versions of documents: `GET /v1/data/{collection}/{key}/history`, and
//! `GET /v1/data/{collection}/{key}?version=V` for one of them.
//!
//! What is there is what this node went through while the collection asked for a history
//! (`[collections.NAME] history`); another node may hold other versions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use basic_sync::model::document::Revision;
use basic_sync::model::{Frontier, Key};
use basic_sync::storage::history::Kept;
use basic_sync::storage::state::PAGE_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::data::{self, PAGE_MAX};
use super::extract::{Named, Params};
use super::members::rfc3339;
use super::problem::Problem;
use super::sessions::Session;
use super::watch::Told;

/// `?limit=&before=&timeout=` of a history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    limit: Option<String>,
    before: Option<String>,
    timeout: Option<String>,
}

#[derive(Serialize)]
struct History {
    /// How many older versions the collection asks for.
    keeps: usize,
    /// The newest first.
    versions: Vec<Version>,
    /// Give it as `before` for the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct Version {
    version: String,
    /// When it was written; of a document that expired, when it did.
    time: String,
    /// When another took its place on this node; absent for the present one.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded: Option<String>,
    #[serde(flatten)]
    told: Told,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

/// `GET /v1/data/{collection}/{key}/history`.
pub(super) async fn list(
    State(api): State<Api>,
    Named((collection, name)): Named<(String, String)>,
    Params(query): Params<HistoryQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    data::readable(&collection)?;
    let key = data::key(&collection, &name)?;
    let limit = data::page_limit(query.limit.as_deref())?;
    let before = query.before.as_deref().map(str::parse::<u64>).transpose();
    let before = before.map_err(|_| {
        Problem::bad_request("before must be a number, exactly as `next` of a page gave it")
    })?;
    let patience = data::wait_limit(query.timeout.as_deref())?;
    let (mut session, _) = Session::enter(&api, &headers, patience).await?;
    let answer = page(&api, &key, before, limit, session.seen()).await;
    Ok(session.leave(&api, answer))
}

async fn page(
    api: &Api,
    key: &Key,
    before: Option<u64>,
    limit: usize,
    seen: &mut Frontier,
) -> Result<Response, Problem> {
    let mut left = versions(api, key, seen).await?.into_iter().peekable();
    while left
        .next_if(|kept| before.is_some_and(|before| kept.item.position >= before))
        .is_some()
    {}
    let (mut shown, mut bytes, mut last) = (Vec::new(), 0, 0);
    while shown.len() < limit.min(PAGE_MAX) && bytes < PAGE_BYTES {
        let Some(kept) = left.next() else {
            break;
        };
        bytes += kept.item.change.weight();
        last = kept.item.position;
        shown.push(Version::of(&kept));
    }
    let history = History {
        keeps: api.replica.keeps(key.collection()).versions,
        versions: shown,
        next: left.peek().map(|_| last.to_string()),
    };
    Ok(Json(history).into_response())
}

/// One version of a document, as it was.
pub(super) async fn one(
    api: &Api,
    key: &Key,
    version: &str,
    seen: &mut Frontier,
) -> Result<Response, Problem> {
    let wanted: Revision = version
        .parse()
        .map_err(|error| Problem::bad_request(format!("version: {error}")))?;
    let versions = versions(api, key, seen).await?.into_iter();
    let of_it: Vec<Kept> = versions.filter(|kept| kept.revision() == wanted).collect();
    let missing = |detail: String| Problem::new(StatusCode::NOT_FOUND, detail);
    if of_it.is_empty() {
        let detail = "this node does not keep that version of the document, or never had it";
        return Err(missing(detail.to_owned()).with_next("list those that are kept by /history"));
    }
    let value = of_it
        .into_iter()
        .find_map(|kept| kept.item.change.entry.value);
    let value = value.ok_or_else(|| missing(format!("version {wanted} is a deletion")))?;
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        data::etag(&wanted),
    ];
    Ok((headers, value).into_response())
}

async fn versions(api: &Api, key: &Key, seen: &mut Frontier) -> Result<Vec<Kept>, Problem> {
    let present = api.replica.entry_noting(key, seen);
    let present = present.map_err(|error| Problem::internal(&error))?;
    present.ok_or_else(|| data::not_found(key))?;
    let (replica, key) = (api.replica.clone(), key.clone());
    let read = tokio::task::spawn_blocking(move || replica.history(&key));
    let read = read.await.map_err(|error| Problem::internal(&error))?;
    read.map_err(|error| Problem::internal(&error))
}

impl Version {
    fn of(kept: &Kept) -> Self {
        let time = |ms| {
            rfc3339(
                UNIX_EPOCH
                    .checked_add(Duration::from_millis(ms))
                    .unwrap_or(SystemTime::UNIX_EPOCH),
            )
        };
        let value = kept.item.change.entry.value.as_deref();
        Self {
            version: kept.revision().to_string(),
            time: time(kept.since_ms),
            superseded: kept.superseded_ms.map(time),
            told: Told::of(&kept.item),
            value: value.and_then(data::raw),
        }
    }
}
