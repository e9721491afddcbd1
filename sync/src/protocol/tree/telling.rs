//! What a replica has, told to its neighbours as it changes.

use std::sync::Arc;
use std::time::Duration;

use super::{Branch, Have, TELLING_RANGES_MAX, TreeMessage};
use crate::model::{PeerId, VersionVector};
use crate::protocol::peers::Peer;
use crate::protocol::{Now, Replica};

/// Who is told at the end of the transaction under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Telling {
    /// Those only who know nothing yet.
    Nothing,
    /// Those on lazy links, if something has changed.
    Lazy,
    /// Everyone, if something has changed.
    Changed,
    /// Everyone, also where nothing has changed: it shows that this replica lives.
    All,
}

impl Replica {
    /// The time has come to tell everyone.
    pub(in crate::protocol) fn tell_all(&mut self) {
        self.tree.telling = Telling::All;
        self.tree.calls.wanted |= self.waiting.len() > 0;
    }

    /// Does what is due by now.
    pub(in crate::protocol) fn tend_tree(&mut self, now: Now) {
        let is_due = |due: Option<Duration>| due.is_some_and(|due| due <= now.elapsed);
        if is_due(self.tree.lazy_due) {
            let telling = match std::mem::take(&mut self.tree.pulled) {
                true => Telling::Changed,
                false => Telling::Lazy,
            };
            self.tree.telling = self.tree.telling.max(telling);
        }
        if is_due(self.tree.asked.due) {
            self.look_for_missing(now);
        }
        self.tree.calls.expire(now.elapsed);
    }

    /// What the transaction under way has to say besides writes: after those, so that it
    /// tells of nothing that is not on its way.
    pub(in crate::protocol) fn tell_neighbours(&mut self) {
        for origin in &self.dirty {
            self.tree.changes.note(*origin);
        }
        self.answer_calls();
        if self.tree.on {
            self.call_roll();
            if !self.dirty.is_empty() && self.tree.lazy_due.is_none() {
                self.tree.lazy_due = Some(self.tree.now + self.config.lazy_interval);
            }
        }
        let telling = std::mem::replace(&mut self.tree.telling, Telling::Nothing);
        if telling != Telling::Nothing {
            self.tree.lazy_due = None;
        } else if !std::mem::take(&mut self.tree.some_due) {
            return;
        }
        let last = self.tree.changes.last();
        let is_due = |branch: &Branch| {
            let news = branch.told < last;
            branch.due
                || match telling {
                    Telling::Nothing => false,
                    Telling::Lazy => branch.lazy && news,
                    Telling::Changed => news,
                    Telling::All => true,
                }
        };
        let linked = self.tree.linked.iter();
        let due = linked.filter_map(|peer| {
            let branch = &self.peers.get(peer)?.branch;
            is_due(branch).then(|| (peer.clone(), branch.told, branch.heard))
        });
        for (peer, after, heard) in due.collect::<Vec<_>>() {
            let (upto, vector) = self.changed_after(after);
            if let Some(Peer { branch, .. }) = self.peers.get_mut(&peer) {
                branch.due = false;
                branch.told = upto;
                if telling == Telling::All {
                    branch.told_before = after;
                }
            }
            let have = Have {
                origin: self.header.origin,
                life: self.tree.life,
                after,
                upto,
                heard,
                vector,
            };
            self.send_tree(&peer, TreeMessage::Have(have));
        }
    }

    /// What this replica has of the origins that have changed since, and up to which change
    /// that is.
    fn changed_after(&self, after: u64) -> (u64, VersionVector) {
        let last = self.tree.changes.last();
        if after == 0 {
            return (last, self.vector.clone());
        }
        let mut vector = VersionVector::default();
        let mut ranges = 0;
        for (number, origin) in self.tree.changes.after(after) {
            for range in self.vector.of(origin).iter().flat_map(|set| set.ranges()) {
                vector.insert_range(origin, range);
                ranges += 1;
            }
            if ranges >= TELLING_RANGES_MAX {
                return (number, vector);
            }
        }
        (last, vector)
    }

    pub(super) fn told_changes(&mut self, now: Now, peer: &PeerId, have: Have) {
        self.check_epoch(now, &have.vector);
        let own_origin = self.header.origin;
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let branch = &mut known.branch;
        if have.heard < branch.told_before {
            branch.told = have.heard;
            branch.told_before = have.heard;
        }
        if branch.life != have.life {
            branch.life = have.life;
            branch.heard = 0;
        }
        let whole = have.after == 0;
        let in_turn = whole || have.after <= branch.heard;
        if in_turn {
            branch.heard = match whole {
                true => have.upto,
                false => branch.heard.max(have.upto),
            };
        }
        if whole {
            known.vector = Some(Arc::new(have.vector));
        } else {
            // What it tells is true, whatever was told between.
            let vector = known.vector.get_or_insert_default();
            Arc::make_mut(vector).merge(&have.vector);
        }
        let vector = known.vector.clone().unwrap_or_default();
        let acked = vector.of(own_origin).map_or(0, |own| own.contiguous());
        known.acked = match whole {
            true => acked,
            false => known.acked.max(acked),
        };
        known.has_horizon = (known.has_horizon && !whole) || vector.covers(&self.settled.horizon);
        known.origin = Some(have.origin);
        let behind = !self.vector.covers(&vector);
        known.note_lack(behind.then_some(&vector), &self.vector, now.elapsed);
        known.heard_at = now.elapsed;
        if !behind {
            known.behind_in_a_row = 0;
            known.caught_up |= in_turn;
        } else if known.caught_up {
            self.look_by(now.elapsed + self.config.graft_timeout);
        } else {
            // The link has just come up: nothing of what was written before is on its way.
            self.begin_pull(now, peer);
            self.look_by(now.elapsed + self.config.graft_timeout);
        }
    }
}
