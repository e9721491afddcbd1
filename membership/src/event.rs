//! What happened to the members, as a stream.
//!
//! Each transition that this node concludes becomes one [`Event`] with its
//! evidence. Every stream has its own place in one bounded buffer of
//! [`EVENTS_BUFFERED`]; a reader that falls behind loses the oldest and is told
//! how many ([`Lagged`]), after which [`Cluster::members`](crate::Cluster::members)
//! is the way to the present. Nothing in here waits for a reader.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::broadcast;

use crate::identity::Incarnation;
use crate::member::MemberState;
use crate::name::NodeId;

/// Events kept for a reader that is behind.
pub const EVENTS_BUFFERED: usize = 1024;

/// Something happened to a member, or to this node's own gossip.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When this node concluded it, by this node's clock.
    pub at: SystemTime,
    /// The member it happened to.
    pub id: NodeId,
    /// The member's incarnation after the event.
    pub incarnation: Incarnation,
    /// What happened.
    pub kind: EventKind,
}

/// Who or what brought a member to another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The node itself, which announced it.
    Announced,
    /// An operator, who decided it.
    Operator,
    /// Its heartbeats, heard here or missed.
    Heard,
}

impl Cause {
    /// The name used in the API, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Announced => "announced",
            Cause::Operator => "operator",
            Cause::Heard => "heard",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// A running node was seen for the first time.
    Joined {
        /// The state it announces.
        state: MemberState,
    },
    /// Its metadata changed, other than its announced state.
    Updated,
    /// It went to another state, in a way that none of the other kinds names.
    StateChanged {
        /// The state before.
        from: MemberState,
        /// The state now.
        to: MemberState,
        /// Who or what brought it there.
        cause: Cause,
    },
    /// This node has begun to doubt that it lives. Nothing else changes: it
    /// keeps its traffic, and either fails or is heard again.
    Suspected {
        /// The state before.
        from: MemberState,
        /// How long ago its heartbeat last advanced.
        heartbeat_age: Option<Duration>,
        /// That age in mean intervals between its heartbeats.
        phi: Option<f64>,
        /// Whether it would have failed, were failures not held back because
        /// this node itself had stalled.
        held: bool,
    },
    /// An operator has removed it.
    Removed {
        /// The state before.
        from: MemberState,
    },
    /// Its heartbeats stopped without an announcement.
    Failed {
        /// The state before.
        from: MemberState,
        /// How long ago its heartbeat last advanced.
        heartbeat_age: Option<Duration>,
        /// That age in mean intervals between its heartbeats.
        phi: Option<f64>,
    },
    /// It stopped as announced.
    Left {
        /// The state before.
        from: MemberState,
    },
    /// A failed or left node runs again.
    Returned {
        /// The state before.
        from: MemberState,
        /// The state it announces now.
        to: MemberState,
        /// How long it was away.
        away: Duration,
    },
    /// A newer incarnation took its place before it was missed.
    Restarted {
        /// The incarnation before.
        previous: Incarnation,
        /// The state it announces now.
        state: MemberState,
    },
    /// It has been gone for so long that it is no longer remembered.
    Forgotten,
    /// Another process announces the id of this node.
    IdentityConflict {
        /// The other's incarnation.
        other: Incarnation,
        /// Where its datagrams come from.
        address: SocketAddr,
    },
    /// The gossip protocol of this node failed and was started again.
    GossipRestarted {
        /// What it failed with.
        reason: String,
    },
}

/// The reader was too slow; this many events are lost to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{missed} events were missed because the reader was too slow; read the members again")]
pub struct Lagged {
    /// Events lost.
    pub missed: u64,
}

/// One reader's place in the stream of events.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
}

impl EventStream {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> EventStream {
        EventStream { receiver }
    }

    /// The next event, or [`Lagged`] where some were lost, or `None` once gossip
    /// has stopped. Safe to cancel: no event is lost.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_what_it_missed() {
        let (sender, receiver) = broadcast::channel(4);
        let mut stream = EventStream::new(receiver);
        let event = |n| Event {
            at: SystemTime::UNIX_EPOCH,
            id: "n1".parse().unwrap(),
            incarnation: Incarnation(n),
            kind: EventKind::Updated,
        };
        for n in 0..7 {
            sender.send(event(n)).unwrap();
        }
        assert_eq!(stream.next().await, Some(Err(Lagged { missed: 3 })));
        assert_eq!(stream.next().await, Some(Ok(event(3))));
        drop(sender);
        for n in 4..7 {
            assert_eq!(stream.next().await, Some(Ok(event(n))));
        }
        assert_eq!(stream.next().await, None);
    }
}
