//! What `POST /v1/sync/verify` and `repair` answer. As with all answers, every field may be missing.

use serde::Deserialize;

/// What a comparison came to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Verification {
    pub(in crate::cli) equal: bool,
    pub(in crate::cli) complete: bool,
    pub(in crate::cli) took_ms: u64,
    pub(in crate::cli) nodes: Vec<ComparedNode>,
    pub(in crate::cli) differing: u64,
    pub(in crate::cli) differences: Vec<DifferingKey>,
    pub(in crate::cli) undecided: u64,
    pub(in crate::cli) undecided_keys: Vec<KeyName>,
    pub(in crate::cli) in_flight: u64,
    pub(in crate::cli) mended: u64,
}

/// A node's part in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct ComparedNode {
    pub(in crate::cli) id: String,
    pub(in crate::cli) compared: bool,
    pub(in crate::cli) error: Option<String>,
    pub(in crate::cli) documents: u64,
    pub(in crate::cli) rows: u64,
    pub(in crate::cli) digest_right: Option<bool>,
    pub(in crate::cli) faulty: u64,
    pub(in crate::cli) faults: Vec<TableFault>,
    pub(in crate::cli) mended: u64,
}

/// Something wrong in a node's own tables.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct TableFault {
    pub(in crate::cli) kind: String,
    #[serde(flatten)]
    pub(in crate::cli) key: KeyName,
    pub(in crate::cli) write: Option<String>,
    pub(in crate::cli) position: Option<u64>,
}

/// A key by name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct KeyName {
    pub(in crate::cli) collection: String,
    pub(in crate::cli) key: String,
}

/// A key that differs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct DifferingKey {
    #[serde(flatten)]
    pub(in crate::cli) key: KeyName,
    pub(in crate::cli) parts: Vec<DifferingPart>,
    pub(in crate::cli) remedy: Option<KeyRemedy>,
}

/// A part in which it differs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct DifferingPart {
    pub(in crate::cli) part: String,
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) holds: Vec<Hold>,
}

/// What a node holds for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Hold {
    pub(in crate::cli) node: String,
    pub(in crate::cli) state: String,
    pub(in crate::cli) value: Option<String>,
    pub(in crate::cli) version: Option<String>,
}

/// What is done about a key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct KeyRemedy {
    pub(in crate::cli) nodes: Vec<String>,
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) outcome: String,
}

/// How far a comparison has come.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct VerificationProgress {
    pub(in crate::cli) documents: Option<u64>,
    pub(in crate::cli) differing: Option<u64>,
}
