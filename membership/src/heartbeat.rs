//! Heartbeats: the evidence that a member lives, and what is plausible of it.
//!
//! Every gossip message brings a heartbeat counter for each member its sender
//! knows. This table notes when each counter advanced here, which gives the age
//! of the last heartbeat and phi, its age in mean intervals (the exponential
//! simplification of Hayashibara et al., "The phi accrual failure detector",
//! 2004, as chitchat computes it). chitchat looks at its own once in a round of
//! gossip; from this one the view knows the moment at which a silence becomes too
//! long, and shows it as evidence. The same table keeps out what no honest member says: a
//! counter that leaps ahead of time, which would make a live node look dead; a
//! flood of invented members; state of this very node. It is bounded by
//! [`TABLE_LEN_MAX`], the digest that all its members would fill.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chitchat::ChitchatId;
use tokio::time::Instant;

use crate::identity::Incarnation;
use crate::name::NodeId;
use crate::transport::inspect::{DIGEST_LEN_MAX, Inspected, KEYS_MAX, Refusal, VERSION_MAX};

/// The time, by both clocks: one that never goes back, and one that goes on
/// while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The larger of what the two clocks say has passed since `earlier`.
    fn since(self, earlier: Moment) -> Duration {
        let slept = self
            .wall
            .duration_since(earlier.wall)
            .unwrap_or(Duration::ZERO);
        self.instant
            .saturating_duration_since(earlier.instant)
            .max(slept)
    }
}

/// How long a member has been silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Silence {
    pub(crate) age: Duration,
    /// Between its heartbeats; `None` before two of them gave an interval.
    pub(crate) interval_mean: Option<Duration>,
}

impl Silence {
    /// The age in mean intervals.
    pub(crate) fn phi(&self) -> Option<f64> {
        let mean = self.interval_mean?;
        Some(self.age.as_secs_f64() / mean.as_secs_f64())
    }
}

/// What is known of every member's heartbeats.
#[derive(Debug)]
pub(crate) struct HeartbeatTable {
    entries: HashMap<ChitchatId, Entry>,
    /// The length of a digest of all entries.
    digest_len: usize,
    interval_initial: Duration,
    interval_max: Duration,
    /// How far the state of this very node has come.
    pub(crate) own_version: u64,
}

#[derive(Debug)]
struct Entry {
    counter: u64,
    noted: Moment,
    /// When the counter advanced; the first value is no sign of life, it may be
    /// hearsay about a dead node.
    advanced: Option<Instant>,
    intervals: Intervals,
    keys: BTreeSet<String>,
    digest_len: usize,
}

/// The entries of a digest that must not reach chitchat, by their place in the
/// message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LeftOut {
    /// Their heartbeats leap.
    pub(crate) implausible: Vec<Range<usize>>,
    /// There is no room for so many members.
    pub(crate) crowded_out: Vec<Range<usize>>,
}

impl HeartbeatTable {
    pub(crate) fn new(interval_initial: Duration, interval_max: Duration) -> HeartbeatTable {
        HeartbeatTable {
            entries: HashMap::new(),
            digest_len: 0,
            interval_initial,
            interval_max,
            own_version: 0,
        }
    }

    /// Checks a message against what is known, and notes what passes. A delta
    /// that cannot be is refused with its message; of a digest, single entries
    /// are left out.
    pub(crate) fn admit(
        &mut self,
        message: &Inspected,
        own: &ChitchatId,
        now: Moment,
    ) -> Result<LeftOut, Refusal> {
        self.check_delta(message, own)?;
        let mut left_out = LeftOut::default();
        for named in message.digest.iter().filter(|named| named.member != *own) {
            let (plausible, known) = match self.entries.get(&named.member) {
                Some(entry) => (named.heartbeat <= entry.highest_plausible(now), true),
                None => (named.heartbeat <= VERSION_MAX, false),
            };
            if !plausible {
                left_out.implausible.push(named.bytes.clone());
            } else if !known && self.digest_len + named.bytes.len() > TABLE_LEN_MAX {
                left_out.crowded_out.push(named.bytes.clone());
            } else {
                self.note(&named.member, named.heartbeat, named.bytes.len(), now);
            }
        }
        for delta in &message.delta {
            if let Some(entry) = self.entries.get_mut(&delta.member) {
                entry.keys.extend(delta.keys.iter().cloned());
            }
        }
        Ok(left_out)
    }

    /// The silence of a member whose heartbeat has advanced here at least once.
    pub(crate) fn silence(&self, member: &ChitchatId, now: Instant) -> Option<Silence> {
        let entry = self.entries.get(member)?;
        Some(Silence {
            age: now.saturating_duration_since(entry.advanced?),
            interval_mean: entry.intervals.mean(self.interval_initial),
        })
    }

    /// Whether the heartbeat of a node at this address advanced of late.
    pub(crate) fn beats(&self, id: &NodeId, address: SocketAddr, now: Instant) -> bool {
        self.entries.iter().any(|(member, entry)| {
            *member.node_id == *id.as_str()
                && member.gossip_advertise_addr == address
                && (entry.advanced)
                    .is_some_and(|at| now.saturating_duration_since(at) < self.silence_max())
        })
    }

    /// The latest life of this node after `own` of which others know, unless one
    /// of these goes on, or may: then another process has this node's id.
    pub(crate) fn ended_later_life(&self, own: &ChitchatId, now: Instant) -> Option<Incarnation> {
        let later = self.entries.iter().filter(|(member, _)| {
            member.node_id == own.node_id && member.generation_id > own.generation_id
        });
        let mut latest = None;
        for (member, entry) in later {
            let silence = now.saturating_duration_since(entry.noted.instant);
            if silence < self.silence_max() {
                return None;
            }
            latest = latest.max(Some(Incarnation(member.generation_id)));
        }
        latest
    }

    /// Whoever has been silent for longer is not merely slow: three times the
    /// longest pause that still counts as one between two heartbeats.
    pub(crate) fn silence_max(&self) -> Duration {
        self.interval_max * 3
    }

    /// Forgets the members that chitchat has forgotten, but not those that may be
    /// on their way to it.
    pub(crate) fn retain(&mut self, known: impl Fn(&ChitchatId) -> bool, now: Instant) {
        self.entries.retain(|member, entry| {
            known(member) || now.saturating_duration_since(entry.noted.instant) < ON_ITS_WAY
        });
        self.digest_len = self.entries.values().map(|entry| entry.digest_len).sum();
    }

    /// The node ids of all members in the table.
    pub(crate) fn node_ids(&self) -> HashSet<Arc<str>> {
        self.entries
            .keys()
            .map(|member| Arc::clone(&member.node_id))
            .collect()
    }

    fn check_delta(&self, message: &Inspected, own: &ChitchatId) -> Result<(), Refusal> {
        for delta in &message.delta {
            // What this node announced last may come to a peer before an older question
            // of this node, and is then its answer; chitchat passes over it.
            if delta.member == *own && delta.max_version > self.own_version {
                return Err(Refusal::OwnState);
            }
            if let Some(entry) = self.entries.get(&delta.member) {
                let added = delta.keys.difference(&entry.keys).count();
                if entry.keys.len() + added > KEYS_MAX {
                    return Err(Refusal::KeyValue);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, member: &ChitchatId, counter: u64, digest_len: usize, now: Moment) {
        let Some(entry) = self.entries.get_mut(member) else {
            let entry = Entry {
                counter,
                noted: now,
                advanced: None,
                intervals: Intervals::default(),
                keys: BTreeSet::new(),
                digest_len,
            };
            self.entries.insert(member.clone(), entry);
            self.digest_len += digest_len;
            return;
        };
        if counter <= entry.counter {
            return;
        }
        if let Some(before) = entry.advanced {
            let interval = now.instant.saturating_duration_since(before);
            if interval <= self.interval_max {
                entry.intervals.push(interval.as_secs_f64());
            }
        }
        entry.counter = counter;
        entry.noted = now;
        entry.advanced = Some(now.instant);
    }
}

/// The table leaves room in a digest for this node itself.
pub(crate) const TABLE_LEN_MAX: usize = DIGEST_LEN_MAX - 1_000;
/// Longer than a message waits between its check and chitchat.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A node beats once for each round and each message: some tens a second.
const BEATS_PER_SECOND_MAX: f64 = 1000.0;
const BEATS_SLACK: u64 = 1000;

impl Entry {
    fn highest_plausible(&self, now: Moment) -> u64 {
        let beats = now.since(self.noted).as_secs_f64() * BEATS_PER_SECOND_MAX;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let beats = beats as u64; // saturates, and is never negative
        self.counter
            .saturating_add(beats)
            .saturating_add(BEATS_SLACK)
    }
}

const INTERVALS_MAX: usize = 100;
/// chitchat's weight of the assumed interval against measured ones.
const INITIAL_WEIGHT: f64 = 5.0;

/// The last intervals between heartbeats, in seconds.
#[derive(Debug, Default)]
struct Intervals {
    recent: VecDeque<f64>,
}

impl Intervals {
    fn push(&mut self, seconds: f64) {
        if self.recent.len() >= INTERVALS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
    }

    fn mean(&self, initial: Duration) -> Option<Duration> {
        let count = u32::try_from(self.recent.len())
            .ok()
            .filter(|count| *count > 0)?;
        let sum: f64 = self.recent.iter().sum();
        let weighted = sum + INITIAL_WEIGHT * initial.as_secs_f64();
        Some(Duration::from_secs_f64(
            weighted / (f64::from(count) + INITIAL_WEIGHT),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::inspect::{DigestEntry, NodeDelta};

    const ENTRY_LEN: usize = 48;
    const STEP: Duration = Duration::from_millis(200);

    fn member(n: usize) -> ChitchatId {
        ChitchatId::new(format!("n{n}"), 1, ([127, 0, 0, 1], 9400).into())
    }

    /// A digest whose entries are [`ENTRY_LEN`] bytes long.
    fn digest(entries: &[(usize, u64)]) -> Inspected {
        let entry = |(place, &(n, heartbeat)): (usize, &(usize, u64))| DigestEntry {
            member: member(n),
            heartbeat,
            max_version: 1,
            bytes: place * ENTRY_LEN..(place + 1) * ENTRY_LEN,
        };
        let digest = entries.iter().enumerate().map(entry).collect();
        Inspected {
            digest,
            delta: Vec::new(),
        }
    }

    fn table() -> HeartbeatTable {
        HeartbeatTable::new(STEP, Duration::from_secs(2))
    }

    fn later(moment: Moment, by: Duration) -> Moment {
        Moment {
            instant: moment.instant + by,
            wall: moment.wall + by,
        }
    }

    #[test]
    fn phi_is_the_age_in_mean_intervals() {
        let mut table = table();
        let own = member(0);
        let mut now = Moment::now();
        for beat in 1..50 {
            table.admit(&digest(&[(1, beat)]), &own, now).unwrap();
            now = later(now, STEP);
        }
        let silence = table.silence(&member(1), now.instant + STEP * 7).unwrap();
        assert_eq!(silence.age, STEP * 8);
        let phi = silence.phi().unwrap();
        assert!((phi - 8.0).abs() < 1e-6, "{phi}");
    }

    #[test]
    fn one_heartbeat_is_hearsay() {
        let mut table = table();
        let now = Moment::now();
        table.admit(&digest(&[(1, 500)]), &member(0), now).unwrap();
        table
            .admit(&digest(&[(1, 500)]), &member(0), later(now, STEP))
            .unwrap();
        assert_eq!(table.silence(&member(1), now.instant), None);
    }

    #[test]
    fn a_heartbeat_that_leaps_is_left_out_and_changes_nothing() {
        let mut table = table();
        let own = member(0);
        let now = Moment::now();
        table.admit(&digest(&[(1, 10)]), &own, now).unwrap();
        for leap in [u64::MAX, 10 + 1001] {
            let left_out = table
                .admit(&digest(&[(2, 1), (1, leap)]), &own, now)
                .unwrap();
            assert_eq!(
                left_out.implausible.first(),
                Some(&(ENTRY_LEN..2 * ENTRY_LEN))
            );
            assert_eq!(table.entries[&member(1)].counter, 10);
        }
        let left_out = table.admit(&digest(&[(3, u64::MAX)]), &own, now).unwrap();
        assert_eq!(left_out.implausible.len(), 1);
        let hour = later(now, Duration::from_secs(3600));
        let left_out = table.admit(&digest(&[(1, 100_000)]), &own, hour).unwrap();
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn a_later_life_of_this_node_is_over_when_its_heartbeat_no_longer_advances() {
        let mut table = table();
        let own = ChitchatId::new("n1", 0, ([127, 0, 0, 1], 9400).into());
        let mut now = Moment::now();
        for beat in 1..50 {
            table.admit(&digest(&[(1, beat)]), &own, now).unwrap();
            now = later(now, STEP);
            assert_eq!(table.ended_later_life(&own, now.instant), None);
        }
        now = later(now, table.silence_max());
        let ended = table.ended_later_life(&own, now.instant);
        assert_eq!(ended, Some(Incarnation(1)));
        assert_eq!(table.ended_later_life(&member(1), now.instant), None);
    }

    #[test]
    fn a_machine_that_slept_believes_what_it_missed() {
        let mut table = table();
        let now = Moment::now();
        table.admit(&digest(&[(1, 10)]), &member(0), now).unwrap();
        let woken = Moment {
            instant: now.instant,
            wall: now.wall + Duration::from_secs(8 * 3600),
        };
        let left_out = table
            .admit(&digest(&[(1, 576_000)]), &member(0), woken)
            .unwrap();
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn invented_members_crowd_out_newcomers_and_nobody_who_is_known() {
        let mut table = table();
        let own = member(0);
        let now = Moment::now();
        let full = TABLE_LEN_MAX / ENTRY_LEN;
        let many: Vec<_> = (1..=full).map(|n| (n, 1)).collect();
        assert_eq!(
            table.admit(&digest(&many), &own, now),
            Ok(LeftOut::default())
        );
        let left_out = table
            .admit(&digest(&[(full + 1, 1), (1, 2)]), &own, now)
            .unwrap();
        assert_eq!(left_out.crowded_out.first(), Some(&(0..ENTRY_LEN)));
        assert_eq!(table.entries[&member(1)].counter, 2);
        table.retain(|known| *known != member(7), now.instant);
        let left_out = table.admit(&digest(&[(full + 1, 1)]), &own, now).unwrap();
        assert_eq!(
            left_out.crowded_out.len(),
            1,
            "member 7 may be on its way to chitchat"
        );
        table.retain(|known| *known != member(7), now.instant + ON_ITS_WAY);
        let left_out = table.admit(&digest(&[(full + 1, 1)]), &own, now).unwrap();
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn nobody_else_adds_to_this_node_and_nobody_grows_keys_for_ever() {
        let mut table = table();
        let own = member(0);
        let now = Moment::now();
        let delta = |n, range: std::ops::Range<usize>| Inspected {
            digest: Vec::new(),
            delta: vec![NodeDelta {
                member: member(n),
                max_version: range.end as u64,
                keys: range.map(|key| format!("k{key}")).collect(),
            }],
        };
        table.own_version = 11;
        assert_eq!(
            table.admit(&delta(0, 0..12), &own, now),
            Err(Refusal::OwnState)
        );
        let echo = table.admit(&delta(0, 0..11), &own, now);
        assert_eq!(echo, Ok(LeftOut::default()));
        table.admit(&digest(&[(1, 1)]), &own, now).unwrap();
        table.admit(&delta(1, 0..20), &own, now).unwrap();
        table.admit(&delta(1, 10..32), &own, now).unwrap();
        assert_eq!(
            table.admit(&delta(1, 32..33), &own, now),
            Err(Refusal::KeyValue)
        );
    }
}
