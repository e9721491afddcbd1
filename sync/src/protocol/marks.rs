//! When a replica made its writes, as far as that matters for how late a peer is.
//!
//! To remember a moment for each write would cost as much as the writes. A mark is a
//! number and the moment of the write that bears it; those after it, up to the next
//! mark, were made before that one. When there are too many marks, those go without which
//! the gap around them is still small against its age: a moment is known within
//! [`MARK_INTERVAL`] or a part of its age ([`PRECISION`]).

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Seq;

/// Between two marks at least.
const MARK_INTERVAL: Duration = Duration::from_millis(20);
/// Of its age: the gap between two marks that is not widened.
const PRECISION: u32 = 32;
/// Marks at most: more than a year of writing leaves after the superfluous have gone.
const MARKS_MAX: usize = 2048;

/// When the writes of one origin were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// Ascending by number and by moment.
    marks: VecDeque<(Seq, Duration)>,
}

impl Marks {
    /// The write `seq`, higher than all before, is made now.
    pub(super) fn note(&mut self, seq: Seq, now: Duration) {
        let last = self.marks.back();
        if last.is_some_and(|(_, at)| now < *at + MARK_INTERVAL) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            self.thin_out(now);
        }
        self.marks.push_back((seq, now));
    }

    fn thin_out(&mut self, now: Duration) {
        let old = std::mem::take(&mut self.marks);
        let mut kept: Option<Duration> = None;
        for (at, (seq, made)) in old.iter().enumerate() {
            let superfluous = kept.zip(old.get(at + 1)).is_some_and(|(kept, (_, next))| {
                next.saturating_sub(kept) <= now.saturating_sub(*next) / PRECISION
            });
            if !superfluous {
                kept = Some(*made);
                self.marks.push_back((*seq, *made));
            }
        }
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// When the write `seq` was made, or somewhat before; `None` where it is older than
    /// all that is remembered.
    pub(super) fn at(&self, seq: Seq) -> Option<Duration> {
        let after = self.marks.partition_point(|(mark, _)| *mark <= seq);
        let (_, at) = self.marks.get(after.checked_sub(1)?)?;
        Some(*at)
    }

    /// Forgets them: numbers begin anew.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write a millisecond for three hours.
    #[test]
    fn a_moment_is_known_within_a_part_of_its_age_and_the_marks_are_few() {
        const WRITES: u64 = 3 * 3600 * 1000;
        let mut marks = Marks::default();
        for seq in 1..=WRITES {
            marks.note(seq, Duration::from_millis(seq));
            assert!(marks.marks.len() <= MARKS_MAX);
        }
        for age in [0, 10, 1_000, 60_000, 3_600_000, WRITES - 1] {
            let made = Duration::from_millis(WRITES - age);
            let found = marks.at(WRITES - age).unwrap();
            let off = made.checked_sub(found).expect("never too young");
            let bound = MARK_INTERVAL + Duration::from_millis(age) / PRECISION;
            assert!(off <= bound, "{age} ms ago: {off:?} off");
        }
    }

    #[test]
    fn what_was_made_before_the_first_mark_is_not_known() {
        let mut marks = Marks::default();
        assert_eq!(marks.at(1), None);
        marks.note(5, Duration::from_secs(9));
        assert_eq!(marks.at(4), None);
        assert_eq!(marks.at(u64::MAX), Some(Duration::from_secs(9)));
        marks.clear();
        assert_eq!(marks.at(5), None);
    }
}
