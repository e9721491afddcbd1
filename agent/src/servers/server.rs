//! A server without an agent, as its records make it, and the states it goes through.
//!
//! Of the states of members, these apply. Nobody announces anything here: the verdict of the probe stands for what a
//! node would say of itself and for its heartbeats.
//!
//! ```text
//!  registered          the verdict of its probe           operators
//!  ┌─────────┐ well    ┌────────┐  drain                  ┌──────────┐
//!  │ joining │────────▶│ active │────────────────────────▶│ draining │
//!  └────┬────┘         └─┬────▲─┘                  undrain└─┬────▲───┘
//!       │ not well   ill │    │ well                   ill │    │ well
//!       │              ┌─▼────┴─┐  drain               ┌───▼────┴────┐
//!       └─────────────▶│ failed │─────────────────────▶│ maintenance │
//!                      └────────┘                      └─────────────┘
//! ```
//!
//! An operator's `fail` makes it `failed`, from any state, until taken back. A removal of its id that is not older than
//! its registration makes it `removed` until it is registered anew; one of a node that had the id before does not. While there is no verdict on its present address it is `joining` and takes
//! no requests. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use basic_membership::{Directive, JoinMark, MemberState, NodeId};

use super::registration::Registration;
use super::verdict::Verdict;

/// A server without an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its id, unique among all members.
    pub id: NodeId,
    /// What was registered.
    pub registration: Registration,
    /// When it was registered at this address.
    pub registered: JoinMark,
    /// What operators have decided about it.
    pub directive: Directive,
    /// The last verdict on it, which may be on an address that it had before; see [`Server::verdict`].
    pub last_verdict: Option<Verdict>,
    /// Since when it has been in its state, as far as this agent knows.
    pub since: SystemTime,
}

/// All servers without an agent, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Servers {
    list: Vec<Server>,
}

impl Server {
    /// A server of which nothing is known but its registration.
    pub(super) fn new(id: NodeId, registration: Registration, registered: JoinMark) -> Self {
        Self {
            id,
            registration,
            registered,
            directive: Directive::default(),
            last_verdict: None,
            since: UNIX_EPOCH,
        }
    }

    /// Its state.
    pub fn state(&self) -> MemberState {
        let healthy = self.verdict().map(|verdict| verdict.healthy);
        match healthy {
            _ if self.directive.removes(self.registered) => MemberState::Removed,
            _ if self.directive.failed => MemberState::Failed,
            None if self.directive.drain => MemberState::Maintenance,
            None => MemberState::Joining,
            Some(true) if self.directive.drain => MemberState::Draining,
            Some(true) => MemberState::Active,
            Some(false) if self.directive.drain => MemberState::Maintenance,
            Some(false) => MemberState::Failed,
        }
    }

    /// What the probe of its present address has found.
    pub fn verdict(&self) -> Option<&Verdict> {
        let address = self.registration.address.to_string();
        self.last_verdict
            .as_ref()
            .filter(|verdict| verdict.address == address)
    }

    /// Its share of the requests: the operator's word, or else what was registered.
    pub fn weight(&self) -> u32 {
        let registered = u32::from(self.registration.weight);
        self.directive.weight.unwrap_or(registered)
    }

    /// Since when its records say that it is in its state: an operator's decision has no date here.
    fn recorded_since(&self, now: SystemTime) -> SystemTime {
        match (self.state(), self.verdict()) {
            (MemberState::Active | MemberState::Failed, Some(verdict))
                if !self.directive.failed =>
            {
                verdict.since()
            }
            (MemberState::Joining, _) => UNIX_EPOCH
                .checked_add(Duration::from_millis(self.registered.0))
                .unwrap_or(now),
            _ => now,
        }
    }
}

impl Servers {
    /// These servers at `now`, after those of `before`: what has not changed its state has the date that it had.
    pub(super) fn after(before: &Servers, mut list: Vec<Server>, now: SystemTime) -> Self {
        list.sort_by(|a, b| a.id.cmp(&b.id));
        for server in &mut list {
            let known = before.find(&server.id);
            let unchanged = known.filter(|known| known.state() == server.state());
            server.since = match unchanged {
                Some(known) => known.since,
                None => server.recorded_since(now),
            };
        }
        Self { list }
    }

    /// The servers in the order of their ids.
    pub fn iter(&self) -> std::slice::Iter<'_, Server> {
        self.list.iter()
    }

    /// The same as a slice.
    pub fn as_slice(&self) -> &[Server] {
        &self.list
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The server of that id.
    pub fn find(&self, id: &NodeId) -> Option<&Server> {
        let index = self.list.binary_search_by(|server| server.id.cmp(id));
        self.list.get(index.ok()?)
    }
}

impl<'a> IntoIterator for &'a Servers {
    type Item = &'a Server;
    type IntoIter = std::slice::Iter<'a, Server>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: &str = "10.0.0.9:8080";

    /// A server with this verdict, registered at the 5th second.
    pub(crate) fn server(id: &str, healthy: Option<bool>) -> Server {
        Server {
            id: id.parse().unwrap(),
            registration: Registration {
                address: ADDRESS.parse().unwrap(),
                health: "/health".parse().unwrap(),
                weight: 100,
                labels: Default::default(),
            },
            registered: JoinMark(5000),
            directive: Directive::default(),
            last_verdict: healthy.map(|healthy| Verdict {
                healthy,
                since_ms: 7000,
                reason: None,
                by: "n1".parse().unwrap(),
                latency_ms: None,
                address: ADDRESS.to_owned(),
            }),
            since: UNIX_EPOCH,
        }
    }

    fn second(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_server_is_joining_until_there_is_a_verdict_on_its_address() {
        assert_eq!(server("s1", None).state(), MemberState::Joining);
        assert_eq!(server("s1", Some(true)).state(), MemberState::Active);
        assert_eq!(server("s1", Some(false)).state(), MemberState::Failed);
        let mut moved = server("s1", Some(true));
        moved.registration.address = "10.0.0.8:8080".parse().unwrap();
        assert_eq!(moved.state(), MemberState::Joining);
    }

    #[test]
    fn a_drained_server_that_is_ill_is_in_maintenance() {
        let state = |healthy| {
            let mut server = server("s1", healthy);
            server.directive.drain = true;
            server.state()
        };
        assert_eq!(state(Some(true)), MemberState::Draining);
        assert_eq!(state(Some(false)), MemberState::Maintenance);
        assert_eq!(state(None), MemberState::Maintenance);
    }

    #[test]
    fn the_weight_is_what_an_operator_says_or_else_what_was_registered() {
        let mut server = server("s1", Some(true));
        assert_eq!(server.weight(), 100);
        server.directive.weight = Some(0);
        assert_eq!(server.weight(), 0);
    }

    #[test]
    fn the_date_of_a_state_is_that_of_its_verdict_and_stays_while_the_state_does() {
        let first = Servers::after(
            &Servers::default(),
            vec![server("s2", Some(true)), server("s1", None)],
            second(20),
        );
        let since = |servers: &Servers, id: &str| servers.find(&id.parse().unwrap()).unwrap().since;
        assert_eq!(since(&first, "s2"), second(7));
        assert_eq!(since(&first, "s1"), second(5));

        let mut drained = server("s2", Some(true));
        drained.directive.drain = true;
        let second_view = Servers::after(&first, vec![drained.clone()], second(30));
        assert_eq!(since(&second_view, "s2"), second(30));
        let third = Servers::after(&second_view, vec![drained], second(40));
        assert_eq!(since(&third, "s2"), second(30));
    }

    proptest! {
        #[test]
        fn what_an_operator_took_out_is_not_active_whatever_the_probe_says(
            healthy in any::<Option<bool>>(),
            drain in any::<bool>(),
            failed in any::<bool>(),
            removed in proptest::option::of(0u64..10_000),
        ) {
            let mut server = server("s1", healthy);
            server.directive = Directive { drain, failed, weight: None, removed: removed.map(JoinMark) };
            let is_removed = removed.is_some_and(|mark| mark >= 5000);
            prop_assert_eq!(server.state() == MemberState::Removed, is_removed);
            if drain || failed || is_removed {
                prop_assert!(!matches!(server.state(), MemberState::Active | MemberState::Joining));
            }
        }
    }
}
