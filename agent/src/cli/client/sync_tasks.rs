//! What `/v1/sync/tasks` answers. As with all answers, every field may be missing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Tasks of one agent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncTaskList {
    pub(in crate::cli) items: Vec<SyncTask>,
}

/// One of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncTask {
    pub(in crate::cli) task_id: Option<String>,
    pub(in crate::cli) status: Option<String>,
    pub(in crate::cli) collection: Option<String>,
    pub(in crate::cli) key: Option<String>,
    pub(in crate::cli) priority: Option<i64>,
    pub(in crate::cli) attempts: Option<u64>,
    pub(in crate::cli) accepted_at: Option<String>,
    pub(in crate::cli) finished_at: Option<String>,
    pub(in crate::cli) next_attempt_at: Option<String>,
    pub(in crate::cli) targets: BTreeMap<String, SyncTarget>,
    pub(in crate::cli) error: Option<String>,
}

/// One target's part of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncTarget {
    pub(in crate::cli) status: Option<String>,
    pub(in crate::cli) at: Option<String>,
    pub(in crate::cli) reason: Option<String>,
}
