//! What a replica knows about its peers, and how it tells about it.

use std::time::Duration;

use crate::model::{Origin, PeerId, Seq, VersionVector};
use crate::storage::DatedAhead;
use crate::storage::state::{Digest, FeedEnds};

/// One peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// It is one of ours. Others are listened to, but not counted on.
    pub(super) member: bool,
    /// Messages to it can be sent.
    pub(super) linked: bool,
    /// Under which origin it writes.
    pub(super) origin: Option<Origin>,
    /// What it had when it last said so.
    pub(super) vector: Option<VersionVector>,
    /// Up to where it has our writes on disk.
    pub(super) acked: Seq,
    /// How often in a row it said that it has something that we lack.
    pub(super) behind_in_a_row: u32,
    /// It is not asked for a pull before this moment.
    pub(super) pull_after: Duration,
    /// Since its link came up we once had everything that it had.
    pub(super) caught_up: bool,
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
    /// What it has done since it was opened.
    pub counters: Counters,
}

/// One peer at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub peer: PeerId,
    /// Messages to it can be sent.
    pub linked: bool,
    /// It has told what it has.
    pub heard: bool,
    /// How many writes it has, as far as is known, that this replica lacks.
    pub behind: u64,
    /// How many of this replica's writes it has not acknowledged yet.
    pub unacknowledged: u64,
    /// Since its link came up this replica once had everything that it had.
    pub caught_up: bool,
}

/// What a replica has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Operations written by clients.
    pub written: u64,
    /// Changes of others taken in.
    pub taken_in: u64,
    /// Changes of others that a newer version had already superseded.
    pub superseded: u64,
    /// Changes of others that had come before.
    pub repeated: u64,
    /// Pulls begun.
    pub pulls_begun: u64,
    /// Pulls brought to their end.
    pub pulls_completed: u64,
    /// Pulls given up.
    pub pulls_abandoned: u64,
    /// Pulls of others served to their end.
    pub pulls_served: u64,
    /// Pulls of others turned away.
    pub pulls_refused: u64,
    /// Changes of others taken in with a date too far ahead for this replica's clock to
    /// take it over.
    pub dated_ahead: u64,
    /// Of those, changes whose writer is on record no longer, because its dates have come.
    pub dates_come: u64,
    /// New epochs begun: one with the first write of each life.
    pub epochs_begun: u64,
}
