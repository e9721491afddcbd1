//! The sessions of pulls, made and served, as the replica conducts them; what a pull is
//! and why it is right stands in `pull.rs`.

use std::collections::VecDeque;

use super::peers::Peer;
use super::pull::{Pulling, Serving};
use super::{Message, Now, Output, PullChunk, Replica, TakeIn, TakenIn, Trust, WriteRefused};
use crate::model::{PeerId, VersionVector};
use crate::storage::{self, Fill, Reader, RosterLine, StoreError, Writer};

impl Replica {
    pub(super) fn begin_pull(&mut self, now: Now, peer: &PeerId) {
        if self.pulling.is_some() {
            return;
        }
        match self.peers.get(peer) {
            Some(known) if known.linked && known.pull_after <= now.elapsed => {}
            _ => return,
        }
        let snapshot = match self.wants_snapshot(peer) {
            true if self.can_fill_from(peer) => true,
            false if self.trust(peer) == Trust::Full => false,
            _ => return,
        };
        let session = self.next_session;
        self.next_session = session.wrapping_add(1);
        let deadline = now.elapsed + self.config.pull_timeout;
        self.pulling = Some(Pulling {
            peer: peer.clone(),
            session,
            next_index: 0,
            deadline,
            snapshot,
            parts: VecDeque::new(),
            pieces: None,
            last: None,
        });
        self.counters.pulls_begun += 1;
        let request = match self.settled.fill.clone() {
            Some(fill) if snapshot => Message::SnapshotRequest {
                session,
                after: fill.after().cloned(),
                line: self.own_line(),
            },
            _ => Message::PullRequest {
                session,
                vector: self.vector.clone(),
            },
        };
        self.messages.push(Output::Send(peer.clone(), request));
    }

    /// Whether a snapshot is what it takes; also where it is only that most of all there is
    /// is lacking.
    fn wants_snapshot(&mut self, peer: &PeerId) -> bool {
        if self.settled.fill.is_some() {
            return true;
        }
        if self.trust(peer) != Trust::Full || !self.can_fill_from(peer) {
            return false;
        }
        let theirs = self.peers.get(peer).and_then(|known| known.vector.clone());
        let Some(theirs) = theirs else { return false };
        let lacking = self.vector.missing_count(&theirs);
        let most = lacking >= self.config.snapshot_from && lacking > theirs.count() / 2;
        if most {
            self.settled.fill = Some(Fill::default());
            self.settled.dirty = true;
        }
        most
    }

    fn own_line(&self) -> RosterLine {
        let replica = self.header.origin.replica;
        let line = self.settled.roster.get(&replica).cloned();
        line.unwrap_or_else(|| RosterLine {
            replica,
            name: self.config.name.clone(),
            fenced: false,
            born: self.clock.last(),
            absent_ms: 0,
        })
    }

    pub(super) fn abandon_pull(&mut self, now: Now) {
        if let Some(pull) = self.pulling.take() {
            self.counters.pulls_abandoned += 1;
            if let Some(known) = self.peers.get_mut(&pull.peer) {
                known.pull_after = now.elapsed + self.config.pull_backoff;
            }
        }
    }

    pub(super) fn pulled(
        &mut self,
        now: Now,
        peer: PeerId,
        chunk: PullChunk,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.trust(&peer) != Trust::Full {
            self.counters.untrusted += 1;
            return Ok(());
        }
        self.note_pulled();
        // The changes are good whatever became of the session: on a slow link a session
        // that was given up has brought the next one forward. Only its claim needs all.
        for change in chunk.changes {
            self.take_in(now, change, writer)?;
        }
        match &self.pulling {
            Some(pull) if !pull.snapshot && pull.peer == peer && pull.session == chunk.session => {
                if pull.next_index != chunk.index {
                    self.abandon_pull(now);
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        match chunk.claim {
            Some(claim) => {
                self.claim(now, &claim);
                self.pulling = None;
                self.counters.pulls_completed += 1;
                let next = self.caught_up_with(&peer);
                if let Some(next) = next {
                    self.begin_pull(now, &next);
                }
            }
            None => {
                let session = chunk.session;
                if let Some(pull) = &mut self.pulling {
                    pull.next_index += 1;
                    pull.deadline = now.elapsed + self.config.pull_timeout;
                }
                self.messages
                    .push(Output::Send(peer, Message::PullMore { session }));
            }
        }
        Ok(())
    }

    /// Takes in a part of a backup. A backup is a peer whose state has stood still: what
    /// makes a pull right makes this right too. But a backup may be older than what is
    /// settled, as a replica that was away for too long: `exported.rs` says what then.
    pub(super) fn take_back(
        &mut self,
        now: Now,
        part: TakeIn,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.settled.fill.is_some() {
            let refused = Err(WriteRefused::Filling);
            self.replies.push(Output::TakenIn(part.id, refused));
            return Ok(());
        }
        let before = self.counters;
        let mut taken = TakenIn::default();
        for change in part.changes {
            if self.is_doubtful(&change) {
                let dot = change.dot();
                storage::export(writer, change)?;
                // So that a restore may be repeated.
                self.note(dot);
                taken.exported += 1;
                continue;
            }
            taken.deleted += u64::from(self.is_deleted_since(now, &change, writer)?);
            self.take_in(now, change, writer)?;
        }
        if let Some(claim) = &part.claim {
            self.claim(now, claim);
        }
        taken.taken_in = self.counters.taken_in - before.taken_in;
        taken.superseded = self.counters.superseded - before.superseded;
        taken.repeated = self.counters.repeated - before.repeated;
        self.counters.exported += taken.exported;
        self.replies.push(Output::TakenIn(part.id, Ok(taken)));
        Ok(())
    }

    /// Takes a vector as its own, when all that it covers is in.
    pub(super) fn claim(&mut self, now: Now, claim: &VersionVector) {
        self.check_epoch(now, claim);
        let changed = self.vector.merge(claim);
        self.changed |= !changed.is_empty();
        self.dirty.extend(changed);
    }

    /// Notes a completed pull, tells the peer what we have now, and names a peer from
    /// which more is to be had.
    pub(super) fn caught_up_with(&mut self, peer: &PeerId) -> Option<PeerId> {
        for known in self.peers.values_mut() {
            let covered = known
                .vector
                .as_ref()
                .is_some_and(|theirs| self.vector.covers(theirs));
            if covered {
                known.caught_up = true;
                known.behind_in_a_row = 0;
            }
        }
        self.tell_vector(peer);
        let lacks = |known: &Peer| known.linked && !known.caught_up && known.vector.is_some();
        self.peers
            .iter()
            .find(|(_, known)| lacks(known))
            .map(|(peer, _)| peer.clone())
    }

    pub(super) fn serve_pull(
        &mut self,
        now: Now,
        peer: PeerId,
        session: u64,
        asker: VersionVector,
        reader: &dyn Reader,
    ) -> Result<(), StoreError> {
        self.check_epoch(now, &asker);
        if self
            .peer(&peer)
            .is_none_or(|known| known.served == Some(session))
        {
            return Ok(());
        }
        self.serving.retain(|pull| pull.peer != peer);
        let serving = self.serving.len() + self.snapshots.len();
        let incomplete = self.settled.fill.is_some() || self.settled.unindexed.is_some();
        if serving >= self.config.pulls_served_max || incomplete {
            self.counters.pulls_refused += 1;
            self.messages
                .push(Output::Send(peer, Message::Busy { session }));
            return Ok(());
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.served = Some(session);
        }
        let deadline = now.elapsed + self.config.pull_timeout;
        self.serving.push(Serving::begin(
            peer.clone(),
            session,
            asker,
            &self.vector,
            deadline,
        ));
        for _ in 0..self.config.pull_window {
            self.serve_more(now, &peer, session, reader)?;
        }
        Ok(())
    }

    pub(super) fn serve_more(
        &mut self,
        now: Now,
        peer: &PeerId,
        session: u64,
        reader: &dyn Reader,
    ) -> Result<(), StoreError> {
        let found = self
            .serving
            .iter()
            .position(|pull| pull.peer == *peer && pull.session == session);
        let Some(at) = found else { return Ok(()) };
        let pull = &mut self.serving[at];
        pull.deadline = now.elapsed + self.config.pull_timeout;
        let chunk = pull.next_chunk(reader, &self.vector, &self.config)?;
        if chunk.claim.is_some() {
            self.serving.swap_remove(at);
            self.counters.pulls_served += 1;
        }
        self.messages
            .push(Output::Send(peer.clone(), Message::PullChunk(chunk)));
        Ok(())
    }

    pub(super) fn drop_sessions(&mut self, peer: &PeerId) {
        self.serving.retain(|pull| pull.peer != *peer);
        self.snapshots.retain(|one| one.peer != *peer);
        if self.pulling.as_ref().is_some_and(|pull| pull.peer == *peer) {
            self.pulling = None;
            self.counters.pulls_abandoned += 1;
        }
    }

    pub(super) fn tell_vector(&mut self, peer: &PeerId) {
        if self.tree.on {
            if let Some(known) = self.peers.get_mut(peer) {
                known.branch.due = true;
                self.tree.some_due = true;
            }
            return;
        }
        let message = Message::Vector {
            origin: self.header.origin,
            vector: self.vector.clone(),
        };
        self.messages.push(Output::Send(peer.clone(), message));
    }
}
