//! Messages of peers: what they push, what they have, what they acknowledge.

use std::sync::Arc;

use super::{Message, Now, Replica, TreeMessage, Trust};
use crate::model::{Delta, Origin, PeerId, Seq, VersionVector};
use crate::storage::state::{self, Merging};
use crate::storage::{StoreError, Writer};

impl Replica {
    pub(super) fn message(
        &mut self,
        now: Now,
        peer: PeerId,
        message: Message,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.peer(&peer).is_none() {
            return Ok(());
        }
        match message {
            Message::Push { .. } | Message::Tree(TreeMessage::Forward { .. })
                if self.trust(&peer) != Trust::Full =>
            {
                self.counters.untrusted += 1;
            }
            Message::Push { changes } => self.pushed(now, peer, changes, writer)?,
            Message::Vector { origin, vector } => self.told_vector(now, peer, origin, vector),
            Message::Ack { origin, upto } => self.acknowledged(&peer, origin, upto),
            Message::PullRequest { session, vector } => {
                self.serve_pull(now, peer, session, vector, writer)?;
            }
            Message::PullChunk(chunk) => self.pulled(now, peer, chunk, writer)?,
            Message::PullMore { session } => {
                self.serve_more(now, &peer, session, writer)?;
                self.want_more_snapshot(now, &peer, session);
            }
            Message::Standing(standing) => self.told_standing(now, peer, *standing),
            Message::SnapshotRequest {
                session,
                after,
                line,
            } => self.serve_snapshot(now, peer, session, after, line),
            Message::SnapshotChunk(chunk) => self.take_over(now, &peer, *chunk, writer)?,
            Message::Busy { session } => {
                if self
                    .pulling
                    .as_ref()
                    .is_some_and(|pull| pull.session == session)
                {
                    self.abandon_pull(now);
                }
            }
            Message::Tree(message) => self.tree_message(now, peer, message, writer)?,
        }
        Ok(())
    }

    pub(super) fn pushed(
        &mut self,
        now: Now,
        peer: PeerId,
        changes: Vec<Delta>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let origin = changes.first().map(|delta| delta.dot().origin);
        self.take_pushed(now, &peer, changes, writer)?;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.origin = origin.or(known.origin);
        }
        let gap = origin
            .and_then(|origin| self.vector.of(origin))
            .is_some_and(|set| set.contiguous() < set.highest());
        if gap {
            self.begin_pull(now, &peer);
        }
        self.acks_due.insert(peer);
        Ok(())
    }

    pub(super) fn told_vector(
        &mut self,
        now: Now,
        peer: PeerId,
        origin: Origin,
        vector: VersionVector,
    ) {
        self.check_epoch(now, &vector);
        let behind = !self.vector.covers(&vector);
        let covers = vector.covers(&self.settled.horizon);
        let acked = vector
            .of(self.header.origin)
            .map_or(0, |own| own.contiguous());
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.origin = Some(origin);
        known.acked = acked;
        let vector = Arc::new(vector);
        known.note_lack(behind.then_some(&vector), &self.vector, now.elapsed);
        known.vector = Some(vector);
        known.heard_at = now.elapsed;
        known.has_horizon = covers;
        if !behind && self.settled.fill.is_none() {
            known.behind_in_a_row = 0;
            known.caught_up = true;
            return;
        }
        known.behind_in_a_row += 1;
        // What it has may be on its way here, from it or from the writers; it is asked
        // for when it has not come by the next time. A link that has just come up has
        // nothing on its way: what was written before is asked for at once.
        if known.behind_in_a_row >= 2 || !known.caught_up {
            self.begin_pull(now, &peer);
        }
    }

    pub(super) fn acknowledged(&mut self, peer: &PeerId, origin: Origin, upto: Seq) {
        if origin == self.header.origin
            && upto <= self.written()
            && let Some(known) = self.peers.get_mut(peer)
        {
            known.acked = known.acked.max(upto);
        }
    }

    /// Takes in another replica's write: merges what it still has to say, and in any
    /// case notes that it is in.
    pub(super) fn take_in(
        &mut self,
        now: Now,
        delta: Delta,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let version = delta.write.version;
        if version.dot.origin == self.header.origin && version.dot.seq > self.written() {
            self.begin_epoch(now);
        }
        if self.vector.contains(version.dot) {
            self.counters.repeated += 1;
            return Ok(());
        }
        if !self.settled.is_sound() && version.clock <= self.floor_for_writes(now) {
            // It may have been on its way since before this replica began to take over a
            // snapshot, and its deletion be forgotten where the snapshot comes from. If not,
            // it comes with the snapshot, or by a pull afterwards.
            self.counters.untrusted += 1;
            return Ok(());
        }
        let current = state::entry(writer, &delta.key)?;
        let over = current.as_ref().and_then(|held| held.document.version());
        self.date(now, &delta, over.map(|over| over.clock));
        let Delta { key, write } = delta;
        let merging = Merging::of(current, &write);
        match self.store(now, writer, &key, version.dot, merging)? {
            Some(stored) => {
                self.counters.taken_in += 1;
                self.note_stored(key, stored);
            }
            None => self.counters.superseded += 1,
        }
        self.note(version.dot);
        Ok(())
    }
}
