//! A request in the author's JSON, and what it means here.
//!
//! All that the author's Go type marshals to is taken: lists and maps that are `null`, and the zero time, stand for
//! nothing. No other members are, because what is misspelt would silently mean nothing. There is no member for a
//! deletion: a task puts a whole document.
//!
//! **The collection** is that of the type of data: `user` is `users`, as everywhere else; any other type is the
//! collection of that name (`config`, `state`, `business`, …). **The key** is the first of `id`, `TYPE_id` and `uuid`
//! that `data` has, a string or a whole number. Data without one is refused: under an invented key nobody would find
//! it. (Numbers that each node's database counts out for itself collide; such data should bring its `uuid` as `id`.)

use basic_sync::model::{Collection, InvalidName, Key};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::timestamp;

/// Longest id of a task, in bytes: it is the key of its record.
const ID_BYTES_MAX: usize = 256;
/// Longest name of a source, in bytes.
const SOURCE_BYTES_MAX: usize = 256;
/// Targets of one task at most.
const TARGETS_MAX: usize = 256;

/// `ClusterSyncTask` as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a ClusterSyncTask, a JSON object")]
struct Sent {
    task_id: Option<String>,
    source_node: Option<String>,
    target_nodes: Option<Vec<String>>,
    data_type: Option<String>,
    data: Option<Box<RawValue>>,
    priority: Option<i64>,
    timestamp: Option<String>,
}

/// A task that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id, if it came with one.
    pub id: Option<String>,
    /// From whom it comes, as it says.
    pub source: Option<String>,
    /// The nodes that are to have the data; none stands for all.
    pub targets: Vec<String>,
    /// The type of data, as it was sent.
    pub data_type: String,
    /// The higher, the sooner.
    pub priority: i64,
    /// When it was made, as it says.
    pub timestamp: Option<String>,
    /// The document that the data becomes.
    pub document: Key,
    /// The data, as it was sent.
    pub data: Bytes,
    /// The same for two tasks that say the same, whatever their ids.
    pub fingerprint: String,
}

/// A request makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It is not such a task.
    #[error("the body is not a ClusterSyncTask: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A member that it cannot do without.
    #[error("the task has no \"{0}\"")]
    Missing(&'static str),
    /// The id cannot name a record.
    #[error("task_id must have 1 to {ID_BYTES_MAX} bytes without control characters")]
    Id,
    /// The source is too long.
    #[error("source_node has {0} bytes; at most {SOURCE_BYTES_MAX} are kept")]
    Source(usize),
    /// There are too many targets.
    #[error(
        "the task names {0} targets; at most {TARGETS_MAX} are taken, and an empty list stands for all nodes"
    )]
    Targets(usize),
    /// The time is not one.
    #[error("timestamp must be a time by RFC 3339, such as 2025-09-19T08:15:47Z")]
    Timestamp,
    /// The data cannot be read.
    #[error("\"data\" cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// The data is something else than an object.
    #[error("\"data\" must be an object")]
    NotAnObject,
    /// The data has no key.
    #[error(
        "\"data\" has no key: give it \"id\", \"{0}_id\" or \"uuid\", a string or a whole number"
    )]
    NoKey(String),
    /// What should be the key cannot be one.
    #[error(
        "\"{0}\" of \"data\" is the key of the document, and must be a string or a whole number"
    )]
    OddKey(String),
    /// The collection or the key has a name that cannot be.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Task {
    /// Reads a request.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn from_json(body: &[u8]) -> Result<Self, TaskError> {
        let sent: Sent = serde_json::from_slice(body).map_err(TaskError::Malformed)?;
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let id = text(sent.task_id);
        if id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(TaskError::Id);
        }
        let source = text(sent.source_node);
        if let Some(long) = source
            .as_ref()
            .filter(|source| source.len() > SOURCE_BYTES_MAX)
        {
            return Err(TaskError::Source(long.len()));
        }
        let targets = sent.target_nodes.unwrap_or_default();
        if targets.len() > TARGETS_MAX {
            return Err(TaskError::Targets(targets.len()));
        }
        let timestamp = text(sent.timestamp).filter(|moment| moment != timestamp::ZERO);
        if timestamp
            .as_deref()
            .is_some_and(|moment| !timestamp::is_rfc3339(moment))
        {
            return Err(TaskError::Timestamp);
        }
        let data_type = text(sent.data_type).ok_or(TaskError::Missing("data_type"))?;
        let priority = sent.priority.unwrap_or_default();
        let data: Box<str> = sent.data.ok_or(TaskError::Missing("data"))?.into();
        let value: Value = serde_json::from_str(&data).map_err(TaskError::Unreadable)?;
        let collection = Collection::new(collection_of(&data_type))?;
        let document = Key::new(collection, &key_in(&value, &data_type)?)?;
        let fingerprint = fingerprint(&serde_json::json!([
            source, targets, data_type, priority, timestamp, value
        ]));
        Ok(Self {
            id,
            source,
            targets,
            data_type,
            priority,
            timestamp,
            document,
            data: String::from(data).into(),
            fingerprint,
        })
    }
}

/// Whether a text can be the id of a task.
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A new id: a UUID of version 7 (RFC 9562), so that ids sort by the time at which they were made.
pub fn new_id(now_ms: u64, random: [u8; 10]) -> String {
    let [a, b, rest @ ..] = random;
    let variant = u16::from_be_bytes([rest[0], rest[1]]) & 0x3fff | 0x8000;
    let version = u16::from_be_bytes([a, b]) & 0x0fff | 0x7000;
    let tail = rest[2..]
        .iter()
        .fold(0_u64, |tail, byte| tail << 8 | u64::from(*byte));
    let time = now_ms & 0xffff_ffff_ffff;
    format!(
        "{:08x}-{:04x}-{version:04x}-{variant:04x}-{tail:012x}",
        time >> 16,
        time & 0xffff
    )
}

/// The collection of a type of data.
pub fn collection_of(data_type: &str) -> &str {
    match data_type {
        "user" => "users",
        other => other,
    }
}

fn key_in(data: &Value, data_type: &str) -> Result<String, TaskError> {
    let members = data.as_object().ok_or(TaskError::NotAnObject)?;
    let of_type = format!("{data_type}_id");
    let names = ["id", &of_type, "uuid"];
    let found = names.iter().find_map(|name| {
        let value = members.get(*name).filter(|value| !value.is_null())?;
        Some((*name, value))
    });
    match found {
        None => Err(TaskError::NoKey(data_type.to_owned())),
        Some((_, Value::String(key))) => Ok(key.clone()),
        Some((_, Value::Number(number))) if number.is_i64() || number.is_u64() => {
            Ok(number.to_string())
        }
        Some((name, _)) => Err(TaskError::OddKey(name.to_owned())),
    }
}

fn fingerprint(said: &Value) -> String {
    let mut said = said.clone();
    // Objects are ordered by themselves, unless some crate of the build asks serde_json to keep their order.
    said.sort_all_objects();
    blake3::hash(said.to_string().as_bytes())
        .to_hex()
        .to_string()
}

#[cfg(test)]
mod tests;
