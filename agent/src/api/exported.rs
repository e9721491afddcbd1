//! Writes that were kept aside, because their documents may have been deleted meanwhile: a list of them, and decisions.
//!
//! They are on the node that made them and nowhere else, so both ask this node's own store. A decision names documents,
//! or means all there are when it is made; it is carried out a batch at a time, each of which is durable as a whole, and
//! goes on when nobody waits for the answer any more. One that a collection refuses stays, and the answer says why. The
//! audit has a record of who asked before, and of what came out after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use basic_sync::model::document::Document;
use basic_sync::model::{Key, PeerId, ReplicaId};
use basic_sync::net::{ReadError, WriteError};
use basic_sync::protocol::Status;
use basic_sync::storage::Exported;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Api;
use super::data;
use super::extract::Params;
use super::members::rfc3339;
use super::operations::{actor, decode, words_of};
use super::problem::Problem;
use super::server::ClientAddress;
use crate::operations::{Actor, AuditEntry};
use crate::records::Batch;

/// Writes in one answer unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Writes that are decided about in one transaction.
const BATCH: usize = 64;
/// Largest decision, in bytes, and most documents that it names.
const BODY_MAX: usize = 1024 * 1024;
/// Refused writes that an answer names.
const REFUSED_MAX: usize = 100;

/// `?from=&limit=` of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    from: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List {
    /// How many there are, listed or not.
    total: u64,
    items: Vec<Item>,
    /// The `from` of the next page, if there is one.
    next: Option<u64>,
}

#[derive(Serialize)]
struct Item {
    number: u64,
    /// Whose write it is, by name, where that is known.
    node: Option<String>,
    replica: String,
    collection: String,
    key: String,
    /// When it was made.
    date: String,
    /// `write` or `delete`.
    op: &'static str,
    /// What it wrote: of a document whose fields are merged one by one only these, of a counter the sum of its node.
    value: Option<Box<RawValue>>,
}

/// What to do, about which.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    action: Choice,
    /// `collection/key` of each document.
    #[serde(default)]
    documents: BTreeSet<String>,
    #[serde(default)]
    all: bool,
    why: Option<String>,
    by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Write,
    Drop,
}

/// What became of a decision.
#[derive(Debug, Default, Serialize)]
struct Decided {
    /// Writes that were made again, ...
    written: u64,
    /// ... and forgotten without.
    dropped: u64,
    refused: u64,
    /// The first of them.
    refusals: Vec<Refusal>,
    /// How many are left, these included.
    left: u64,
}

#[derive(Debug, Serialize)]
struct Refusal {
    collection: String,
    key: String,
    reason: String,
}

/// `GET /v1/sync/exported`.
pub(super) async fn list(
    State(api): State<Api>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit must be a number from 1 to {LIMIT_MAX}"
        )));
    }
    let replica = api.replica.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let page = replica.exported(query.from.unwrap_or(0), limit)?;
        Ok::<_, ReadError>((page, replica.exported_count()?))
    });
    let read = reading.await.map_err(|error| Problem::internal(&error))?;
    let ((page, more), total) = read.map_err(|error| Problem::internal(&error))?;
    let names = names(&api.replica.status().borrow());
    let next = page.last().filter(|_| more).map(|last| last.number + 1);
    let items = page.iter().map(|one| Item::new(one, &names));
    Ok(Json(List {
        total,
        items: items.collect(),
        next,
    })
    .into_response())
}

/// `POST /v1/sync/exported`.
pub(super) async fn decide(
    State(api): State<Api>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let order: Order = decode(&data::collect(body, BODY_MAX).await?)?;
    if order.all != order.documents.is_empty() {
        return Err(Problem::bad_request(
            "name \"documents\", each as collection/key, or say \"all\": true",
        ));
    }
    let actor = actor(&words_of(order.why, order.by), client)?;
    let wanted = (!order.all).then_some(order.documents);
    let deciding = tokio::spawn(async move { carry_out(&api, order.action, wanted, &actor).await });
    let decided = deciding
        .await
        .map_err(|error| Problem::internal(&error))??;
    Ok(Json(decided).into_response())
}

async fn carry_out(
    api: &Api,
    choice: Choice,
    wanted: Option<BTreeSet<String>>,
    actor: &Actor,
) -> Result<Decided, Problem> {
    let chosen = chosen(api, wanted.as_ref()).await?;
    let audit = api.operations.audit();
    let action = match choice {
        Choice::Write => "write-exported",
        Choice::Drop => "drop-exported",
    };
    let entry = |after: Value| AuditEntry {
        action: action.to_owned(),
        node: api.cluster.identity().id.to_string(),
        order: audit.order(actor),
        before: Value::Null,
        after,
    };
    let begun = entry(json!({ "writes": chosen.len(), "decision": "begun" }));
    let written = audit.write(Batch::default(), &begun).await;
    written.map_err(data::record_failed)?;
    let mut decided = Decided::default();
    let outcome = all_of(api, choice, &chosen, &mut decided).await;
    let left = api.replica.exported_count();
    decided.left = left.map_err(|error| Problem::internal(&error))?;
    let after = json!({
        "decision": if outcome.is_ok() { "carried out" } else { "broken off" },
        "written": decided.written,
        "dropped": decided.dropped,
        "refused": decided.refused,
    });
    info!(%after, "it was decided about writes that were kept aside");
    if let Err(error) = audit.write(Batch::default(), &entry(after)).await {
        // That it was begun is recorded, and what it did is done.
        warn!(%error, "the end of a decision could not be recorded");
    }
    outcome.map(|()| decided).map_err(data::write_failed)
}

/// The writes of these documents, or all there are.
async fn chosen(api: &Api, wanted: Option<&BTreeSet<String>>) -> Result<Vec<(u64, Key)>, Problem> {
    let replica = api.replica.clone();
    let names = wanted.cloned();
    let reading = tokio::task::spawn_blocking(move || {
        let (mut chosen, mut from, mut more) = (Vec::new(), 0, true);
        while more {
            let (page, rest) = replica.exported(from, LIMIT_MAX)?;
            more = rest && !page.is_empty();
            from = page.last().map_or(from, |last| last.number + 1);
            let page = page.into_iter().map(|one| (one.number, one.delta.key));
            let is_named = |key: &Key| {
                names
                    .as_ref()
                    .is_none_or(|names| names.contains(&full(key)))
            };
            chosen.extend(page.filter(|(_, key)| is_named(key)));
        }
        Ok::<_, ReadError>(chosen)
    });
    let read = reading.await.map_err(|error| Problem::internal(&error))?;
    let chosen = read.map_err(|error| Problem::internal(&error))?;
    let found: BTreeSet<String> = chosen.iter().map(|(_, key)| full(key)).collect();
    let mut missing = wanted
        .into_iter()
        .flatten()
        .filter(|name| !found.contains(*name));
    match missing.next() {
        Some(name) => {
            let name: String = name.chars().take(LIMIT_DEFAULT).collect();
            let detail =
                format!("no write of {name} was kept aside on this node; nothing was changed");
            Err(Problem::new(StatusCode::NOT_FOUND, detail)
                .with_next("`basic-agent sync exported` lists them"))
        }
        None => Ok(chosen),
    }
}

/// Batch by batch; one that is refused write by write.
async fn all_of(
    api: &Api,
    choice: Choice,
    chosen: &[(u64, Key)],
    decided: &mut Decided,
) -> Result<(), WriteError> {
    for batch in chosen.chunks(BATCH) {
        match one_batch(api, choice, batch, decided).await {
            Err(WriteError::Refused(_)) => {}
            outcome => {
                outcome?;
                continue;
            }
        }
        for one in batch.chunks(1) {
            match one_batch(api, choice, one, decided).await {
                Err(WriteError::Refused(refused)) => {
                    decided.refuse(&one[0].1, &refused.to_string());
                }
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

async fn one_batch(
    api: &Api,
    choice: Choice,
    batch: &[(u64, Key)],
    decided: &mut Decided,
) -> Result<(), WriteError> {
    let numbers = batch.iter().map(|(number, _)| *number).collect();
    api.replica.decide(numbers, choice == Choice::Write).await?;
    let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    match choice {
        Choice::Write => decided.written += count,
        Choice::Drop => decided.dropped += count,
    }
    Ok(())
}

impl Decided {
    fn refuse(&mut self, key: &Key, reason: &str) {
        self.refused += 1;
        if self.refusals.len() < REFUSED_MAX {
            self.refusals.push(Refusal {
                collection: key.collection().to_string(),
                key: key.name().to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
}

impl Item {
    fn new(one: &Exported, names: &BTreeMap<ReplicaId, PeerId>) -> Self {
        let Exported { number, delta } = one;
        let version = delta.write.version;
        let replica = version.dot.origin.replica;
        let made = UNIX_EPOCH.checked_add(Duration::from_millis(version.clock.millis()));
        let says_something = delta.write.parts.iter().any(|part| part.value.is_some());
        let document = Document::from_writes(vec![delta.write.clone()]).unwrap_or_default();
        let value = document
            .value(0)
            .and_then(|text| String::from_utf8(text.to_vec()).ok());
        Self {
            number: *number,
            node: names.get(&replica).map(ToString::to_string),
            replica: replica.to_string(),
            collection: delta.key.collection().to_string(),
            key: delta.key.name().to_owned(),
            date: made.map_or_else(String::new, rfc3339),
            op: if says_something { "write" } else { "delete" },
            value: value.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}

fn names(status: &Status) -> BTreeMap<ReplicaId, PeerId> {
    let lines = status.roster.iter();
    lines
        .map(|line| (line.replica, line.name.clone()))
        .collect()
}

fn full(key: &Key) -> String {
    format!("{}/{}", key.collection(), key.name())
}
