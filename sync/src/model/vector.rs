//! Version vectors with gaps: exactly which writes a replica has taken in.
//!
//! Per origin the set of sequence numbers is kept as disjoint, non-adjacent
//! ranges; without losses that is one range from 1. To *have* a write means that
//! it, or a write that supersedes it, is in the store (DESIGN §6, trap (a)).

use std::collections::BTreeMap;

use super::{Dot, Origin, SEQ_MAX, Seq};

/// An inclusive range of sequence numbers, `first <= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeqRange {
    /// First number.
    pub first: Seq,
    /// Last number.
    pub last: Seq,
}

impl SeqRange {
    /// The range, if these are its ends.
    pub fn checked(first: Seq, last: Seq) -> Option<Self> {
        (1 <= first && first <= last && last <= SEQ_MAX).then_some(Self { first, last })
    }

    /// How many numbers it holds.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }
}

/// A set of sequence numbers of one origin.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeqSet {
    /// first → last; disjoint and not adjacent.
    ranges: BTreeMap<Seq, Seq>,
}

impl SeqSet {
    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges
            .range(..=seq)
            .next_back()
            .is_some_and(|(_, last)| seq <= *last)
    }

    /// The highest number in the set; 0 when it is empty.
    pub fn highest(&self) -> Seq {
        self.ranges.last_key_value().map_or(0, |(_, last)| *last)
    }

    /// The highest number up to which none is missing, counted from 1.
    pub fn contiguous(&self) -> Seq {
        match self.ranges.first_key_value() {
            Some((&1, &last)) => last,
            _ => 0,
        }
    }

    /// Adds all numbers of a range.
    pub fn insert(&mut self, range: SeqRange) {
        let SeqRange {
            mut first,
            mut last,
        } = range;
        // Swallow every range that overlaps or touches this one.
        let touching: Vec<(Seq, Seq)> = self
            .ranges
            .range(..=last + 1)
            .rev()
            .take_while(|(_, end)| **end + 1 >= first)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touching {
            self.ranges.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// Removes one number.
    pub fn remove(&mut self, seq: Seq) {
        let Some((&first, &last)) = self.ranges.range(..=seq).next_back() else {
            return;
        };
        if last < seq {
            return;
        }
        self.ranges.remove(&first);
        if first < seq {
            self.ranges.insert(first, seq - 1);
        }
        if seq < last {
            self.ranges.insert(seq + 1, last);
        }
    }

    /// Removes all numbers after `last`.
    pub fn truncate(&mut self, last: Seq) {
        self.ranges.split_off(&(last + 1));
        if let Some((_, end)) = self.ranges.iter_mut().next_back() {
            *end = last.min(*end);
        }
    }

    /// The first number from this one on that is not in it, if there is one.
    pub fn next_missing(&self, from: Seq) -> Option<Seq> {
        match self.ranges.range(..=from).next_back() {
            Some((_, &last)) if last >= from => last.checked_add(1),
            _ => Some(from),
        }
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = SeqRange> + '_ {
        self.ranges
            .iter()
            .map(|(&first, &last)| SeqRange { first, last })
    }

    /// What is in both.
    pub fn intersection(&self, other: &SeqSet) -> SeqSet {
        let mut both = SeqSet::default();
        for range in self.ranges() {
            let from = other.ranges.range(..=range.first).next_back();
            let from = from.map_or(range.first, |(start, _)| *start);
            for (&start, &end) in other.ranges.range(from..=range.last) {
                let (first, last) = (start.max(range.first), end.min(range.last));
                if first <= last {
                    both.ranges.insert(first, last);
                }
            }
        }
        both
    }

    /// The ranges that `other` has and this set lacks, ascending.
    pub fn missing_from(&self, other: &SeqSet) -> Vec<SeqRange> {
        let mut missing = Vec::new();
        for range in other.ranges() {
            let mut next = range.first;
            let from = self
                .ranges
                .range(..=next)
                .next_back()
                .map_or(next, |(start, _)| *start);
            for (&start, &end) in self.ranges.range(from..=range.last) {
                if start > next {
                    missing.push(SeqRange {
                        first: next,
                        last: start - 1,
                    });
                }
                next = next.max(end + 1);
                if next > range.last {
                    break;
                }
            }
            if next <= range.last {
                missing.push(SeqRange {
                    first: next,
                    last: range.last,
                });
            }
        }
        missing
    }
}

/// Which writes of every origin a replica has taken in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionVector {
    origins: BTreeMap<Origin, SeqSet>,
}

impl VersionVector {
    /// Whether the write is in.
    pub fn contains(&self, dot: Dot) -> bool {
        self.origins
            .get(&dot.origin)
            .is_some_and(|set| set.contains(dot.seq))
    }

    /// The writes of one origin that are in.
    pub fn of(&self, origin: Origin) -> Option<&SeqSet> {
        self.origins.get(&origin)
    }

    /// Every origin with its writes, ascending. No set is empty.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, &SeqSet)> {
        self.origins.iter().map(|(origin, set)| (*origin, set))
    }

    /// Takes in one write.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_range(
            dot.origin,
            SeqRange {
                first: dot.seq,
                last: dot.seq,
            },
        );
    }

    /// Takes in a range of writes of one origin.
    pub fn insert_range(&mut self, origin: Origin, range: SeqRange) {
        self.origins.entry(origin).or_default().insert(range);
    }

    /// Forgets the writes of one origin after `last`.
    pub fn truncate(&mut self, origin: Origin, last: Seq) {
        if let Some(set) = self.origins.get_mut(&origin) {
            set.truncate(last);
            if set.highest() == 0 {
                self.origins.remove(&origin);
            }
        }
    }

    /// Takes one write out.
    pub fn remove(&mut self, dot: Dot) {
        let Some(set) = self.origins.get_mut(&dot.origin) else {
            return;
        };
        set.remove(dot.seq);
        if set.highest() == 0 {
            self.origins.remove(&dot.origin);
        }
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many writes are in.
    pub fn count(&self) -> u64 {
        let ranges = self.origins.values().flat_map(SeqSet::ranges);
        ranges.fold(0, |sum: u64, range| sum.saturating_add(range.count()))
    }

    /// What is in both.
    pub fn intersection(&self, other: &VersionVector) -> VersionVector {
        let mut both = VersionVector::default();
        for (origin, set) in &self.origins {
            let Some(theirs) = other.origins.get(origin) else {
                continue;
            };
            let set = set.intersection(theirs);
            if set.highest() > 0 {
                both.origins.insert(*origin, set);
            }
        }
        both
    }

    /// Takes in everything that `other` has; returns the origins that changed.
    pub fn merge(&mut self, other: &VersionVector) -> Vec<Origin> {
        let mut changed = Vec::new();
        for (origin, set) in other.iter() {
            let own = self.origins.entry(origin).or_default();
            let missing = own.missing_from(set);
            if !missing.is_empty() {
                changed.push(origin);
                missing.into_iter().for_each(|range| own.insert(range));
            }
        }
        changed
    }

    /// What `other` has and this vector lacks, by origin, ascending.
    pub fn missing_from(&self, other: &VersionVector) -> Vec<(Origin, SeqRange)> {
        let none = SeqSet::default();
        other
            .iter()
            .flat_map(|(origin, set)| {
                let own = self.origins.get(&origin).unwrap_or(&none);
                own.missing_from(set)
                    .into_iter()
                    .map(move |range| (origin, range))
            })
            .collect()
    }

    /// How many writes `other` has that this vector lacks.
    pub fn missing_count(&self, other: &VersionVector) -> u64 {
        self.missing_from(other)
            .iter()
            .fold(0, |sum: u64, (_, range)| sum.saturating_add(range.count()))
    }

    /// Whether everything that `other` has is in.
    pub fn covers(&self, other: &VersionVector) -> bool {
        self.missing_from(other).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<SeqRange>> {
        let range = (1u64..60, 0u64..8).prop_map(|(first, len)| SeqRange {
            first,
            last: first + len,
        });
        proptest::collection::vec(range, 0..12)
    }

    fn set(ranges: &[SeqRange]) -> (SeqSet, BTreeSet<Seq>) {
        let mut set = SeqSet::default();
        let mut model = BTreeSet::new();
        for range in ranges {
            set.insert(*range);
            model.extend(range.first..=range.last);
        }
        (set, model)
    }

    fn members(ranges: impl IntoIterator<Item = SeqRange>) -> BTreeSet<Seq> {
        ranges
            .into_iter()
            .flat_map(|range| range.first..=range.last)
            .collect()
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_behaves_as_the_set_of_its_numbers(inserted in ranges()) {
            let (set, model) = set(&inserted);
            prop_assert_eq!(members(set.ranges()), model.clone());
            for seq in 0..80 {
                prop_assert_eq!(set.contains(seq), model.contains(&seq));
            }
            prop_assert_eq!(set.highest(), model.last().copied().unwrap_or(0));
            let contiguous = (1..).take_while(|seq| model.contains(seq)).last().unwrap_or(0);
            prop_assert_eq!(set.contiguous(), contiguous);
            let listed: Vec<SeqRange> = set.ranges().collect();
            for pair in listed.windows(2) {
                prop_assert!(pair[0].last + 1 < pair[1].first, "adjacent ranges are joined");
            }
        }

        #[test]
        fn what_is_missing_is_the_difference_of_the_sets(a in ranges(), b in ranges()) {
            let (a, a_model) = set(&a);
            let (b, b_model) = set(&b);
            prop_assert_eq!(members(a.missing_from(&b)), &b_model - &a_model);
        }

        #[test]
        fn an_intersection_is_that_of_the_sets(a in ranges(), b in ranges()) {
            let (a, a_model) = set(&a);
            let (b, b_model) = set(&b);
            let both = a.intersection(&b);
            prop_assert_eq!(members(both.ranges()), &a_model & &b_model);
            prop_assert_eq!(&both, &b.intersection(&a));
            prop_assert!(both.missing_from(&both).is_empty());
        }

        #[test]
        fn the_next_that_is_missing_is_not_in_it(a in ranges(), from in 1u64..60) {
            let (set, model) = set(&a);
            let next = (from..).find(|seq| !model.contains(seq));
            prop_assert_eq!(set.next_missing(from), next);
        }

        #[test]
        fn what_was_removed_is_gone_and_nothing_else(a in ranges(), seq in 1u64..60) {
            let (mut a, mut model) = set(&a);
            a.remove(seq);
            model.remove(&seq);
            prop_assert_eq!(members(a.ranges()), model);
        }

        #[test]
        fn the_order_of_insertion_does_not_matter(inserted in ranges()) {
            let reversed: Vec<SeqRange> = inserted.iter().rev().copied().collect();
            prop_assert_eq!(set(&inserted).0, set(&reversed).0);
        }
    }

    proptest! {
        #[test]
        fn truncation_removes_exactly_the_later_numbers(inserted in ranges(), last in 0u64..80) {
            let (mut set, model) = set(&inserted);
            set.truncate(last);
            prop_assert_eq!(members(set.ranges()), model.range(..=last).copied().collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn the_highest_numbers_there_are_do_not_overflow() {
        let mut set = SeqSet::default();
        set.insert(SeqRange {
            first: SEQ_MAX,
            last: SEQ_MAX,
        });
        set.insert(SeqRange {
            first: 1,
            last: SEQ_MAX - 1,
        });
        assert_eq!(set.ranges().count(), 1);
        assert_eq!(SeqSet::default().missing_from(&set).len(), 1);
        assert_eq!(SeqRange::checked(1, u64::MAX), None);
        assert_eq!(SeqRange::checked(0, 1), None);
        assert!(set.missing_from(&set).is_empty());
    }
}
