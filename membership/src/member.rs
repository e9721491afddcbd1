//! Members and the states they go through.
//!
//! A state is what the node announces of itself, unless this node can no longer
//! hear it. `announced` below is
//! [`Metadata::announced`](crate::Metadata::announced); only the node itself
//! moves along that row, and it may skip steps. The way down belongs to the
//! failure detector of the observer, so two observers may differ for a while.
//!
//! ```text
//!  announced by the node itself
//!  ┌─────────┐   ┌─────────────┐   ┌────────┐   ┌──────────┐   ┌─────────┐   ┌──────┐
//!  │ joining │──▶│ catching-up │──▶│ active │◀─▶│ draining │──▶│ leaving │──▶│ left │
//!  └────┬────┘   └──────┬──────┘   └───┬────┘   └────┬─────┘   └────┬────┘   └──────┘
//!       │               │              │             │              │            ▲
//!       └───────────────┴──────┬───────┴─────────────┘              └────────────┘
//!                              │ no heartbeat: phi above the threshold,  no heartbeat
//!                              ▼ and this process did not stall itself
//!                         ┌────────┐  heartbeats again, or a new incarnation
//!                         │ failed │──▶ back to what it announces
//!                         └────────┘
//! ```
//!
//! A node that has left comes back only with a new incarnation. `failed` means
//! out of rotation and nothing more: the node is still spoken to, and one
//! heartbeat pair brings it back. [`MemberState::Suspect`],
//! [`MemberState::Maintenance`] and [`MemberState::Removed`] are never concluded
//! from gossip: they are the verdicts of the agent and of its operator, laid
//! over the states above, and are listed here so that there is one vocabulary.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::identity::Incarnation;
use crate::metadata::{AnnouncedState, Metadata};
use crate::name::NodeId;

/// The state of a member; the module draws how they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Started, not ready.
    Joining,
    /// Fetching what it missed; takes no traffic.
    CatchingUp,
    /// Takes traffic.
    Active,
    /// Finishes what it has.
    Draining,
    /// About to stop.
    Leaving,
    /// Stopped in order.
    Left,
    /// Doubted by the observing agent on other evidence than heartbeats.
    Suspect,
    /// Its heartbeats stopped and it had not announced that it would leave.
    Failed,
    /// Taken out of rotation by an operator.
    Maintenance,
    /// Removed by an operator.
    Removed,
}

impl MemberState {
    /// What an observer concludes from the announcement and from the heartbeats.
    pub(crate) fn concluded(announced: AnnouncedState, live: bool) -> MemberState {
        match (announced, live) {
            (AnnouncedState::Left, _) | (AnnouncedState::Leaving, false) => MemberState::Left,
            (_, false) => MemberState::Failed,
            (AnnouncedState::Joining, true) => MemberState::Joining,
            (AnnouncedState::CatchingUp, true) => MemberState::CatchingUp,
            (AnnouncedState::Active, true) => MemberState::Active,
            (AnnouncedState::Draining, true) => MemberState::Draining,
            (AnnouncedState::Leaving, true) => MemberState::Leaving,
        }
    }

    /// Whether a node in this state is running, as far as is known.
    pub fn is_running(self) -> bool {
        !matches!(
            self,
            MemberState::Left | MemberState::Failed | MemberState::Removed
        )
    }

    /// The name used in the API, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::CatchingUp => "catching-up",
            MemberState::Active => "active",
            MemberState::Draining => "draining",
            MemberState::Leaving => "leaving",
            MemberState::Left => "left",
            MemberState::Suspect => "suspect",
            MemberState::Failed => "failed",
            MemberState::Maintenance => "maintenance",
            MemberState::Removed => "removed",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One node as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// The incarnation that counts: the highest that lives, else the highest known.
    pub incarnation: Incarnation,
    /// Its state.
    pub state: MemberState,
    /// When this node saw the state begin, by this node's clock.
    pub since: SystemTime,
    /// Where its peer port is.
    pub peer: SocketAddr,
    /// What it announces.
    pub metadata: Arc<Metadata>,
    /// How long ago its heartbeat last advanced here; `None` for this node, and
    /// for one that was never heard.
    pub heartbeat_age: Option<Duration>,
    /// The age in mean heartbeat intervals; `None` where nothing was measured.
    pub phi: Option<f64>,
    /// Whether it is this node.
    pub is_self: bool,
}

/// A snapshot of all members, this node among them, in the order of their ids.
///
/// Failed and left nodes stay in it while they are remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Members {
    list: Vec<Member>,
}

impl Members {
    /// `list` must be ordered by id, each id once.
    pub(crate) fn from_ordered(list: Vec<Member>) -> Members {
        debug_assert!(list.is_sorted_by(|a, b| a.id < b.id));
        Members { list }
    }

    /// The members in the order of their ids.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.list.iter()
    }

    /// How many there are, failed and left ones included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none, which is so only before gossip has started.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The member of that id.
    pub fn find(&self, id: &NodeId) -> Option<&Member> {
        let index = self
            .list
            .binary_search_by(|member| member.id.cmp(id))
            .ok()?;
        self.list.get(index)
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_state_is_its_json() {
        for state in [
            MemberState::Joining,
            MemberState::CatchingUp,
            MemberState::Active,
            MemberState::Draining,
            MemberState::Leaving,
            MemberState::Left,
            MemberState::Suspect,
            MemberState::Failed,
            MemberState::Maintenance,
            MemberState::Removed,
        ] {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
        }
    }

    #[test]
    fn silence_is_a_failure_unless_leaving_was_announced() {
        use AnnouncedState as A;
        use MemberState as S;
        assert_eq!(S::concluded(A::Active, false), S::Failed);
        assert_eq!(S::concluded(A::Draining, false), S::Failed);
        assert_eq!(S::concluded(A::Leaving, true), S::Leaving);
        assert_eq!(S::concluded(A::Leaving, false), S::Left);
        assert_eq!(S::concluded(A::Left, true), S::Left);
    }
}
