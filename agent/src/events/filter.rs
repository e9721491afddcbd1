//! Which events are wanted.

use std::time::SystemTime;

use basic_membership::NodeId;

use super::kind::Kind;
use super::record::Record;

/// What events have to be like; what is not set is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this node.
    pub node: Option<NodeId>,
    /// Of one of these kinds, where there are any.
    pub kinds: Vec<Kind>,
    /// Not before this.
    pub since: Option<SystemTime>,
}

impl Filter {
    /// Whether a record is wanted.
    pub fn passes(&self, record: &Record) -> bool {
        let fact = &record.fact;
        self.node.as_ref().is_none_or(|node| *node == fact.node)
            && (self.kinds.is_empty() || self.kinds.contains(&fact.kind))
            && self.since.is_none_or(|since| fact.at >= since)
    }
}
