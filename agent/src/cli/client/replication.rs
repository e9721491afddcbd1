//! What `GET /v1/sync/peers` answers. As with all answers, every field may be missing.

use serde::Deserialize;

use super::answers::Moment;

/// The peers of one agent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncPeers {
    #[serde(rename = "self")]
    pub(in crate::cli) own_id: Option<String>,
    pub(in crate::cli) written: Option<u64>,
    pub(in crate::cli) peers: Vec<PeerProgress>,
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
    pub(in crate::cli) last_error: Option<String>,
}

/// What waits to be sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Queue {
    pub(in crate::cli) messages: u64,
    pub(in crate::cli) ring_bytes: u64,
}
