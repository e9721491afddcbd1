//! What an operator asks when members do not find each other.
//!
//! [`Diagnostics`] is a snapshot for people: what gossip has sent, received and
//! refused, how late this node itself is, which seeds are silent. What was refused
//! is kept for the last [`REJECTIONS_MAX`] pairs of source and reason, so that
//! another secret or another cluster name is a sentence and not a silence.
//! Warnings go to the log once per pair in [`WARN_INTERVAL`], and at most
//! [`WARNINGS_MAX`] in that time altogether. All of it is bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::ClockOffset;
use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

pub(crate) mod journal;

/// Pairs of source and reason that are kept.
pub const REJECTIONS_MAX: usize = 64;
/// How long a warning about one source and reason is not repeated.
pub const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// Most warnings about refused frames in one interval.
pub const WARNINGS_MAX: u32 = 10;

/// Why a frame was refused. None of them changed any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectReason {
    /// The bytes are no gossip frame, or one of another version.
    NotGossip,
    /// It is sealed with a key that is not installed here.
    OtherSecret,
    /// It was altered, or made without the key it names.
    Forged,
    /// It comes from an agent with the same secret and another cluster name.
    OtherCluster,
    /// It was received before, or is too old to tell.
    Replayed,
    /// Its sender speaks as a life that is earlier than one heard before: it is
    /// a recording, or that agent lost its data directory and its clock went back.
    FormerLife,
    /// It was meant for another node.
    Misaddressed,
    /// Its sender advertises the peer address of another node that is heard.
    AddressTaken,
    /// It was made with the key, and breaks the rules of the protocol.
    Faulty,
}

impl RejectReason {
    /// Its name in JSON, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::NotGossip => "not-gossip",
            RejectReason::OtherSecret => "other-secret",
            RejectReason::Forged => "forged",
            RejectReason::OtherCluster => "other-cluster",
            RejectReason::Replayed => "replayed",
            RejectReason::FormerLife => "former-life",
            RejectReason::Misaddressed => "misaddressed",
            RejectReason::AddressTaken => "address-taken",
            RejectReason::Faulty => "faulty",
        }
    }
}

/// What was refused from one source for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where the datagrams came from; anybody can write anything there unless
    /// the sender is known.
    pub source: SocketAddr,
    /// Why they were refused.
    pub reason: RejectReason,
    /// The authenticated sender of the last one.
    pub sender: Option<NodeId>,
    /// The cluster of the last one's sender, where it is another than ours.
    pub cluster: Option<ClusterName>,
    /// The rule it broke, for [`RejectReason::Faulty`]; the address, for
    /// [`RejectReason::AddressTaken`].
    pub detail: Option<String>,
    /// How many there were.
    pub count: u64,
    /// When the first came.
    pub first: SystemTime,
    /// When the last came.
    pub last: SystemTime,
}

impl fmt::Display for Rejection {
    /// A sentence that says what to do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source;
        let sender: &dyn fmt::Display = match &self.sender {
            Some(sender) => sender,
            None => &"unknown",
        };
        match self.reason {
            RejectReason::NotGossip => write!(
                f,
                "a datagram from {source} is not gossip of this version; look at what runs there"
            ),
            RejectReason::OtherSecret => write!(
                f,
                "a datagram from {source} could not be opened: that agent uses another peer \
                 secret; give both agents the same one"
            ),
            RejectReason::Forged => write!(
                f,
                "a datagram from {source} was altered on its way or made without the secret"
            ),
            RejectReason::OtherCluster => {
                let cluster = self.cluster.as_ref().map_or("another", ClusterName::as_str);
                write!(
                    f,
                    "agent {sender} at {source} has the same secret but belongs to cluster \
                     {cluster}; give both the same cluster name, or different secrets"
                )
            }
            RejectReason::Replayed => {
                write!(f, "a datagram of agent {sender} came again, from {source}")
            }
            RejectReason::FormerLife => write!(
                f,
                "agent {sender} at {source} speaks as a former life of its own: its data \
                 directory is new and its clock has gone back, or somebody sends a recording; \
                 set its clock right and start it again"
            ),
            RejectReason::Misaddressed => {
                write!(
                    f,
                    "a datagram of agent {sender}, from {source}, was meant for another node"
                )
            }
            RejectReason::AddressTaken => {
                let address = self.detail.as_deref().unwrap_or("an address");
                write!(
                    f,
                    "agent {sender} at {source} advertises {address}, which is the peer port of \
                     another node; give it a [peer] advertise of its own, unless it has \
                     replaced that node: then it is let in once that one has been silent for \
                     a few seconds"
                )
            }
            RejectReason::Faulty => {
                let detail = self.detail.as_deref().unwrap_or("it breaks the protocol");
                write!(
                    f,
                    "a message of agent {sender} at {source} was refused: {detail}"
                )
            }
        }
    }
}

/// What has been counted since gossip started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received, refused ones included.
    pub datagrams_received: u64,
    /// Bytes in datagrams sent.
    pub bytes_sent: u64,
    /// Bytes in datagrams received.
    pub bytes_received: u64,
    /// Frames that the connection path has taken; what becomes of them there, it
    /// counts itself.
    pub large_frames_sent: u64,
    /// Frames received by the connection path.
    pub large_frames_received: u64,
    /// Frames that neither path would take.
    pub frames_dropped: u64,
    /// Exchanges that other nodes began with this one.
    pub exchanges_received: u64,
    /// Frames refused, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Members that peers named and that there was no room for.
    pub members_crowded_out: u64,
    /// Members that peers named with heartbeats that cannot be true.
    pub heartbeats_refused: u64,
    /// Values in peers' metadata that were not understood.
    pub metadata_refused: u64,
    /// Times the gossip protocol failed and was started again.
    pub gossip_restarts: u64,
}

/// Another process with the id of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConflict {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Where its frames come from.
    pub address: SocketAddr,
    /// When it was last heard.
    pub last: SystemTime,
}

/// A node id under which several processes live, as a third node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContestedId {
    /// The id.
    pub id: NodeId,
    /// Those who use it, in the order of their incarnations; the last one counts.
    pub claimants: Vec<Claimant>,
    /// Since when this node has seen more than one alive.
    pub since: SystemTime,
}

/// One of several processes with the same node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The address of its peer port.
    pub address: SocketAddr,
}

/// A snapshot for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diagnostics {
    /// The counters.
    pub counters: Counters,
    /// What was refused, the latest first.
    pub rejections: Vec<Rejection>,
    /// How late this node's own last tick came.
    pub tick_delay: Duration,
    /// How late the latest of its ticks came.
    pub tick_delay_max: Duration,
    /// Whether failures are held back because this process stalled.
    pub removals_held: bool,
    /// Seeds, given by address, that have never answered.
    pub silent_seeds: Vec<SocketAddr>,
    /// Seeds, given by name, whose name does not resolve now, and why.
    pub unresolved_seeds: BTreeMap<String, String>,
    /// Another process that announces this node's id.
    pub identity_conflict: Option<IdentityConflict>,
    /// Ids of other nodes that more than one live process uses.
    pub contested: Vec<ContestedId>,
    /// The median of all live members' clocks, this node's among them, minus this
    /// node's; `None` if no other was measured.
    pub clock_offset_median: Option<ClockOffset>,
    /// How long ago another node last began an exchange with this one, which
    /// proves that the advertised address is reached; `None` if none ever did.
    pub last_inbound: Option<Duration>,
    /// What is wrong with the roster's file, in a sentence.
    pub roster_problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_reason_is_its_json() {
        for reason in [
            RejectReason::NotGossip,
            RejectReason::OtherSecret,
            RejectReason::Forged,
            RejectReason::OtherCluster,
            RejectReason::Replayed,
            RejectReason::FormerLife,
            RejectReason::Misaddressed,
            RejectReason::AddressTaken,
            RejectReason::Faulty,
        ] {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }
}
