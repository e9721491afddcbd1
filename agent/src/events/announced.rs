//! Facts that follow from what members announce: the health of the servers beside them, and their keys.
//!
//! Membership tells that a member's metadata changed, not what of it. This compares with what was announced before.
//! A server that has not been probed yet is neither healthy nor unhealthy, so a node that starts makes no events; nor
//! does a first view of members that are all well.

use std::collections::BTreeMap;
use std::time::SystemTime;

use basic_membership::{Member, NodeId};

use super::kind::Kind;
use super::record::{Cause, CauseCode, Fact, text};

/// What the members announced last.
#[derive(Debug, Default)]
pub(super) struct Announced {
    known: BTreeMap<NodeId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last verdict of the probe, if there was one.
    healthy: Option<bool>,
    keys: Vec<String>,
}

impl Announced {
    /// Takes in a view of the members; returns what has changed since the view before.
    pub(super) fn observe<'a>(
        &mut self,
        members: impl IntoIterator<Item = &'a Member>,
        now: SystemTime,
    ) -> Vec<Fact> {
        let mut before = std::mem::take(&mut self.known);
        let mut facts = Vec::new();
        for member in members {
            // Who is no longer among the members is not carried over.
            let mut known = before.remove(&member.id).unwrap_or_default();
            facts.extend(known.health(member, now));
            facts.extend(known.keys(member, now));
            self.known.insert(member.id.clone(), known);
        }
        facts
    }
}

impl Known {
    fn health(&mut self, member: &Member, now: SystemTime) -> Option<Fact> {
        let app = &member.metadata.app;
        let healthy = match (app.healthy, &app.reason) {
            (true, _) => true,
            (false, Some(_)) => false,
            // Not probed yet.
            (false, None) => return None,
        };
        let before = self.healthy.replace(healthy);
        let node = &member.id;
        let mut fact = if healthy {
            // A server that is first seen to be well is no news.
            before.filter(|before| !before)?;
            Fact::new(
                now,
                Kind::AppHealthy,
                node.clone(),
                Cause::new(CauseCode::Probe, "its server passes the health checks"),
                format!("the server of {node} is healthy again"),
            )
        } else {
            if before == Some(false) {
                return None;
            }
            let reason = app.reason.as_deref().map(text).unwrap_or_default();
            let mut fact = Fact::new(
                now,
                Kind::AppUnhealthy,
                node.clone(),
                Cause::new(CauseCode::Probe, "its server fails the health checks"),
                format!("the server of {node} is unhealthy: {reason}"),
            );
            fact.evidence.reason = Some(reason);
            fact
        };
        fact.incarnation = Some(member.incarnation);
        Some(fact)
    }

    fn keys(&mut self, member: &Member, now: SystemTime) -> Option<Fact> {
        let keys: Vec<String> = member
            .metadata
            .keys
            .iter()
            .map(ToString::to_string)
            .collect();
        // Nothing announced yet, or the first that is.
        if keys.is_empty() || keys == self.keys {
            return None;
        }
        let before = std::mem::replace(&mut self.keys, keys);
        let in_use = self.keys.first().filter(|_| !before.is_empty())?;
        let node = &member.id;
        let message = if before.first() == Some(in_use) {
            format!(
                "{node} uses key {in_use} and has {} installed",
                self.keys.len()
            )
        } else {
            format!("{node} uses key {in_use} now")
        };
        let cause = Cause::new(CauseCode::Announced, "it announced other keys");
        let mut fact = Fact::new(now, Kind::KeysChanged, node.clone(), cause, message);
        fact.incarnation = Some(member.incarnation);
        fact.evidence.keys = self.keys.clone();
        Some(fact)
    }
}

#[cfg(test)]
mod tests;
