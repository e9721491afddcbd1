//! Frontiers: of each origin, up to which of its writes.

use std::collections::BTreeMap;

use super::{Dot, Origin, Seq, VersionVector};

/// All writes of each origin up to a number: a version vector without its gaps.
///
/// It says what a reader rests on, or what a replica has. Who has seen one write of an
/// origin rests on that one alone; a frontier asks for those before it too, which is
/// more than is needed, never less, and one number instead of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    /// Each number is 1 or more.
    upto: BTreeMap<Origin, Seq>,
}

impl Frontier {
    /// What a vector has without a gap.
    pub fn of_vector(vector: &VersionVector) -> Self {
        let mut frontier = Self::default();
        for (origin, set) in vector.iter() {
            let seq = set.contiguous();
            frontier.note(Dot { origin, seq });
        }
        frontier
    }

    /// Reaches up to this write too; whether it did not before.
    pub fn note(&mut self, dot: Dot) -> bool {
        if self.of(dot.origin) >= dot.seq {
            return false;
        }
        self.upto.insert(dot.origin, dot.seq);
        true
    }

    /// Reaches as far as `other` too.
    pub fn merge(&mut self, other: &Frontier) {
        for dot in other.iter() {
            self.note(dot);
        }
    }

    /// Up to which write of one origin; 0 for none.
    pub fn of(&self, origin: Origin) -> Seq {
        self.upto.get(&origin).copied().unwrap_or(0)
    }

    /// The last write of each origin, ascending by origin.
    pub fn iter(&self) -> impl Iterator<Item = Dot> {
        let dot = |(origin, seq): (&Origin, &Seq)| Dot {
            origin: *origin,
            seq: *seq,
        };
        self.upto.iter().map(dot)
    }

    /// How many origins it knows of.
    pub fn len(&self) -> usize {
        self.upto.len()
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.upto.is_empty()
    }

    /// Forgets the origins whose last write is not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(Dot) -> bool) {
        self.upto.retain(|origin, seq| {
            keep(Dot {
                origin: *origin,
                seq: *seq,
            })
        });
    }

    /// The last writes that `other` does not reach, ascending by origin.
    pub fn beyond(&self, other: &Frontier) -> Vec<Dot> {
        self.iter()
            .filter(|dot| other.of(dot.origin) < dot.seq)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SeqRange;
    use super::super::numbered::{dot, origin};
    use super::*;

    #[test]
    fn it_only_ever_reaches_further() {
        let mut frontier = Frontier::default();
        assert!(frontier.note(dot(1, 5)));
        assert!(!frontier.note(dot(1, 5)) && !frontier.note(dot(1, 3)));
        assert!(!frontier.note(dot(2, 0)), "nothing is no write");
        let mut other = Frontier::default();
        other.note(dot(1, 4));
        other.note(dot(3, 1));
        frontier.merge(&other);
        assert_eq!(frontier.iter().collect::<Vec<_>>(), [dot(1, 5), dot(3, 1)]);
        assert_eq!(frontier.beyond(&other), [dot(1, 5)]);
        assert_eq!(other.beyond(&frontier), []);
    }

    #[test]
    fn of_a_vector_it_is_what_comes_before_the_first_gap() {
        let mut vector = VersionVector::default();
        for (number, first, last) in [(1, 1, 4), (1, 6, 9), (2, 2, 3)] {
            vector.insert_range(origin(number), SeqRange { first, last });
        }
        let frontier = Frontier::of_vector(&vector);
        assert_eq!(frontier.iter().collect::<Vec<_>>(), [dot(1, 4)]);
    }
}
