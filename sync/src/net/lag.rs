//! How far a peer is behind, and this node behind it.

use std::time::Duration;

use super::links::LinkStatus;
use crate::model::PeerId;
use crate::protocol::{PeerStatus, Progress, Status};

/// One peer at one moment. The replica's part of it is at most some 50 ms older.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerLag {
    /// Its name.
    pub peer: PeerId,
    /// What the replica knows of it; `None` before they were ever linked.
    pub status: Option<PeerStatus>,
    /// How the connection to it stands; `None` where it is not to be connected to.
    pub link: Option<LinkStatus>,
    /// How long ago it last told what it has.
    pub silent_for: Option<Duration>,
    /// Age of the oldest write of this node that it has not acknowledged.
    pub unacknowledged_for: Option<Duration>,
    /// For how long this node has known of the oldest write that it lacks and the peer has.
    pub behind_for: Option<Duration>,
}

impl PeerLag {
    /// All peers that either side knows, by name. `now` is by the replica's clock.
    pub(super) fn all(status: &Status, links: Vec<LinkStatus>, now: Duration) -> Vec<Self> {
        let known = status.peers.iter();
        let mut lags: Vec<Self> = known.map(|peer| Self::known(peer, now)).collect();
        for link in links {
            match lags.iter_mut().find(|lag| lag.peer == link.peer.id) {
                Some(lag) => lag.link = Some(link),
                None => lags.push(Self::unknown(link)),
            }
        }
        lags.sort_by(|a, b| a.peer.cmp(&b.peer));
        lags
    }

    fn known(status: &PeerStatus, now: Duration) -> Self {
        let ago = |moment: Option<Duration>| moment.map(|moment| now.saturating_sub(moment));
        let Progress {
            heard_at,
            unacknowledged_since,
            behind_since,
            ..
        } = status.progress;
        Self {
            peer: status.peer.clone(),
            silent_for: ago(heard_at),
            unacknowledged_for: ago(unacknowledged_since),
            behind_for: ago(behind_since),
            status: Some(status.clone()),
            link: None,
        }
    }

    fn unknown(link: LinkStatus) -> Self {
        Self {
            peer: link.peer.id.clone(),
            status: None,
            link: Some(link),
            silent_for: None,
            unacknowledged_for: None,
            behind_for: None,
        }
    }
}
