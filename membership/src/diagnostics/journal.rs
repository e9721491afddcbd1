//! The journal: collects what [`Diagnostics`] shows, within bounds.
//!
//! It is shared by the transport, the driver and the handles, and locked for a
//! moment at a time. A refused frame is counted, and kept by source and reason;
//! where the table is full the pair seen least recently makes room. It also
//! decides which refusal is worth a line in the log now, since the sources of
//! datagrams are free to invent.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{
    ContestedId, Counters, Diagnostics, IdentityConflict, REJECTIONS_MAX, RejectReason, Rejection,
    WARN_INTERVAL, WARNINGS_MAX,
};
use crate::clock::ClockOffset;
use crate::name::{ClusterName, NodeId};

/// Collects the diagnostics; shared by the transport and the driver.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    rejections: HashMap<(SocketAddr, RejectReason), Entry>,
    warnings: u32,
    warnings_since: Option<Instant>,
    crowd_warned: Option<Instant>,
    unresolved: BTreeMap<String, String>,
    observed: Observed,
}

#[derive(Debug)]
struct Entry {
    rejection: Rejection,
    warned: Option<Instant>,
}

/// The part that the driver sets at each of its rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) tick_delay: Duration,
    pub(crate) tick_delay_max: Duration,
    pub(crate) removals_held: bool,
    pub(crate) silent_seeds: Vec<SocketAddr>,
    pub(crate) identity_conflict: Option<IdentityConflict>,
    pub(crate) contested: Vec<ContestedId>,
    pub(crate) clock_offset_median: Option<ClockOffset>,
    pub(crate) last_inbound: Option<Duration>,
    pub(crate) roster_problem: Option<String>,
}

/// One refused frame.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) source: SocketAddr,
    pub(crate) reason: RejectReason,
    pub(crate) sender: Option<NodeId>,
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) detail: Option<String>,
}

impl Refused {
    /// A frame of which only the source is known.
    pub(crate) fn by(source: SocketAddr, reason: RejectReason) -> Refused {
        Refused {
            source,
            reason,
            sender: None,
            cluster: None,
            detail: None,
        }
    }

    pub(crate) fn sent_by(self, sender: &NodeId) -> Refused {
        Refused {
            sender: Some(sender.clone()),
            ..self
        }
    }

    pub(crate) fn of_cluster(self, cluster: &ClusterName) -> Refused {
        Refused {
            cluster: Some(cluster.clone()),
            ..self
        }
    }

    pub(crate) fn because(self, refusal: impl ToString) -> Refused {
        Refused {
            detail: Some(refusal.to_string()),
            ..self
        }
    }
}

impl Journal {
    pub(crate) fn count(&self, f: impl FnOnce(&mut Counters)) {
        f(&mut self.lock().counters);
    }

    /// Notes that the name of a seed resolves, or why it does not. There are no
    /// more names than seeds are configured.
    pub(crate) fn note_seed(&self, name: &str, problem: Option<String>) {
        let unresolved = &mut self.lock().unresolved;
        match problem {
            Some(problem) => drop(unresolved.insert(name.to_owned(), problem)),
            None => drop(unresolved.remove(name)),
        }
    }

    pub(crate) fn set_observed(&self, observed: Observed) {
        self.lock().observed = observed;
    }

    /// Notes a refused frame. Returns it if it deserves a warning now.
    pub(crate) fn reject(&self, refused: Refused, now: Instant) -> Option<Rejection> {
        let mut guard = self.lock();
        let state = &mut *guard;
        *state.counters.rejected.entry(refused.reason).or_default() += 1;
        let key = (refused.source, refused.reason);
        if !state.rejections.contains_key(&key) && state.rejections.len() >= REJECTIONS_MAX {
            let oldest = state
                .rejections
                .iter()
                .min_by_key(|(_, entry)| entry.rejection.last);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                state.rejections.remove(&key);
            }
        }
        let wall = SystemTime::now();
        let entry = state.rejections.entry(key).or_insert_with(|| Entry {
            rejection: Rejection {
                source: refused.source,
                reason: refused.reason,
                sender: None,
                cluster: None,
                detail: None,
                count: 0,
                first: wall,
                last: wall,
            },
            warned: None,
        });
        entry.rejection.count += 1;
        entry.rejection.last = wall;
        entry.rejection.sender = refused.sender;
        entry.rejection.cluster = refused.cluster;
        entry.rejection.detail = refused.detail;

        if !is_worth_a_warning(refused.reason)
            || entry
                .warned
                .is_some_and(|at| now.saturating_duration_since(at) < WARN_INTERVAL)
        {
            return None;
        }
        let interval_over = state
            .warnings_since
            .is_none_or(|since| now.saturating_duration_since(since) >= WARN_INTERVAL);
        if interval_over {
            state.warnings_since = Some(now);
            state.warnings = 0;
        }
        if state.warnings >= WARNINGS_MAX {
            return None;
        }
        state.warnings += 1;
        entry.warned = Some(now);
        Some(entry.rejection.clone())
    }

    /// Notes members that there was no room for. True if that deserves a warning
    /// now.
    pub(crate) fn crowd_out(&self, members: usize, now: Instant) -> bool {
        let mut state = self.lock();
        state.counters.members_crowded_out += members as u64;
        let due = state
            .crowd_warned
            .is_none_or(|at| now.saturating_duration_since(at) >= WARN_INTERVAL);
        if due {
            state.crowd_warned = Some(now);
        }
        due
    }

    pub(crate) fn snapshot(&self) -> Diagnostics {
        let state = self.lock();
        let mut rejections: Vec<_> = state
            .rejections
            .values()
            .map(|entry| entry.rejection.clone())
            .collect();
        rejections.sort_by_key(|rejection| std::cmp::Reverse(rejection.last));
        let observed = state.observed.clone();
        Diagnostics {
            counters: state.counters.clone(),
            rejections,
            tick_delay: observed.tick_delay,
            tick_delay_max: observed.tick_delay_max,
            removals_held: observed.removals_held,
            silent_seeds: observed.silent_seeds,
            unresolved_seeds: state.unresolved.clone(),
            identity_conflict: observed.identity_conflict,
            contested: observed.contested,
            clock_offset_median: observed.clock_offset_median,
            last_inbound: observed.last_inbound,
            roster_problem: observed.roster_problem,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Strangers' noise and the network's repetitions are counted, not told: nobody
/// can act on them.
fn is_worth_a_warning(reason: RejectReason) -> bool {
    match reason {
        RejectReason::OtherSecret
        | RejectReason::Forged
        | RejectReason::OtherCluster
        | RejectReason::AddressTaken
        | RejectReason::FormerLife
        | RejectReason::Faulty => true,
        RejectReason::NotGossip | RejectReason::Replayed | RejectReason::Misaddressed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: u16, reason: RejectReason) -> Refused {
        Refused::by(SocketAddr::from(([10, 0, 0, 2], port)), reason)
    }

    #[test]
    fn a_source_is_warned_about_once_in_the_interval() {
        let journal = Journal::default();
        let now = Instant::now();
        let warning = journal
            .reject(refused(9400, RejectReason::OtherSecret), now)
            .unwrap();
        assert_eq!(
            warning.to_string(),
            "a datagram from 10.0.0.2:9400 could not be opened: that agent uses another peer \
             secret; give both agents the same one"
        );
        assert_eq!(
            journal.reject(refused(9400, RejectReason::OtherSecret), now),
            None
        );
        let later = now + WARN_INTERVAL;
        let again = journal
            .reject(refused(9400, RejectReason::OtherSecret), later)
            .unwrap();
        assert_eq!(again.count, 3);
    }

    #[test]
    fn invented_sources_fill_neither_the_memory_nor_the_log() {
        let journal = Journal::default();
        let now = Instant::now();
        let warnings = (1..=5000)
            .filter_map(|port| journal.reject(refused(port, RejectReason::OtherSecret), now))
            .count();
        assert_eq!(warnings, WARNINGS_MAX as usize);
        let diagnostics = journal.snapshot();
        assert_eq!(diagnostics.rejections.len(), REJECTIONS_MAX);
        assert_eq!(
            diagnostics.counters.rejected[&RejectReason::OtherSecret],
            5000
        );
    }

    #[test]
    fn noise_is_counted_and_not_told() {
        let journal = Journal::default();
        assert_eq!(
            journal.reject(refused(1, RejectReason::NotGossip), Instant::now()),
            None
        );
        assert_eq!(
            journal.snapshot().counters.rejected[&RejectReason::NotGossip],
            1
        );
    }
}
