//! The endpoints of a balancer, as one immutable value that is swapped whole.
//!
//! Readers never wait: they load the current table and keep it for one pick. A new table takes
//! over what was learned about every endpoint that stays, which is one of the same id and target;
//! an endpoint that moved to another address starts afresh. Nothing here can fail.

use std::collections::HashMap;
use std::sync::Arc;

use crate::endpoint::{Admission, Endpoint, EndpointId};
use crate::health::Health;
use crate::metrics::EndpointCounters;

/// What was learned about an endpoint. Outlives the tables that it appears in.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    pub(crate) health: Health,
    pub(crate) counters: EndpointCounters,
}

/// An endpoint with what was learned about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) endpoint: Endpoint,
    pub(crate) learned: Arc<Learned>,
}

/// The endpoints, in the order in which they were given. No id appears twice.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl Table {
    /// The table of `endpoints` that comes after this one. Of several with one id the first counts.
    pub(crate) fn followed_by(&self, endpoints: Vec<Endpoint>) -> Table {
        let known: HashMap<&EndpointId, &Arc<Entry>> = self
            .entries
            .iter()
            .map(|entry| (&entry.endpoint.id, entry))
            .collect();
        let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(endpoints.len());
        let mut seen = std::collections::HashSet::new();
        for endpoint in endpoints {
            if !seen.insert(endpoint.id.clone()) {
                continue;
            }
            let learned = known
                .get(&endpoint.id)
                .filter(|before| before.endpoint.target == endpoint.target)
                .map(|before| carried_over(before, endpoint.admission))
                .unwrap_or_default();
            entries.push(Arc::new(Entry { endpoint, learned }));
        }
        Table { entries }
    }
}

/// What is known of `before`, given that it is now admitted as `admission`.
///
/// A probe or membership that finds it back knows more than old connect failures do.
fn carried_over(before: &Entry, admission: Admission) -> Arc<Learned> {
    let was_refused = matches!(before.endpoint.admission, Admission::Refusing(_));
    if was_refused && admission.accepts() {
        before.learned.health.record_answer();
    }
    Arc::clone(&before.learned)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::config::EjectionConfig;
    use crate::endpoint::Refusal;

    fn endpoint(id: &str, port: u16, admission: Admission) -> Endpoint {
        Endpoint {
            id: id.into(),
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: 100,
            local: false,
            admission,
        }
    }

    fn eject(table: &Table, now: Instant) {
        for entry in &table.entries {
            for _ in 0..2 {
                entry
                    .learned
                    .health
                    .record_connect_failure(now, &EjectionConfig::default());
            }
        }
    }

    fn ejected(table: &Table, now: Instant) -> Vec<bool> {
        table
            .entries
            .iter()
            .map(|entry| entry.learned.health.is_ejected(now))
            .collect()
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_ejection_and_one_that_moved_does_not() {
        let now = Instant::now();
        let accepting = Admission::Accepting;
        let first = Table::default().followed_by(vec![
            endpoint("a", 1, accepting),
            endpoint("b", 2, accepting),
        ]);
        eject(&first, now);
        let second = first.followed_by(vec![
            endpoint("a", 1, accepting),
            endpoint("b", 3, accepting),
        ]);
        assert_eq!(ejected(&second, now), [true, false]);
    }

    #[test]
    fn an_endpoint_that_is_admitted_again_is_no_longer_ejected() {
        let now = Instant::now();
        let refused = Admission::Refusing(Refusal::Unhealthy);
        let first = Table::default().followed_by(vec![endpoint("a", 1, refused)]);
        eject(&first, now);
        let second = first.followed_by(vec![endpoint("a", 1, Admission::Accepting)]);
        assert_eq!(ejected(&second, now), [false]);
    }

    proptest! {
        #[test]
        fn a_table_holds_each_id_once_in_the_order_given(
            ids in prop::collection::vec("[a-e]", 0..12),
            before in prop::collection::vec("[a-e]", 0..12),
        ) {
            let endpoints = |ids: &[String]| {
                ids.iter().map(|id| endpoint(id, 1, Admission::Accepting)).collect()
            };
            let table = Table::default().followed_by(endpoints(&before)).followed_by(endpoints(&ids));
            let mut expected: Vec<&str> = Vec::new();
            for id in &ids {
                if !expected.contains(&id.as_str()) {
                    expected.push(id);
                }
            }
            let found: Vec<&str> =
                table.entries.iter().map(|entry| entry.endpoint.id.as_str()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
