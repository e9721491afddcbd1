//! Beyond the full mesh: writes go along a tree that repairs itself.
//!
//! In a cluster too large for a mesh, a replica links to few others (`overlay.rs`), and
//! whoever takes in a pushed write for the first time passes it on. This is Plumtree (Leitão,
//! Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007), with version vectors in the place
//! of its lists of messages:
//!
//! - **Eager** links carry writes, **lazy** ones only word of them. A link begins as eager.
//!   A push that brings nothing new, and came sooner by another link, makes its link lazy
//!   on both sides (*prune*). What is left of the eager links is a tree.
//! - **Word** is what has changed of the sender's vector since it was last told on this link
//!   ([`Have`]): after a tenth of a second on lazy links, every second on all. Tellings are
//!   numbered, and each says up to where the other side's were heard: what was lost is told
//!   again, so that a whole vector is told once for each link, and a link without news costs
//!   a few bytes. (Tellings of the whole now and then would cost more and mend later.)
//! - A write that was told of and has not come within once to twice
//!   [`Config::graft_timeout`](super::Config::graft_timeout) is asked for where it was told
//!   of, and makes that link eager (*graft*). The time is drawn: when a whole branch has come
//!   off, one of it asks, and the others get it by the links that they have. When an eager
//!   link goes down, a lazy one takes its place at once.
//! - What is no longer at hand to be given (`recent.rs`), or lacks for too long, or is too
//!   much, is pulled, as in a mesh; it is not passed on, but word of it goes out on all
//!   links. Nothing rests on the tree but time.
//!
//! **One tree, shared by all writers.** A tree for each writer takes half the hops between
//! two leaves. But it costs a flood of duplicates for each, and each life of a replica is a
//! new writer; with many who write seldom, all trees would be cold for ever.
//!
//! **Who counts as a peer with a write on disk** (`calls.rs`): the neighbours acknowledge to
//! the writer directly, whoever passed the write on. Where more are asked for than there are
//! neighbours, or those do not answer, the roll is called: the question goes over all links,
//! and answers with names come back the way by which it came.
//!
//! **How all stand** is counted by going round (`census.rs`).
//!
//! Owned here: eager and lazy, what was told and heard, the latest writes. Bounds: writes at
//! hand by [`Config::recent_bytes`](super::Config::recent_bytes), writes asked for at once by
//! [`GRAFT_WRITES_MAX`], origins in a telling by [`TELLING_RANGES_MAX`] (the rest goes with
//! the next), calls that are open by number and time. What can fail: the tree falls apart
//! where two prunes cross, or a peer dies unnoticed; then word arrives, and a graft follows.

mod calls;
mod census;
mod changes;
mod graft;
mod message;
mod recent;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use census::{Census, Counted};
pub use message::{Have, TreeMessage};

use self::calls::Calls;
use self::census::Counting;
use self::changes::Changes;
use self::graft::Asked;
use self::recent::Recent;
use self::telling::Telling;
use super::{Message, Now, Output, Replica};
use crate::model::{Delta, Dot, Origin, PeerId, VersionVector};
use crate::storage::{StoreError, Writer};

/// Writes that are asked for, and given, at once; who lacks more pulls.
const GRAFT_WRITES_MAX: usize = 512;
/// Ranges of numbers in one telling: less than a frame takes.
const TELLING_RANGES_MAX: usize = 32 * 1024;

/// What a replica keeps of a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch {
    /// Writes are not pushed on it, but told of.
    pub(super) lazy: bool,
    /// Up to which of our changes the peer was told; 0 when it is to be told all.
    told: u64,
    /// The same, a telling to all earlier: by now the peer should have heard of it.
    told_before: u64,
    /// It is to be told at the end of the transaction under way.
    pub(super) due: bool,
    /// In which of its lives the peer told us last, ...
    life: u64,
    /// ... and up to which of its changes we have heard all.
    heard: u64,
    /// When it was last asked for writes that had not come.
    asked_at: Duration,
}

/// What a replica keeps of the tree.
pub(super) struct Tree {
    /// The cluster is too large for a mesh.
    pub(super) on: bool,
    /// The peers to which messages can be sent.
    linked: BTreeSet<PeerId>,
    life: u64,
    changes: Changes,
    recent: Recent,
    asked: Asked,
    calls: Calls,
    counting: Counting,
    /// When lazy links are told.
    lazy_due: Option<Duration>,
    telling: Telling,
    /// Something was taken in that is not passed on.
    pulled: bool,
    /// Someone is to be told whatever the time.
    pub(super) some_due: bool,
    now: Duration,
}

impl Tree {
    pub(super) fn new(life: u64) -> Self {
        Self {
            on: false,
            linked: BTreeSet::new(),
            life,
            changes: Changes::default(),
            recent: Recent::default(),
            asked: Asked::default(),
            calls: Calls::default(),
            counting: Counting::default(),
            lazy_due: None,
            telling: Telling::Nothing,
            pulled: false,
            some_due: false,
            now: Duration::ZERO,
        }
    }

    /// When something is to be done that no message calls for.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let census = self.counting.deadline().filter(|_| self.on);
        let due = [self.lazy_due, self.asked.due, self.calls.due, census];
        due.into_iter().flatten().min()
    }

    pub(super) fn at(&mut self, now: Now) {
        self.now = now.elapsed;
    }

    /// The transaction under way has failed.
    pub(super) fn forget(&mut self) {
        self.recent.forget();
        self.calls.forget();
        self.counting = Counting::default();
    }

    /// The transaction under way is durable.
    pub(super) fn settle(&mut self, bytes_max: usize) {
        self.recent.settle(bytes_max);
    }
}

impl Replica {
    /// Notes which peers are linked to, and whether there is a tree.
    pub(super) fn set_overlay(&mut self, members: &[PeerId]) {
        let on = !self.config.mesh.is_full(members.len());
        if std::mem::replace(&mut self.tree.on, on) != on {
            self.forget_census();
            for peer in self.tree.linked.clone() {
                self.begin_branch(&peer);
            }
        }
        let near = self.config.mesh.neighbours(&self.config.name, members);
        for (peer, known) in &mut self.peers {
            known.far = !near.contains(peer);
        }
    }

    /// A link has come up: whoever is at its other end may know nothing of us.
    pub(super) fn begin_branch(&mut self, peer: &PeerId) {
        self.tree.linked.insert(peer.clone());
        self.tree.counting.tell_again(peer);
        if let Some(known) = self.peers.get_mut(peer) {
            known.branch = Branch {
                life: known.branch.life,
                heard: known.branch.heard,
                ..Branch::default()
            };
        }
    }

    /// A link has gone down. If it carried writes, a lazy one takes its place.
    pub(super) fn end_branch(&mut self, peer: &PeerId) {
        if !self.tree.linked.remove(peer) || !self.tree.on {
            return;
        }
        let known = self.peers.get(peer);
        if known.is_none_or(|known| !known.branch.lazy) {
            self.graft_another(None);
        }
    }

    pub(super) fn tree_message(
        &mut self,
        now: Now,
        peer: PeerId,
        message: TreeMessage,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        match message {
            TreeMessage::Forward { changes } => self.take_pushed(now, &peer, changes, writer)?,
            TreeMessage::Have(have) => self.told_changes(now, &peer, have),
            TreeMessage::Prune => self.pruned(&peer),
            TreeMessage::Graft { wanted } => self.grafted(&peer, &wanted),
            TreeMessage::Gone => self.gone(now, &peer),
            TreeMessage::RollCall {
                origin,
                upto,
                round,
            } => self.called(peer, origin, upto, round),
            TreeMessage::Present {
                origin,
                own,
                others,
            } => self.answered(peer, origin, own, others),
            TreeMessage::Census(census) => self.told_census(now, peer, *census),
        }
        Ok(())
    }

    /// Takes in what a peer has pushed, and in a tree notes what is to be passed on, or that
    /// it need not have been pushed.
    pub(super) fn take_pushed(
        &mut self,
        now: Now,
        peer: &PeerId,
        changes: Vec<Delta>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if !self.tree.on {
            return changes
                .into_iter()
                .try_for_each(|change| self.take_in(now, change, writer));
        }
        let mut in_vain = !changes.is_empty();
        let mut news: BTreeSet<Origin> = BTreeSet::new();
        for change in changes {
            let dot: Dot = change.dot();
            if self.vector.contains(dot) {
                in_vain &= self.came_by_tree(dot, peer);
            } else {
                in_vain = false;
                news.insert(dot.origin);
                self.tree.recent.note(change.clone(), Some(peer.clone()));
            }
            self.take_in(now, change, writer)?;
        }
        if in_vain {
            self.counters.pruned += 1;
            self.set_lazy(peer, true);
            self.send_tree(peer, TreeMessage::Prune);
        }
        for author in &self.tree.linked {
            let known = self.peers.get(author);
            let origin = known.and_then(|known| known.origin);
            if origin.is_some_and(|origin| news.contains(&origin)) {
                self.acks_due.insert(author.clone());
            }
        }
        Ok(())
    }

    /// Whether a write that `peer` has pushed came before by another link that carries
    /// writes still, or is our own. Of two links that each brought something first, one
    /// would otherwise be given up for the other and the other for the one.
    fn came_by_tree(&self, dot: Dot, peer: &PeerId) -> bool {
        match self.tree.recent.brought_by(dot) {
            Some(Some(other)) => other != peer && self.is_eager(other),
            Some(None) => true,
            None => false,
        }
    }

    fn is_eager(&self, peer: &PeerId) -> bool {
        let known = self.peers.get(peer);
        known.is_some_and(|known| known.linked && !known.branch.lazy)
    }

    /// The peer pushes no more. Who is left without anyone that does asks another.
    fn pruned(&mut self, peer: &PeerId) {
        self.set_lazy(peer, self.tree.on);
        if self.tree.on && !self.tree.linked.iter().any(|other| self.is_eager(other)) {
            self.graft_another(Some(peer));
        }
    }

    /// Makes some lazy link eager.
    fn graft_another(&mut self, but: Option<&PeerId>) {
        let linked = self.tree.linked.iter().filter(|peer| Some(*peer) != but);
        let lazy = linked.filter(|peer| !self.is_eager(peer));
        let mut lazy: Vec<PeerId> = lazy.cloned().collect();
        if let Ok(count @ 1..) = u64::try_from(lazy.len()) {
            let at = usize::try_from(self.random.next() % count).unwrap_or(0);
            let another = lazy.swap_remove(at);
            self.graft(&another, VersionVector::default());
        }
    }

    /// Pushes what the transaction under way has brought, own writes and others', to all
    /// eager peers but the one that brought it.
    pub(super) fn pass_on(&mut self) {
        for own in std::mem::take(&mut self.pushes) {
            self.tree.recent.note(own, None);
        }
        let mut brought: BTreeMap<Option<PeerId>, Vec<Delta>> = BTreeMap::new();
        for (delta, from) in self.tree.recent.fresh() {
            let changes = brought.entry(from.cloned()).or_default();
            changes.push(delta.clone());
        }
        if brought.is_empty() {
            return;
        }
        let eager = self.tree.linked.iter().filter(|peer| {
            let known = self.peers.get(*peer);
            known.is_some_and(|known| !known.branch.lazy)
        });
        let eager: Vec<PeerId> = eager.cloned().collect();
        for (from, changes) in brought {
            let mut to = eager.clone();
            to.retain(|peer| Some(peer) != from.as_ref());
            if from.is_some() && !to.is_empty() {
                self.counters.forwarded += u64::try_from(changes.len()).unwrap_or(0);
            }
            for changes in split(changes, self.config.push_bytes) {
                let message = match &from {
                    None => Message::Push { changes },
                    Some(_) => Message::Tree(TreeMessage::Forward { changes }),
                };
                self.early.push(Output::Multicast(to.clone(), message));
            }
        }
    }

    /// Something has been taken in by a pull.
    pub(super) fn note_pulled(&mut self) {
        self.tree.pulled = true;
    }

    fn set_lazy(&mut self, peer: &PeerId, lazy: bool) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.branch.lazy = lazy;
        }
    }

    fn send_tree(&mut self, peer: &PeerId, message: TreeMessage) {
        self.messages
            .push(Output::Send(peer.clone(), Message::Tree(message)));
    }
}

/// Divides writes into portions of at least `bytes`, but for the last.
fn split(changes: Vec<Delta>, bytes: usize) -> Vec<Vec<Delta>> {
    let mut portions = vec![Vec::new()];
    let mut weight = 0;
    for change in changes {
        if weight >= bytes {
            portions.push(Vec::new());
            weight = 0;
        }
        weight += change.weight();
        if let Some(portion) = portions.last_mut() {
            portion.push(change);
        }
    }
    portions
}
