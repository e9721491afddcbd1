//! The clocks of the other nodes, measured by the frames they send.
//!
//! Every frame carries its sender's wall clock. The difference from ours at its
//! arrival is the offset of the two clocks less the time on the way, which is
//! small; the median of the last [`SAMPLES`] is not moved by a frame that waited
//! somewhere. Only authentic frames get here, and their numbers may still be
//! anything: differences saturate, and membership depends on none of them. The
//! table is bounded by [`MEMBERS_MAX`] and forgets the node heard least recently.

use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::inspect::MEMBERS_MAX;
use crate::clock::ClockOffset;
use crate::heartbeat::Moment;
use crate::name::NodeId;

/// Frames of one node that its offset is the median of.
const SAMPLES: usize = 7;

/// This node's wall clock as frames carry it: milliseconds since the Unix epoch,
/// 0 before it.
pub(crate) fn clock_ms(wall: SystemTime) -> u64 {
    u64::try_from(signed_ms(wall)).unwrap_or(0)
}

/// The measured offsets.
#[derive(Debug, Default)]
pub(crate) struct ClockTable {
    clocks: HashMap<NodeId, Clock>,
}

#[derive(Debug)]
struct Clock {
    /// The latest last.
    offsets: VecDeque<i64>,
    noted: Instant,
}

impl ClockTable {
    /// Notes what a node's clock said in a frame that arrived `now`.
    pub(crate) fn note(&mut self, node: &NodeId, clock_ms: u64, now: Moment) {
        if !self.clocks.contains_key(node) && self.clocks.len() >= MEMBERS_MAX {
            let oldest = self.clocks.iter().min_by_key(|(_, clock)| clock.noted);
            let oldest = oldest.map(|(node, _)| node.clone());
            oldest.map(|node| self.clocks.remove(&node));
        }
        let clock = self.clocks.entry(node.clone()).or_insert_with(|| Clock {
            offsets: VecDeque::with_capacity(SAMPLES),
            noted: now.instant,
        });
        clock.noted = now.instant;
        if clock.offsets.len() >= SAMPLES {
            clock.offsets.pop_front();
        }
        let ahead = i128::from(clock_ms) - signed_ms(now.wall);
        let bound = if ahead < 0 { i64::MIN } else { i64::MAX };
        clock
            .offsets
            .push_back(i64::try_from(ahead).unwrap_or(bound));
    }

    /// The node's clock minus ours, if it was heard.
    pub(crate) fn offset(&self, node: &NodeId) -> Option<ClockOffset> {
        let offsets = &self.clocks.get(node)?.offsets;
        median(offsets.iter().copied().collect()).map(ClockOffset)
    }

    /// The median of the offsets of all nodes in the table: how far this node's
    /// own clock is from that of the cluster, with the sign turned.
    pub(crate) fn median_offset(&self) -> Option<ClockOffset> {
        let offsets = self.clocks.keys().filter_map(|node| self.offset(node));
        median(offsets.map(|offset| offset.0).collect()).map(ClockOffset)
    }

    /// Forgets the nodes that are not `known`.
    pub(crate) fn retain(&mut self, known: impl Fn(&NodeId) -> bool) {
        self.clocks.retain(|node, _| known(node));
    }
}

fn signed_ms(wall: SystemTime) -> i128 {
    match wall.duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_millis()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_millis()).unwrap_or(i128::MAX),
    }
}

/// The value in the middle; of two, the smaller.
fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn node(n: usize) -> NodeId {
        format!("n{n}").parse().unwrap()
    }

    /// Our clock stands at this many milliseconds after the epoch.
    fn at(ms: u64) -> Moment {
        Moment {
            instant: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_millis(ms),
        }
    }

    #[test]
    fn a_frame_that_waited_does_not_move_the_offset() {
        let mut table = ClockTable::default();
        assert_eq!(table.offset(&node(1)), None);
        for late in [1, 0, 900, 2, 1, 40_000, 0] {
            table.note(&node(1), 5_250, at(5_000 + late));
        }
        assert_eq!(table.offset(&node(1)), Some(ClockOffset(249)));
    }

    #[test]
    fn a_clock_that_is_set_right_is_right_a_few_frames_later() {
        let mut table = ClockTable::default();
        for _ in 0..100 {
            table.note(&node(1), 3_600_000, at(0));
        }
        assert_eq!(table.offset(&node(1)), Some(ClockOffset(3_600_000)));
        for _ in 0..SAMPLES {
            table.note(&node(1), 10, at(10));
        }
        assert_eq!(table.offset(&node(1)), Some(ClockOffset(0)));
    }

    #[test]
    fn one_wild_clock_does_not_move_the_median_of_all() {
        let mut table = ClockTable::default();
        assert_eq!(table.median_offset(), None);
        for (n, clock_ms) in [(1, 10_003), (2, u64::MAX), (3, 10_005)] {
            table.note(&node(n), clock_ms, at(10_000));
        }
        assert_eq!(table.median_offset(), Some(ClockOffset(5)));
        table.retain(|known| *known == node(1));
        assert_eq!(table.offset(&node(3)), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_heard_least_recently() {
        let mut table = ClockTable::default();
        let start = at(0);
        for n in 0..=MEMBERS_MAX {
            let now = Moment {
                instant: start.instant + Duration::from_millis(n as u64),
                ..start
            };
            table.note(&node(n), 0, now);
        }
        assert_eq!(table.clocks.len(), MEMBERS_MAX);
        assert_eq!(table.offset(&node(0)), None);
        assert!(table.offset(&node(1)).is_some());
    }

    proptest! {
        #[test]
        fn no_clock_makes_it_overflow(theirs in any::<u64>(), ours in any::<u32>(), before in any::<bool>()) {
            let mut table = ClockTable::default();
            let since = Duration::from_secs(u64::from(ours));
            let wall = if before { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
            let now = Moment { instant: Instant::now(), wall };
            table.note(&node(1), theirs, now);
            let offset = table.offset(&node(1)).unwrap().0;
            let exact = i128::from(theirs) - signed_ms(wall);
            prop_assert_eq!(i128::from(offset), exact.clamp(i64::MIN.into(), i64::MAX.into()));
        }
    }
}
