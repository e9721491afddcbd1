//! The address that other agents are told: whether it leads here.
//!
//! If the agent runs, whoever answers there over TLS says its name, which must be this
//! node's. If it does not, the peer port is bound for a moment and a connection to the
//! advertised address must arrive at it. An address that is not this host's own (mapped by
//! a router or a container) cannot always be reached from inside; then the running agent
//! knows whether others have reached it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::report::Check;
use super::running::Running;
use super::seeds::{self, Answer};
use super::{CONNECT_MAX, Subject};
use crate::peer_port::ConnectError;

const NAME: &str = "advertised address";
/// The others begin an exchange with every member within a second or two.
const INBOUND_MAX: Duration = Duration::from_secs(10);
const NEXT: &str =
    "set [peer] advertise to the address and port at which other nodes reach this one's peer port";

/// Whether the advertised address leads to this agent.
pub(super) async fn examine(subject: &Subject) -> Vec<Check> {
    let listen = subject.config.peer.listen;
    let address = subject.config.peer.advertised(listen);
    if address.port() == 0 {
        let fact = "known once the agent runs: its port is picked at the start";
        return vec![Check::unknown(NAME, fact)];
    }
    let local = is_local(address);
    let check = match subject.own_agent() {
        Some(running) => {
            let answer = seeds::ask(subject.connector.as_ref(), address).await;
            judge_running(address, local, &answer, running)
        }
        None => match TcpListener::bind(listen).await {
            Ok(listener) => judge_stopped(address, local, arrives(&listener, address).await),
            Err(error) => Check::unknown(
                NAME,
                format!("{address} cannot be tried: the peer port cannot be bound ({error})"),
            ),
        },
    };
    let whose = if local {
        "an address of this host"
    } else {
        "not an address of this host, so something must map it"
    };
    vec![check.seen(format!("{} is {whose}", address.ip()))]
}

/// Whether the address belongs to an interface of this host: then, and only then, it can be bound.
fn is_local(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// Where a connection to the advertised address ended.
#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    /// At the peer port.
    Here,
    /// It was accepted by something else.
    Elsewhere,
    /// Nowhere.
    Nowhere(String),
}

async fn arrives(listener: &TcpListener, address: SocketAddr) -> Arrival {
    let connected = match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Arrival::Nowhere(error.to_string()),
        Err(_) => return Arrival::Nowhere("no answer".to_owned()),
    };
    let Ok(from) = connected.local_addr() else {
        return Arrival::Nowhere("the connection was lost".to_owned());
    };
    let expected = async {
        loop {
            match listener.accept().await {
                // A mapping may change the address, and hardly ever the port.
                Ok((_, source)) if source == from || source.port() == from.port() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    match timeout(Duration::from_secs(1), expected).await {
        Ok(true) => Arrival::Here,
        Ok(false) | Err(_) => Arrival::Elsewhere,
    }
}

fn judge_stopped(address: SocketAddr, local: bool, arrival: Arrival) -> Check {
    match arrival {
        Arrival::Here => Check::ok(NAME, format!("{address} leads to this node")),
        Arrival::Elsewhere => Check::failure(
            NAME,
            format!("{address} leads to something else than this node's peer port"),
            NEXT,
        ),
        Arrival::Nowhere(error) if local => Check::failure(
            NAME,
            format!("{address} does not lead to this node's peer port"),
            NEXT,
        )
        .seen(error),
        Arrival::Nowhere(error) => Check::warning(
            NAME,
            format!("{address} cannot be reached from this host itself"),
            "try it from another node, or look again once the agent runs: then it is known whether others reach it",
        )
        .seen(error),
    }
}

fn judge_running(address: SocketAddr, local: bool, answer: &Answer, running: &Running) -> Check {
    let inbound = running.gossip.last_inbound_ms.map(Duration::from_millis);
    let reached = inbound.is_some_and(|age| age < INBOUND_MAX);
    match answer {
        Answer::Agent(name) if *name == running.id => {
            let fact = format!("{address} leads to this agent");
            match inbound {
                Some(age) if reached => {
                    let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
                    Check::ok(NAME, format!("{fact}, and others reach it"))
                        .seen(format!("another node began an exchange {age} ago"))
                }
                _ if running.others_live() == 0 => Check::ok(NAME, fact),
                _ => Check::warning(
                    NAME,
                    format!("{fact} from this host, and no other node has reached it lately"),
                    "let UDP and TCP through to the peer port from the other nodes",
                ),
            }
        }
        Answer::Agent(name) => Check::failure(
            NAME,
            format!(
                "{address} is the address of agent {name}, not of this one, {}",
                running.id
            ),
            NEXT,
        ),
        Answer::Something => Check::unknown(NAME, format!("something listens on {address}")),
        Answer::Failed(_) if reached => Check::ok(
            NAME,
            format!("{address} cannot be reached from this host itself, but others reach it"),
        ),
        Answer::Failed(error) => {
            let check = match error {
                ConnectError::OtherSecret { .. }
                | ConnectError::OtherCluster { .. }
                | ConnectError::NotAnAgent { .. } => Check::failure(
                    NAME,
                    format!("what answers at {address} is not this agent"),
                    NEXT,
                ),
                _ if local || running.others_live() > 0 => {
                    Check::failure(NAME, format!("{address} does not lead to this agent"), NEXT)
                }
                _ => Check::warning(
                    NAME,
                    format!("{address} cannot be reached from this host itself"),
                    "try it from another node; without other members this agent cannot tell",
                ),
            };
            check.seen(seeds::described(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::super::running::{Gossip, Member};
    use super::*;

    fn address() -> SocketAddr {
        "10.0.0.1:9400".parse().unwrap()
    }

    fn running(inbound_ms: Option<u64>, others: bool) -> Running {
        let member = Member {
            id: "n2".to_owned(),
            live: Some(true),
            clock_offset_ms: None,
        };
        Running {
            id: "n1".to_owned(),
            gossip: Gossip {
                last_inbound_ms: inbound_ms,
            },
            members: others.then_some(member).into_iter().collect(),
            ..Running::default()
        }
    }

    #[test]
    fn the_address_of_another_agent_is_a_failure_that_names_it() {
        let other = Answer::Agent("n2".to_owned());
        let check = judge_running(address(), true, &other, &running(Some(100), true));
        assert_eq!(check.verdict, Verdict::Failure);
        assert!(check.fact.contains("agent n2"), "{check:?}");
    }

    #[test]
    fn what_others_have_reached_is_fine_though_this_host_cannot() {
        let refused = || Answer::Failed(ConnectError::Refused { address: address() });
        let judge = |inbound, others| {
            judge_running(address(), false, &refused(), &running(inbound, others)).verdict
        };
        assert_eq!(judge(Some(900), true), Verdict::Ok);
        assert_eq!(judge(Some(60_000), true), Verdict::Failure);
        assert_eq!(judge(None, true), Verdict::Failure);
        assert_eq!(judge(None, false), Verdict::Warning);
    }

    #[test]
    fn an_agent_that_nobody_else_reaches_is_worth_a_look() {
        let own = || Answer::Agent("n1".to_owned());
        let judge = |inbound, others| {
            judge_running(address(), true, &own(), &running(inbound, others)).verdict
        };
        assert_eq!(judge(Some(900), true), Verdict::Ok);
        assert_eq!(judge(None, false), Verdict::Ok, "there is nobody else");
        assert_eq!(judge(None, true), Verdict::Warning);
    }

    #[tokio::test]
    async fn a_connection_is_followed_to_where_it_arrives() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = here.local_addr().unwrap();
        assert_eq!(arrives(&here, own).await, Arrival::Here);
        let other = elsewhere.local_addr().unwrap();
        assert_eq!(arrives(&here, other).await, Arrival::Elsewhere);
        drop(elsewhere);
        assert!(matches!(arrives(&here, other).await, Arrival::Nowhere(_)));
    }

    #[test]
    fn an_address_is_local_if_it_can_be_bound() {
        assert!(is_local("127.0.0.1:9400".parse().unwrap()));
        // Set aside for documentation (RFC 5737).
        assert!(!is_local("192.0.2.1:9400".parse().unwrap()));
    }
}
