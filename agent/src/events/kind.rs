//! Kinds of events: their names, who can see them, which are worth a person's attention.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of event it is. The names are part of the API, of the journal's files and of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A node was seen for the first time.
    Joined,
    /// A node announced other metadata.
    Updated,
    /// A node that runs is in another state.
    StateChanged,
    /// This node has begun to doubt that a node lives.
    Suspected,
    /// A node's heartbeats stopped without an announcement.
    Failed,
    /// A node stopped as announced.
    Left,
    /// A node that had failed or left runs again.
    Returned,
    /// A node was replaced by a newer incarnation before it was missed.
    Restarted,
    /// An operator has removed a node.
    Removed,
    /// A node has been gone for so long that it is no longer remembered.
    Forgotten,
    /// Another process announces this node's id.
    IdentityConflict,
    /// Gossip failed on this node and was started again.
    GossipRestarted,
    /// An operator has decided something; the audit has the record.
    Operator,
    /// The server beside a node, or one without an agent, no longer passes its health checks.
    AppUnhealthy,
    /// The server beside a node, or one without an agent, passes its health checks again.
    AppHealthy,
    /// A node has other keys installed, or uses another one.
    KeysChanged,
    /// This node's agent has started.
    NodeStarted,
    /// This node's agent stops in order.
    NodeStopped,
    /// Events came faster than they could be recorded, and some are missing here.
    Missed,
}

impl Kind {
    /// Every kind with its name.
    pub const NAMES: &'static [(&'static str, Kind)] = &[
        ("joined", Kind::Joined),
        ("updated", Kind::Updated),
        ("state-changed", Kind::StateChanged),
        ("suspected", Kind::Suspected),
        ("failed", Kind::Failed),
        ("left", Kind::Left),
        ("returned", Kind::Returned),
        ("restarted", Kind::Restarted),
        ("removed", Kind::Removed),
        ("forgotten", Kind::Forgotten),
        ("identity-conflict", Kind::IdentityConflict),
        ("gossip-restarted", Kind::GossipRestarted),
        ("operator", Kind::Operator),
        ("app-unhealthy", Kind::AppUnhealthy),
        ("app-healthy", Kind::AppHealthy),
        ("keys-changed", Kind::KeysChanged),
        ("node-started", Kind::NodeStarted),
        ("node-stopped", Kind::NodeStopped),
        ("missed", Kind::Missed),
    ];

    /// The name, in kebab case.
    pub fn as_str(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        found.map_or("unknown", |(name, _)| *name)
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Kind> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind)
    }

    /// Whether only this node can see it, so that no other can tell of it in this node's place.
    pub fn is_own_affair(self) -> bool {
        matches!(
            self,
            Kind::IdentityConflict
                | Kind::GossipRestarted
                | Kind::NodeStarted
                | Kind::NodeStopped
                | Kind::Missed
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_kind_is_its_json_and_finds_it_again() {
        for (name, kind) in Kind::NAMES {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{name}\""));
            assert_eq!(Kind::named(name), Some(*kind));
            assert_eq!(kind.as_str(), *name);
        }
        assert_eq!(Kind::named("faild"), None);
    }
}
