//! The API's answers as the commands read them.
//!
//! These types are lenient where the API's own are exact: a field may be missing or null, because the agent that is
//! asked may be older or newer than this client, and an operator needs an answer most when something is odd.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Answer of `GET /v1/members`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Members {
    #[serde(rename = "self")]
    pub(in crate::cli) own_id: Option<String>,
    pub(in crate::cli) members: Vec<Member>,
}

/// One member of the cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Member {
    pub(in crate::cli) id: Option<String>,
    pub(in crate::cli) state: Option<String>,
    /// Whether it has an agent; a server that was registered has none.
    pub(in crate::cli) agent: Option<bool>,
    /// Whether it is heard by the agent that is asked.
    pub(in crate::cli) live: Option<bool>,
    pub(in crate::cli) addresses: Option<Addresses>,
    pub(in crate::cli) labels: Option<BTreeMap<String, Value>>,
    pub(in crate::cli) weight: Option<u64>,
    pub(in crate::cli) app: Option<App>,
    pub(in crate::cli) since: Option<Moment>,
    pub(in crate::cli) phi: Option<f64>,
    /// Whether the agent that is asked reaches its app.
    pub(in crate::cli) reachable: Reachable,
    /// What operators have decided about it.
    pub(in crate::cli) decision: Value,
}

/// Whether an agent reaches a member's app.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Reachable {
    pub(in crate::cli) ok: Option<bool>,
}

/// Where a member is reached.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Addresses {
    pub(in crate::cli) peer: Option<String>,
    pub(in crate::cli) api: Option<String>,
    pub(in crate::cli) app: Option<String>,
}

/// The server beside a member.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct App {
    pub(in crate::cli) url: Option<String>,
    pub(in crate::cli) healthy: Option<bool>,
    /// The node whose agent says so, where that is not the agent beside it.
    pub(in crate::cli) by: Option<String>,
    pub(in crate::cli) since: Option<Moment>,
    pub(in crate::cli) reason: Option<String>,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Status {
    pub(in crate::cli) cluster: Option<String>,
    #[serde(rename = "self")]
    pub(in crate::cli) own_id: Option<String>,
    pub(in crate::cli) state: Option<String>,
    pub(in crate::cli) ready: Option<bool>,
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) uptime_seconds: Option<f64>,
    /// How many members are in which state, `total` among them.
    pub(in crate::cli) members: BTreeMap<String, Value>,
    pub(in crate::cli) app: Option<App>,
    pub(in crate::cli) proxy: Option<Proxy>,
    pub(in crate::cli) sync: Option<Sync>,
    pub(in crate::cli) gossip: Option<Gossip>,
    pub(in crate::cli) disk: Option<Disk>,
    pub(in crate::cli) findings: Vec<Finding>,
}

/// Gossip as the agent sees it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Gossip {
    pub(in crate::cli) advertised: Option<String>,
    pub(in crate::cli) tick_delay_max_ms: Option<u64>,
    pub(in crate::cli) last_inbound_ms: Option<u64>,
    pub(in crate::cli) heartbeat_age_max_ms: Option<u64>,
    pub(in crate::cli) phi_max: Option<f64>,
    pub(in crate::cli) phi_limit: Option<f64>,
    pub(in crate::cli) clock_offset_max_ms: Option<i64>,
}

/// The disk under the agent's data.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Disk {
    pub(in crate::cli) free_bytes: Option<u64>,
    pub(in crate::cli) total_bytes: Option<u64>,
}

/// The proxy for clients.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Proxy {
    pub(in crate::cli) listen: Option<String>,
    pub(in crate::cli) requests: Option<u64>,
    pub(in crate::cli) failed: Option<u64>,
    pub(in crate::cli) retried: Option<u64>,
    pub(in crate::cli) endpoints: Vec<Endpoint>,
}

/// A server that the proxy sends requests to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Endpoint {
    pub(in crate::cli) id: Option<String>,
    pub(in crate::cli) target: Option<String>,
    pub(in crate::cli) admission: Option<String>,
    pub(in crate::cli) in_flight: Option<u64>,
    pub(in crate::cli) requests: Option<u64>,
    pub(in crate::cli) failures: Option<u64>,
    pub(in crate::cli) ejected: Option<bool>,
}

/// Replication with the peers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Sync {
    pub(in crate::cli) caught_up: Option<bool>,
    pub(in crate::cli) peers: Vec<SyncPeer>,
}

/// Replication with one peer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct SyncPeer {
    pub(in crate::cli) id: Option<String>,
    pub(in crate::cli) connected: Option<bool>,
    pub(in crate::cli) behind: Option<u64>,
    pub(in crate::cli) behind_ms: Option<u64>,
    pub(in crate::cli) unacknowledged: Option<u64>,
    pub(in crate::cli) unacknowledged_ms: Option<u64>,
    pub(in crate::cli) last_error: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Finding {
    pub(in crate::cli) severity: Option<String>,
    pub(in crate::cli) fact: Option<String>,
    pub(in crate::cli) since: Option<Moment>,
    pub(in crate::cli) cause: Option<String>,
    pub(in crate::cli) evidence: Option<Lines>,
    pub(in crate::cli) next: Option<Lines>,
}

/// One line or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::cli) enum Lines {
    One(String),
    Several(Vec<String>),
}

/// Answer of a decision about a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Decided {
    /// `done`, or `unchanged` if it was so already.
    pub(in crate::cli) result: Option<String>,
    pub(in crate::cli) state: Option<String>,
    /// Whether it ended a conflict of two nodes with one id.
    pub(in crate::cli) ended_conflict: bool,
    /// All that is in force about the node.
    pub(in crate::cli) decision: Value,
}

/// Answer of `GET /v1/audit`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct AuditRecords {
    pub(in crate::cli) items: Vec<AuditRecord>,
}

/// One decision of an operator.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct AuditRecord {
    pub(in crate::cli) at: Option<String>,
    pub(in crate::cli) action: Option<String>,
    pub(in crate::cli) node: Option<String>,
    pub(in crate::cli) by: Option<String>,
    pub(in crate::cli) from: Option<String>,
    pub(in crate::cli) on: Option<String>,
    pub(in crate::cli) why: Option<String>,
    pub(in crate::cli) before: Value,
    pub(in crate::cli) after: Value,
}

/// Answer of a write.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct WriteReceipt {
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) acks: Option<u64>,
}

/// Answer of `POST /v1/data:batch`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct BatchReceipt {
    pub(in crate::cli) results: Vec<WriteReceipt>,
    pub(in crate::cli) acks: Option<u64>,
}

/// Answer of `GET /v1/data/{collection}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct DataPage {
    pub(in crate::cli) items: Vec<DataItem>,
    /// The key after which the next page begins.
    pub(in crate::cli) next: Option<String>,
}

/// One document of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct DataItem {
    pub(in crate::cli) key: String,
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) value: Value,
}

/// Answer of `GET /v1/data/{collection}/{key}/history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct HistoryPage {
    /// The newest first.
    pub(in crate::cli) versions: Vec<HistoryVersion>,
    /// Where the next page begins.
    pub(in crate::cli) next: Option<String>,
}

/// One version of a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct HistoryVersion {
    pub(in crate::cli) version: String,
    pub(in crate::cli) time: String,
    pub(in crate::cli) op: String,
    /// `expired`: it was not a client that deleted it.
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) value: Option<Value>,
}

/// One event of `GET /v1/watch`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Change {
    pub(in crate::cli) collection: String,
    pub(in crate::cli) key: String,
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) op: String,
    /// `expired`: it was not a client that deleted it.
    pub(in crate::cli) reason: Option<String>,
    pub(in crate::cli) value: Option<Value>,
}

/// Answer of `GET /v1/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct EventPage {
    /// Each as it came.
    pub(in crate::cli) events: Vec<Box<RawValue>>,
    /// The event after which the next page begins.
    pub(in crate::cli) next: Option<u64>,
}

/// One event of `GET /v1/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct NodeEvent {
    pub(in crate::cli) at: Option<String>,
    pub(in crate::cli) kind: Option<String>,
    pub(in crate::cli) node: Option<String>,
    pub(in crate::cli) from: Option<String>,
    pub(in crate::cli) to: Option<String>,
    pub(in crate::cli) cause: EventCause,
    pub(in crate::cli) evidence: BTreeMap<String, Value>,
}

/// Why an event happened.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct EventCause {
    pub(in crate::cli) text: Option<String>,
}

/// A point in time: RFC 3339, or milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(in crate::cli) enum Moment {
    Milliseconds(u64),
    Text(String),
}

impl Lines {
    /// The lines.
    pub(in crate::cli) fn iter(&self) -> impl Iterator<Item = &str> {
        let lines = match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::Several(lines) => lines.as_slice(),
        };
        lines.iter().map(String::as_str)
    }
}

impl Moment {
    /// How long ago it was, such as `3m 12s`; the text itself if it is no time.
    pub(in crate::cli) fn age(&self, now: SystemTime) -> String {
        let moment = match self {
            Self::Milliseconds(ms) => {
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(*ms))
            }
            Self::Text(text) => humantime::parse_rfc3339_weak(text).ok(),
        };
        match (moment, self) {
            // A moment that another clock puts into the future was just now.
            (Some(moment), _) => age(now.duration_since(moment).unwrap_or_default()),
            (None, Self::Text(text)) => text.clone(),
            (None, Self::Milliseconds(ms)) => format!("{ms} ms since 1970"),
        }
    }
}

/// A duration in its two largest units, such as `3m 12s` or `2days 4h`.
pub(in crate::cli) fn age(duration: Duration) -> String {
    let whole = Duration::from_secs(duration.as_secs());
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (192, "3m 12s"), (90_061, "1day 1h")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_moment_is_a_date_or_milliseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (json, text) in [
            ("\"1970-01-01T00:01:30Z\"", "10s"),
            ("\"1970-01-01T00:01:30.250Z\"", "9s"),
            ("90000", "10s"),
            ("\"1970-01-01T00:02:00Z\"", "0s"),
            ("\"yesterday\"", "yesterday"),
        ] {
            let moment: Moment = serde_json::from_str(json).unwrap();
            assert_eq!(moment.age(now), text, "{json}");
        }
    }

    #[test]
    fn an_answer_without_any_of_the_fields_can_be_read() {
        for json in ["{}", r#"{"new":1}"#] {
            serde_json::from_str::<Members>(json).unwrap();
            serde_json::from_str::<Status>(json).unwrap();
            serde_json::from_str::<DataPage>(json).unwrap();
            serde_json::from_str::<WriteReceipt>(json).unwrap();
            serde_json::from_str::<Change>(json).unwrap();
        }
        let member = r#"{"members":[{"id":"n1","addresses":null,"weight":null,"app":{}}]}"#;
        assert_eq!(
            serde_json::from_str::<Members>(member).unwrap().members[0]
                .id
                .as_deref(),
            Some("n1")
        );
    }
}
