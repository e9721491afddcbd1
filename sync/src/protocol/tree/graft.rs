//! Getting what was told of and has not come.

use std::time::Duration;

use super::{GRAFT_WRITES_MAX, TreeMessage};
use crate::model::{PeerId, VersionVector};
use crate::protocol::{Now, Replica};

/// After so many timeouts since it could be asked for, what still lacks is pulled.
const TIMEOUTS_MAX: u32 = 2;

/// What was asked for and may still come, so that not everyone who tells of it is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    writes: VersionVector,
    until: Duration,
    /// How long this time is waited for what was told of; drawn when it is first needed.
    patience: Option<Duration>,
    /// When it is looked whether anything lacks.
    pub(super) due: Option<Duration>,
}

impl Replica {
    /// Looks for what lacks at this moment, if not before.
    pub(super) fn look_by(&mut self, moment: Duration) {
        let due = self.tree.asked.due.get_or_insert(moment);
        *due = moment.min(*due);
    }

    /// Asks for what was told of long ago: a few writes by a graft, more by a pull.
    pub(super) fn look_for_missing(&mut self, now: Now) {
        let timeout = self.config.graft_timeout;
        let patience = match self.tree.asked.patience {
            Some(patience) => patience,
            None => timeout.mul_f64(1.0 + self.random.fraction()),
        };
        self.tree.asked.patience = Some(patience);
        self.tree.asked.due = None;
        if self.tree.asked.until <= now.elapsed {
            self.tree.asked.writes = VersionVector::default();
        }
        for peer in self.who_told_of_missing() {
            let Some(known) = self.peers.get(&peer) else {
                continue;
            };
            let caught_up = known.caught_up;
            let Some((lacked, since)) = known.lacked.clone() else {
                continue;
            };
            // If one write does not come, those after it do not either.
            let goal = known.vector.clone().unwrap_or(lacked);
            let missing = self.vector.missing_count(&goal);
            let overdue = now.elapsed.saturating_sub(since);
            if overdue < patience {
                self.look_by(since + patience);
                continue;
            }
            self.look_by(now.elapsed + timeout);
            let many = missing > u64::try_from(GRAFT_WRITES_MAX).unwrap_or(u64::MAX);
            // Who takes over a snapshot lacks writes whose deletion is forgotten where they are
            // at hand still, and would not be told of it.
            let pulls = many || !caught_up || !self.settled.is_sound();
            if pulls || overdue >= patience + timeout * TIMEOUTS_MAX {
                self.begin_pull(now, &peer);
                continue;
            }
            let mut wanted = VersionVector::default();
            for (origin, range) in self.vector.missing_from(&goal) {
                wanted.insert_range(origin, range);
            }
            let not_asked = self.tree.asked.writes.missing_from(&wanted);
            if not_asked.is_empty() {
                continue;
            }
            let mut wanted = VersionVector::default();
            for (origin, range) in not_asked {
                wanted.insert_range(origin, range);
            }
            self.tree.asked.writes.merge(&wanted);
            self.tree.asked.until = now.elapsed + timeout;
            self.tree.asked.patience = None;
            if let Some(known) = self.peers.get_mut(&peer) {
                known.branch.asked_at = now.elapsed;
            }
            self.graft(&peer, wanted);
        }
    }

    /// The linked peers that told of something that lacks: first who was not asked for long,
    /// then who told of it long ago.
    fn who_told_of_missing(&mut self) -> Vec<PeerId> {
        let mut told = Vec::new();
        for peer in &self.tree.linked {
            let Some(known) = self.peers.get_mut(peer) else {
                continue;
            };
            let Some((goal, since)) = known.lacked.clone() else {
                continue;
            };
            let mut since = since;
            if self.vector.covers(&goal) {
                // All of that has come; what it told of later may still lack.
                let later = known.vector.clone();
                let later = later.filter(|later| !self.vector.covers(later));
                since = known.heard_at;
                known.lacked = later.map(|later| (later, since));
            }
            if known.lacked.is_some() {
                told.push((known.branch.asked_at, since, peer.clone()));
            }
        }
        told.sort();
        told.into_iter().map(|(_, _, peer)| peer).collect()
    }

    /// Makes a link eager on both sides, and asks for these writes.
    pub(super) fn graft(&mut self, peer: &PeerId, wanted: VersionVector) {
        self.counters.grafted += 1;
        self.set_lazy(peer, false);
        self.send_tree(peer, TreeMessage::Graft { wanted });
    }

    /// A peer wants to be pushed to, and these writes first.
    pub(super) fn grafted(&mut self, peer: &PeerId, wanted: &VersionVector) {
        self.set_lazy(peer, false);
        let changes = self.tree.recent.wanted(wanted, GRAFT_WRITES_MAX);
        let given = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        if given > 0 {
            for changes in super::split(changes, self.config.push_bytes) {
                self.send_tree(peer, TreeMessage::Forward { changes });
            }
        }
        if given < VersionVector::default().missing_count(wanted) {
            self.send_tree(peer, TreeMessage::Gone);
        }
    }

    /// A peer cannot give what it was asked for.
    pub(super) fn gone(&mut self, now: Now, peer: &PeerId) {
        let told = self.peers.get(peer).and_then(|known| known.vector.as_ref());
        if told.is_some_and(|told| !self.vector.covers(told)) {
            self.begin_pull(now, peer);
        }
    }
}
