//! What a replica knows about its peers, and how it tells about it.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::marks::Marks;
use super::standing::{Stood, Trust};
use super::tree::Branch;
use crate::model::{Dot, Origin, PeerId, Seq, SeqSet, Timestamp, VersionVector};
use crate::storage::state::{Digest, FeedEnds};
use crate::storage::{DatedAhead, RosterLine};

/// One peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// It is one of ours. Others are listened to, but not counted on.
    pub(super) member: bool,
    /// Messages to it can be sent.
    pub(super) linked: bool,
    /// It is not one of those that this replica links to.
    pub(super) far: bool,
    /// What a tree needs to know of the link.
    pub(super) branch: Branch,
    /// Under which origin it writes.
    pub(super) origin: Option<Origin>,
    /// What it had when it last said so.
    pub(super) vector: Option<Arc<VersionVector>>,
    /// When that was.
    pub(super) heard_at: Duration,
    /// What it had when this replica was last known to lack something of it, and since
    /// when; a newer word takes its place only when all of it is in.
    pub(super) lacked: Option<(Arc<VersionVector>, Duration)>,
    /// Up to where it has our writes on disk.
    pub(super) acked: Seq,
    /// How often in a row it said that it has something that we lack.
    pub(super) behind_in_a_row: u32,
    /// The last session of a pull that was begun for it. A request that comes again is
    /// not answered again: chunks of two answers, taken for those of one, would bring the
    /// claim of one without all of its changes.
    pub(super) served: Option<u64>,
    /// It is not asked for a pull before this moment.
    pub(super) pull_after: Duration,
    /// Since its link came up we once had everything that it had.
    pub(super) caught_up: bool,
    /// When it was last told how this replica stands, since its link came up.
    pub(super) told_at: Option<Duration>,
    /// How it stood when it last said so, since its link came up.
    pub(super) stood: Option<Stood>,
    /// Its cluster has a history of its own.
    pub(super) foreign: bool,
    /// It has all of the horizon. Kept, because each push asks for it.
    pub(super) has_horizon: bool,
}

impl Peer {
    /// Notes whether we lack something of what the peer has said now.
    pub(super) fn note_lack(
        &mut self,
        lacking: Option<&Arc<VersionVector>>,
        own: &VersionVector,
        now: Duration,
    ) {
        let Some(theirs) = lacking else {
            self.lacked = None;
            return;
        };
        let still = self.lacked.take().filter(|(goal, _)| !own.covers(goal));
        self.lacked = still.or_else(|| Some((theirs.clone(), now)));
    }

    /// The peer as it is told of, where we have `own` and have made `written` writes.
    pub(super) fn status(
        &self,
        peer: &PeerId,
        own: &VersionVector,
        written: Seq,
        marks: &Marks,
    ) -> PeerStatus {
        let behind = self.vector.as_ref();
        let behind = behind.map_or(0, |theirs| own.missing_count(theirs));
        // Who is not linked to tells nothing by itself.
        let unacknowledged = match self.far && !self.linked {
            true => 0,
            false => written.saturating_sub(self.acked),
        };
        // Once the goal is in, what is lacking was told of by the last word.
        let goal = self.lacked.as_ref().filter(|(goal, _)| !own.covers(goal));
        let lacking_since = goal.map_or(self.heard_at, |(_, since)| *since);
        PeerStatus {
            peer: peer.clone(),
            linked: self.linked,
            near: !self.far,
            lazy: self.branch.lazy,
            heard: self.vector.is_some(),
            behind,
            unacknowledged,
            caught_up: self.caught_up,
            trust: Trust::default(),
            progress: Progress {
                origin: self.origin,
                acked: self.acked,
                heard_at: self.vector.as_ref().map(|_| self.heard_at),
                vector: self.vector.clone(),
                unacknowledged_since: match unacknowledged {
                    0 => None,
                    _ => marks.at(self.acked + 1),
                },
                behind_since: (behind > 0).then_some(lacking_since),
            },
        }
    }
}

/// A replica at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Under which origin it writes.
    pub origin: Origin,
    /// How many writes it has made under it.
    pub written: Seq,
    /// Its feed.
    pub feed: FeedEnds,
    /// Fingerprint of its entries.
    pub digest: Digest,
    /// What it has.
    pub vector: VersionVector,
    /// Its peers, by name.
    pub peers: Vec<PeerStatus>,
    /// Who wrote with dates far ahead that have not come yet.
    pub dated_ahead: Vec<DatedAhead>,
    /// It makes no write with a date up to here.
    pub floor: Timestamp,
    /// The replicas that it knows of.
    pub roster: Vec<RosterLine>,
    /// It takes over a snapshot.
    pub filling: bool,
    /// What it has done since it was opened.
    pub counters: Counters,
}

impl Status {
    /// Whether a peer has a write, or one that supersedes it, on its disk. Of writes of this
    /// life it says so at once, of those of earlier lives and of others every second.
    pub fn peer_has(&self, peer: &PeerId, write: Dot) -> bool {
        let known = self.peers.iter().find(|known| known.peer == *peer);
        known.is_some_and(|known| {
            let Progress { acked, vector, .. } = &known.progress;
            let acknowledged = write.origin == self.origin && write.seq <= *acked;
            acknowledged || vector.as_ref().is_some_and(|vector| vector.contains(write))
        })
    }

    /// Whether everything up to a write is here that there is: the write itself, and of
    /// those before it all that any peer has said to have. Without a word of those peers
    /// that could be asked, it is not known, and the answer is no.
    pub fn has_all_there_is(&self, upto: Dot) -> bool {
        let Some(own) = self.vector.of(upto.origin) else {
            return false;
        };
        let mut peers = self.peers.iter();
        let asked = peers.all(|peer| peer.heard || !peer.linked);
        let heard = self.peers.is_empty() || self.peers.iter().any(|peer| peer.heard);
        let vectors = self.peers.iter();
        let mut vectors = vectors.filter_map(|peer| peer.progress.vector.as_deref());
        let lacks = |theirs: &SeqSet| {
            let mut theirs = theirs.clone();
            theirs.truncate(upto.seq);
            !own.missing_from(&theirs).is_empty()
        };
        own.contains(upto.seq)
            && asked
            && heard
            && !vectors.any(|vector| vector.of(upto.origin).is_some_and(lacks))
    }
}

/// One peer at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub peer: PeerId,
    /// Messages to it can be sent.
    pub linked: bool,
    /// It is one of those that this replica links to: every peer, up to
    /// [`Mesh::peers_max`](super::Mesh::peers_max). What the others have is known of them
    /// only where a write has waited for them.
    pub near: bool,
    /// It is not pushed to, but told what there is, because it gets it sooner another way.
    pub lazy: bool,
    /// It has told what it has.
    pub heard: bool,
    /// How many writes it has, as far as is known, that this replica lacks.
    pub behind: u64,
    /// How many of this replica's writes it has not acknowledged yet; 0 where nothing is
    /// known because it is not linked to.
    pub unacknowledged: u64,
    /// Since its link came up this replica once had everything that it had.
    pub caught_up: bool,
    /// Whether anything is taken from it.
    pub trust: Trust,
    /// How far it is, and since when.
    pub progress: Progress,
}

/// How far a peer is. Moments are those of [`Now::elapsed`](super::Now).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Under which origin it writes.
    pub origin: Option<Origin>,
    /// What it had when it last said so, which it does every second.
    pub vector: Option<Arc<VersionVector>>,
    /// When it did.
    pub heard_at: Option<Duration>,
    /// Up to where it has this replica's writes on disk.
    pub acked: Seq,
    /// When the oldest write of this replica was made that it has not acknowledged. Not
    /// known of writes of an earlier life.
    pub unacknowledged_since: Option<Duration>,
    /// When the peer first told of the oldest of what this replica lacks; that was
    /// written within a second or two before, if the two were linked.
    pub behind_since: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, ReplicaId, SeqRange};

    fn origin() -> Origin {
        Origin {
            replica: ReplicaId([1; 16]),
            epoch: Epoch(1),
        }
    }

    fn up_to(seq: Seq) -> VersionVector {
        let origin = origin();
        let mut vector = VersionVector::default();
        (1..=seq).for_each(|seq| vector.insert(Dot { origin, seq }));
        vector
    }

    /// A peer told at each of these seconds that it has so many writes, while we had so many.
    fn behind_since(told: &[(u64, Seq, Seq)], own_now: Seq) -> Option<u64> {
        let mut peer = Peer::default();
        for &(at, theirs, own) in told {
            let (theirs, own) = (Arc::new(up_to(theirs)), up_to(own));
            let lacking = (!own.covers(&theirs)).then_some(&theirs);
            peer.note_lack(lacking, &own, Duration::from_secs(at));
            peer.vector = Some(theirs);
            peer.heard_at = Duration::from_secs(at);
        }
        let status = peer.status(&PeerId::new("n2"), &up_to(own_now), 0, &Marks::default());
        let since = status.progress.behind_since?;
        Some(since.as_secs())
    }

    #[test]
    fn who_is_behind_is_so_since_it_was_told_of_the_oldest_that_it_lacks() {
        assert_eq!(behind_since(&[(1, 5, 5)], 5), None);
        assert_eq!(behind_since(&[(1, 5, 5), (2, 6, 5)], 5), Some(2));
        assert_eq!(behind_since(&[(2, 6, 5), (3, 9, 5)], 5), Some(2));
        assert_eq!(behind_since(&[(2, 6, 5), (3, 9, 5)], 9), None);
    }

    /// It always lacks what was written in the last second, and never anything for long.
    #[test]
    fn who_keeps_up_with_a_busy_peer_is_not_behind_for_long() {
        let busy: Vec<_> = (1..100).map(|at| (at, at + 1, at)).collect();
        assert_eq!(behind_since(&busy, 99), Some(99));
        assert_eq!(behind_since(&[(2, 6, 5), (3, 9, 5)], 6), Some(3));
    }

    fn ranges(ranges: &[(Seq, Seq)]) -> VersionVector {
        let mut vector = VersionVector::default();
        for &(first, last) in ranges {
            vector.insert_range(origin(), SeqRange { first, last });
        }
        vector
    }

    fn status(own: &[(Seq, Seq)], peers: Vec<Peer>) -> Status {
        let vector = ranges(own);
        let peers = peers
            .iter()
            .map(|peer| peer.status(&PeerId::new("n2"), &vector, 0, &Marks::default()));
        let peers = peers.collect();
        Status {
            origin: origin(),
            written: 0,
            feed: FeedEnds::default(),
            digest: Digest::default(),
            vector,
            peers,
            dated_ahead: Vec::new(),
            floor: Timestamp::default(),
            roster: Vec::new(),
            filling: false,
            counters: Counters::default(),
        }
    }

    #[test]
    fn a_peer_has_what_it_acknowledged_in_this_life_and_what_it_told_of_any() {
        let mut peer = Peer {
            vector: Some(Arc::new(ranges(&[(1, 4), (9, 9)]))),
            acked: 6,
            ..Peer::default()
        };
        let has = |peer: &Peer, name, dot| {
            status(&[(1, 9)], vec![peer.clone()]).peer_has(&PeerId::new(name), dot)
        };
        let write = |epoch, seq| Dot {
            origin: Origin {
                epoch: Epoch(epoch),
                ..origin()
            },
            seq,
        };
        for (seq, expected) in [(1, true), (6, true), (7, false), (9, true), (10, false)] {
            assert_eq!(has(&peer, "n2", write(1, seq)), expected, "{seq}");
        }
        assert!(!has(&peer, "n3", write(1, 1)), "nothing is known of it");
        // What it acknowledged is not what was written in another life.
        assert!(!has(&peer, "n2", write(2, 1)));
        peer.vector = None;
        assert!(has(&peer, "n2", write(1, 6)) && !has(&peer, "n2", write(1, 9)));
    }

    #[test]
    fn a_gap_counts_for_as_long_as_a_peer_could_fill_it() {
        let told = |has: &[(Seq, Seq)]| Peer {
            linked: true,
            vector: Some(Arc::new(ranges(has))),
            ..Peer::default()
        };
        let silent = |linked| Peer {
            linked,
            ..Peer::default()
        };
        let upto = |seq| Dot {
            origin: origin(),
            seq,
        };
        // The writes 5 to 8 were lost with the store that made them.
        let own = [(1, 4), (9, 10)];
        for (peers, all_there_is) in [
            (vec![told(&own)], true),
            (vec![told(&own), silent(false)], true),
            (vec![told(&own), silent(true)], false),
            (vec![silent(false)], false),
            (vec![told(&own), told(&[(1, 7)])], false),
            (vec![told(&[(1, 4), (11, 20)])], true),
            (vec![], true),
        ] {
            let status = status(&own, peers);
            assert_eq!(
                status.has_all_there_is(upto(10)),
                all_there_is,
                "{status:?}"
            );
            assert!(!status.has_all_there_is(upto(11)), "it is not here");
            assert!(!status.has_all_there_is(upto(7)), "it is not here");
        }
    }
}
