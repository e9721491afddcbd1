//! Whether this node's proxy reaches a member's app: evidence of its own, beside what gossip and the member's agent say.

use std::time::SystemTime;

use basic_balancer::EndpointSnapshot;
use serde::Serialize;

use super::members::rfc3339;

/// What the proxy of this node found when it last connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Reachable {
    /// `null` where it has not tried: it sends no requests there, or none has come yet.
    ok: Option<bool>,
    /// Since when connections fail.
    since: Option<String>,
    /// What the latest failure said, if there ever was one.
    last_error: Option<String>,
    /// Connections in a row that failed.
    failures: u32,
}

impl Reachable {
    /// What is known of the endpoint with this id.
    pub(super) fn of(id: &str, endpoints: &[EndpointSnapshot], now: SystemTime) -> Self {
        let mut endpoints = endpoints.iter();
        let Some(known) = endpoints.find(|known| known.endpoint.id.as_str() == id) else {
            return Self::default();
        };
        let since = known.failing_for.and_then(|age| now.checked_sub(age));
        Self {
            ok: match (known.failing, known.answered) {
                (0, 0) => None,
                (failing, _) => Some(failing == 0),
            },
            since: since.map(rfc3339),
            last_error: known.last_error.clone(),
            failures: known.failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use basic_balancer::{Admission, Endpoint, EndpointId};

    use super::*;

    fn endpoint(answered: u64, failing: u32) -> EndpointSnapshot {
        EndpointSnapshot {
            endpoint: Endpoint {
                id: EndpointId::new("n2"),
                target: "10.0.0.2:8080".parse().unwrap(),
                weight: 100,
                local: false,
                admission: Admission::Accepting,
            },
            in_flight: 0,
            picked: 9,
            answered,
            waited: Duration::ZERO,
            failures: 0,
            connect_failures: 0,
            ejections: 0,
            ejected_for: None,
            failing,
            failing_for: (failing > 0).then_some(Duration::from_secs(3)),
            last_error: None,
        }
    }

    #[test]
    fn an_app_is_reachable_if_the_last_connection_to_it_was_made() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        let ok = |answered, failing| Reachable::of("n2", &[endpoint(answered, failing)], now).ok;
        assert_eq!(ok(0, 0), None, "never tried");
        assert_eq!(ok(5, 0), Some(true));
        assert_eq!(ok(5, 1), Some(false));
        assert_eq!(Reachable::of("n3", &[endpoint(5, 0)], now).ok, None);
        let failing = Reachable::of("n2", &[endpoint(5, 2)], now);
        assert_eq!(failing.since.as_deref(), Some("1970-01-01T00:00:07.000Z"));
    }
}
