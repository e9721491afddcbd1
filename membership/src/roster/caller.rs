//! Whom to speak to of those who should be there and are not.
//!
//! While a node is alone it calls an address of the roster at each tick; later,
//! when some are missing only, one in a second, which heals a split that lasted
//! longer than gossip remembers the other side. Each pass through the roster has
//! an order of its own, so that nodes which start together do not all call the
//! same one first.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::{Roster, RosterEntry};
use crate::member::{Member, MemberState, Members};

/// Pause between two calls while others are there.
const PAUSE: Duration = Duration::from_secs(1);

/// The addresses still to be called in this pass.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    waiting: Vec<SocketAddr>,
    last: Option<Instant>,
}

impl Caller {
    /// Whom to call at this tick, if anybody.
    pub(crate) fn next(
        &mut self,
        roster: &Roster,
        members: &Members,
        now: Instant,
    ) -> Option<SocketAddr> {
        let present: HashSet<SocketAddr> = members
            .iter()
            .filter(|member| member.is_present())
            .map(|member| member.peer)
            .collect();
        let own = members.iter().find(|member| member.is_self);
        let alone = present.len() <= 1;
        let due = |last| now.saturating_duration_since(last) >= PAUSE;
        if !alone && !self.last.is_none_or(due) {
            return None;
        }
        let missing = |entry: &&RosterEntry| {
            let called = alone || entry.last_state != MemberState::Left;
            called && !present.contains(&entry.peer) && !own.is_some_and(|own| is(own, entry))
        };
        if self.waiting.is_empty() {
            self.waiting = roster
                .iter()
                .filter(missing)
                .map(|entry| entry.peer)
                .collect();
            let order = RandomState::new();
            self.waiting
                .sort_by_cached_key(|address| order.hash_one(address));
        }
        let called = self.waiting.pop()?;
        self.last = Some(now);
        (!present.contains(&called)).then_some(called)
    }
}

fn is(member: &Member, entry: &RosterEntry) -> bool {
    member.id == entry.id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::roster::tests::{entry, member};

    const TICK: Duration = Duration::from_millis(100);

    fn known(count: u16) -> Roster {
        Roster::from_entries((1..=count).map(|n| entry(&format!("n{n}"), n)))
    }

    fn own() -> Member {
        Member {
            is_self: true,
            ..member("n1", 1, MemberState::Active)
        }
    }

    #[test]
    fn a_node_that_is_alone_calls_every_other_in_each_pass() {
        let (mut caller, roster) = (Caller::default(), known(6));
        let members = Members::from_ordered(vec![own()]);
        let others: BTreeSet<_> = roster.iter().skip(1).map(|entry| entry.peer).collect();
        let mut now = Instant::now();
        for _pass in 0..2 {
            let mut called = BTreeSet::new();
            for _ in 0..others.len() {
                called.extend(caller.next(&roster, &members, now));
                now += TICK;
            }
            assert_eq!(called, others);
        }
    }

    #[test]
    fn the_missing_ones_are_called_once_a_second_and_those_who_left_are_not() {
        let mut caller = Caller::default();
        let mut entries: Vec<_> = known(4).iter().cloned().collect();
        entries[3].last_state = MemberState::Left;
        let roster = Roster::from_entries(entries);
        let there = member("n2", 2, MemberState::Active);
        let members = Members::from_ordered(vec![own(), there]);
        let start = Instant::now();
        let calls: Vec<_> = (0..30u32)
            .filter_map(|tick| caller.next(&roster, &members, start + TICK * tick))
            .collect();
        assert_eq!(calls, [entry("n3", 3).peer; 3]);
    }

    #[test]
    fn nobody_is_called_while_everybody_is_there() {
        let mut caller = Caller::default();
        let there = member("n2", 2, MemberState::Active);
        let members = Members::from_ordered(vec![own(), there]);
        assert_eq!(caller.next(&known(2), &members, Instant::now()), None);
        let alone = Members::from_ordered(vec![own()]);
        assert_eq!(caller.next(&known(1), &alone, Instant::now()), None);
    }
}
