//! The agent's ports: free, its own, or somebody else's.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::holder::{Half, Holder};
use super::report::Check;
use super::{Subject, blocking};

/// One port of the agent.
struct Port {
    name: &'static str,
    key: &'static str,
    address: SocketAddr,
    half: Half,
}

/// What was found when it was tried.
enum Found {
    Free,
    Taken(Option<Holder>),
    Refused(io::Error),
}

/// Tries each port for a moment.
pub(super) async fn examine(subject: &Subject) -> Vec<Check> {
    let config = &subject.config;
    let port = |name, key, address, half| Port {
        name,
        key,
        address,
        half,
    };
    let ports = [
        port(
            "peer port (UDP)",
            "[peer] listen",
            config.peer.listen,
            Half::Udp,
        ),
        port(
            "peer port (TCP)",
            "[peer] listen",
            config.peer.listen,
            Half::Tcp,
        ),
        port("API port", "[api] listen", config.api.listen, Half::Tcp),
        port(
            "proxy port",
            "[proxy] listen",
            config.proxy.listen,
            Half::Tcp,
        ),
    ];
    let tried = blocking(move || ports.map(|port| (try_port(&port), port))).await;
    let own = subject.own_agent().is_some();
    let checks = tried
        .iter()
        .map(|(found, port)| judge(found, port, own, subject.own_pid()));
    checks.collect()
}

fn try_port(port: &Port) -> Found {
    // Bound as the agent would bind it, and let go at once.
    let bound = match port.half {
        Half::Tcp => TcpListener::bind(port.address).map(drop),
        Half::Udp => UdpSocket::bind(port.address).map(drop),
    };
    match bound {
        Ok(()) => Found::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Found::Taken(Holder::of_port(port.address, port.half))
        }
        Err(error) => Found::Refused(error),
    }
}

/// `own_answers`: whether this agent answers at its API; `own_pid`: its process, if known.
fn judge(found: &Found, port: &Port, own_answers: bool, own_pid: Option<u32>) -> Check {
    let Port {
        name, key, address, ..
    } = port;
    match found {
        Found::Free if address.port() == 0 => {
            Check::ok(*name, format!("{address}: one is picked at the start"))
        }
        Found::Free => Check::ok(*name, format!("{address} is free")),
        Found::Taken(Some(holder)) if Some(holder.pid) == own_pid => {
            Check::ok(*name, format!("{address} is held by this agent, {holder}"))
        }
        Found::Taken(None) if own_answers => Check::ok(
            *name,
            format!("{address} is in use, and this agent is running"),
        ),
        Found::Taken(Some(holder)) => Check::failure(
            *name,
            format!("{address} is held by {holder}"),
            format!("stop that process, or set {key} to a free address"),
        ),
        Found::Taken(None) => Check::failure(
            *name,
            format!("{address} is in use by a process that cannot be seen from here"),
            format!(
                "as root, `ss -lnptu 'sport = :{}'` tells which; stop it, or set {key} to a free address",
                address.port()
            ),
        ),
        Found::Refused(error) => {
            let (fact, next) = match error.kind() {
                io::ErrorKind::AddrNotAvailable => (
                    format!("{address} is not an address of this host"),
                    format!("set {key} to one of its own (`ip addr` lists them)"),
                ),
                io::ErrorKind::PermissionDenied => (
                    format!("{address} may not be used by this user"),
                    format!("set {key} to a port of 1024 or above"),
                ),
                _ => (
                    format!("{address} cannot be used"),
                    format!("set {key} to another address"),
                ),
            };
            Check::failure(*name, fact, next).seen(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn port(address: SocketAddr, half: Half) -> Port {
        Port {
            name: "peer port",
            key: "[peer] listen",
            address,
            half,
        }
    }

    #[test]
    fn a_port_that_is_taken_is_somebody_elses_unless_it_is_the_agents_own() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = port(taken.local_addr().unwrap(), Half::Udp);
        let found = try_port(&port);
        let foreign = judge(&found, &port, false, None);
        assert_eq!(foreign.verdict, Verdict::Failure, "{foreign:?}");
        let pid = std::process::id();
        assert!(
            foreign.fact.contains(&format!("process {pid}")),
            "{foreign:?}"
        );
        assert!(foreign.next.unwrap().contains("[peer] listen"));
        let own = judge(&found, &port, true, Some(pid));
        assert_eq!(own.verdict, Verdict::Ok, "{own:?}");
        let other = judge(&found, &port, true, Some(pid + 1));
        assert_eq!(
            other.verdict,
            Verdict::Failure,
            "another process than the agent's"
        );
        drop(taken);
        assert_eq!(
            judge(&try_port(&port), &port, false, None).verdict,
            Verdict::Ok
        );
    }

    #[test]
    fn a_holder_that_cannot_be_seen_is_the_agent_if_it_answers() {
        let port = port("127.0.0.1:9400".parse().unwrap(), Half::Tcp);
        let unseen = Found::Taken(None);
        assert_eq!(judge(&unseen, &port, true, None).verdict, Verdict::Ok);
        let foreign = judge(&unseen, &port, false, None);
        assert_eq!(foreign.verdict, Verdict::Failure);
        assert!(foreign.next.unwrap().contains("sport = :9400"));
    }

    #[test]
    fn an_address_of_another_host_is_told() {
        // Set aside for documentation (RFC 5737).
        let port = port("192.0.2.1:9400".parse().unwrap(), Half::Tcp);
        let check = judge(&try_port(&port), &port, false, None);
        assert_eq!(check.verdict, Verdict::Failure);
        assert!(
            check.fact.contains("not an address of this host"),
            "{check:?}"
        );
    }
}
