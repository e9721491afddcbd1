//! Members and the states they go through.
//!
//! A state is what the node announces of itself, unless an operator has decided
//! otherwise or this node can no longer hear it. Three may cause a transition:
//! the node itself, which announces where it is in its course; the failure
//! detector of the observer, so that two observers may differ for a while; and an
//! operator, whose decisions ([`Directive`]) reach every node and are applied by
//! each to its own view.
//!
//! ```text
//!   the node itself
//!  ┌─────────┐   ┌─────────────┐   ┌────────┐   ┌──────────┐   ┌─────────┐   ┌──────┐
//!  │ joining │──▶│ catching-up │──▶│ active │◀─▶│ draining │──▶│ leaving │──▶│ left │
//!  └────┬────┘   └──────┬──────┘   └─┬────▲─┘   └────┬─────┘   └────┬────┘   └──────┘
//!       │               │    phi ≥ ¾ │    │ phi < ½  │              │ silent    ▲
//!       │               │          ┌─▼────┴──┐       │              └───────────┘
//!       │               │          │ suspect │       │   the detector
//!       │               │          └────┬────┘       │
//!       └───────────────┴───────┬───────┴────────────┤ silent: phi above the threshold,
//!                               │                    │ for six rounds of gossip, and this
//!                               │                    │ process did not stall itself
//!                          ┌────▼───┐        ┌───────▼─────┐
//!                          │ failed │◀──────▶│ maintenance │   silent while drained by an
//!                          └────────┘        └─────────────┘   operator: away on purpose
//!        heard again, or a new incarnation: back to what it announces
//! ```
//!
//! | to | from | by whom, on what |
//! |---|---|---|
//! | `joining` … `left` | each other | the node, which may skip steps |
//! | `draining` | `active`, `suspect` | an operator drains it; undrain leads back |
//! | `suspect` | `active` | the detector: phi above ¾ of the threshold, or silent during a hold or for less than six rounds |
//! | `active` | `suspect` | the detector: phi below ½ of the threshold |
//! | `failed` | any but `left`, `removed` | the detector: silent; an operator: fail |
//! | `maintenance` | any but `left`, `removed` | the detector: silent, and an operator drains it |
//! | `left` | `leaving` | the node; the detector: silent |
//! | what it announces | `failed`, `maintenance` | the detector: heard again; an operator: revive |
//! | `removed` | any | an operator: remove |
//! | what it announces | `removed` | the node: an explicit join; an operator: the removal is taken back |
//!
//! A node that has left comes back only with a new incarnation. `failed` means
//! out of rotation and nothing more: the node is still spoken to, and one
//! heartbeat pair brings it back, unless an operator called it failed. `suspect`
//! is an own doubt about an active node, which keeps its traffic; a doubt about
//! any other state is not worth a state of its own. Of a node that finds
//! *itself* `removed` ([`Member::is_self`]) the agent leaves in order and stops:
//! nobody else can make it do so.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::ClockOffset;
use crate::directive::Directive;
use crate::identity::Incarnation;
use crate::metadata::{AnnouncedState, Metadata};
use crate::name::NodeId;

/// What this node hears of another's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its heartbeats come.
    Heard,
    /// They have been missing for a while, or no conclusion is allowed now.
    Doubted,
    /// They have stopped.
    Silent,
}

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
    /// Finishes what it has, by its own decision or an operator's.
    Draining,
    /// About to stop.
    Leaving,
    /// Stopped in order.
    Left,
    /// Active, and doubted by this node; still takes traffic.
    Suspect,
    /// Its heartbeats stopped and it had not announced that it would leave; or an
    /// operator called it failed.
    Failed,
    /// Away on purpose: silent while drained by an operator.
    Maintenance,
    /// Removed by an operator; comes back by an explicit join only.
    Removed,
}

impl MemberState {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Joining,
        Self::CatchingUp,
        Self::Active,
        Self::Draining,
        Self::Leaving,
        Self::Left,
        Self::Suspect,
        Self::Failed,
        Self::Maintenance,
        Self::Removed,
    ];

    /// What follows from what the node announces, from what is heard of it, and
    /// from what operators have decided.
    pub(crate) fn concluded(metadata: &Metadata, life: Life, directive: &Directive) -> MemberState {
        if directive.removes(metadata.joined) {
            return MemberState::Removed;
        }
        match (metadata.announced, life) {
            (AnnouncedState::Left, _) | (AnnouncedState::Leaving, Life::Silent) => {
                MemberState::Left
            }
            _ if directive.failed => MemberState::Failed,
            (_, Life::Silent) if directive.drain => MemberState::Maintenance,
            (_, Life::Silent) => MemberState::Failed,
            (AnnouncedState::Joining, _) => MemberState::Joining,
            (AnnouncedState::CatchingUp, _) => MemberState::CatchingUp,
            (AnnouncedState::Active, _) if directive.drain => MemberState::Draining,
            (AnnouncedState::Active, Life::Doubted) => MemberState::Suspect,
            (AnnouncedState::Active, Life::Heard) => MemberState::Active,
            (AnnouncedState::Draining, _) => MemberState::Draining,
            (AnnouncedState::Leaving, _) => MemberState::Leaving,
        }
    }

    /// Whether a node in this state runs as a part of the cluster, as far as is
    /// known. One that an operator called failed or removed may live all the same
    /// ([`Member::live`]).
    pub fn is_running(self) -> bool {
        match self {
            MemberState::Joining
            | MemberState::CatchingUp
            | MemberState::Active
            | MemberState::Draining
            | MemberState::Leaving
            | MemberState::Suspect => true,
            MemberState::Left
            | MemberState::Failed
            | MemberState::Maintenance
            | MemberState::Removed => false,
        }
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
    /// Whether the failure detector here hears it, or has not missed it for long
    /// enough to call it silent, whatever else is known of it. This node hears itself.
    pub live: bool,
    /// What operators have decided about it.
    pub directive: Directive,
    /// Its wall clock against ours; `None` until it was measured.
    pub clock_offset: Option<ClockOffset>,
    /// Whether it is this node.
    pub is_self: bool,
}

impl Member {
    /// Its share of the load: the operator's word, or else its own.
    pub fn weight(&self) -> u32 {
        self.directive.weight.unwrap_or(self.metadata.weight)
    }

    /// Whether it is there to be spoken to: heard, or not yet missed, and not
    /// gone by its own word. A node that an operator called failed or removed is
    /// present for as long as it lives.
    pub fn is_present(&self) -> bool {
        match self.state {
            MemberState::Left => false,
            state => self.live || state.is_running(),
        }
    }
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
    use crate::directive::JoinMark;

    /// Does not compile until a new state has a place in the list.
    #[test]
    fn every_state_is_in_the_list() {
        let place = |state| match state {
            MemberState::Joining => 0,
            MemberState::CatchingUp => 1,
            MemberState::Active => 2,
            MemberState::Draining => 3,
            MemberState::Leaving => 4,
            MemberState::Left => 5,
            MemberState::Suspect => 6,
            MemberState::Failed => 7,
            MemberState::Maintenance => 8,
            MemberState::Removed => 9,
        };
        for (index, state) in MemberState::ALL.into_iter().enumerate() {
            assert_eq!(place(state), index);
        }
    }

    #[test]
    fn the_name_of_a_state_is_its_json() {
        for state in MemberState::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
        }
    }

    fn concluded(announced: AnnouncedState, life: Life, directive: Directive) -> MemberState {
        let metadata = Metadata {
            announced,
            joined: JoinMark(7),
            ..Metadata::new(1)
        };
        MemberState::concluded(&metadata, life, &directive)
    }

    #[test]
    fn silence_is_a_failure_unless_leaving_was_announced() {
        use AnnouncedState as A;
        use MemberState as S;
        let undirected = |announced, life| concluded(announced, life, Directive::default());
        assert_eq!(undirected(A::Active, Life::Silent), S::Failed);
        assert_eq!(undirected(A::Draining, Life::Silent), S::Failed);
        assert_eq!(undirected(A::Leaving, Life::Heard), S::Leaving);
        assert_eq!(undirected(A::Leaving, Life::Silent), S::Left);
        assert_eq!(undirected(A::Left, Life::Heard), S::Left);
    }

    #[test]
    fn only_an_active_node_is_shown_as_doubted() {
        use AnnouncedState as A;
        let doubted = |announced| concluded(announced, Life::Doubted, Directive::default());
        assert_eq!(doubted(A::Active), MemberState::Suspect);
        assert_eq!(doubted(A::CatchingUp), MemberState::CatchingUp);
        assert_eq!(doubted(A::Draining), MemberState::Draining);
    }

    #[test]
    fn a_drained_node_takes_no_new_requests_and_is_away_on_purpose_when_silent() {
        use AnnouncedState as A;
        let drained = Directive {
            drain: true,
            ..Directive::default()
        };
        for life in [Life::Heard, Life::Doubted] {
            assert_eq!(concluded(A::Active, life, drained), MemberState::Draining);
        }
        assert_eq!(
            concluded(A::CatchingUp, Life::Heard, drained),
            MemberState::CatchingUp,
            "its data is old; that it is drained does not make it fit for requests"
        );
        assert_eq!(
            concluded(A::Active, Life::Silent, drained),
            MemberState::Maintenance
        );
    }

    #[test]
    fn a_removal_outweighs_everything_and_a_later_join_outweighs_the_removal() {
        let removed_at = |mark| Directive {
            drain: true,
            failed: true,
            removed: Some(JoinMark(mark)),
            ..Directive::default()
        };
        for life in [Life::Heard, Life::Doubted, Life::Silent] {
            let state = |mark| concluded(AnnouncedState::Active, life, removed_at(mark));
            assert_eq!(state(7), MemberState::Removed);
            assert_eq!(state(6), MemberState::Failed);
        }
    }
}
