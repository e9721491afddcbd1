//! A task as it is kept in `agent.tasks` under its id, and as it is shown.
//!
//! What is written here is read by other agents and by later versions: members are added, never changed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What has become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It waits for its turn.
    Queued,
    /// It is being carried out.
    Running,
    /// An attempt has failed; it waits for the next.
    Retrying,
    /// Every target has it on disk.
    Completed,
    /// It was given up.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] = [
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// One target's part of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it stands.
    pub status: TargetStatus,
    /// When it confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What keeps it from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetStatus {
    /// It has not confirmed yet.
    Waiting,
    /// It has the data on disk.
    Confirmed,
    /// It has not confirmed, and is not waited for any longer.
    Failed,
}

impl Target {
    /// One that has not confirmed yet.
    pub fn waiting() -> Self {
        Self {
            status: TargetStatus::Waiting,
            at: None,
            reason: None,
        }
    }
}

/// A task as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the order in which the node accepted tasks.
    pub number: u64,
    /// The same for tasks that say the same.
    pub fingerprint: String,
    /// What is shown.
    #[serde(flatten)]
    pub told: Told,
}

/// What a record tells everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What has become of it.
    pub status: Status,
    /// The node that accepted it and carries it out.
    pub node: String,
    /// From whom it comes, as it says.
    pub source_node: Option<String>,
    /// The nodes that it names.
    pub target_nodes: Vec<String>,
    /// The type of data.
    pub data_type: String,
    /// The higher, the sooner.
    pub priority: i64,
    /// When it was made, as it says.
    pub timestamp: Option<String>,
    /// The collection and ...
    pub collection: String,
    /// ... the key of the document that the data becomes, ...
    pub key: String,
    /// ... and the version that it became; not known before it is written, and not kept until the next change.
    pub version: Option<String>,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When it was accepted, ...
    pub accepted_at: String,
    /// ... became a document, ...
    pub written_at: Option<String>,
    /// ... and came to its end.
    pub finished_at: Option<String>,
    /// Each target's part.
    pub targets: BTreeMap<String, Target>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskView {
    /// Its id.
    pub task_id: String,
    /// All that is told of it.
    #[serde(flatten)]
    pub told: Told,
    /// When it is tried again; known on the node that carries it out.
    pub next_attempt_at: Option<String>,
}

/// A moment as text.
pub fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
