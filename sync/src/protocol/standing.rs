//! How replicas stand to each other: whom one takes something from, who joins whom, and who
//! was away for too long.
//!
//! A peer is trusted if it is of the [roster](super::settle), was not fenced, and has all of
//! the horizon: from any other may come what was deleted and forgotten since. Whoever finds
//! that it is not to be trusted itself (it was fenced, or lacks something of the horizon of a
//! cluster that it is of) begins a new epoch, claims nothing any more, and takes over a
//! snapshot.
//!
//! **Joining.** Two replicas that do not know each other take each other in if neither can
//! have a write that a deletion beat which the other has let go of: all of the one were born
//! after the floor of the other. If not, one joins the other by a snapshot: who has no past,
//! or is alone with it; of two that are alone the younger. Two clusters with a history each
//! do not mix; nothing is exchanged between them until people decide. Whom one member has
//! taken in the others learn of from its roster. Two do not take each other in at the same
//! moment: who has taken in a peer that cannot do the same any more joins it by a snapshot.
//!
//! In goes what peers tell, out come trust and the wish for a snapshot. What can fail: two
//! old copies may each lack what the other has let go of; then neither gives way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::fill::is_possible;
use super::peers::Peer;
use super::settle::Settled;
use super::{Message, Now, Output, Replica};
use crate::model::{Origin, PeerId, ReplicaId, Timestamp, VersionVector};
use crate::storage::{Fill, RosterLine};

/// Replicas in the roster at most; beyond it new ones are not taken in.
pub(super) const ROSTER_MAX: usize = 4096;

/// How a replica stands, as it tells its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The origin under which it writes now.
    pub origin: Origin,
    /// What it has.
    pub vector: VersionVector,
    /// Its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// It will make no write with a date up to here.
    pub floor: Timestamp,
    /// What everyone had when it last let go of something.
    pub horizon: VersionVector,
    /// Something may be taken from it; not while it takes over a snapshot.
    pub sound: bool,
    /// The replicas that it knows of; how long they were absent is for itself to know.
    pub roster: Vec<RosterLine>,
}

impl Standing {
    /// Whether it knows of a replica.
    fn knows(&self, replica: ReplicaId) -> bool {
        self.roster.iter().any(|line| line.replica == replica)
    }
}

/// What a replica keeps of a peer's standing.
#[derive(Clone, Debug)]
pub(super) struct Stood {
    pub(super) replica: ReplicaId,
    pub(super) vector: Arc<VersionVector>,
    /// How far its wall clock was ahead of this replica's.
    pub(super) ahead_ms: i64,
    pub(super) floor: Timestamp,
    pub(super) horizon: VersionVector,
    pub(super) sound: bool,
    pub(super) fenced: BTreeSet<ReplicaId>,
}

/// Whether anything is taken from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trust {
    /// It has not said yet how it stands.
    #[default]
    Unknown,
    /// All that it has to say.
    Full,
    /// It was given up while it was away, or takes over a snapshot.
    Fenced,
    /// It lacks what everyone had when deletions were let go of.
    Stale,
    /// It belongs to a cluster with a history of its own.
    Foreign,
}

impl Settled {
    /// Whether none of these replicas can have a write that a deletion has beaten which was
    /// let go of here.
    fn are_fit(&self, told: &[RosterLine]) -> bool {
        let fit = |line: &RosterLine| {
            self.roster.contains_key(&line.replica) || line.fenced || line.born > self.floor
        };
        told.iter().all(fit)
    }

    /// Takes what a peer knows of the replicas.
    ///
    /// Whom a member of the roster has taken in is taken in whatever it was born: that was
    /// after all that the member had let go of, and this replica lets go of nothing beyond
    /// what that member has told of together with this roster.
    pub(super) fn learn(&mut self, told: &[RosterLine]) {
        for line in told {
            let room = self.roster.len() < ROSTER_MAX;
            match self.roster.get_mut(&line.replica) {
                Some(known) if line.fenced && !known.fenced => {
                    known.fenced = true;
                    self.dirty = true;
                }
                Some(_) => {}
                None if room => self.admit(line.clone()),
                None => {}
            }
        }
    }

    /// Takes a replica in. What the same node had before is gone with its disk.
    pub(super) fn admit(&mut self, line: RosterLine) {
        let replica = line.replica;
        if !line.fenced {
            let same = |other: &&mut RosterLine| other.name == line.name && !other.fenced;
            for before in self.roster.values_mut().filter(same) {
                before.fenced |= before.born < line.born;
            }
        }
        let line = RosterLine {
            absent_ms: 0,
            ..line
        };
        self.roster.insert(replica, line);
        self.dirty = true;
        self.tell = true;
    }
}

impl Replica {
    /// How this replica stands.
    pub(super) fn standing(&self, now: Now) -> Message {
        Message::Standing(Box::new(Standing {
            origin: self.header.origin,
            vector: self.vector.clone(),
            wall_ms: now.wall_ms,
            floor: self.settled.floor,
            horizon: self.settled.horizon.clone(),
            sound: self.settled.is_sound(),
            roster: self.settled.roster.values().cloned().collect(),
        }))
    }

    pub(super) fn told_standing(&mut self, now: Now, peer: PeerId, told: Standing) {
        let own = self.header.origin.replica;
        let replica = told.origin.replica;
        let trusted = self.trust(&peer) == Trust::Full;
        let knows_us = told.knows(own);
        let mut foreign = false;
        if replica != own {
            let none = Timestamp::default();
            let both_have_a_past = self.settled.floor > none && told.floor > none;
            let strangers = !knows_us && both_have_a_past;
            let fit = self.settled.are_fit(&told.roster) && self.are_fit_for(&told);
            if self.settled.roster.contains_key(&replica) {
                if !self.settled.is_fenced(replica) {
                    self.settled.learn(&told.roster);
                    // It was taken in here, and has let go of something since before it could
                    // do the same: it takes in only who takes over its snapshot.
                    if !knows_us && told.sound && self.is_late_for(&told) {
                        self.need_fill(now);
                    }
                }
            } else if fit && !strangers {
                self.settled.learn(&told.roster);
            } else if self.gives_way(&told) {
                if told.sound {
                    // What it let go of by itself nobody else ever had.
                    self.settled.horizon = VersionVector::default();
                    self.look_for_horizon_everywhere();
                    self.need_fill(now);
                }
            } else {
                foreign = !knows_us;
            }
            let gave_us_up = told
                .roster
                .iter()
                .any(|line| line.replica == own && line.fenced);
            if gave_us_up && told.sound && self.gives_in(&told) {
                self.begin_replica(now, &told.roster);
            }
            if let Some(line) = self.settled.roster.get_mut(&replica) {
                line.absent_ms = 0;
            }
        }
        let fenced = told.roster.iter().filter(|line| line.fenced);
        let fenced = fenced.map(|line| line.replica).collect();
        let vector = Arc::new(told.vector.clone());
        let stood = Stood {
            replica,
            vector,
            ahead_ms: told.wall_ms.wrapping_sub(now.wall_ms).cast_signed(),
            floor: told.floor,
            horizon: told.horizon,
            sound: told.sound,
            fenced,
        };
        // What a cluster let go of that this replica was not of is nothing that it lacks.
        let stale = knows_us && stood.sound && !self.vector.covers(&stood.horizon);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.foreign = foreign;
            known.stood = Some(stood);
        }
        self.told_vector(now, peer.clone(), told.origin, told.vector);
        // Of two that are stale to each other neither gives way: people must decide.
        let mutual = self.trust(&peer) == Trust::Stale;
        if stale && !mutual && !foreign {
            self.need_fill(now);
        }
        self.hear_floor(now);
        if !trusted && self.trust(&peer) == Trust::Full {
            // What it was told before it was of no use to it, or it has forgotten it.
            self.tell_census_again(&peer);
        }
        if !self.settled.is_sound() && !foreign {
            self.begin_pull(now, &peer);
        }
        self.answer_standing(now, &peer);
    }

    /// Whether a peer can take in the replicas that this one knows of.
    fn are_fit_for(&self, told: &Standing) -> bool {
        let mut members = self.settled.members();
        members.all(|line| line.born > told.floor || told.knows(line.replica))
    }

    /// Whether this replica, and those with it that a peer does not know, can no more be taken
    /// in by that peer and are fewer than those that are with it. Else it is the peer that
    /// gives way, or people decide: never both, and never many for the word of one.
    fn is_late_for(&self, told: &Standing) -> bool {
        let members = self.settled.members();
        let unknown = members.filter(|line| !told.knows(line.replica)).count();
        let theirs = told.roster.iter().filter(|line| !line.fenced).count();
        let stale = !told.vector.covers(&self.settled.horizon);
        !self.are_fit_for(told) && unknown < theirs && !stale
    }

    /// Whether this replica believes a peer that has given it up. Of two that have given each
    /// other up the one with fewer members does, or the younger.
    fn gives_in(&self, told: &Standing) -> bool {
        let replica = told.origin.replica;
        if !self.settled.is_fenced(replica) {
            return true;
        }
        let age = |roster: &[RosterLine], of: ReplicaId| {
            let line = roster.iter().find(|line| line.replica == of);
            line.map(|line| (line.born, line.replica))
        };
        let members = |roster: &[RosterLine]| roster.iter().filter(|line| !line.fenced).count();
        let own = self.header.origin.replica;
        let roster: Vec<RosterLine> = self.settled.roster.values().cloned().collect();
        let ours = (members(&roster), std::cmp::Reverse(age(&roster, own)));
        let theirs = (
            members(&told.roster),
            std::cmp::Reverse(age(&told.roster, replica)),
        );
        ours < theirs
    }

    /// Whether this replica joins a cluster with a history, and not the other way round:
    /// who has no past does, and who is alone with it; of two that are alone the younger.
    fn gives_way(&self, told: &Standing) -> bool {
        if self.settled.floor == Timestamp::default() {
            return true;
        }
        let age = |line: &RosterLine| (line.born, line.replica);
        let own: Vec<_> = self.settled.members().map(age).collect();
        let others = told.roster.iter().filter(|line| !line.fenced);
        let others: Vec<_> = others.map(age).collect();
        own.len() == 1 && (others.len() > 1 || others < own)
    }

    /// Whether anything is taken from a peer.
    pub(super) fn trust(&self, peer: &PeerId) -> Trust {
        let known = self.peers.get(peer);
        known.map_or(Trust::Unknown, |known| self.trust_in(known))
    }

    pub(super) fn trust_in(&self, known: &Peer) -> Trust {
        let Some(stood) = &known.stood else {
            return Trust::Unknown;
        };
        let own = self.header.origin.replica;
        let is_member = stood.replica == own || self.settled.roster.contains_key(&stood.replica);
        if known.foreign || !is_member {
            return Trust::Foreign;
        }
        if !stood.sound || self.settled.is_fenced(stood.replica) {
            return Trust::Fenced;
        }
        match known.has_horizon {
            true => Trust::Full,
            false => Trust::Stale,
        }
    }

    /// Looks again whether a peer has all of the horizon: its vector is another now.
    pub(super) fn look_for_horizon(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            let has = known.vector.as_deref();
            known.has_horizon = has.is_some_and(|has| has.covers(&self.settled.horizon));
        }
    }

    /// The same for all: the horizon is another.
    pub(super) fn look_for_horizon_everywhere(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().cloned().collect();
        for peer in peers {
            self.look_for_horizon(&peer);
        }
    }

    /// Gives up the replicas of a node. This one it does not: that its node was removed it
    /// hears from the others.
    pub(super) fn give_up(&mut self, node: &PeerId) {
        let own = self.header.origin.replica;
        for line in self.settled.roster.values_mut() {
            if line.name == *node && !line.fenced && line.replica != own {
                line.fenced = true;
                self.settled.dirty = true;
                self.settled.tell = true;
                self.counters.fencings += 1;
            }
        }
    }

    /// What is written here must be dated later. While this replica takes over a snapshot it
    /// has no past that counts, and others have let go of things up to floors of theirs, which
    /// it takes as its own only at the end.
    pub(super) fn floor_for_writes(&self, now: Now) -> Timestamp {
        let own = self.settled.floor;
        if self.settled.is_sound() {
            return own;
        }
        let peers = self.peers.values().filter(|known| !known.foreign);
        let floors = peers.filter_map(|known| known.stood.as_ref().map(|stood| stood.floor));
        floors
            .filter(|floor| is_possible(*floor, now))
            .fold(own.max(self.settled.heard), Timestamp::max)
    }

    /// Remembers the floors that were heard of, over a restart too, as long as they are needed.
    fn hear_floor(&mut self, now: Now) {
        let heard = match self.settled.is_sound() {
            true => Timestamp::default(),
            false => self.floor_for_writes(now),
        };
        if heard != self.settled.heard {
            self.settled.heard = heard;
            self.settled.dirty = true;
        }
    }

    /// From now on nobody may take anything from this replica, until it has taken over a
    /// snapshot.
    ///
    /// It claims nothing meanwhile. Of what it has some will be taken out, and that, or what
    /// was beaten by it, may still come from somewhere else.
    fn need_fill(&mut self, now: Now) {
        if self.settled.is_sound() {
            self.begin_epoch(now);
            let had = std::mem::take(&mut self.vector);
            self.dirty.extend(had.iter().map(|(origin, _)| origin));
            self.settled.fill = Some(Fill {
                needed: true,
                ..Fill::default()
            });
            self.settled.dirty = true;
            self.settled.tell = true;
            self.pulling = None;
            self.serving.clear();
            self.snapshots.clear();
            self.forget_census();
        }
    }

    /// Goes on as another replica: what this one was is given up.
    fn begin_replica(&mut self, now: Now, roster: &[RosterLine]) {
        let (high, low) = (self.random.next(), self.random.next());
        let replica = u128::from(high) << 64 | u128::from(low);
        self.header.origin.replica = ReplicaId(replica.to_be_bytes());
        self.begin_epoch(now);
        // Of a cluster that goes on without what this one was: whom it had given up itself,
        // that cluster has not.
        self.settled.roster.clear();
        self.settled.learn(roster);
        self.enter_roster(now);
        // A snapshot that was under way was that of another replica.
        self.settled.fill = None;
        self.need_fill(now);
        self.counters.fenced += 1;
    }

    /// Puts this replica into its own roster, where a new store or a failed commit lacks it.
    pub(super) fn stay_in_roster(&mut self, now: Now) {
        if !self
            .settled
            .roster
            .contains_key(&self.header.origin.replica)
        {
            self.enter_roster(now);
        }
    }

    /// Puts this replica into its own roster.
    pub(super) fn enter_roster(&mut self, now: Now) {
        let replica = self.header.origin.replica;
        let wrote = self
            .vector
            .iter()
            .any(|(origin, _)| origin.replica == replica);
        let born = match wrote {
            // A store from before there were rosters: nobody has let go of anything yet.
            true => Timestamp(1),
            false => Timestamp::from_millis(now.wall_ms).max(self.clock.last().successor()),
        };
        self.settled.admit(RosterLine {
            replica,
            name: self.config.name.clone(),
            fenced: false,
            born,
            absent_ms: 0,
        });
    }

    pub(super) fn send_standing(&mut self, now: Now, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.told_at = Some(now.elapsed);
        }
        let standing = self.standing(now);
        self.messages.push(Output::Send(peer.clone(), standing));
    }

    /// Tells all how this replica stands.
    pub(super) fn broadcast_standing(&mut self, now: Now) {
        for known in self.peers.values_mut().filter(|known| known.linked) {
            known.told_at = Some(now.elapsed);
        }
        let standing = self.standing(now);
        self.messages.push(Output::Broadcast(standing));
    }

    /// Tells the one how this replica stands that was not told for the longest time: what was
    /// told to all may have been lost.
    pub(super) fn repeat_standing(&mut self, now: Now) {
        let linked = self.peers.iter().filter(|(_, known)| known.linked);
        let longest = linked.min_by_key(|(_, known)| known.told_at);
        if let Some(peer) = longest.map(|(peer, _)| peer.clone()) {
            self.send_standing(now, &peer);
            self.tell_census_again(&peer);
        }
    }

    /// Tells those how this replica stands that have not said it themselves: what they said
    /// was lost, perhaps, and they answer.
    pub(super) fn ask_how_they_stand(&mut self, now: Now) {
        let silent = |(_, known): &(&PeerId, &Peer)| known.linked && known.stood.is_none();
        let silent = self.peers.iter().filter(silent);
        let silent: Vec<PeerId> = silent.map(|(peer, _)| peer.clone()).collect();
        for peer in silent {
            self.send_standing(now, &peer);
        }
    }

    /// Who is told answers, unless it has just said it itself: what it said before may have
    /// come before the link was up on this side, or been lost.
    fn answer_standing(&mut self, now: Now, peer: &PeerId) {
        let told_at = self.peers.get(peer).and_then(|known| known.told_at);
        let lately = |at: Duration| at + self.config.vector_interval / 2 > now.elapsed;
        if !told_at.is_some_and(lately) {
            self.send_standing(now, peer);
        }
    }
}

/// What a peer with a new replica says first.
#[cfg(test)]
pub(super) fn greeting(peer: &str, replica: ReplicaId, now: Now) -> Vec<super::Input> {
    let origin = Origin {
        replica,
        epoch: crate::model::Epoch(1),
    };
    let line = RosterLine {
        replica,
        name: PeerId::new(peer),
        fenced: false,
        born: Timestamp::from_millis(now.wall_ms),
        absent_ms: 0,
    };
    let standing = Message::Standing(Box::new(Standing {
        origin,
        vector: VersionVector::default(),
        wall_ms: now.wall_ms,
        floor: Timestamp::default(),
        horizon: VersionVector::default(),
        sound: true,
        roster: vec![line],
    }));
    let peer = PeerId::new(peer);
    vec![
        super::Input::LinkUp(peer.clone()),
        super::Input::Message(peer, standing),
    ]
}
