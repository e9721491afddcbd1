//! What `GET /v1/sync/peers` and `/v1/sync/exported` answer. As with all answers, every field may be missing.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answers::Moment;

/// The peers of one agent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncPeers {
    #[serde(rename = "self")]
    pub(in crate::cli) own_id: Option<String>,
    pub(in crate::cli) written: Option<u64>,
    pub(in crate::cli) peers: Vec<PeerProgress>,
    pub(in crate::cli) filling: Option<FillingNode>,
    pub(in crate::cli) exported: u64,
    pub(in crate::cli) replicas: Vec<ReplicaLine>,
}

/// A snapshot that the agent takes over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct FillingNode {
    pub(in crate::cli) collection: Option<String>,
    pub(in crate::cli) key: Option<String>,
}

/// A replica of the roster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct ReplicaLine {
    pub(in crate::cli) replica: String,
    pub(in crate::cli) node: String,
    pub(in crate::cli) own: bool,
    pub(in crate::cli) fenced: bool,
    pub(in crate::cli) absent_ms: u64,
}

/// Writes that were kept aside.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct ExportedList {
    pub(in crate::cli) total: u64,
    pub(in crate::cli) items: Vec<ExportedWrite>,
    pub(in crate::cli) next: Option<u64>,
}

/// One of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct ExportedWrite {
    pub(in crate::cli) node: Option<String>,
    pub(in crate::cli) replica: String,
    pub(in crate::cli) collection: String,
    pub(in crate::cli) key: String,
    pub(in crate::cli) date: String,
    pub(in crate::cli) op: String,
    pub(in crate::cli) value: Option<Box<RawValue>>,
}

/// What became of a decision about them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct ExportedDecision {
    pub(in crate::cli) written: u64,
    pub(in crate::cli) dropped: u64,
    pub(in crate::cli) refused: u64,
    pub(in crate::cli) refusals: Vec<RefusedWrite>,
    pub(in crate::cli) left: u64,
}

/// One that could not be made again.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct RefusedWrite {
    pub(in crate::cli) collection: String,
    pub(in crate::cli) key: String,
    pub(in crate::cli) reason: String,
}

/// How far one of them is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct PeerProgress {
    pub(in crate::cli) id: Option<String>,
    /// False where this agent does not link to it.
    pub(in crate::cli) near: Option<bool>,
    pub(in crate::cli) linked: bool,
    pub(in crate::cli) since: Option<Moment>,
    pub(in crate::cli) silent_ms: Option<u64>,
    pub(in crate::cli) behind: u64,
    pub(in crate::cli) behind_ms: Option<u64>,
    pub(in crate::cli) unacknowledged: u64,
    pub(in crate::cli) unacknowledged_ms: Option<u64>,
    pub(in crate::cli) queue: Queue,
    pub(in crate::cli) frames_lost: u64,
    pub(in crate::cli) trust: Option<String>,
    pub(in crate::cli) last_error: Option<String>,
}

/// What waits to be sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Queue {
    pub(in crate::cli) messages: u64,
    pub(in crate::cli) ring_bytes: u64,
}
