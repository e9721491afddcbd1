//! How all replicas stand, where each hears of its neighbours only.
//!
//! What is settled ([`settle`](super::super::settle)) depends on all of the roster: the lowest
//! floor, what everyone has, and what anyone has. Beyond a full mesh nobody is told how all
//! stand, and to tell everyone of everyone would cost the square of their number. But all
//! three can be gathered on the way, in any order and as often as one likes: the sum of two
//! censuses does not depend on their order, and who is counted twice changes nothing (as in
//! Nath, Gibbons, Seshan, Anderson, "Synopsis Diffusion for Robust Aggregation in Sensor
//! Networks", 2004).
//!
//! So each replica keeps one [`Census`], adds to it how it stands itself, merges what its
//! neighbours tell it, and tells them what they have not: after as many tellings as the
//! overlay is wide all of them hold the same, and it counts everyone. A census has a number;
//! the higher one takes the place of the lower. A new one is begun by whoever finds first
//! that the present one is as old as a round of letting go.
//!
//! - **To let go** by a census asks for what it asks for in a mesh: all of the own roster, and
//!   all that anyone who was counted knew of, were counted or given up by all who were. What
//!   each said of itself is older than in a mesh. Floors, what one has, and whom one knows of
//!   only grow, but for a replica that takes over a snapshot or comes back with an old copy
//!   of its disk; it could only be given wrongly by a neighbour. So before it lets go a
//!   replica looks whether its own neighbours have still all that everyone had.
//! - **Who was heard of** neither in a census nor in the one before was away for as long as it
//!   lasted, unless it is missed for the first time: it may have come when others had been
//!   counted. A census lasts longer than it takes to go round, and one telling may be lost.
//!   Who takes over a snapshot is heard of by its neighbours, and waited for.
//!
//! In go standings of this replica and censuses of trusted neighbours, out come the same and
//! what is settled. Bounds: one census; no more lines than a roster has; one that does not fit
//! a frame is neither made by a merge nor told, since who takes a part of what others have for
//! all of it would let go too early. What can fail: who takes over a snapshot is not counted,
//! nor who cannot be reached; then deletions wait, as they do in a mesh.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::TreeMessage;
use crate::model::{PeerId, ReplicaId, Timestamp, VersionVector};
use crate::protocol::peers::Peer;
use crate::protocol::settle::{Agreed, ROUNDS};
use crate::protocol::standing::ROSTER_MAX;
use crate::protocol::{Message, Now, Output, Replica, Trust};
use crate::storage::RosterLine;

/// Ranges of sequence numbers in a census that is told.
const RANGES_MAX: usize = 48 * 1024;
/// A replica tells its neighbours so many times in an interval of vectors at most, ...
const TELLINGS: u32 = 8;
/// ... and a census lasts so many intervals at least.
const LASTS: u32 = 3;

/// How those stand that were counted so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Which one it is; 0 is none. Of two the later one counts, in the arithmetic of serial
    /// numbers (RFC 1982): none is the last.
    pub number: u64,
    /// None of those that were counted will make a write with a date up to here.
    pub floor: Timestamp,
    /// What each of them has.
    pub all: VersionVector,
    /// What some of them have and others lack.
    pub some: VersionVector,
    /// The replicas that any of them knows of.
    pub lines: BTreeMap<ReplicaId, Counted>,
}

/// What a census says of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// How it stands is in.
    pub counted: bool,
    /// It lives: it was counted, or one of its neighbours that was has heard of it. Who takes
    /// over a snapshot does, and is not counted.
    pub here: bool,
    /// All that were counted have given it up.
    pub fenced: bool,
}

impl Census {
    /// Adds what was counted elsewhere. Both are of the same number.
    pub fn merge(&mut self, other: &Census) {
        let floor = self.floor.min(other.floor);
        let all = self.all.intersection(&other.all);
        let mut any = self.anything();
        any.merge(&other.all);
        any.merge(&other.some);
        let mut some = VersionVector::default();
        for (origin, range) in all.missing_from(&any) {
            some.insert_range(origin, range);
        }
        for (replica, line) in &mut self.lines {
            line.fenced &= other.lines.get(replica).is_some_and(|line| line.fenced);
        }
        for (replica, theirs) in &other.lines {
            let line = self.lines.entry(*replica).or_default();
            line.counted |= theirs.counted;
            line.here |= theirs.here;
        }
        (self.floor, self.all, self.some) = (floor, all, some);
    }

    /// What any of them has.
    pub fn anything(&self) -> VersionVector {
        let mut any = self.all.clone();
        any.merge(&self.some);
        any
    }

    /// Whether all that it, or this roster, knows of were counted, or given up by all.
    fn is_complete(&self, roster: &BTreeMap<ReplicaId, RosterLine>) -> bool {
        let is_given_up = |replica: &ReplicaId| roster.get(replica).is_some_and(|line| line.fenced);
        let is_settled = |replica: &ReplicaId| {
            let line = self.lines.get(replica).copied().unwrap_or_default();
            match is_given_up(replica) {
                true => line.fenced,
                false => line.counted,
            }
        };
        self.lines.keys().chain(roster.keys()).all(is_settled)
    }

    /// How its number stands to another.
    fn is_to(&self, other: u64) -> Ordering {
        match (self.number, other) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            (own, other) => own.wrapping_sub(other).cast_signed().cmp(&0),
        }
    }

    fn fits(&self) -> bool {
        let sets = self.all.iter().chain(self.some.iter());
        let ranges: usize = sets.map(|(_, set)| set.ranges().count()).sum();
        ranges <= RANGES_MAX && self.lines.len() <= ROSTER_MAX
    }
}

/// What a replica keeps of the present census.
#[derive(Default)]
pub(super) struct Counting {
    census: Census,
    /// When it began here.
    began: Duration,
    /// The neighbours that have all that this replica has of it.
    same: BTreeSet<PeerId>,
    /// Others are to be told.
    waiting: bool,
    /// It has been acted on as it is.
    done: bool,
    /// When it is looked at again.
    look_at: Duration,
    /// When they may be told again.
    due: Duration,
    /// Who was heard of in the census before.
    before: BTreeSet<ReplicaId>,
}

impl Counting {
    /// When somebody is to be told.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.waiting.then_some(self.due)
    }

    /// Whoever is at the other end may have missed what it was told.
    pub(super) fn tell_again(&mut self, peer: &PeerId) {
        self.same.remove(peer);
        self.waiting = true;
    }
}

impl Replica {
    /// Begins a new census, if the present one is as old as a round.
    pub(in crate::protocol) fn begin_census(&mut self, now: Now) {
        let counting = &self.tree.counting;
        let is_young =
            counting.census.number > 0 && counting.began + self.census_lasts() > now.elapsed;
        if is_young || !self.settled.is_sound() {
            return;
        }
        let number = counting.census.number.wrapping_add(1).max(1);
        self.replace_census(now, number, None);
    }

    /// How long a census is the present one.
    fn census_lasts(&self) -> Duration {
        let round = self.config.tombstone_age / ROUNDS;
        round.max(LASTS * self.config.vector_interval)
    }

    /// In the place of the present census begins another, which counts this replica alone.
    /// Where it is one that was told, who was heard of in it is here, too.
    fn replace_census(&mut self, now: Now, number: u64, told: Option<&Census>) {
        let heard_of = self.heard_of(now, |trust| matches!(trust, Trust::Full | Trust::Fenced));
        let lasts = self.census_lasts();
        let counting = &mut self.tree.counting;
        // Of a process that was stopped nobody knows who was here meanwhile.
        let lasted = now.elapsed.saturating_sub(counting.began).min(2 * lasts);
        let lines = std::mem::take(&mut counting.census.lines);
        let here = lines.into_iter().filter(|(_, line)| line.here);
        let here: BTreeSet<ReplicaId> = here.map(|(replica, _)| replica).collect();
        let mut lately = std::mem::replace(&mut counting.before, here.clone());
        if !lately.is_empty() {
            lately.extend(here);
            lately.extend(&heard_of);
            let told = told.iter().flat_map(|told| &told.lines);
            lately.extend(
                told.filter(|(_, line)| line.here)
                    .map(|(replica, _)| replica),
            );
            self.note_absence(&lately, lasted);
        }
        let own = self.header.origin.replica;
        let roster = self.settled.roster.values();
        let lines = roster.map(|line| {
            let counted = Counted {
                counted: line.replica == own,
                here: heard_of.contains(&line.replica),
                fenced: line.fenced,
            };
            (line.replica, counted)
        });
        let counting = &mut self.tree.counting;
        counting.census = Census {
            number,
            floor: self.settled.floor,
            all: self.vector.clone(),
            some: VersionVector::default(),
            lines: lines.collect(),
        };
        counting.began = now.elapsed;
        counting.same.clear();
        counting.waiting = true;
        counting.done = false;
    }

    /// Something is let go of that these writes were deleted by, or that they delete.
    pub(in crate::protocol) fn forget_recent(&mut self, upto: Timestamp, settled: &VersionVector) {
        self.tree.recent.let_go(upto, settled);
    }

    /// Forgets what was counted: this replica has not all any more that it has told to have.
    pub(in crate::protocol) fn forget_census(&mut self) {
        self.tree.counting = Counting::default();
    }

    /// A neighbour may have missed what it was told.
    pub(in crate::protocol) fn tell_census_again(&mut self, peer: &PeerId) {
        self.tree.counting.tell_again(peer);
    }

    pub(super) fn told_census(&mut self, now: Now, peer: PeerId, told: Census) {
        let trusted = self.trust(&peer) == Trust::Full && self.settled.is_sound();
        if !self.tree.on || !trusted || told.number == 0 || !told.fits() {
            return;
        }
        match told.is_to(self.tree.counting.census.number) {
            // It is told of the later one.
            Ordering::Less => return self.tree.counting.tell_again(&peer),
            Ordering::Equal => {}
            Ordering::Greater => self.replace_census(now, told.number, Some(&told)),
        }
        let counting = &mut self.tree.counting;
        let mut merged = counting.census.clone();
        merged.merge(&told);
        if merged != counting.census {
            if !merged.fits() {
                // Nothing that either says of it helps the other.
                counting.same.insert(peer);
                return;
            }
            counting.census = merged;
            counting.same.clear();
            counting.waiting = true;
            counting.done = false;
        }
        if counting.census == told {
            counting.same.insert(peer);
        } else {
            counting.tell_again(&peer);
        }
    }

    /// Tells those neighbours of the census that have not all of it.
    pub(in crate::protocol) fn tell_census(&mut self) {
        let counting = &mut self.tree.counting;
        if !self.tree.on || !counting.waiting || counting.due > self.tree.now {
            return;
        }
        counting.waiting = false;
        if counting.census.number == 0 || !counting.census.fits() {
            return;
        }
        let linked = self.tree.linked.iter();
        let to = linked.filter(|peer| !counting.same.contains(*peer));
        let to: Vec<PeerId> = to.cloned().collect();
        if to.is_empty() {
            return;
        }
        counting.due = self.tree.now + self.config.vector_interval / TELLINGS;
        counting.same.extend(to.iter().cloned());
        let message = TreeMessage::Census(Box::new(counting.census.clone()));
        self.messages
            .push(Output::Multicast(to, Message::Tree(message)));
    }

    /// What all have agreed on by the census, if it counts everyone, this replica has all that
    /// anyone has, and its neighbours have still all that everyone had. Given once.
    pub(in crate::protocol) fn agreed_by_census(&mut self, now: Now) -> Option<Agreed> {
        let counting = &mut self.tree.counting;
        if counting.done || counting.census.number == 0 || counting.look_at > now.elapsed {
            return None;
        }
        // It costs as much as a census is long.
        counting.look_at = now.elapsed + self.config.vector_interval / TELLINGS;
        let census = &self.tree.counting.census;
        let has_all = || self.vector.covers(&census.all) && self.vector.covers(&census.some);
        if !census.is_complete(&self.settled.roster) || !has_all() {
            return None;
        }
        let has_still = |known: &Peer| match &known.stood {
            Some(stood) if known.foreign || self.settled.is_fenced(stood.replica) => true,
            Some(stood) => {
                let has = known.vector.as_ref();
                stood.sound && has.is_some_and(|has| has.covers(&census.all))
            }
            None => false,
        };
        let mut linked = self.peers.values().filter(|known| known.linked);
        if !linked.all(has_still) {
            return None;
        }
        let agreed = Agreed {
            upto: census.floor,
            all: census.all.clone(),
        };
        self.tree.counting.done = true;
        Some(agreed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Epoch, Origin, SeqRange};

    fn vector() -> impl Strategy<Value = VersionVector> {
        let range = (0_u8..3, 1_u64..12, 0_u64..4);
        proptest::collection::vec(range, 0..6).prop_map(|ranges| {
            let mut vector = VersionVector::default();
            for (replica, first, more) in ranges {
                let origin = Origin {
                    replica: ReplicaId([replica; 16]),
                    epoch: Epoch(1),
                };
                let last = first + more;
                vector.insert_range(origin, SeqRange { first, last });
            }
            vector
        })
    }

    /// How one replica stands, with the roster that it knows of.
    fn alone() -> impl Strategy<Value = Census> {
        let others = proptest::collection::btree_map(0_u8..6, any::<bool>(), 0..5);
        (0_u8..6, 0_u64..9, vector(), others).prop_map(|(own, floor, all, others)| {
            let line = |(replica, fenced): (u8, bool)| {
                let counted = Counted {
                    counted: false,
                    here: !fenced,
                    fenced,
                };
                (ReplicaId([replica; 16]), counted)
            };
            let mut lines: BTreeMap<_, _> = others.into_iter().map(line).collect();
            let counted = Counted {
                counted: true,
                here: true,
                fenced: false,
            };
            lines.insert(ReplicaId([own; 16]), counted);
            Census {
                number: 1,
                floor: Timestamp(floor),
                all,
                some: VersionVector::default(),
                lines,
            }
        })
    }

    fn sum(parts: &[&Census]) -> Census {
        let mut sum = parts[0].clone();
        parts[1..].iter().for_each(|part| sum.merge(part));
        sum
    }

    proptest! {
        #[test]
        fn it_matters_neither_in_which_order_nor_how_often_one_counts(
            a in alone(), b in alone(), c in alone(),
        ) {
            let all = sum(&[&a, &b, &c]);
            prop_assert_eq!(&sum(&[&c, &a, &b, &a]), &all);
            prop_assert_eq!(&sum(&[&a, &sum(&[&b, &c])]), &all);
            prop_assert_eq!(&sum(&[&all, &sum(&[&a, &b])]), &all);
            prop_assert_eq!(all.floor, a.floor.min(b.floor).min(c.floor));
            prop_assert_eq!(&all.all, &a.all.intersection(&b.all).intersection(&c.all));
            let mut any = a.all.clone();
            any.merge(&b.all);
            any.merge(&c.all);
            prop_assert_eq!(all.anything(), any);
            for (replica, line) in &all.lines {
                let of = |census: &Census| census.lines.get(replica).copied().unwrap_or_default();
                let lines = [of(&a), of(&b), of(&c)];
                prop_assert_eq!(line.counted, lines.iter().any(|line| line.counted));
                prop_assert_eq!(line.here, lines.iter().any(|line| line.here));
                prop_assert_eq!(line.fenced, lines.iter().all(|line| line.fenced));
            }
        }
    }

    #[test]
    fn no_number_is_the_last() {
        let numbered = |number| Census {
            number,
            ..Census::default()
        };
        for (one, other) in [(1, 0), (2, 1), (1, u64::MAX), (u64::MAX, u64::MAX - 1)] {
            assert_eq!(
                numbered(one).is_to(other),
                Ordering::Greater,
                "{one} {other}"
            );
            assert_eq!(numbered(other).is_to(one), Ordering::Less, "{other} {one}");
        }
        assert_eq!(numbered(7).is_to(7), Ordering::Equal);
    }

    #[test]
    fn it_is_complete_when_all_were_counted_or_given_up_by_all() {
        let line = |replica: u8, fenced| {
            let line = RosterLine {
                replica: ReplicaId([replica; 16]),
                name: PeerId::new("n"),
                fenced,
                born: Timestamp(1),
                absent_ms: 0,
            };
            (line.replica, line)
        };
        let census = |lines: &[(u8, bool, bool)]| Census {
            number: 1,
            lines: lines
                .iter()
                .map(|(replica, counted, fenced)| {
                    let line = Counted {
                        counted: *counted,
                        here: *counted,
                        fenced: *fenced,
                    };
                    (ReplicaId([*replica; 16]), line)
                })
                .collect(),
            ..Census::default()
        };
        let roster = BTreeMap::from([line(1, false), line(2, false), line(3, true)]);
        let complete = |lines| census(lines).is_complete(&roster);
        assert!(complete(&[
            (1, true, false),
            (2, true, false),
            (3, false, true)
        ]));
        // Somebody has not given it up.
        assert!(!complete(&[
            (1, true, false),
            (2, true, false),
            (3, true, false)
        ]));
        // One of this roster is missing, and one that only others know of.
        assert!(!complete(&[(1, true, false), (3, false, true)]));
        let known = [
            (1, true, false),
            (2, true, false),
            (3, false, true),
            (4, false, false),
        ];
        assert!(!complete(&known));
        // Given up by all others, and not here.
        let known = [
            (1, true, false),
            (2, true, false),
            (3, false, true),
            (4, false, true),
        ];
        assert!(!complete(&known));
    }
}
