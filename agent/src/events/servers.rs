//! Facts that follow from the verdicts on servers without an agent.
//!
//! A verdict is a document that every agent has; it says something new when the server's health is another than that of
//! the document before. The same verdict by another agent is no news, nor is a first one that is good. A server that
//! has moved to another address, or was registered anew, begins anew.

use std::collections::BTreeMap;
use std::time::SystemTime;

use basic_membership::NodeId;

use super::kind::Kind;
use super::record::{Cause, CauseCode, Fact, text};
use crate::servers::Verdict;

/// The last verdicts.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    known: BTreeMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    address: String,
    healthy: bool,
}

impl Verdicts {
    /// Takes in all verdicts by the ids of their servers; returns what has changed since those before. A key that is no
    /// id is passed over.
    pub(super) fn observe(
        &mut self,
        verdicts: Vec<(String, Verdict)>,
        now: SystemTime,
    ) -> Vec<Fact> {
        let mut before = std::mem::take(&mut self.known);
        let mut facts = Vec::new();
        for (key, verdict) in verdicts {
            let Ok(id) = key.parse::<NodeId>() else {
                continue;
            };
            let known = before.remove(&id);
            let known = known.filter(|known| known.address == verdict.address);
            facts.extend(fact(&id, known.map(|known| known.healthy), &verdict, now));
            let known = Known {
                address: verdict.address,
                healthy: verdict.healthy,
            };
            self.known.insert(id, known);
        }
        facts
    }
}

fn fact(id: &NodeId, before: Option<bool>, verdict: &Verdict, now: SystemTime) -> Option<Fact> {
    let (healthy, by) = (verdict.healthy, &verdict.by);
    if healthy == before.unwrap_or(true) {
        return None;
    }
    let cause = |finds| Cause::new(CauseCode::Probe, format!("the agent of {by} {finds}"));
    Some(if healthy {
        let message = format!("the server {id} is healthy again");
        let cause = cause("finds that it passes the health checks");
        Fact::new(now, Kind::AppHealthy, id.clone(), cause, message)
    } else {
        let reason = verdict.reason.as_deref().map(text).unwrap_or_default();
        let message = format!("the server {id} is unhealthy: {reason}");
        let cause = cause("finds that it fails the health checks");
        let mut fact = Fact::new(now, Kind::AppUnhealthy, id.clone(), cause, message);
        fact.evidence.reason = Some(reason);
        fact
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(healthy: bool, by: &str, address: &str) -> (String, Verdict) {
        let verdict = Verdict {
            healthy,
            since_ms: 1,
            reason: (!healthy).then(|| "connection\nrefused".to_owned()),
            by: by.parse().unwrap(),
            latency_ms: None,
            address: address.to_owned(),
        };
        ("s1".to_owned(), verdict)
    }

    /// The kinds of facts that each view brings.
    fn kinds(views: impl IntoIterator<Item = Option<(String, Verdict)>>) -> Vec<Option<Kind>> {
        let mut verdicts = Verdicts::default();
        let observe = |view: Option<_>| {
            let facts = verdicts.observe(view.into_iter().collect(), SystemTime::UNIX_EPOCH);
            assert!(facts.len() <= 1, "{facts:?}");
            facts.first().map(|fact| fact.kind)
        };
        views.into_iter().map(observe).collect()
    }

    #[test]
    fn a_verdict_that_changes_is_told_once_whoever_gives_it() {
        let seen = |healthy, by| Some(verdict(healthy, by, "10.0.0.9:80"));
        let (ill, well) = (Some(Kind::AppUnhealthy), Some(Kind::AppHealthy));
        assert_eq!(
            kinds([
                seen(true, "n1"),
                seen(false, "n1"),
                seen(false, "n2"),
                seen(true, "n2"),
                seen(true, "n1"),
            ]),
            [None, ill, None, well, None]
        );
        assert_eq!(kinds([seen(false, "n1")]), [ill]);
    }

    #[test]
    fn a_server_that_moved_or_was_registered_anew_begins_anew() {
        let seen = |healthy, address| Some(verdict(healthy, "n1", address));
        let ill = Some(Kind::AppUnhealthy);
        assert_eq!(
            kinds([
                seen(false, "10.0.0.9:80"),
                seen(true, "10.0.0.8:80"),
                seen(false, "10.0.0.8:80"),
                None,
                seen(true, "10.0.0.8:80"),
            ]),
            [ill, None, ill, None, None]
        );
    }

    #[test]
    fn a_fact_tells_who_found_it_and_why_in_one_line() {
        let bad = verdict(false, "n2", "10.0.0.9:80");
        let odd = ("no id!".to_owned(), bad.1.clone());
        let facts = Verdicts::default().observe(vec![bad, odd], SystemTime::UNIX_EPOCH);
        assert_eq!(facts.len(), 1);
        assert_eq!(
            facts[0].message,
            "the server s1 is unhealthy: connection refused"
        );
        assert!(facts[0].cause.text.contains("n2"), "{facts:?}");
    }
}
