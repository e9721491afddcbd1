//! The agent that may be running already: what answers where this configuration has its API.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::fetch::{self, Answer, GetError};
use super::report::Check;
use crate::config::{Config, HttpUrl};

const NAME: &str = "agent";
/// Time to answer; the API is on this host.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What answers at the API's address.
#[derive(Clone, Debug)]
pub(super) enum AtApi {
    /// Nothing listens.
    Nobody,
    /// An agent, of whatever cluster.
    Agent(Box<Running>),
    /// Something that listens and gives no answer.
    Silent {
        /// How it failed.
        reason: String,
    },
    /// Something else.
    Stranger {
        /// What it answered.
        answer: String,
    },
}

/// An agent's own words, as far as they are needed. Fields may be missing: it may be of another version.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Running {
    pub(super) cluster: String,
    #[serde(rename = "self")]
    pub(super) id: String,
    pub(super) state: Option<String>,
    pub(super) uptime_seconds: f64,
    pub(super) process: Process,
    pub(super) app: App,
    pub(super) gossip: Gossip,
    pub(super) findings: Vec<Finding>,
    /// From another answer than the rest.
    #[serde(skip)]
    pub(super) members: Vec<Member>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) pid: Option<u32>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_soft: Option<u64>,
    pub(super) open_files_hard: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct App {
    pub(super) healthy: Option<bool>,
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gossip {
    /// How long ago another node last began an exchange with this one.
    pub(super) last_inbound_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Finding {
    pub(super) severity: String,
    pub(super) fact: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) live: Option<bool>,
    pub(super) clock_offset_ms: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    members: Vec<Member>,
}

impl Running {
    /// Whether it is the agent that this configuration describes; `id` is its name, if it has one yet.
    pub(super) fn is_of(&self, config: &Config, id: Option<&str>) -> bool {
        self.cluster == config.node.cluster.as_str() && id.is_none_or(|id| id == self.id)
    }

    /// How many members there are besides itself that live, as far as it says.
    pub(super) fn others_live(&self) -> usize {
        let others = self.members.iter().filter(|member| member.id != self.id);
        others.filter(|member| member.live != Some(false)).count()
    }
}

/// Asks whatever listens where the API should be.
pub(super) async fn ask(listen: SocketAddr) -> AtApi {
    let url = HttpUrl::of_listener(listen);
    let Some(address) = url.host_port().socket_address() else {
        return AtApi::Nobody;
    };
    let host = url.host_port().to_string();
    let status = fetch::get(address, &host, "/v1/status", ANSWER_MAX).await;
    let mut running = match status {
        Ok(answer) => match understood(&answer) {
            Some(running) => running,
            None => {
                let answer = format!("it answered {} to GET /v1/status", answer.status);
                return AtApi::Stranger { answer };
            }
        },
        Err(GetError::Refused { .. } | GetError::Connect { .. }) => return AtApi::Nobody,
        Err(error @ GetError::TimedOut(_)) => {
            let reason = error.to_string();
            return AtApi::Silent { reason };
        }
        Err(error) => {
            let answer = error.to_string();
            return AtApi::Stranger { answer };
        }
    };
    if let Ok(answer) = fetch::get(address, &host, "/v1/members", ANSWER_MAX).await
        && let Ok(Members { members }) = serde_json::from_slice(&answer.body)
    {
        running.members = members;
    }
    AtApi::Agent(Box::new(running))
}

/// The answer as an agent's status, if it is one.
pub(super) fn understood(answer: &Answer) -> Option<Running> {
    let running: Running = serde_json::from_slice(&answer.body).ok()?;
    let is_agent = answer.status.is_success() && !running.id.is_empty();
    (is_agent && !running.cluster.is_empty()).then_some(running)
}

/// Whether the agent of this configuration runs, and how it judges itself.
pub(super) fn examine(at_api: &AtApi, config: &Config, id: Option<&str>) -> Check {
    let listen = config.api.listen;
    match at_api {
        AtApi::Nobody => Check::ok(
            NAME,
            format!("not running: nothing answers at http://{listen}"),
        ),
        AtApi::Silent { reason } => Check::failure(
            NAME,
            format!("something listens on {listen}, [api] listen, and does not answer"),
            "if it is the agent, it is stopped or overloaded: look at its process and its log",
        )
        .seen(reason.clone()),
        AtApi::Stranger { answer } => Check::failure(
            NAME,
            format!("what listens on {listen}, [api] listen, is no agent"),
            "stop it, or choose another address by [api] listen",
        )
        .seen(answer.clone()),
        AtApi::Agent(running) if running.is_of(config, id) => own(running, listen),
        AtApi::Agent(running) => Check::failure(
            NAME,
            format!(
                "on {listen}, [api] listen, runs another agent: node {} of cluster {}",
                running.id, running.cluster
            ),
            "give this agent ports of its own ([peer], [api] and [proxy] listen), or stop the other one",
        ),
    }
}

fn own(running: &Running, listen: SocketAddr) -> Check {
    let up = Duration::try_from_secs_f64(running.uptime_seconds).unwrap_or_default();
    let up = humantime::format_duration(Duration::from_secs(up.as_secs()));
    let state = running.state.as_deref().unwrap_or("of unknown state");
    let pid = running
        .process
        .pid
        .map_or_else(String::new, |pid| format!("process {pid}, "));
    let fact = format!("running: {}, {state}, {pid}up for {up}", running.id);
    let errors: Vec<&Finding> = running
        .findings
        .iter()
        .filter(|finding| finding.severity == "error")
        .collect();
    let check = match errors.as_slice() {
        [] => Check::ok(NAME, fact),
        errors => Check::warning(
            NAME,
            format!("{fact}; it reports {} errors", errors.len()),
            format!("basic-agent status --api http://{listen}"),
        ),
    };
    errors
        .into_iter()
        .fold(check, |check, error| check.seen(error.fact.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use http::{HeaderMap, StatusCode};

    fn answer(status: StatusCode, body: &'static str) -> Answer {
        Answer {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    #[test]
    fn an_agent_is_known_by_its_words_and_nothing_else() {
        let body = r#"{"cluster":"c1","self":"n1","new":[1]}"#;
        assert_eq!(understood(&answer(StatusCode::OK, body)).unwrap().id, "n1");
        assert!(understood(&answer(StatusCode::NOT_FOUND, body)).is_none());
        for body in ["", "{}", "<html>", r#"{"self":"n1"}"#, "[]"] {
            assert!(
                understood(&answer(StatusCode::OK, body)).is_none(),
                "{body}"
            );
        }
    }

    #[test]
    fn members_that_are_known_dead_do_not_live() {
        let member = |id: &str, live| Member {
            id: id.to_owned(),
            live,
            clock_offset_ms: None,
        };
        let running = Running {
            id: "n1".to_owned(),
            members: vec![
                member("n1", Some(true)),
                member("n2", Some(true)),
                member("n3", Some(false)),
                member("n4", None),
            ],
            ..Running::default()
        };
        assert_eq!(running.others_live(), 2);
    }
}
