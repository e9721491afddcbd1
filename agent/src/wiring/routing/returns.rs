//! Nodes that were away and are back, with data from before.
//!
//! A node that starts says itself that it is catching up. One whose process was stopped, or
//! whose network was cut, says nothing: it lived all the time. But for a second or two it
//! would answer with what it had when it went, so others are preferred to it until it has
//! caught up. It stays the last resort, since old data is better than none.
//!
//! Each node judges by its own view. Whoever saw another fail waits until that one has what
//! it had itself when the other came back. Who was cut off from most is the one that was
//! away, and waits for itself. Of two halves of the same size each serves its own and waits
//! for the other.
//!
//! In go the members and how replication stands, out come the names of those that are behind.
//! That takes as long as there is something to catch up with; but who is not connected, or
//! not to be caught up with, is waited for no longer than [`WAIT_MAX`].

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use basic_membership::{Member, MemberState, NodeId};
use basic_sync::model::VersionVector;
use basic_sync::protocol::{Status, Trust};

use super::super::readiness;

/// How long a node that is back counts as behind where it is not seen to come on.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Who is back and behind.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Those that membership does not hear from.
    away: HashSet<NodeId>,
    /// This node has been cut off from most others.
    alone: bool,
    behind: HashMap<NodeId, Wait>,
}

/// What a node is waited for.
#[derive(Debug)]
struct Wait {
    /// Since when it is not seen to come on.
    since: Instant,
    /// What it must have; of this node itself, what the others have.
    goal: Option<VersionVector>,
}

/// How the data stands. What cannot be told is `None`.
pub(super) trait Data {
    /// What this node has.
    fn vector(&self) -> &VersionVector;
    /// Whether a peer has all of it.
    fn has(&self, id: &NodeId, goal: &VersionVector) -> Option<bool>;
    /// Whether this node has all that the others have.
    fn is_whole(&self, members: &[Member]) -> Option<bool>;
}

impl Data for Status {
    fn vector(&self) -> &VersionVector {
        &self.vector
    }

    fn has(&self, id: &NodeId, goal: &VersionVector) -> Option<bool> {
        let mut peers = self.peers.iter();
        let peer = peers.find(|peer| peer.peer.as_str() == id.as_str());
        // Of those that are not near nothing is heard.
        let Some(peer) = peer.filter(|peer| peer.near) else {
            return Some(true);
        };
        let vector = peer.progress.vector.as_ref();
        let has = vector.is_some_and(|vector| vector.covers(goal));
        let takes = matches!(peer.trust, Trust::Full | Trust::Fenced);
        (has || peer.linked && peer.heard && takes).then_some(has)
    }

    fn is_whole(&self, members: &[Member]) -> Option<bool> {
        readiness::has_all(members, self)
    }
}

impl Returns {
    /// Takes in how all stand.
    pub(super) fn look(&mut self, now: Instant, members: &[Member], data: &impl Data) {
        let was_alone = std::mem::replace(&mut self.alone, is_alone(members));
        for member in members.iter().filter(|member| !member.is_self) {
            if is_away(member) {
                self.away.insert(member.id.clone());
                self.behind.remove(&member.id);
            } else if self.away.remove(&member.id) && member.state.is_running() && !was_alone {
                let goal = Some(data.vector().clone());
                let wait = Wait { since: now, goal };
                self.behind.insert(member.id.clone(), wait);
            }
        }
        let own = members.iter().find(|member| member.is_self);
        if let Some(own) = own.filter(|_| was_alone && !self.alone) {
            let wait = Wait {
                since: now,
                goal: None,
            };
            self.behind.insert(own.id.clone(), wait);
        }
        let is_known = |id: &NodeId| members.iter().any(|member| member.id == *id);
        self.away.retain(is_known);
        self.behind.retain(|id, wait| {
            let has = match &wait.goal {
                None => data.is_whole(members),
                Some(goal) => data.has(id, goal),
            };
            if has.is_some() {
                wait.since = now;
            }
            is_known(id) && has != Some(true) && now - wait.since < WAIT_MAX
        });
    }

    /// Whether this one was away and has not caught up yet.
    pub(super) fn is_behind(&self, member: &Member) -> bool {
        self.behind.contains_key(&member.id)
    }

    /// Whether anybody is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.behind.is_empty()
    }
}

fn is_away(member: &Member) -> bool {
    member.state == MemberState::Failed && !member.directive.failed
}

/// Whether this node hears from less than half of all, itself among them.
fn is_alone(members: &[Member]) -> bool {
    let counted =
        |member: &&Member| !matches!(member.state, MemberState::Left | MemberState::Removed);
    let all = members.iter().filter(counted).count();
    let away = members.iter().filter(|member| is_away(member)).count();
    2 * (all - away) < all
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use MemberState::{Active, Failed, Left};

    use super::super::tests::member;
    use super::*;

    /// The data of a node, and whether others or this one have caught up.
    #[derive(Default)]
    struct Known {
        vector: VersionVector,
        others: Cell<Option<bool>>,
        own: Cell<Option<bool>>,
    }

    impl Data for Known {
        fn vector(&self) -> &VersionVector {
            &self.vector
        }

        fn has(&self, _: &NodeId, _: &VersionVector) -> Option<bool> {
            self.others.get()
        }

        fn is_whole(&self, _: &[Member]) -> Option<bool> {
            self.own.get()
        }
    }

    /// Members n1, which looks, n2 and so on, in these states.
    fn members(states: &[MemberState]) -> Vec<Member> {
        let announced = basic_membership::AnnouncedState::Active;
        let numbered = states.iter().enumerate();
        let members = numbered.map(|(index, state)| Member {
            id: format!("n{}", index + 1).parse().unwrap(),
            is_self: index == 0,
            ..member(*state, announced)
        });
        members.collect()
    }

    fn behind(returns: &Returns, members: &[Member]) -> Vec<String> {
        let behind = members.iter().filter(|member| returns.is_behind(member));
        behind.map(|member| member.id.to_string()).collect()
    }

    /// Who is behind after the members were in one state after the other.
    fn after(views: &[&[MemberState]]) -> Vec<String> {
        let (mut returns, data) = (Returns::default(), Known::default());
        for states in views {
            returns.look(Instant::now(), &members(states), &data);
        }
        behind(&returns, &members(views[views.len() - 1]))
    }

    #[test]
    fn who_failed_and_is_back_is_behind_until_it_has_caught_up() {
        let (mut returns, data) = (Returns::default(), Known::default());
        let (all, two) = (members(&[Active; 3]), members(&[Active, Active, Failed]));
        let now = Instant::now();
        for view in [&all, &two] {
            returns.look(now, view, &data);
            assert!(!returns.is_waiting(), "nobody was away, or is back");
        }
        returns.look(now, &all, &data);
        assert_eq!(behind(&returns, &all), ["n3"]);
        data.others.set(Some(true));
        returns.look(now, &all, &data);
        assert!(!returns.is_waiting());
        data.others.set(Some(false));
        returns.look(now, &all, &data);
        assert!(!returns.is_waiting(), "it was not away again");
    }

    #[test]
    fn who_does_not_come_on_is_waited_for_no_longer_than_a_while() {
        let (mut returns, data) = (Returns::default(), Known::default());
        let all = members(&[Active; 3]);
        let now = Instant::now();
        returns.look(now, &members(&[Active, Active, Failed]), &data);
        returns.look(now, &all, &data);
        data.others.set(Some(false));
        returns.look(now + 3 * WAIT_MAX, &all, &data);
        assert!(returns.is_waiting(), "there is much to catch up with");
        data.others.set(None);
        returns.look(now + 3 * WAIT_MAX + WAIT_MAX / 2, &all, &data);
        assert!(returns.is_waiting());
        returns.look(now + 4 * WAIT_MAX, &all, &data);
        assert!(!returns.is_waiting());
    }

    #[test]
    fn who_was_cut_off_from_most_waits_for_itself_and_for_nobody_else() {
        let (mut returns, data) = (Returns::default(), Known::default());
        let all = members(&[Active; 3]);
        returns.look(Instant::now(), &members(&[Active, Failed, Failed]), &data);
        returns.look(Instant::now(), &all, &data);
        assert_eq!(behind(&returns, &all), ["n1"]);
        data.own.set(Some(true));
        returns.look(Instant::now(), &all, &data);
        assert!(!returns.is_waiting());
    }

    #[test]
    fn of_two_halves_each_waits_for_the_other() {
        assert_eq!(after(&[&[Active, Failed], &[Active; 2]]), ["n2"]);
        let halves = [Active, Active, Failed, Failed];
        assert_eq!(after(&[&halves, &[Active; 4]]), ["n3", "n4"]);
    }

    #[test]
    fn who_left_counts_neither_as_away_nor_among_all() {
        let four = [Active, Active, Left, Left, Failed];
        assert_eq!(after(&[&four, &[Active; 5]]), ["n5"]);
    }
}
