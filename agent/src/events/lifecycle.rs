//! Facts about this node's own agent: that it started, that it stops.

use std::time::SystemTime;

use basic_membership::Identity;

use super::kind::Kind;
use super::record::{Cause, CauseCode, Fact, Record, text};

/// Why an agent stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A signal of the operating system.
    Signal(&'static str),
    /// It was asked to leave.
    Asked,
    /// An operator has removed the node.
    Removed,
    /// A part of it ended, which this describes.
    Defect(String),
}

/// The agent has started. `last` is the last event of that kind or of its counterpart that this node recorded.
pub(super) fn started(identity: &Identity, last: Option<&Record>, now: SystemTime) -> Fact {
    let crashed = last.map(|record| record.fact.kind == Kind::NodeStarted);
    let id = &identity.id;
    let version = env!("CARGO_PKG_VERSION");
    let message = match crashed {
        Some(true) => {
            format!("the agent of {id} started; its last run ended without being stopped in order")
        }
        _ => format!("the agent of {id} started"),
    };
    let cause = Cause::new(CauseCode::Command, "it was started");
    let mut fact = Fact::new(now, Kind::NodeStarted, id.clone(), cause, message);
    fact.incarnation = Some(identity.incarnation);
    fact.evidence.version = Some(version.to_owned());
    fact.evidence.crashed = crashed;
    fact
}

/// The agent begins to stop.
pub(super) fn stopping(identity: &Identity, reason: &StopReason, now: SystemTime) -> Fact {
    let cause = match reason {
        StopReason::Signal(name) => Cause::new(CauseCode::Command, format!("it received {name}")),
        StopReason::Asked => Cause::new(CauseCode::Command, "it was asked to leave"),
        StopReason::Removed => Cause::new(CauseCode::Operator, "an operator removed it"),
        StopReason::Defect(what) => Cause::new(CauseCode::Defect, text(what)),
    };
    let id = &identity.id;
    let message = format!("the agent of {id} stops: {}", cause.text);
    let mut fact = Fact::new(now, Kind::NodeStopped, id.clone(), cause, message);
    fact.incarnation = Some(identity.incarnation);
    fact
}
