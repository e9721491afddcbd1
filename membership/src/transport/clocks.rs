//! The clocks of the other nodes, measured by the frames they send.
//!
//! Every frame carries its sender's wall clock. The difference from ours at its
//! arrival is the offset of the two clocks less the time on the way, so of the last
//! [`SAMPLES`] the largest is the nearest to the truth: it is that of the frame that
//! waited least (the clock filter of NTP, RFC 5905, section 10, keeps the sample of the
//! least delay for the same reason). On a busy machine most frames may wait for longer
//! than clocks may differ, and few of them do not; so where fewer than [`FRAMES_MIN`] were
//! heard, only an offset that no frame waits for is believed. Only authentic frames get
//! here, and their numbers may still be anything: differences saturate, and membership
//! depends on none of them. The table is bounded by [`MEMBERS_MAX`] and forgets the node
//! heard least recently.

use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::inspect::MEMBERS_MAX;
use crate::clock::ClockOffset;
use crate::heartbeat::Moment;
use crate::name::NodeId;

/// Frames of one node that its offset is the largest of.
const SAMPLES: usize = 7;
/// With fewer, a node's offset is not known yet, ...
const FRAMES_MIN: usize = 3;
/// ... unless it is larger than this, in milliseconds.
const WAIT_MAX_MS: u64 = 10_000;

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

    /// The node's clock minus ours, if it was heard often enough.
    pub(crate) fn offset(&self, node: &NodeId) -> Option<ClockOffset> {
        let offsets = &self.clocks.get(node)?.offsets;
        let offset = offsets.iter().copied().max()?;
        let known = offsets.len() >= FRAMES_MIN || offset.unsigned_abs() > WAIT_MAX_MS;
        known.then_some(ClockOffset(offset))
    }

    /// The median of the clocks of this node and of those that are `live`, minus
    /// this node's: how far it is from the cluster, with the sign turned. Its own
    /// clock counts like each other, so that of three nodes whose clocks differ
    /// only the one that is off finds itself off; where the middle lies between
    /// two, the one nearer to its own. `None` if no other was measured.
    pub(crate) fn median_offset(&self, live: impl Fn(&NodeId) -> bool) -> Option<ClockOffset> {
        let others = self.clocks.keys().filter(|node| live(node));
        let others = others.filter_map(|node| self.offset(node));
        let mut offsets: Vec<i64> = others.map(|offset| offset.0).collect();
        if offsets.is_empty() {
            return None;
        }
        offsets.push(0);
        offsets.sort_unstable();
        let middle = [(offsets.len() - 1) / 2, offsets.len() / 2];
        let middle = middle.iter().filter_map(|place| offsets.get(*place));
        let nearer = middle.min_by_key(|offset| offset.unsigned_abs());
        nearer.copied().map(ClockOffset)
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

    /// Hears a clock often enough.
    fn hear(table: &mut ClockTable, node: &NodeId, clock_ms: u64, now: Moment) {
        for _ in 0..FRAMES_MIN {
            table.note(node, clock_ms, now);
        }
    }

    #[test]
    fn frames_that_waited_do_not_move_the_offset_if_one_did_not() {
        for waited in [
            &[1, 0, 900, 2, 1, 40_000, 0][..],
            &[1_500, 1_400, 1_300, 0],
            &[1_500, 0, 1_400, 1_300, 1_600, 1_500, 1_900],
        ] {
            let mut table = ClockTable::default();
            for late in waited {
                table.note(&node(1), 5_250, at(5_000 + late));
            }
            assert_eq!(table.offset(&node(1)), Some(ClockOffset(250)), "{waited:?}");
        }
    }

    #[test]
    fn the_first_frames_say_nothing_of_a_clock_unless_they_cannot_have_waited_so_long() {
        let mut table = ClockTable::default();
        assert_eq!(table.offset(&node(1)), None);
        for _ in 1..FRAMES_MIN {
            table.note(&node(1), 50_000, at(51_500));
            assert_eq!(table.offset(&node(1)), None);
        }
        table.note(&node(1), 50_000, at(51_500));
        assert_eq!(table.offset(&node(1)), Some(ClockOffset(-1_500)));
        table.note(&node(2), 50_000, at(60_001));
        assert_eq!(table.offset(&node(2)), Some(ClockOffset(-10_001)));
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
        assert_eq!(table.median_offset(|_| true), None);
        for (n, clock_ms) in [(1, 10_003), (2, u64::MAX), (3, 10_005), (4, 10_006)] {
            hear(&mut table, &node(n), clock_ms, at(10_000));
        }
        assert_eq!(table.median_offset(|_| true), Some(ClockOffset(5)));
        table.retain(|known| *known == node(1));
        assert_eq!(table.offset(&node(3)), None);
    }

    #[test]
    fn of_three_nodes_only_the_one_whose_clock_is_off_finds_itself_off() {
        const HOUR: u64 = 3_600_000;
        let clocks = [2 * HOUR, 2 * HOUR + 5, HOUR];
        let seen_by = |own: usize| {
            let mut table = ClockTable::default();
            for (n, clock_ms) in clocks.iter().enumerate().filter(|(n, _)| *n != own) {
                hear(&mut table, &node(n), *clock_ms, at(clocks[own]));
            }
            table.median_offset(|_| true).unwrap().0
        };
        assert_eq!([seen_by(0), seen_by(1), seen_by(2)], [0, -5, 3_600_000]);
    }

    #[test]
    fn of_two_nodes_and_of_two_halves_nobody_finds_itself_off() {
        for theirs in [1_000, 5_000] {
            let mut table = ClockTable::default();
            hear(&mut table, &node(1), theirs, at(3_000));
            assert_eq!(table.median_offset(|_| true), Some(ClockOffset(0)));
            hear(&mut table, &node(2), theirs, at(3_000));
            hear(&mut table, &node(3), 3_000, at(3_000));
            assert_eq!(table.median_offset(|_| true), Some(ClockOffset(0)));
        }
    }

    #[test]
    fn the_clock_of_a_node_that_is_gone_has_no_say() {
        let mut table = ClockTable::default();
        for n in 1..=3 {
            let clock_ms = if n == 3 { 5_000 } else { 9_000 };
            hear(&mut table, &node(n), clock_ms, at(5_000));
        }
        let live = |id: &NodeId| *id == node(3);
        assert_eq!(table.median_offset(live), Some(ClockOffset(0)));
        assert_eq!(table.median_offset(|_| false), None);
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
            hear(&mut table, &node(n), 0, now);
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
            hear(&mut table, &node(1), theirs, now);
            let offset = table.offset(&node(1)).unwrap().0;
            let exact = i128::from(theirs) - signed_ms(wall);
            prop_assert_eq!(i128::from(offset), exact.clamp(i64::MIN.into(), i64::MAX.into()));
        }
    }
}
