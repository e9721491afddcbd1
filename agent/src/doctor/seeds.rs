//! The seeds: whether their names resolve, and whether agents of this cluster answer there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::report::{Check, Verdict};
use super::{CONNECT_MAX, Subject};
use crate::config::HostPort;
use crate::peer_port::{ConnectError, Connector, Protocol};

/// Time in which a name must resolve.
const RESOLVE_MAX: Duration = Duration::from_secs(2);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Seeds that are tried.
const SEEDS_MAX: usize = 32;

/// What answers at an address of a seed, or another address of the peer port.
#[derive(Debug)]
pub(super) enum Answer {
    /// An agent of this cluster, by this name.
    Agent(String),
    /// Something that accepts connections; there was no secret to find out more.
    Something,
    /// None that can be used.
    Failed(ConnectError),
}

/// Tries every seed.
pub(super) async fn examine(subject: &Subject) -> Vec<Check> {
    let seeds = &subject.config.peer.seeds;
    if seeds.is_empty() {
        let fact = "none configured: this node begins a cluster, or waits to be found";
        return vec![Check::ok("seeds", fact)];
    }
    let tried = seeds.iter().take(SEEDS_MAX);
    let mut checks = join_all(tried.map(|seed| examine_one(subject, seed))).await;
    if let Some(left) = seeds.len().checked_sub(SEEDS_MAX).filter(|left| *left > 0) {
        checks.push(Check::unknown(
            "seeds",
            format!("{left} more were not tried"),
        ));
    }
    checks
}

async fn examine_one(subject: &Subject, seed: &HostPort) -> Check {
    let name = format!("seed {seed}");
    let addresses = match seed.socket_address() {
        Some(address) => BTreeSet::from([address]),
        None => {
            let lookup = lookup_host((seed.host(), seed.port()));
            match timeout(RESOLVE_MAX, lookup).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => return unresolved(name, seed, &error.to_string()),
                Err(_) => return unresolved(name, seed, "the name server does not answer"),
            }
        }
    };
    let own = subject.config.peer.advertised(subject.config.peer.listen);
    if addresses.len() == 1 && addresses.contains(&own) {
        return Check::ok(name, "this node itself");
    }
    let others = addresses.iter().filter(|address| **address != own);
    let answers = others.take(ADDRESSES_MAX).map(async |address| {
        let answer = ask(subject.connector.as_ref(), *address).await;
        (*address, answer)
    });
    judge(name, &join_all(answers).await)
}

/// Finds out what answers at a peer port.
pub(super) async fn ask(connector: Option<&Connector>, address: SocketAddr) -> Answer {
    let Some(connector) = connector else {
        return match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Answer::Something,
            Ok(Err(source)) => Answer::Failed(ConnectError::Unreachable { address, source }),
            Err(_) => Answer::Failed(ConnectError::Timeout {
                address,
                after: CONNECT_MAX,
            }),
        };
    };
    // Gossip's protocol: every agent serves it, and a stream on which nothing is said changes nothing.
    match connector.connect(address, Protocol::Gossip).await {
        Ok((_stream, name)) => Answer::Agent(name.into_string()),
        Err(error) => Answer::Failed(error),
    }
}

fn unresolved(name: String, seed: &HostPort, error: &str) -> Check {
    Check::failure(
        name,
        format!("the name {} does not resolve", seed.host()),
        "correct [peer] seeds, or the name server; `getent hosts` asks as the agent does",
    )
    .seen(error)
}

fn judge(name: String, answers: &[(SocketAddr, Answer)]) -> Check {
    let agents: Vec<String> = answers
        .iter()
        .filter_map(|(address, answer)| match answer {
            Answer::Agent(id) => Some(format!("{id} at {address}")),
            Answer::Something | Answer::Failed(_) => None,
        })
        .collect();
    let stranger = answers.iter().find_map(|(_, answer)| match answer {
        Answer::Failed(error) => next_for_stranger(error),
        Answer::Agent(_) | Answer::Something => None,
    });
    let unproven = answers
        .iter()
        .any(|(_, answer)| matches!(answer, Answer::Something));
    let check = match (stranger, agents.as_slice()) {
        (Some((fact, next)), _) => Check::failure(name, fact, next),
        (None, []) if unproven => Check::unknown(
            name,
            "something listens there; without a secret it cannot be told whether it is an agent of this cluster",
        ),
        (None, []) => Check::warning(
            name,
            "no agent answers there; it is tried again and again, and any other seed leads to the cluster too",
            "start the agent there, let TCP and UDP through to its peer port, or correct [peer] seeds",
        ),
        (None, agents) => Check::ok(
            name,
            format!(
                "answers over TLS, with the same secret: {}",
                agents.join(", ")
            ),
        ),
    };
    let errors = answers.iter().filter_map(|(_, answer)| match answer {
        Answer::Failed(error) => Some(described(error)),
        Answer::Agent(_) | Answer::Something => None,
    });
    let check = errors.fold(check, |check, error| check.seen(error));
    debug_assert!(check.next.is_some() || check.verdict < Verdict::Warning);
    check
}

/// What is wrong with something that answers and is no agent of this cluster, and what to do about it.
fn next_for_stranger(error: &ConnectError) -> Option<(&'static str, &'static str)> {
    match error {
        ConnectError::OtherSecret { .. } => Some((
            "the agent there has another peer secret",
            "give both the same: compare what BASIC_AGENT_PEER_SECRET or [peer] secret_file hold on the two nodes",
        )),
        ConnectError::OtherCluster { .. } => Some((
            "the agent there belongs to another cluster",
            "set [node] cluster alike on both nodes, or take the seed out of [peer] seeds",
        )),
        ConnectError::Expired { .. } => Some((
            "a certificate is out of date, this node's or that of the agent there",
            "look at the clocks of both nodes, and renew what [peer] tls_cert names",
        )),
        ConnectError::NotAnAgent { .. } | ConnectError::NotServed { .. } => Some((
            "what answers there is no agent",
            "correct [peer] seeds: they name peer ports, not those of the API, the proxy or the app",
        )),
        _ => None,
    }
}

/// An error with its causes, in one line.
pub(super) fn described(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(answers: Vec<Answer>) -> Verdict {
        let address: SocketAddr = "10.0.0.2:9400".parse().unwrap();
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| (address, answer))
            .collect();
        judge("seed".to_owned(), &answers).verdict
    }

    #[test]
    fn one_agent_is_enough_and_a_stranger_is_always_a_failure() {
        let address = "10.0.0.2:9400".parse().unwrap();
        let agent = || Answer::Agent("n2".to_owned());
        let refused = || Answer::Failed(ConnectError::Refused { address });
        let stranger = || Answer::Failed(ConnectError::OtherSecret { address });
        assert_eq!(verdict(vec![refused(), agent()]), Verdict::Ok);
        assert_eq!(verdict(vec![refused()]), Verdict::Warning);
        assert_eq!(verdict(vec![]), Verdict::Warning);
        assert_eq!(verdict(vec![agent(), stranger()]), Verdict::Failure);
        assert_eq!(verdict(vec![Answer::Something]), Verdict::Unknown);
    }
}
