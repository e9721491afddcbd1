//! What operators have decided about a node.
//!
//! Decisions live outside of gossip, in the agent's replicated documents; the
//! agent hands them in with
//! [`Cluster::set_directives`](crate::Cluster::set_directives), always all of
//! them, and every node applies them to its own view. Nothing a peer says in
//! gossip makes or lifts one. A removal names the [`JoinMark`] up to which it
//! holds, so that a node comes back by an explicit join and by nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::name::NodeId;

/// When a node was last joined to its cluster on purpose: milliseconds of that
/// node's own clock since the Unix epoch. It is made with the identity, kept by
/// every restart, and raised by each further join, whatever the clock says.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct JoinMark(pub u64);

impl JoinMark {
    /// Larger values are refused, from disk and from peers; see
    /// [`Incarnation::MAX`](crate::Incarnation::MAX).
    pub const MAX: JoinMark = JoinMark((1 << 48) - 1);

    /// The mark of a join at `now`, greater than the last one.
    pub(crate) fn next(last: Option<JoinMark>, now: SystemTime) -> JoinMark {
        let now_ms = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        let next = last.map_or(now_ms, |last| now_ms.max(last.0.saturating_add(1)));
        JoinMark(next.min(Self::MAX.0))
    }
}

impl fmt::Display for JoinMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The decisions in force about one node; the default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// It gets no new requests; while it is silent it is in maintenance, not failed.
    pub drain: bool,
    /// It counts as failed, whatever its heartbeats say.
    pub failed: bool,
    /// Its share of the load, instead of the one it announces.
    pub weight: Option<u32>,
    /// It is removed unless it has joined after this mark.
    pub removed: Option<JoinMark>,
}

impl Directive {
    /// Whether a node that joined at `joined` is removed.
    pub fn removes(&self, joined: JoinMark) -> bool {
        self.removed.is_some_and(|mark| joined <= mark)
    }
}

/// The decisions about all nodes; a node that is not in it has none.
pub type Directives = BTreeMap<NodeId, Directive>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_removal_holds_until_a_later_join() {
        let removal = Directive {
            removed: Some(JoinMark(7)),
            ..Directive::default()
        };
        assert!(removal.removes(JoinMark(6)) && removal.removes(JoinMark(7)));
        assert!(!removal.removes(JoinMark(8)));
        assert!(!Directive::default().removes(JoinMark(0)));
    }

    #[test]
    fn a_join_raises_the_mark_though_the_clock_went_back() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let first = JoinMark::next(None, at(5000));
        assert_eq!(first, JoinMark(5000));
        assert_eq!(JoinMark::next(Some(first), at(10)), JoinMark(5001));
        assert_eq!(JoinMark::next(Some(first), at(6000)), JoinMark(6000));
        assert_eq!(
            JoinMark::next(None, UNIX_EPOCH - Duration::from_secs(1)),
            JoinMark(0)
        );
    }
}
