//! The latest writes, as they came: to pass them on, and to give them to who asks.
//!
//! The store keeps what a key holds, and not each write to it; a write that was superseded
//! is nowhere but here, and a peer that lacks it may be given it only as it was (DESIGN §6,
//! trap (a)). Bounded by bytes, the oldest go first; who asks for one that is gone pulls.
//!
//! What everyone has told to have, or is as old as what is settled, goes before anything is
//! let go of by that (`settle.rs`): who is given it afterwards would take it for new.
//!
//! What a transaction brought is pushed once, and given to nobody who asks before it is
//! durable: where the transaction is lost, it is not here.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Delta, Dot, PeerId, Timestamp, VersionVector};

/// A write that is at hand.
#[derive(Clone, Debug)]
struct Kept {
    delta: Delta,
    /// Who pushed it here first; nobody for our own.
    from: Option<PeerId>,
    durable: bool,
}

/// The latest writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    kept: BTreeMap<Dot, Kept>,
    /// Those that are durable, the oldest first.
    order: VecDeque<Dot>,
    bytes: usize,
    /// Those of the transaction under way, in the order in which they came.
    fresh: Vec<Dot>,
}

impl Recent {
    /// Notes a write that the transaction under way has taken in.
    pub(super) fn note(&mut self, delta: Delta, from: Option<PeerId>) {
        let dot = delta.dot();
        self.bytes += delta.weight();
        let kept = Kept {
            delta,
            from,
            durable: false,
        };
        if let Some(before) = self.kept.insert(dot, kept) {
            self.bytes -= before.delta.weight();
            self.order.retain(|other| *other != dot);
        }
        self.fresh.push(dot);
    }

    /// What the transaction under way has taken in, and who brought it.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (&Delta, Option<&PeerId>)> {
        let kept = self.fresh.iter().filter_map(|dot| self.kept.get(dot));
        kept.map(|kept| (&kept.delta, kept.from.as_ref()))
    }

    /// The transaction is durable. Makes room: at most `bytes_max` are kept.
    pub(super) fn settle(&mut self, bytes_max: usize) {
        for dot in self.fresh.drain(..) {
            if let Some(kept) = self.kept.get_mut(&dot) {
                kept.durable = true;
                self.order.push_back(dot);
            }
        }
        while self.bytes > bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(gone) = self.kept.remove(&oldest) {
                self.bytes -= gone.delta.weight();
            }
        }
    }

    /// Deletions up to this date of what everyone has may be forgotten from now on: nobody must
    /// be given what they have beaten without them.
    pub(super) fn let_go(&mut self, upto: Timestamp, settled: &VersionVector) {
        let Self {
            kept, order, bytes, ..
        } = self;
        order.retain(|dot| {
            let Some(one) = kept.get(dot) else {
                return false;
            };
            let stays = !settled.contains(*dot) && one.delta.write.version.clock > upto;
            if !stays {
                *bytes -= one.delta.weight();
                kept.remove(dot);
            }
            stays
        });
    }

    /// The transaction has failed.
    pub(super) fn forget(&mut self) {
        for dot in self.fresh.drain(..) {
            if let Some(gone) = self.kept.remove(&dot) {
                self.bytes -= gone.delta.weight();
            }
        }
    }

    /// Who pushed this write here first, `Some(None)` if it is our own; `None` where it came
    /// otherwise, or long ago.
    pub(super) fn brought_by(&self, dot: Dot) -> Option<Option<&PeerId>> {
        self.kept.get(&dot).map(|kept| kept.from.as_ref())
    }

    /// Those of the wanted writes that are at hand, in order, at most `most` of them.
    pub(super) fn wanted(&self, wanted: &VersionVector, most: usize) -> Vec<Delta> {
        let ranges = wanted
            .iter()
            .flat_map(|(origin, set)| set.ranges().map(move |range| (origin, range)));
        let kept = ranges.flat_map(|(origin, range)| {
            let dot = |seq| Dot { origin, seq };
            self.kept.range(dot(range.first)..=dot(range.last))
        });
        let durable = kept.filter(|(_, kept)| kept.durable);
        durable
            .take(most)
            .map(|(_, kept)| kept.delta.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::{Part, PartWrite, Write};
    use crate::model::{Collection, Epoch, Key, Origin, ReplicaId, Seq, SeqRange, Version};

    const ORIGIN: Origin = Origin {
        replica: ReplicaId([1; 16]),
        epoch: Epoch(1),
    };

    fn delta(seq: Seq, text: &'static str) -> Delta {
        let origin = ORIGIN;
        let part = PartWrite {
            part: Part::Root,
            value: Some(text.as_bytes().into()),
        };
        let version = Version {
            clock: Timestamp(seq),
            dot: Dot { origin, seq },
        };
        Delta {
            key: Key::new(Collection::new("users").unwrap(), "u1").unwrap(),
            write: Write {
                version,
                parts: vec![part],
            },
        }
    }

    fn all() -> VersionVector {
        let mut wanted = VersionVector::default();
        wanted.insert_range(ORIGIN, SeqRange { first: 1, last: 99 });
        wanted
    }

    fn seqs(deltas: &[Delta]) -> Vec<Seq> {
        deltas.iter().map(|delta| delta.dot().seq).collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_the_rest_is_given_in_order() {
        let mut recent = Recent::default();
        let weight = delta(1, "1").weight();
        for seq in [2, 1, 4, 3] {
            recent.note(delta(seq, "1"), None);
            recent.settle(3 * weight);
        }
        assert_eq!(seqs(&recent.wanted(&all(), 9)), [1, 3, 4]);
        assert_eq!(seqs(&recent.wanted(&all(), 2)), [1, 3]);
        recent.settle(0);
        assert_eq!((recent.bytes, recent.kept.len()), (0, 0));
    }

    /// The number of a write that was lost with its transaction goes to another.
    #[test]
    fn what_is_not_durable_is_given_to_nobody_and_goes_with_its_transaction() {
        let mut recent = Recent::default();
        recent.note(delta(1, "lost"), None);
        assert!(recent.wanted(&all(), 9).is_empty());
        recent.forget();
        recent.note(delta(1, "kept"), None);
        recent.settle(1_000);
        assert_eq!(recent.wanted(&all(), 9), [delta(1, "kept")]);
        assert_eq!(recent.bytes, delta(1, "kept").weight());
    }

    #[test]
    fn what_everyone_has_is_given_no_more_once_it_may_be_let_go_of() {
        let mut recent = Recent::default();
        for seq in 1..=4 {
            recent.note(delta(seq, "1"), None);
        }
        recent.settle(1_000);
        recent.note(delta(5, "1"), None);
        let mut settled = VersionVector::default();
        settled.insert_range(ORIGIN, SeqRange { first: 1, last: 3 });
        recent.let_go(Timestamp(0), &settled);
        recent.settle(1_000);
        assert_eq!(seqs(&recent.wanted(&all(), 9)), [4, 5]);
        assert_eq!(recent.bytes, 2 * delta(1, "1").weight());
        let date = delta(4, "1").write.version.clock;
        recent.let_go(date, &VersionVector::default());
        assert!(
            recent
                .wanted(&all(), 9)
                .iter()
                .all(|one| one.write.version.clock > date)
        );
    }

    #[test]
    fn it_is_known_who_brought_a_write_first() {
        let a = PeerId::new("a");
        let mut recent = Recent::default();
        recent.note(delta(1, "1"), Some(a.clone()));
        recent.note(delta(2, "1"), None);
        let by = |seq| recent.brought_by(delta(seq, "1").dot());
        assert_eq!([by(1), by(2), by(3)], [Some(Some(&a)), Some(None), None]);
    }
}
