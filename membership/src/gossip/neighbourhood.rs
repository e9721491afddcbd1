//! What an operator wants to know though no member changed its state: whether
//! this node is alone, which seeds are silent, who else uses its id or another's.
//!
//! In go the observations of each round; out come the [`Observed`] part of the
//! diagnostics, the conflict about this node's own id, and a warning for each
//! seed that turns out to be silent.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::diagnostics::IdentityConflict;
use crate::diagnostics::journal::Observed;
use crate::heartbeat::Moment;
use crate::identity::Incarnation;
use crate::name::NodeId;
use crate::transport::endpoint::Endpoint;
use crate::view::Observation;
use crate::view::contest::Contests;

/// A seed that has not answered for this long is told about.
const SEED_PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Neighbourhood {
    started: Instant,
    silent_seeds: BTreeSet<SocketAddr>,
    rival: Option<Incarnation>,
    contests: Contests,
    alone: watch::Sender<bool>,
}

impl Neighbourhood {
    pub(super) fn new(now: Instant) -> Neighbourhood {
        Neighbourhood {
            started: now,
            silent_seeds: BTreeSet::new(),
            rival: None,
            contests: Contests::default(),
            alone: watch::channel(true).0,
        }
    }

    /// Whether this node is alone, and each change of that.
    pub(super) fn alone(&self) -> watch::Receiver<bool> {
        self.alone.subscribe()
    }

    /// Takes in one round.
    pub(super) fn observe(
        &mut self,
        observations: &[Observation],
        seeds: &BTreeSet<SocketAddr>,
        endpoint: &Endpoint,
        now: Moment,
    ) -> Observed {
        let alone = !observations.iter().any(|node| node.live && !node.is_self);
        self.alone
            .send_if_modified(|before| std::mem::replace(before, alone) != alone);
        self.note_silent_seeds(observations, seeds, endpoint, now.instant);
        let contested = self.contests.observe(observations, now);
        let live: HashSet<&NodeId> = observations
            .iter()
            .filter(|node| node.live)
            .map(|node| &node.id)
            .collect();
        let screen = endpoint.screen();
        Observed {
            silent_seeds: self.silent_seeds.iter().copied().collect(),
            identity_conflict: screen.rival(now.instant),
            contested,
            clock_offset_median: screen.clock_offset_median(|id| live.contains(id)),
            last_inbound: screen.last_inbound(now.instant),
            ..Observed::default()
        }
    }

    /// The conflict about this node's own id, where it is with another process
    /// than it was in the round before.
    pub(super) fn new_conflict<'a>(
        &mut self,
        observed: &'a Observed,
    ) -> Option<&'a IdentityConflict> {
        let conflict = observed.identity_conflict.as_ref();
        let rival = conflict.map(|conflict| conflict.incarnation);
        let before = std::mem::replace(&mut self.rival, rival);
        conflict.filter(|_| rival != before)
    }

    fn note_silent_seeds(
        &mut self,
        observations: &[Observation],
        seeds: &BTreeSet<SocketAddr>,
        endpoint: &Endpoint,
        now: Instant,
    ) {
        if now.saturating_duration_since(self.started) < SEED_PATIENCE {
            return;
        }
        let members: HashSet<SocketAddr> = observations.iter().map(|node| node.peer).collect();
        let silent: BTreeSet<SocketAddr> = {
            let screen = endpoint.screen();
            let answers = |seed: &SocketAddr| members.contains(seed) || screen.heard_from(*seed);
            seeds
                .iter()
                .filter(|seed| !answers(seed))
                .copied()
                .collect()
        };
        for seed in silent.difference(&self.silent_seeds) {
            warn!(
                %seed,
                "no agent answers at this seed: it is down, cannot be reached, uses another peer \
                 secret, or cannot reach the address that this node advertises"
            );
        }
        self.silent_seeds = silent;
    }
}
