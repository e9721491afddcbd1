//! Which targets have a write, and whether the others are worth waiting for.
//!
//! Pure: in goes what the replica knows of its peers' disks and membership of the nodes; out comes one [`Standing`] a
//! target. A target that is up and merely late is waited for; one that is known to be down is not, so that a worker is
//! not kept; one that is no member any longer will never confirm.

use basic_membership::{Cluster, Member, MemberState, NodeId};
use basic_sync::model::{Dot, PeerId};

/// Where a target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has the write on its disk.
    Confirmed,
    /// It is there and may confirm any moment.
    Awaited,
    /// It is away, for this reason, and may come back.
    Down(String),
    /// It will not come back.
    Gone(String),
}

/// What is known of a node that is not this one.
#[derive(Debug, Clone)]
pub enum Known {
    /// It is a member.
    Member(Box<Member>),
    /// It was one, and has not been heard since this node started.
    Away,
    /// It is no node of this cluster.
    No,
}

impl Known {
    /// What the cluster knows of a node.
    pub fn of(id: &NodeId, cluster: &Cluster) -> Self {
        match cluster.members().find(id) {
            Some(member) => Self::Member(Box::new(member.clone())),
            None if cluster.roster().iter().any(|entry| entry.id == *id) => Self::Away,
            None => Self::No,
        }
    }

    /// Whether data can be brought to it, now or later.
    pub fn can_be_target(&self) -> bool {
        match self {
            Self::Member(member) => member.state != MemberState::Removed,
            Self::Away => true,
            Self::No => false,
        }
    }

    /// Where it stands while it has not confirmed.
    pub fn unconfirmed(&self) -> Standing {
        match self {
            Self::No => Standing::Gone("it is no member of the cluster any longer".to_owned()),
            Self::Away => {
                Standing::Down("it has not been heard since this agent started".to_owned())
            }
            Self::Member(member) => by_state(member.state, member.is_present()),
        }
    }
}

fn by_state(state: MemberState, present: bool) -> Standing {
    match state {
        MemberState::Removed => Standing::Gone("it was removed from the cluster".to_owned()),
        MemberState::Left => Standing::Down("it has left".to_owned()),
        _ if present => Standing::Awaited,
        state => Standing::Down(format!("it is {state}, its heartbeats have stopped")),
    }
}

/// Where a target stands that is not this node.
pub fn of(
    target: &NodeId,
    write: Dot,
    replica: &basic_sync::protocol::Status,
    known: impl FnOnce() -> Known,
) -> Standing {
    match replica.peer_has(&PeerId::new(target.as_str()), write) {
        true => Standing::Confirmed,
        false => known().unconfirmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_there_is_waited_for_and_only_who_is_removed_is_given_up() {
        let awaited = |state, present| by_state(state, present) == Standing::Awaited;
        for state in [
            MemberState::Active,
            MemberState::CatchingUp,
            MemberState::Suspect,
            MemberState::Leaving,
        ] {
            assert!(awaited(state, true), "{state}");
        }
        // Called failed by an operator, and alive.
        assert!(awaited(MemberState::Failed, true));
        for state in [
            MemberState::Failed,
            MemberState::Maintenance,
            MemberState::Left,
        ] {
            assert!(
                matches!(by_state(state, false), Standing::Down(_)),
                "{state}"
            );
        }
        for present in [true, false] {
            assert!(matches!(
                by_state(MemberState::Removed, present),
                Standing::Gone(_)
            ));
        }
        assert!(matches!(Known::No.unconfirmed(), Standing::Gone(_)));
        assert!(matches!(Known::Away.unconfirmed(), Standing::Down(_)));
        assert!(Known::Away.can_be_target() && !Known::No.can_be_target());
    }
}
