//! What the probe of a server has found, as the record that all agents go by.
//!
//! One document a server, written by its owner and only when it says something new: another verdict, or the same by
//! another owner. That a server is well since noon stays true when it changes hands. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use basic_balancer::probe::{AppHealth, AppState};
use basic_membership::NodeId;
use serde::{Deserialize, Serialize};

/// Bad checks in a row by which a new owner overrules a good verdict of the last one.
const OVERRULING_FAILURES: u32 = 2;
/// Longest reason, in characters. It may quote the server.
const REASON_MAX: usize = 120;

/// A verdict, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is well.
    pub healthy: bool,
    /// Since when, in milliseconds since 1970 by the clock of the owner of that time.
    pub since_ms: u64,
    /// Why it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The agent that says so.
    pub by: NodeId,
    /// How long the check took that found it well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The address that was asked, as registered: a verdict on another says nothing.
    pub address: String,
}

impl Verdict {
    /// The verdict that `by` has to publish after `known`, given what its probe of `address` has found; `None` while
    /// there is nothing new to say.
    pub fn after(
        known: Option<&Verdict>,
        found: &AppHealth,
        by: &NodeId,
        address: &str,
    ) -> Option<Verdict> {
        if found.state == AppState::Unknown {
            return None;
        }
        let healthy = found.is_healthy();
        let known = known.filter(|known| known.address == address);
        let same = known.filter(|known| known.healthy == healthy);
        if same.is_some_and(|known| known.by == *by) {
            return None;
        }
        let overrules = known.is_some_and(|known| known.healthy) && !healthy;
        if overrules && found.consecutive_failures < OVERRULING_FAILURES {
            return None;
        }
        let reason = found.last_error.as_deref().filter(|_| !healthy);
        Some(Verdict {
            healthy,
            since_ms: same.map_or_else(|| millis(found.since), |known| known.since_ms),
            reason: reason.map(|reason| reason.chars().take(REASON_MAX).collect()),
            by: by.clone(),
            latency_ms: found
                .latency
                .filter(|_| healthy)
                .map(|latency| latency.as_secs_f64() * 1e3),
            address: address.to_owned(),
        })
    }

    /// Since when the verdict stands. A moment that no clock can show, which only a faulty agent writes, is 1970.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_millis(self.since_ms))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.0.0.9:8080";

    fn node(id: &str) -> NodeId {
        id.parse().unwrap()
    }

    fn found(state: AppState, second: u64, failures: u32) -> AppHealth {
        AppHealth {
            state,
            since: UNIX_EPOCH + Duration::from_secs(second),
            consecutive_failures: failures,
            last_error: (failures > 0).then(|| "answered with status 503".to_owned()),
            latency: Some(Duration::from_millis(4)),
        }
    }

    fn healthy(by: &str, second: u64) -> Verdict {
        Verdict::after(
            None,
            &found(AppState::Healthy, second, 0),
            &node(by),
            ADDRESS,
        )
        .unwrap()
    }

    #[test]
    fn nothing_is_said_before_the_probe_has_a_verdict() {
        let unknown = found(AppState::Unknown, 1, 0);
        assert_eq!(Verdict::after(None, &unknown, &node("n1"), ADDRESS), None);
    }

    #[test]
    fn a_verdict_is_said_once() {
        let known = healthy("n1", 7);
        let again = found(AppState::Healthy, 7, 0);
        assert_eq!(
            Verdict::after(Some(&known), &again, &node("n1"), ADDRESS),
            None
        );
    }

    #[test]
    fn a_new_owner_of_the_same_opinion_takes_over_without_a_new_date() {
        let known = healthy("n1", 7);
        let taken = Verdict::after(
            Some(&known),
            &found(AppState::Healthy, 99, 0),
            &node("n2"),
            ADDRESS,
        );
        let taken = taken.unwrap();
        assert_eq!((taken.by, taken.since_ms), (node("n2"), 7000));
    }

    #[test]
    fn a_new_owner_overrules_a_good_verdict_only_by_two_bad_checks() {
        let known = healthy("n1", 7);
        let after = |failures| {
            let found = found(AppState::Unhealthy, 9, failures);
            Verdict::after(Some(&known), &found, &node("n2"), ADDRESS)
        };
        assert_eq!(after(1), None);
        let overruled = after(2).unwrap();
        assert!(!overruled.healthy);
        assert_eq!(overruled.since_ms, 9000);
        assert_eq!(
            overruled.reason.as_deref(),
            Some("answered with status 503")
        );
        assert_eq!(overruled.latency_ms, None);
    }

    #[test]
    fn a_verdict_on_another_address_does_not_count() {
        let known = healthy("n1", 7);
        let bad = found(AppState::Unhealthy, 9, 1);
        let moved = Verdict::after(Some(&known), &bad, &node("n1"), "10.0.0.8:80");
        assert_eq!(moved.map(|verdict| verdict.healthy), Some(false));
    }

    #[test]
    fn a_verdict_is_the_same_after_it_was_stored() {
        let verdict = healthy("n1", 7);
        let stored = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&stored).unwrap(), verdict);
        let odd = stored.replace("7000", &u64::MAX.to_string());
        let odd: Verdict = serde_json::from_str(&odd).unwrap();
        // Whatever it is, it is a moment.
        let _ = odd.since();
    }
}
