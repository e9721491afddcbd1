//! Decisions of operators, from the audit, as facts.
//!
//! The audit is replicated, so a decision may come late, out of order, or have been seen by an earlier run of this
//! agent. A decision becomes an event once: if no event of it is in the journal, and it is not older than what the
//! journal keeps. That way a new node does not tell of decisions from before its time.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::kind::Kind;
use super::record::{Cause, CauseCode, Decision, Fact, Record, text};
use crate::operations::AuditEntry;

/// Decisions remembered as told; more than the audit keeps.
const TOLD_MAX: usize = 20_000;

/// Which decisions have become events.
#[derive(Debug)]
pub(super) struct Decisions {
    told: BTreeSet<String>,
    /// Decisions before this are history.
    since: SystemTime,
}

impl Decisions {
    /// Goes on after a journal that keeps these records, or begins now.
    pub(super) fn after<'a>(
        kept: impl IntoIterator<Item = &'a Record>,
        now: SystemTime,
    ) -> Decisions {
        let mut since = now;
        let mut told = BTreeSet::new();
        for record in kept {
            since = since.min(record.fact.at);
            let decision = record.fact.evidence.decision.as_ref();
            told.extend(decision.map(|decision| decision.audit.clone()));
        }
        Decisions { told, since }
    }

    /// Takes in the audit, in the order of its keys; returns what is new. An entry whose time or node cannot be read is
    /// passed over.
    pub(super) fn observe(&mut self, audit: Vec<(String, AuditEntry)>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (key, entry) in audit {
            let Ok(at) = humantime::parse_rfc3339_weak(&entry.order.at) else {
                continue;
            };
            if at < self.since || self.told.contains(&key) {
                continue;
            }
            if self.told.len() >= TOLD_MAX {
                // Keys begin with their time: the first are the oldest.
                self.told.pop_first();
            }
            self.told.insert(key.clone());
            facts.extend(fact(key, &entry, at));
        }
        facts
    }
}

fn fact(audit: String, entry: &AuditEntry, at: SystemTime) -> Option<Fact> {
    let order = &entry.order;
    let decision = Decision {
        audit,
        action: text(&entry.action),
        by: text(&order.by),
        client: text(&order.from),
        on: text(&order.on),
        why: order.why.as_deref().map(text),
    };
    let why = decision
        .why
        .as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    let node = entry.node.parse().ok()?;
    let message = format!(
        "{} decided \"{}\" for {node}{why}",
        decision.by, decision.action
    );
    let cause = Cause::new(CauseCode::Operator, "an operator decided it");
    let mut fact = Fact::new(at, Kind::Operator, node, cause, message);
    fact.evidence.decision = Some(decision);
    Some(fact)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::record::EventId;

    fn audit(key: &str, seconds: u64) -> (String, AuditEntry) {
        let at = humantime::format_rfc3339_millis(at(seconds)).to_string();
        (key.to_owned(), entry(&at))
    }

    fn entry(at: &str) -> AuditEntry {
        let json = format!(
            r#"{{"at":"{at}","action":"drain","node":"n2","by":"liang","from":"127.0.0.1","on":"n1","why":"disk","before":null,"after":null}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_decision_is_told_once_also_after_a_restart() {
        let mut decisions = Decisions::after([], at(100));
        let told = decisions.observe(vec![audit("k1", 99), audit("k2", 101)]);
        assert_eq!(told.len(), 1, "what is older than the journal is history");
        assert_eq!(told[0].message, "liang decided \"drain\" for n2: disk");
        let again = vec![audit("k1", 99), audit("k2", 101), audit("k3", 102)];
        let new = decisions.observe(again.clone());
        assert_eq!(new.len(), 1);

        let records: Vec<_> = [told[0].clone(), new[0].clone()]
            .into_iter()
            .zip(1..)
            .map(|(fact, id)| Record {
                id: EventId(id),
                fact,
                seen_by: "n1".parse().unwrap(),
            })
            .collect();
        let mut restarted = Decisions::after(&records, at(200));
        assert_eq!(restarted.observe(again).len(), 0);
        // Made while this node was down.
        assert_eq!(restarted.observe(vec![audit("k4", 150)]).len(), 1);
    }

    #[test]
    fn an_entry_without_a_time_is_passed_over() {
        let mut decisions = Decisions::after([], at(100));
        let audit = vec![("k".to_owned(), entry("soon"))];
        assert_eq!(decisions.observe(audit), []);
    }
}
