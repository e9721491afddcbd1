//! Which agents can publish what they find.
//!
//! An agent may live and be unable to write: its disk is full, or two nodes have its id and neither takes writes. If it
//! owned a server, nobody would learn what becomes of that one. So, while there are servers, each agent writes a
//! [`Sign`] every [`SIGN_INTERVAL`] the way it writes verdicts, and one whose signs have not arrived for [`SIGN_MAX`]
//! is passed over as an owner until they do again. Each agent judges by its own clock; that two of them judge
//! differently for a moment does no harm, as with all that concerns owners. Pure, but for the writing.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use basic_membership::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::server::Servers;
use super::verdict::millis;
use crate::records::{Records, System};

/// Time from one sign of an agent to the next.
pub(super) const SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// How long the signs of an agent may be missing: two may be lost, or late.
const SIGN_MAX: Duration = Duration::from_secs(15);

/// That an agent could write, in `agent.probers` under its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sign {
    /// When, in milliseconds since 1970 by its clock: for people, and to tell one sign from the next.
    at_ms: u64,
}

/// The agents as their signs show them.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// The last sign of each, and since when it is known here.
    seen: HashMap<NodeId, (Option<Sign>, Instant)>,
}

impl Attendance {
    /// Takes in the signs of these agents. One that is new here has as long for its first sign as for any other.
    pub(super) fn observe<'a>(
        &mut self,
        agents: impl IntoIterator<Item = &'a NodeId>,
        signs: &[(String, Sign)],
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.seen);
        for agent in agents {
            let sign = signs.iter().find(|(key, _)| key == agent.as_str());
            let sign = sign.map(|(_, sign)| sign.clone());
            let seen = match before.remove(agent) {
                Some((last, since)) if sign.is_none() || sign == last => (last, since),
                _ => (sign, now),
            };
            self.seen.insert(agent.clone(), seen);
        }
    }

    /// Whether the agent is to be trusted with publishing.
    pub(super) fn is_able(&self, agent: &NodeId, now: Instant) -> bool {
        let seen = self.seen.get(agent);
        seen.is_none_or(|(_, since)| now.duration_since(*since) < SIGN_MAX)
    }
}

/// Writes the signs of this agent, for as long as it runs.
pub(super) async fn give_signs(
    records: Records,
    own: NodeId,
    servers: watch::Receiver<std::sync::Arc<Servers>>,
) {
    loop {
        if !servers.borrow().is_empty() {
            let sign = Sign {
                at_ms: millis(SystemTime::now()),
            };
            let written = records.put(System::Probers, own.as_str(), &sign);
            if let Err(error) = written.await {
                // Why it takes no writes is said where that was decided.
                debug!(%error, "other agents have to probe the servers without an agent");
            }
        }
        sleep(SIGN_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(of: &[(&str, u64)]) -> Vec<(String, Sign)> {
        let sign = |(agent, at_ms): &(&str, u64)| ((*agent).to_owned(), Sign { at_ms: *at_ms });
        of.iter().map(sign).collect()
    }

    #[test]
    fn an_agent_whose_signs_stop_is_passed_over_until_they_come_again() {
        let agents: [NodeId; 2] = ["n1".parse().unwrap(), "n2".parse().unwrap()];
        let began = Instant::now();
        let second = |second| began + Duration::from_secs(second);
        let mut attendance = Attendance::default();
        let able = |attendance: &Attendance, now| {
            agents
                .each_ref()
                .map(|agent| attendance.is_able(agent, now))
        };
        // An old sign counts from when it was seen: clocks are not compared.
        attendance.observe(&agents, &signs(&[("n1", 7)]), second(0));
        assert_eq!(able(&attendance, second(14)), [true, true]);
        attendance.observe(&agents, &signs(&[("n1", 8)]), second(14));
        assert_eq!(able(&attendance, second(15)), [true, false]);
        attendance.observe(&agents, &signs(&[("n1", 8), ("n2", 3)]), second(28));
        assert_eq!(able(&attendance, second(28)), [true, true]);
        assert_eq!(able(&attendance, second(29)), [false, true]);
    }

    #[test]
    fn an_agent_that_comes_back_has_time_for_its_first_sign() {
        let agents: [NodeId; 1] = ["n1".parse().unwrap()];
        let began = Instant::now();
        let later = began + SIGN_MAX * 2;
        let mut attendance = Attendance::default();
        attendance.observe(&agents, &signs(&[("n1", 7)]), began);
        attendance.observe([], &signs(&[("n1", 7)]), later);
        attendance.observe(&agents, &signs(&[("n1", 7)]), later);
        assert!(attendance.is_able(&agents[0], later));
    }

    #[tokio::test]
    async fn signs_are_written_while_there_are_servers() {
        let records = crate::records::tests::records();
        let server = crate::servers::server::tests::server("s1", None);
        let servers = Servers::after(&Servers::default(), vec![server], SystemTime::now());
        let (_keep, servers) = watch::channel(std::sync::Arc::new(servers));
        let mut changes = records.changes(System::Probers);
        let own: NodeId = "n1".parse().unwrap();
        let giving = tokio::spawn(give_signs(records.clone(), own, servers));
        let awaited = async {
            while records
                .get::<Sign>(System::Probers, "n1")
                .unwrap()
                .is_none()
            {
                changes.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), awaited)
            .await
            .unwrap();
        giving.abort();
    }
}
