//! Records of events, as they are kept, served and handed to hooks.
//!
//! A promise: the same JSON goes to the journal's files, to clients and to hooks. Fields may be added and are never
//! renamed. What does not apply to an event is left out.

use std::fmt;
use std::net::SocketAddr;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use basic_membership::{Incarnation, MemberState, NodeId};
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// Longest text that is taken over from elsewhere, in characters.
const TEXT_MAX: usize = 300;

/// The number of an event on the node that recorded it, and so the place to go on from after it. Larger than those of
/// all events before it, also across restarts; the numbers of two nodes have nothing to do with each other.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EventId(pub u64);

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number on the node that recorded it.
    pub id: EventId,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
    /// The node that recorded it.
    pub seen_by: NodeId,
}

/// What happened, to whom, why, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// When the recording node concluded it, by its clock; to the millisecond.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The kind of event.
    pub kind: Kind,
    /// The node that it happened to.
    pub node: NodeId,
    /// That node's incarnation after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The node's state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<MemberState>,
    /// The node's state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MemberState>,
    /// Why.
    pub cause: Cause,
    /// What shows it.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
    /// All of it in one sentence for people.
    pub message: String,
}

/// Why something happened: a code for machines, and the same as a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// For machines.
    pub code: CauseCode,
    /// For people, such as "its heartbeats stopped".
    pub text: String,
}

/// Why something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseCode {
    /// The node said so itself.
    Announced,
    /// Its heartbeats are heard.
    Heard,
    /// Its heartbeats have stopped, or come late.
    Silence,
    /// An operator decided it.
    Operator,
    /// A newer incarnation took the node's place.
    Restart,
    /// It was away for too long.
    Age,
    /// Two processes have one id.
    Conflict,
    /// A defect of the gossip protocol.
    Defect,
    /// The health checks of the server beside the node.
    Probe,
    /// A signal of the operating system, or a request to stop.
    Command,
    /// More events than could be taken up.
    Overload,
}

/// What shows that something happened. Durations are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// How long ago the node's heartbeat last advanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_age_ms: Option<u64>,
    /// That age in mean intervals between the node's heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phi: Option<f64>,
    /// Whether a verdict was held back because the recording agent itself was late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// How long the node was away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
    /// The node's incarnation before, or that of its rival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_incarnation: Option<Incarnation>,
    /// Where a rival's datagrams come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What a probe or a protocol said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The keys that the node has installed, the one in use first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The version of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the run before ended without being stopped in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crashed: Option<bool>,
    /// How many events are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
    /// The operator's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// A decision of an operator, as the audit has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its key in the audit.
    pub audit: String,
    /// What was done, such as `drain`.
    pub action: String,
    /// Who did it.
    pub by: String,
    /// From which address.
    pub client: String,
    /// Which node's agent was asked.
    pub on: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Fact {
    /// A fact without states, incarnation and evidence, which the caller adds.
    pub fn new(
        at: SystemTime,
        kind: Kind,
        node: NodeId,
        cause: Cause,
        message: impl Into<String>,
    ) -> Fact {
        Fact {
            at: whole_milliseconds(at),
            kind,
            node,
            incarnation: None,
            from: None,
            to: None,
            cause,
            evidence: Evidence::default(),
            message: message.into(),
        }
    }
}

impl Cause {
    /// A code and its text.
    pub fn new(code: CauseCode, text: impl Into<String>) -> Cause {
        Cause {
            code,
            text: text.into(),
        }
    }
}

impl Evidence {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Evidence::default()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(EventId)
    }
}

/// A duration for evidence.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A measured phi for evidence: to two places, and none where it is no number.
pub(super) fn phi(phi: Option<f64>) -> Option<f64> {
    let rounded = (phi? * 100.0).round() / 100.0;
    rounded.is_finite().then_some(rounded)
}

/// A text from elsewhere, made fit to be kept: one line, not too long.
pub(super) fn text(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_MAX).map(plain).collect()
}

/// A moment as it is written, so that what is read again is equal.
fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let whole = Duration::from_millis(millis(since));
    SystemTime::UNIX_EPOCH.checked_add(whole).unwrap_or(time)
}

/// Moments as RFC 3339 text in UTC.
mod rfc3339 {
    use std::time::{Duration, SystemTime};

    use serde::{Deserialize as _, Deserializer, Serializer, de, ser};

    /// The first second of the year 10000, which has no RFC 3339 text.
    const END: Duration = Duration::from_secs(253_402_300_800);

    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if since >= END {
            return Err(ser::Error::custom("a moment after the year 9999"));
        }
        let time = SystemTime::UNIX_EPOCH + since;
        serializer.collect_str(&humantime::format_rfc3339_millis(time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_form() {
        let mut fact = Fact::new(
            SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_999),
            Kind::Failed,
            "n3".parse().unwrap(),
            Cause::new(CauseCode::Silence, "its heartbeats stopped"),
            "n3 failed",
        );
        fact.incarnation = Some(Incarnation(7));
        fact.from = Some(MemberState::Active);
        fact.to = Some(MemberState::Failed);
        fact.evidence.heartbeat_age_ms = Some(1300);
        fact.evidence.phi = phi(Some(9.126));
        let record = Record {
            id: EventId(41),
            fact,
            seen_by: "n1".parse().unwrap(),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            json,
            r#"{"id":41,"at":"1970-01-01T00:00:01.500Z","kind":"failed","node":"n3","incarnation":7,"from":"active","to":"failed","cause":{"code":"silence","text":"its heartbeats stopped"},"evidence":{"heartbeat_age_ms":1300,"phi":9.13},"message":"n3 failed","seen_by":"n1"}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn a_record_of_a_later_version_with_more_fields_can_be_read() {
        let json = r#"{"id":1,"at":"1970-01-01T00:00:01.500Z","kind":"left","node":"n3","cause":{"code":"announced","text":"x","more":1},"evidence":{"new":[1]},"message":"m","seen_by":"n1","new":{}}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(record.fact.kind, Kind::Left);
    }

    #[test]
    fn a_phi_that_is_no_number_is_no_evidence() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(phi(value), None);
        }
    }

    #[test]
    fn a_text_from_elsewhere_stays_one_line() {
        assert_eq!(text("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(text(&"é".repeat(1000)).chars().count(), TEXT_MAX);
    }
}
