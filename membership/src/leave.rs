//! Leaving in order: telling every live peer, and knowing that it knows.
//!
//! Gossip alone would take a few rounds to carry the word, and a node that stops
//! too early looks failed. So a leave speaks to every live peer at once, and
//! reads the confirmation from what the peers send anyway: each digest names the
//! newest version its sender holds of this node. Peers that have not confirmed
//! are asked again after short, growing pauses, until a deadline. This module is
//! the bookkeeping; the driver sends and waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::name::NodeId;

/// How a leave went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveReport {
    /// The live peers that are known to know that this node has left.
    pub informed: Vec<NodeId>,
    /// The live peers that did not confirm in time; they may call it failed.
    pub unconfirmed: Vec<NodeId>,
    /// From the first word to the last confirmation, or to the deadline.
    pub took: Duration,
}

/// The peers to tell, and the pauses between two rounds of telling.
#[derive(Debug)]
pub(crate) struct Rollcall {
    waiting: BTreeMap<NodeId, SocketAddr>,
    informed: Vec<NodeId>,
    pause: Duration,
}

impl Rollcall {
    pub(crate) fn new(peers: impl IntoIterator<Item = (NodeId, SocketAddr)>) -> Rollcall {
        Rollcall {
            waiting: peers.into_iter().collect(),
            informed: Vec::new(),
            pause: PAUSE_FIRST,
        }
    }

    /// Crosses off the peers that have confirmed.
    pub(crate) fn confirm(&mut self, confirmed: impl Fn(&NodeId) -> bool) {
        let informed = &mut self.informed;
        self.waiting.retain(|id, _| {
            let done = confirmed(id);
            if done {
                informed.push(id.clone());
            }
            !done
        });
    }

    /// Where the peers are that have not confirmed.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = SocketAddr> {
        self.waiting.values().copied()
    }

    /// Whether everybody has confirmed.
    pub(crate) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long to wait before asking again: each time twice as long.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }

    pub(crate) fn report(mut self, took: Duration) -> LeaveReport {
        self.informed.sort();
        LeaveReport {
            informed: self.informed,
            unconfirmed: self.waiting.into_keys().collect(),
            took,
        }
    }
}

/// A round trip between two hosts of one site, and some work.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_have_not_confirmed_are_asked_again() {
        let id = |text: &str| text.parse::<NodeId>().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut rollcall = Rollcall::new([(id("a"), at(1)), (id("b"), at(2)), (id("c"), at(3))]);
        rollcall.confirm(|peer| *peer == id("b"));
        assert_eq!(rollcall.waiting().collect::<Vec<_>>(), [at(1), at(3)]);
        assert!(!rollcall.is_complete());
        rollcall.confirm(|peer| *peer == id("a"));
        let report = rollcall.report(Duration::from_millis(9));
        assert_eq!(report.informed, [id("a"), id("b")]);
        assert_eq!(report.unconfirmed, [id("c")]);
    }

    #[test]
    fn the_pauses_grow_up_to_a_bound() {
        let mut rollcall = Rollcall::new([]);
        assert!(rollcall.is_complete());
        let pauses: Vec<_> = (0..8).map(|_| rollcall.pause().as_millis()).collect();
        assert_eq!(pauses, [4, 8, 16, 32, 64, 100, 100, 100]);
    }
}
