//! Documents: get, put, patch, delete, list.
//!
//! The agents' own collections (`agent.…`) can be read, but for the sealed secrets; they are written by commands only.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use basic_sync::model::document::{Action, Revision};
use basic_sync::model::{Collection, Frontier, InvalidName, Key, VALUE_BYTES_MAX};
use basic_sync::net::WriteError;
use basic_sync::protocol::{AckTarget, Condition, Operation, WriteReceipt, WriteRefused};
use basic_sync::storage::state::Page;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::Api;
use super::extract::{Named, Params};
use super::history;
use super::problem::Problem;
use super::sessions::Session;
use crate::records::{RESERVED_PREFIX, RecordError, System};

/// Documents on one page of a list unless asked otherwise, and at most.
const PAGE_DEFAULT: usize = 100;
pub(super) const PAGE_MAX: usize = 1000;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request waits for other nodes unless asked otherwise, and at most: for what its session has seen, and a
/// write for the disks of peers.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a document may be made to live.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What to do where this node takes no writes.
const ELSEWHERE: &str = "write on another node meanwhile; `basic-agent status` shows what is wrong";
/// What to do where nobody knows whether a write was done.
const READ_AGAIN: &str =
    "read the document again before you repeat the write; `basic-agent status` shows what is wrong";

/// `?acks=N|all&timeout=5s&ttl=30m` of a write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    acks: Option<String>,
    timeout: Option<String>,
    ttl: Option<String>,
}

/// `?version=&timeout=5s` of a read: which version, and how long it waits for what its session has seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    version: Option<String>,
    timeout: Option<String>,
}

/// `?prefix=&after=&limit=&timeout=` of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<String>,
    timeout: Option<String>,
}

#[derive(Serialize)]
struct Written {
    version: String,
    acks: usize,
}

#[derive(Serialize)]
struct Listing {
    items: Vec<Item>,
    /// Give it as `after` for the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct Item {
    key: String,
    version: String,
    value: Box<RawValue>,
}

/// `GET /v1/data/{collection}/{key}`.
pub(super) async fn get(
    State(api): State<Api>,
    Named((collection, name)): Named<(String, String)>,
    Params(query): Params<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    readable(&collection)?;
    let key = key(&collection, &name)?;
    let limit = wait_limit(query.timeout.as_deref())?;
    let (mut session, _) = Session::enter(&api, &headers, limit).await?;
    let answer = match &query.version {
        Some(version) => history::one(&api, &key, version, session.seen()).await,
        None => document(&api, &key, &headers, session.seen()),
    };
    Ok(session.leave(&api, answer))
}

/// That there is none rests on writes too: on that which deleted it.
fn document(
    api: &Api,
    key: &Key,
    asked: &HeaderMap,
    seen: &mut Frontier,
) -> Result<Response, Problem> {
    let entry = api.replica.entry_noting(key, seen);
    let entry = entry.map_err(|error| Problem::internal(&error))?;
    let found = entry.and_then(|entry| Some((entry.value?, entry.revision)));
    let (value, revision) = found.ok_or_else(|| not_found(key))?;
    let tag = etag(&revision);
    if is_known(asked, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), tag];
    Ok((headers, value).into_response())
}

/// `PUT /v1/data/{collection}/{key}`.
pub(super) async fn put(
    State(api): State<Api>,
    Named(name): Named<(String, String)>,
    Params(query): Params<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    write(&api, name, &query, &headers, Some(body), Action::Put).await
}

/// `PATCH /v1/data/{collection}/{key}`: RFC 7396 merge patches; on counters and sets
/// what to add and to remove.
pub(super) async fn patch(
    State(api): State<Api>,
    Named(name): Named<(String, String)>,
    Params(query): Params<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    write(&api, name, &query, &headers, Some(body), Action::Patch).await
}

/// `DELETE /v1/data/{collection}/{key}`.
pub(super) async fn delete(
    State(api): State<Api>,
    Named(name): Named<(String, String)>,
    Params(query): Params<WriteQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    write(&api, name, &query, &headers, None, |_| Action::Delete).await
}

/// `GET /v1/data/{collection}`.
pub(super) async fn list(
    State(api): State<Api>,
    Named(collection): Named<String>,
    Params(query): Params<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    readable(&collection)?;
    let collection = Collection::new(&collection).map_err(invalid_name)?;
    let limit = page_limit(query.limit.as_deref())?;
    let patience = wait_limit(query.timeout.as_deref())?;
    let (mut session, _) = Session::enter(&api, &headers, patience).await?;
    let replica = api.replica.clone();
    let page = tokio::task::spawn_blocking(move || {
        let after = query.after.as_deref();
        replica.documents(&collection, &query.prefix, after, limit)
    });
    let page = page.await.map_err(|error| Problem::internal(&error))?;
    let page = page.map_err(|error| Problem::internal(&error))?;
    session.seen().merge(&page.seen);
    Ok(session.leave(&api, Ok(Json(Listing::of(page)).into_response())))
}

/// `limit` of a query.
pub(super) fn page_limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(PAGE_DEFAULT);
    };
    let limit = text.parse().ok();
    let limit = limit.filter(|limit| (1..=PAGE_MAX).contains(limit));
    limit
        .ok_or_else(|| Problem::bad_request(format!("limit must be a number from 1 to {PAGE_MAX}")))
}

impl Listing {
    fn of(page: Page) -> Self {
        let Page {
            documents, more, ..
        } = page;
        let next = documents
            .last()
            .filter(|_| more)
            .map(|last| last.key.name().to_owned());
        let items = documents.into_iter().filter_map(|change| {
            Some(Item {
                key: change.key.name().to_owned(),
                version: change.entry.revision.to_string(),
                value: raw(&change.entry.value?)?,
            })
        });
        let items = items.collect();
        Self { items, next }
    }
}

/// A stored document as JSON text within JSON text.
pub(super) fn raw(document: &[u8]) -> Option<Box<RawValue>> {
    // Checked to be JSON before it was stored.
    RawValue::from_string(String::from_utf8(document.to_vec()).ok()?).ok()
}

async fn write(
    api: &Api,
    (collection, name): (String, String),
    query: &WriteQuery,
    headers: &HeaderMap,
    body: Option<Body>,
    action: impl FnOnce(Bytes) -> Action,
) -> Result<Response, Problem> {
    writable(&collection)?;
    let key = key(&collection, &name)?;
    let condition = condition(headers)?;
    let ttl = ttl(query.ttl.as_deref())?;
    let body = match body {
        Some(body) => collect(body, VALUE_BYTES_MAX).await?,
        None => Bytes::new(),
    };
    let operation = Operation {
        key,
        action: action(body),
        condition,
        ttl,
    };
    let wait = Wait::of(query.acks.as_deref(), query.timeout.as_deref())?;
    carry_out(
        api,
        headers,
        vec![operation],
        wait,
        write_failed,
        |receipt| {
            let revision = receipt.revisions.first()?;
            let body = Json(Written {
                version: revision.to_string(),
                acks: receipt.acks,
            });
            Some(([etag(revision)], body).into_response())
        },
    )
    .await
}

/// For whom a write waits, and how long at most.
pub(super) struct Wait {
    acks: AckTarget,
    limit: Duration,
}

impl Wait {
    /// By `acks` and `timeout` of a query.
    pub(super) fn of(acks_text: Option<&str>, timeout: Option<&str>) -> Result<Self, Problem> {
        let acks = acks(acks_text)?;
        let limit = wait_limit(timeout)?;
        Ok(Self { acks, limit })
    }
}

/// Writes, as a part of the session that the headers name: says the receipt in words of `written`, a refusal in those
/// of `failed`.
pub(super) async fn carry_out(
    api: &Api,
    headers: &HeaderMap,
    operations: Vec<Operation>,
    wait: Wait,
    failed: impl FnOnce(WriteError) -> Problem,
    written: impl FnOnce(&WriteReceipt) -> Option<Response>,
) -> Result<Response, Problem> {
    let (mut session, left) = Session::enter(api, headers, wait.limit).await?;
    let answer = match api.replica.write(operations, wait.acks, left).await {
        Ok(receipt) => {
            for revision in &receipt.revisions {
                session.told(revision);
            }
            let answer = written(&receipt).ok_or_else(|| Problem::internal(&WriteRefused::Empty));
            answer.map(|mut response| {
                if !receipt.complete {
                    *response.status_mut() = StatusCode::ACCEPTED;
                }
                response
            })
        }
        Err(error) => {
            // What was found instead is told, so that it is known from now on.
            if let WriteError::Refused(refused) = &error
                && let WriteRefused::ConditionFailed {
                    current: Some(current),
                    ..
                } = refused.reason()
            {
                session.told(current);
            }
            Err(failed(error))
        }
    };
    Ok(session.leave(api, answer))
}

/// All of a body of at most `most` bytes.
pub(super) async fn collect(body: Body, most: usize) -> Result<Bytes, Problem> {
    let collecting = Limited::new(body, most).collect();
    let collected = timeout(BODY_TIMEOUT, collecting).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )
    })?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "a body may have {most} bytes here; split it, or store a reference to what is large"
            ),
        )),
        Err(_) => Err(Problem::bad_request(
            "the body ended before it was complete",
        )),
    }
}

/// Refuses what is kept from clients.
pub(super) fn readable(collection: &str) -> Result<(), Problem> {
    match System::named(collection) {
        Some(System::Keys) => {
            let detail = "the collection agent.keys holds sealed secrets and is not shown";
            Err(Problem::new(StatusCode::FORBIDDEN, detail)
                .with_next("`basic-agent keys list` shows which keys there are"))
        }
        _ => Ok(()),
    }
}

/// Refuses what only the agents write.
pub(super) fn writable(collection: &str) -> Result<(), Problem> {
    if !collection.starts_with(RESERVED_PREFIX) {
        return Ok(());
    }
    let next = match System::named(collection) {
        Some(System::Members) => {
            "decide about nodes by `basic-agent drain|undrain|fail|revive|weight|remove NODE`"
        }
        Some(System::Keys) => "change keys by `basic-agent keys rotate|retire`",
        Some(System::Tasks | System::TaskData) => "give the agent a task by POST /v1/sync/tasks",
        Some(System::Audit | System::Probes | System::Probers) => {
            "there is no need to: the agents write it themselves"
        }
        None => "choose a name that does not begin with \"agent.\"",
    };
    let detail =
        format!("the collection \"{collection}\" belongs to the agents and is not written as data");
    Err(Problem::new(StatusCode::FORBIDDEN, detail).with_next(next))
}

pub(super) fn key(collection: &str, name: &str) -> Result<Key, Problem> {
    let collection = Collection::new(collection).map_err(invalid_name)?;
    Key::new(collection, name).map_err(invalid_name)
}

fn invalid_name(error: InvalidName) -> Problem {
    Problem::bad_request(error.to_string())
}

pub(super) fn not_found(key: &Key) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is no document \"{}\" in the collection \"{}\" on this node",
            key.name(),
            key.collection()
        ),
    )
}

/// Whether `If-None-Match` of a read names the document's tag (RFC 9110, section 13.1.2), so
/// that the reader has it. What is not a tag names none.
fn is_known(headers: &HeaderMap, (_, tag): &(HeaderName, String)) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// `If-Match` and `If-None-Match` of a write (RFC 9110, section 13.1), each with one tag.
fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let text = |name: HeaderName| -> Result<Option<&str>, Problem> {
        let mut lines = headers.get_all(&name).iter();
        let value = lines.next().map(|value| value.to_str().map(str::trim));
        if lines.next().is_some() {
            let detail = format!("{name} is there more than once; give one tag");
            return Err(Problem::bad_request(detail));
        }
        value
            .transpose()
            .map_err(|_| Problem::bad_request(format!("{name} must be ASCII")))
    };
    match (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::Always),
        (Some("*"), None) => Ok(Condition::Exists),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tag), None) => match tag.trim_matches('"').parse() {
            Ok(version) => Ok(Condition::Is(version)),
            Err(error) => Err(Problem::bad_request(format!("If-Match: {error}"))),
        },
        (None, Some(_)) => Err(Problem::bad_request(
            "If-None-Match takes only * on a write",
        )),
        (Some(_), Some(_)) => Err(Problem::bad_request(
            "give If-Match or If-None-Match, not both",
        )),
    }
}

fn acks(text: Option<&str>) -> Result<AckTarget, Problem> {
    match text {
        None | Some("0") => Ok(AckTarget::Local),
        Some("all") => Ok(AckTarget::All),
        Some(text) => match text.parse() {
            Ok(count) => Ok(AckTarget::Peers(count)),
            Err(_) => Err(Problem::bad_request(
                "acks must be a number of peers, or \"all\"",
            )),
        },
    }
}

pub(super) fn wait_limit(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(WAIT_DEFAULT);
    };
    let limit = crate::durations::parse_duration(text).ok();
    limit
        .filter(|limit| *limit <= WAIT_MAX)
        .ok_or_else(|| Problem::bad_request("timeout must be a duration up to 60s, such as 500ms"))
}

/// How long the document is to live.
pub(super) fn ttl(text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let ttl = crate::durations::parse_duration(text).ok();
    let ttl = ttl.filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl));
    ttl.map(Some).ok_or_else(|| {
        Problem::bad_request("ttl must be a duration from 1s to 10 years, such as 30m or 7d")
    })
}

/// What became of the agents' own records.
pub(super) fn record_failed(error: RecordError) -> Problem {
    match error {
        RecordError::Key(error) => invalid_name(error),
        RecordError::Write(error) => write_failed(error),
        RecordError::Read(_) | RecordError::Encode { .. } | RecordError::Unintelligible { .. } => {
            Problem::internal(&error)
        }
    }
}

/// Why a write was not done, in words for who asked for it.
pub(super) fn write_failed(error: WriteError) -> Problem {
    let (status, next) = match &error {
        WriteError::HeldBack(_) | WriteError::DiskStuck(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(ELSEWHERE))
        }
        WriteError::Stopped | WriteError::Unknown => (StatusCode::SERVICE_UNAVAILABLE, None),
        // Not 503, which invites clients to repeat what may have been done.
        WriteError::Unanswered(_) => (StatusCode::GATEWAY_TIMEOUT, Some(READ_AGAIN)),
        WriteError::Refused(refused) => match refused {
            WriteRefused::Operation { reason, .. } => {
                return write_failed(WriteError::Refused((**reason).clone()));
            }
            WriteRefused::NotFound(key) => return not_found(key),
            WriteRefused::ConditionFailed { current, .. } => {
                return condition_failed(*current);
            }
            WriteRefused::Empty
            | WriteRefused::TooManyOperations { .. }
            | WriteRefused::Unfit(_) => (StatusCode::BAD_REQUEST, None),
            WriteRefused::Conflict(_) => (StatusCode::CONFLICT, None),
            WriteRefused::DocumentTooLarge { .. } | WriteRefused::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
            WriteRefused::TooManyWaiting | WriteRefused::Filling => {
                (StatusCode::SERVICE_UNAVAILABLE, None)
            }
            WriteRefused::NotExported(_) => (StatusCode::CONFLICT, None),
            WriteRefused::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, Some(ELSEWHERE)),
            // The whole reason is in the log: the driver tells the first of a row.
            WriteRefused::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, Some(READ_AGAIN)),
        },
    };
    let problem = Problem::new(status, error.to_string());
    match next {
        Some(next) => problem.with_next(next),
        None => problem,
    }
}

fn condition_failed(current: Option<Revision>) -> Problem {
    let detail = match current {
        Some(revision) => {
            format!("the document is at version {revision}; read it again and repeat the change")
        }
        None => "there is no such document on this node".to_owned(),
    };
    Problem::new(StatusCode::PRECONDITION_FAILED, detail)
}

pub(super) fn etag(revision: &Revision) -> (HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}
