//! Where a server without an agent may be.
//!
//! Every proxy sends its clients' requests there, so an address is refused that no server has (unspecified,
//! multicast, broadcast), that is of the machine's own link, where a cloud hands out the machine's credentials
//! ([`CLOUD_METADATA`]), or that is another machine for every agent (loopback, unless all agents are on it). A port of
//! an agent would send requests round in a circle, and the app of an agent is in the cluster already. Pure; an address is judged when it is
//! registered, and again whenever its name has been resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use basic_membership::{Member, NodeId};

/// Where clouds hand out what belongs to a machine, its credentials among it, outside the link-local addresses: Amazon
/// EC2 over IPv6, Alibaba Cloud.
pub const CLOUD_METADATA: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// Why a server cannot be at an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// It stands for every interface, or for none.
    #[error("{0} is no address of one server; give the address that agents connect to")]
    Unspecified(IpAddr),
    /// It is that of a group, or of everybody.
    #[error("{0} is an address of many; give that of one server")]
    Many(IpAddr),
    /// It is of the local link.
    #[error(
        "{0} is a link-local address, which is another one on every link; give one that is routed"
    )]
    LinkLocal(IpAddr),
    /// It is one of [`CLOUD_METADATA`].
    #[error("{0} is where a cloud hands out a machine's credentials; give the address of a server")]
    CloudMetadata(IpAddr),
    /// It is loopback, and not all agents are on that host.
    #[error(
        "{ip} is another machine for the agent of {node}, which is at {host}; give an address that every agent reaches"
    )]
    Loopback {
        /// The address.
        ip: IpAddr,
        /// An agent that is elsewhere, ...
        node: NodeId,
        /// ... and where.
        host: IpAddr,
    },
    /// An agent listens there.
    #[error("{address} is the {port} of the agent of {node}, not a server")]
    Agent {
        /// The address.
        address: SocketAddr,
        /// What the agent has there.
        port: &'static str,
        /// Its node.
        node: NodeId,
    },
    /// The app of an agent listens there.
    #[error("{address} is the app of {node}, which has an agent and is balanced to already")]
    App {
        /// The address.
        address: SocketAddr,
        /// Its node.
        node: NodeId,
    },
}

/// Whether a server may be at `target`, with these members. `proxy` is where this agent's own proxy listens; where
/// those of others do is not known here.
///
/// # Errors
/// [`AddressFault`], the one to mend first.
pub fn judge<'m>(
    target: SocketAddr,
    members: impl Iterator<Item = &'m Member> + Clone,
    proxy: SocketAddr,
) -> Result<(), AddressFault> {
    let ip = target.ip().to_canonical();
    judge_ip(ip)?;
    let mut elsewhere = members
        .clone()
        .filter(|member| !member.peer.ip().is_loopback());
    if ip.is_loopback()
        && let Some(elsewhere) = elsewhere.next()
    {
        return Err(AddressFault::Loopback {
            ip: target.ip(),
            node: elsewhere.id.clone(),
            host: elsewhere.peer.ip(),
        });
    }
    for member in members {
        let own_proxy = Some(proxy).filter(|_| member.is_self);
        let ports = [
            (Some(member.peer), "peer port"),
            (member.metadata.api, "API"),
            (own_proxy, "proxy"),
        ];
        for (listener, port) in ports {
            if listener.is_some_and(|listener| reaches(target, listener, member.peer.ip())) {
                return Err(AddressFault::Agent {
                    address: target,
                    port,
                    node: member.id.clone(),
                });
            }
        }
        let app = member.metadata.app.address.as_deref();
        if app.and_then(|app| app.parse().ok()) == Some(target) {
            return Err(AddressFault::App {
                address: target,
                node: member.id.clone(),
            });
        }
    }
    Ok(())
}

fn judge_ip(ip: IpAddr) -> Result<(), AddressFault> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() {
        Err(AddressFault::Unspecified(ip))
    } else if ip.is_multicast() || broadcast {
        Err(AddressFault::Many(ip))
    } else if link_local {
        Err(AddressFault::LinkLocal(ip))
    } else if CLOUD_METADATA.contains(&ip) {
        Err(AddressFault::CloudMetadata(ip))
    } else {
        Ok(())
    }
}

/// Whether a connection to `target` ends at `listener`, which is on `host`.
fn reaches(target: SocketAddr, listener: SocketAddr, host: IpAddr) -> bool {
    let (ip, bound) = (target.ip().to_canonical(), listener.ip());
    let same_host = ip == host || (ip.is_loopback() && host.is_loopback());
    let same_ip = ip == bound || (ip.is_loopback() && bound.is_loopback() && host.is_loopback());
    target.port() == listener.port() && (same_ip || (bound.is_unspecified() && same_host))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use basic_membership::{Directive, Incarnation, MemberState, Metadata};

    use super::*;

    const PROXY: &str = "127.0.0.1:9402";

    /// A member at `host` with the usual ports; the first is this node.
    fn member(id: &str, host: &str, is_self: bool) -> Member {
        let mut metadata = Metadata::new(1);
        metadata.api = Some(format!("{host}:9401").parse().unwrap());
        metadata.app.address = Some(format!("{host}:8080"));
        Member {
            id: id.parse().unwrap(),
            incarnation: Incarnation(1),
            state: MemberState::Active,
            since: SystemTime::UNIX_EPOCH,
            peer: format!("{host}:9400").parse().unwrap(),
            metadata: Arc::new(metadata),
            live: true,
            directive: Directive::default(),
            clock_offset: None,
            heartbeat_age: None,
            phi: None,
            is_self,
        }
    }

    fn judged(target: &str, members: &[Member]) -> Result<(), String> {
        let judged = judge(
            target.parse().unwrap(),
            members.iter(),
            PROXY.parse().unwrap(),
        );
        judged.map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_address_that_is_not_that_of_one_server_is_refused() {
        let members = [
            member("n1", "10.0.0.1", true),
            member("n2", "10.0.0.2", false),
        ];
        for (target, expected) in [
            ("0.0.0.0:80", "no address of one server"),
            ("[::]:80", "no address of one server"),
            ("[::ffff:0.0.0.0]:80", "no address of one server"),
            ("224.0.0.1:80", "address of many"),
            ("[ff02::1]:80", "address of many"),
            ("255.255.255.255:80", "address of many"),
            ("169.254.169.254:80", "link-local"),
            ("[::ffff:169.254.169.254]:80", "link-local"),
            ("[fe80::1]:80", "link-local"),
            ("[fd00:ec2::254]:80", "credentials"),
            ("100.100.100.200:80", "credentials"),
            ("[::ffff:100.100.100.200]:80", "credentials"),
            ("127.0.0.1:8080", "another machine for the agent of n1"),
            ("[::1]:8080", "another machine for the agent of n1"),
            ("10.0.0.2:9400", "the peer port of the agent of n2"),
            ("[::ffff:10.0.0.2]:9401", "the API of the agent of n2"),
            ("10.0.0.2:8080", "the app of n2"),
        ] {
            let fault = judged(target, &members).unwrap_err();
            assert!(fault.contains(expected), "{target}: {fault}");
        }
        for target in [
            "10.0.0.2:80",
            "10.0.0.9:9400",
            "[fd00::9]:80",
            "100.100.100.1:80",
        ] {
            assert_eq!(judged(target, &members), Ok(()), "{target}");
        }
    }

    #[test]
    fn where_all_agents_are_on_loopback_a_server_may_be_too() {
        let members = [
            member("n1", "127.0.0.1", true),
            member("n2", "127.0.0.2", false),
        ];
        assert_eq!(judged("127.0.0.1:8090", &members), Ok(()));
        for (target, port) in [
            ("127.0.0.1:9402", "proxy"),
            ("127.0.0.5:9402", "proxy"),
            ("[::1]:9401", "API"),
        ] {
            let fault = judged(target, &members).unwrap_err();
            assert!(
                fault.contains(&format!("{port} of the agent of n1")),
                "{target}: {fault}"
            );
        }
    }

    #[test]
    fn a_listener_on_every_interface_is_found_by_the_address_of_its_host() {
        let mut member = member("n1", "10.0.0.1", true);
        let mut metadata = Metadata::clone(&member.metadata);
        metadata.api = Some("0.0.0.0:9401".parse().unwrap());
        member.metadata = Arc::new(metadata);
        let members = [member];
        assert!(
            judged("10.0.0.1:9401", &members)
                .unwrap_err()
                .contains("API")
        );
        assert_eq!(judged("10.0.0.2:9401", &members), Ok(()));
    }
}
