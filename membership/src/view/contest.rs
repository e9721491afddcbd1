//! Node ids that more than one live process uses, seen from a third node.
//!
//! The two themselves hear each other's frames
//! ([`IdentityConflict`](crate::IdentityConflict)); anybody else sees two
//! incarnations of one node whose heartbeats both advance. A quick restart looks
//! the same until the old incarnation is missed, so only what lasts longer than
//! [`LASTS`] is told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Observation;
use crate::diagnostics::{Claimant, ContestedId};
use crate::heartbeat::Moment;
use crate::name::NodeId;

/// Longer than a dead incarnation counts as alive.
const LASTS: Duration = Duration::from_secs(5);

/// Since when several incarnations of one node have been live at once.
#[derive(Debug, Default)]
pub(crate) struct Contests {
    since: BTreeMap<NodeId, Moment>,
}

impl Contests {
    /// Takes in what is observed now; the ids of other nodes that are contested.
    pub(crate) fn observe(
        &mut self,
        observations: &[Observation],
        now: Moment,
    ) -> Vec<ContestedId> {
        let own = observations.iter().find(|one| one.is_self);
        let mut live: BTreeMap<&NodeId, Vec<Claimant>> = BTreeMap::new();
        for one in observations.iter().filter(|one| one.live) {
            live.entry(&one.id).or_default().push(Claimant {
                incarnation: one.incarnation,
                address: one.peer,
            });
        }
        live.retain(|id, claimants| claimants.len() > 1 && own.is_none_or(|own| own.id != **id));
        self.since.retain(|id, _| live.contains_key(id));
        let mut contested = Vec::new();
        for (id, mut claimants) in live {
            let since = *self.since.entry(id.clone()).or_insert(now);
            if now.instant.saturating_duration_since(since.instant) >= LASTS {
                claimants.sort_by_key(|claimant| (claimant.incarnation, claimant.address));
                contested.push(ContestedId {
                    id: id.clone(),
                    claimants,
                    since: since.wall,
                });
            }
        }
        contested
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::*;
    use crate::identity::Incarnation;
    use crate::metadata::Metadata;

    fn life(incarnation: u64, live: bool) -> Observation {
        Observation {
            id: "n1".parse().unwrap(),
            incarnation: Incarnation(incarnation),
            peer: ([127, 0, 0, 1], u16::try_from(incarnation).unwrap()).into(),
            metadata: Arc::new(Metadata::new(1)),
            live,
            silence: None,
            clock_offset: None,
            is_self: false,
        }
    }

    fn at(seconds: u64) -> Moment {
        let start = START.with(|start| *start);
        Moment {
            instant: start + Duration::from_secs(seconds),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    thread_local! {
        static START: Instant = Instant::now();
    }

    #[test]
    fn two_live_lives_of_one_id_are_told_with_both_addresses_once_they_last() {
        let mut contests = Contests::default();
        let both = [life(2, true), life(1, true)];
        assert_eq!(contests.observe(&both, at(0)), []);
        assert_eq!(contests.observe(&both, at(4)), []);
        let contested = contests.observe(&both, at(5));
        let claimants: Vec<_> = contested[0]
            .claimants
            .iter()
            .map(|claimant| (claimant.incarnation.0, claimant.address.port()))
            .collect();
        assert_eq!(claimants, [(1, 1), (2, 2)]);
        assert_eq!(contested[0].since, at(0).wall);
        assert_eq!(
            contests.observe(&[life(2, true), life(1, false)], at(6)),
            []
        );
    }

    #[test]
    fn a_quick_restart_is_no_contest_and_the_own_id_is_told_elsewhere() {
        let mut contests = Contests::default();
        for second in 0..2 {
            contests.observe(&[life(1, true), life(2, true)], at(second));
        }
        assert_eq!(contests.observe(&[life(2, true)], at(2)), []);
        assert_eq!(contests.observe(&[life(2, true), life(3, true)], at(6)), []);
        let own = Observation {
            is_self: true,
            ..life(9, true)
        };
        for second in 10..20 {
            let contested = contests.observe(&[own.clone(), life(1, true)], at(second));
            assert_eq!(contested, []);
        }
    }
}
