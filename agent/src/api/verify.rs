//! Comparing what all nodes hold, and mending it.
//!
//! Both answer when they are done, or at the end of `timeout` with what was found until then; a report says what it
//! leaves open. How far one has come is at `GET /v1/sync/verify`. Only with `dry_run=false` is anything changed, and then
//! the audit has a record of who asked before and of what came out after.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use basic_sync::model::document::Part;
use basic_sync::net::{Finding, NodeReport, Outcome, Repair, Report, VerifyError, VerifyOptions};
use basic_sync::storage::records;
use basic_sync::verify::{Fault, FaultKind, PartDifference, PartState, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Api;
use super::data;
use super::extract::Params;
use super::operations::{actor, words};
use super::problem::Problem;
use super::server::ClientAddress;
use super::vitals::millis;
use crate::durations::parse_duration;
use crate::operations::{Actor, AuditEntry};
use crate::records::Batch;

/// How long it may take unless asked otherwise, and at most.
const LIMIT_DEFAULT: Duration = Duration::from_secs(60);
const LIMIT_MAX: Duration = Duration::from_secs(3600);
/// Longest value that a report shows, in characters.
const VALUE_MAX: usize = 200;

/// `?deep=&timeout=` of a comparison.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyQuery {
    #[serde(default)]
    deep: bool,
    timeout: Option<String>,
}

/// `?dry_run=&partial=&timeout=` of a repair.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepairQuery {
    #[serde(default = "yes")]
    dry_run: bool,
    #[serde(default)]
    partial: bool,
    timeout: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Serialize)]
struct View {
    /// All nodes took part to the end, all keys were looked at, and nothing is wrong that was not mended.
    equal: bool,
    /// All keys were looked at.
    complete: bool,
    took_ms: u64,
    nodes: Vec<NodeView>,
    /// How many keys differ, listed or not.
    differing: u64,
    differences: Vec<DifferenceView>,
    /// Keys that differ on nodes that had not come level in time.
    undecided: u64,
    undecided_keys: Vec<KeyView>,
    /// Keys with writes that were still on their way to some node.
    in_flight: u64,
    /// Keys that were mended.
    mended: u64,
}

#[derive(Serialize)]
struct NodeView {
    id: String,
    /// It took part to the end.
    compared: bool,
    error: Option<String>,
    documents: u64,
    /// Rows of its tables that were checked.
    rows: u64,
    /// Whether the digest that it keeps is that of its documents; none where that was not asked.
    digest_right: Option<bool>,
    faulty: u64,
    faults: Vec<FaultView>,
    mended: u64,
}

#[derive(Serialize)]
struct FaultView {
    kind: &'static str,
    #[serde(flatten)]
    key: Option<KeyView>,
    write: Option<String>,
    position: Option<u64>,
}

#[derive(Serialize)]
struct KeyView {
    collection: String,
    key: String,
}

#[derive(Serialize)]
struct DifferenceView {
    #[serde(flatten)]
    key: KeyView,
    parts: Vec<PartView>,
    remedy: Option<RemedyView>,
}

#[derive(Serialize)]
struct PartView {
    /// `document`, `field`, `count`, `reset`, `set`, `element`, `expiry`, or `row` where a node cannot read it.
    part: &'static str,
    /// The field's name, or whose count or element it is.
    name: Option<String>,
    holds: Vec<HoldView>,
}

#[derive(Serialize)]
struct HoldView {
    node: String,
    /// `value`, `removed`, `absent`, `unreadable` or `readable`.
    state: &'static str,
    value: Option<String>,
    version: Option<String>,
}

#[derive(Serialize)]
struct RemedyView {
    /// Those that are to take what the others hold.
    nodes: Vec<String>,
    /// `merged`, `sound`, `majority`, `hash` or `forgotten`.
    reason: Option<&'static str>,
    /// `planned`, `mended`, `open`, `impossible` or `doubtful`.
    outcome: &'static str,
}

/// `GET /v1/sync/verify`: how far the one has come that is under way from this node.
pub(super) async fn progress(State(api): State<Api>) -> Response {
    let progress = api.replica.verify_progress();
    Json(json!({
        "under_way": progress.is_some(),
        "documents": progress.map(|progress| progress.documents),
        "differing": progress.map(|progress| progress.differing),
    }))
    .into_response()
}

/// `POST /v1/sync/verify`.
pub(super) async fn verify(
    State(api): State<Api>,
    Params(query): Params<VerifyQuery>,
) -> Result<Response, Problem> {
    let options = VerifyOptions {
        deep: query.deep,
        repair: Repair::No,
        limit: limit(query.timeout.as_deref())?,
    };
    let report = api.replica.verify(options).await.map_err(problem)?;
    Ok(Json(View::from(&report)).into_response())
}

/// `POST /v1/sync/repair`.
pub(super) async fn repair(
    State(api): State<Api>,
    Params(query): Params<RepairQuery>,
    Extension(client): Extension<ClientAddress>,
    body: Body,
) -> Result<Response, Problem> {
    let actor = actor(&words(body).await?, client)?;
    let repair = match (query.dry_run, query.partial) {
        (true, _) => Repair::Plan,
        (false, true) => Repair::ApplyPartly,
        (false, false) => Repair::Apply,
    };
    let options = VerifyOptions {
        deep: true,
        repair,
        limit: limit(query.timeout.as_deref())?,
    };
    if query.dry_run {
        let report = api.replica.verify(options).await.map_err(problem)?;
        return Ok(Json(View::from(&report)).into_response());
    }
    // It goes on, and is recorded, also when nobody waits for the answer any more.
    let applying = tokio::spawn(async move { apply(&api, options, &actor).await });
    let report = applying
        .await
        .map_err(|error| Problem::internal(&error))??;
    Ok(Json(View::from(&report)).into_response())
}

async fn apply(api: &Api, options: VerifyOptions, actor: &Actor) -> Result<Report, Problem> {
    let audit = api.operations.audit();
    let entry = |action: &str, after: Value| AuditEntry {
        action: action.to_owned(),
        node: api.cluster.identity().id.to_string(),
        order: audit.order(actor),
        before: Value::Null,
        after,
    };
    let begun = entry("repair-data", json!({ "repair": "begun" }));
    let written = audit.write(Batch::default(), &begun).await;
    written.map_err(data::record_failed)?;
    let outcome = api.replica.verify(options).await;
    let after = match &outcome {
        Ok(report) => json!({
            "repair": "ended",
            "differing": report.differing,
            "mended": report.mended,
            "tables_mended": report.nodes.iter().map(|node| node.mended).sum::<u64>(),
        }),
        Err(error) => json!({ "repair": "not done", "reason": error.to_string() }),
    };
    info!(%after, "a repair of the data has ended");
    let ended = entry("repair-data", after);
    if let Err(error) = audit.write(Batch::default(), &ended).await {
        // That it was begun is recorded, and what it did is done.
        warn!(%error, "the end of a repair could not be recorded");
    }
    outcome.map_err(problem)
}

fn limit(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(LIMIT_DEFAULT);
    };
    let limit = parse_duration(text).map_err(|error| {
        Problem::bad_request(format!("timeout must be a duration such as 60s: {error}"))
    })?;
    Ok(limit.min(LIMIT_MAX))
}

fn problem(error: VerifyError) -> Problem {
    let detail = error.to_string();
    match error {
        VerifyError::UnderWay => Problem::new(StatusCode::CONFLICT, detail)
            .with_next("`curl /v1/sync/verify` of this agent says how far it is"),
        VerifyError::Incomplete { .. } => Problem::new(StatusCode::CONFLICT, detail).with_next(
            "bring it back, or take it out by `basic-agent remove`, and try again; or insist on the nodes that are there (--partial, or ?partial=true of a request)",
        ),
        VerifyError::Own(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
    }
}

impl From<&Report> for View {
    fn from(report: &Report) -> Self {
        let names: Vec<String> = report
            .nodes
            .iter()
            .map(|node| node.node.to_string())
            .collect();
        let findings = report.findings.iter();
        let undecided = report.undecided_keys.iter();
        Self {
            equal: report.is_clean(),
            complete: report.complete,
            took_ms: millis(report.took),
            nodes: report.nodes.iter().map(NodeView::from).collect(),
            differing: report.differing,
            differences: findings
                .map(|one| DifferenceView::new(one, &names))
                .collect(),
            undecided: report.undecided,
            undecided_keys: undecided.map(|key| KeyView::of(key)).collect(),
            in_flight: report.in_flight,
            mended: report.mended,
        }
    }
}

impl From<&NodeReport> for NodeView {
    fn from(node: &NodeReport) -> Self {
        Self {
            id: node.node.to_string(),
            compared: node.failed.is_none(),
            error: node.failed.clone(),
            documents: node.documents,
            rows: node.rows,
            digest_right: node.digest_right,
            faulty: node.faulty,
            faults: node.faults.iter().map(FaultView::from).collect(),
            mended: node.mended,
        }
    }
}

impl From<&Fault> for FaultView {
    fn from(fault: &Fault) -> Self {
        Self {
            kind: match fault.kind {
                FaultKind::KeyUnreadable => "key-unreadable",
                FaultKind::EntryUnreadable => "document-unreadable",
                FaultKind::DotMissing => "write-not-in-index",
                FaultKind::DotStray => "index-without-write",
                FaultKind::VectorLacks => "write-not-in-vector",
                FaultKind::FeedMissing => "change-not-in-feed",
                FaultKind::FeedStray => "feed-without-change",
                FaultKind::FeedHole => "feed-position-missing",
                FaultKind::RowUnreadable => "index-unreadable",
                FaultKind::Digest => "digest-wrong",
            },
            key: (!fault.key.is_empty()).then(|| KeyView::of(&fault.key)),
            write: fault.dot.map(|dot| format!("{}:{}", dot.origin, dot.seq)),
            position: (fault.position > 0).then_some(fault.position),
        }
    }
}

impl KeyView {
    /// A key as it is stored; where it is no name, as much of it as is text.
    fn of(key: &[u8]) -> Self {
        match records::decode_key(key) {
            Ok(key) => Self {
                collection: key.collection().to_string(),
                key: key.name().to_owned(),
            },
            Err(_) => Self {
                collection: String::new(),
                key: String::from_utf8_lossy(key).into_owned(),
            },
        }
    }
}

impl DifferenceView {
    fn new(finding: &Finding, names: &[String]) -> Self {
        let parts = finding.difference.parts.iter();
        let name = |node: &usize| names.get(*node).cloned();
        Self {
            key: KeyView::of(&finding.difference.key),
            parts: parts.map(|part| PartView::new(part, names)).collect(),
            remedy: finding.remedy.as_ref().map(|remedy| RemedyView {
                nodes: remedy.nodes.iter().filter_map(name).collect(),
                reason: remedy.reason.map(|reason| match reason {
                    Reason::Merged => "merged",
                    Reason::Sound => "sound",
                    Reason::Majority => "majority",
                    Reason::Hash => "hash",
                    Reason::Forgotten => "forgotten",
                }),
                outcome: match remedy.outcome {
                    Outcome::Planned => "planned",
                    Outcome::Mended => "mended",
                    Outcome::Open => "open",
                    Outcome::Impossible => "impossible",
                    Outcome::Doubtful => "doubtful",
                },
            }),
        }
    }
}

impl PartView {
    fn new(difference: &PartDifference, names: &[String]) -> Self {
        let (part, name) = match &difference.part {
            None => ("row", None),
            Some(Part::Root) => ("document", None),
            Some(Part::Field(name)) => ("field", Some(name.to_string())),
            Some(Part::Tally(origin)) => ("count", Some(origin.to_string())),
            Some(Part::Reset(origin)) => ("reset", Some(origin.to_string())),
            Some(Part::Set) => ("set", None),
            Some(Part::Element(tag)) => {
                let dot = tag.dot;
                let name = format!("{}:{}:{}", dot.origin, dot.seq, tag.index);
                ("element", Some(name))
            }
            Some(Part::Expiry) => ("expiry", None),
        };
        let readable = difference.part.is_none();
        let states = difference.states.iter().zip(names);
        let holds =
            states.filter_map(|(state, node)| Some(HoldView::new(state.as_ref()?, node, readable)));
        Self {
            part,
            name,
            holds: holds.collect(),
        }
    }
}

impl HoldView {
    fn new(state: &PartState, node: &str, of_row: bool) -> Self {
        let (state, value, version) = match state {
            PartState::Absent if of_row => ("readable", None, None),
            PartState::Absent => ("absent", None, None),
            PartState::Damaged => ("unreadable", None, None),
            PartState::Is(version, None) => ("removed", None, Some(version.to_string())),
            PartState::Is(version, Some(value)) => {
                let text = String::from_utf8_lossy(value);
                let shown: String = text.chars().take(VALUE_MAX).collect();
                ("value", Some(shown), Some(version.to_string()))
            }
        };
        Self {
            node: node.to_owned(),
            state,
            value,
            version,
        }
    }
}
