//! Values that are fine alone and wrong together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::address::HostPort;
use super::origin::{Origin, Origins};
use super::problem::Problem;
use super::schema::{
    API_LISTEN, APP_ADVERTISE, APP_URL, KeyId, PEER_ADVERTISE, PEER_LISTEN, PEER_SEEDS,
    PEER_TLS_CA, PEER_TLS_CERT, PEER_TLS_KEY, PROXY_LISTEN, REPLICATION_ABSENT_MAX,
    REPLICATION_TOMBSTONE_AGE,
};
use super::settings::Config;

/// A value that another one does not go with, or that would be unsafe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Two listeners on one address.
    #[error("{address} is also the address of {other}; give each a port of its own")]
    SameAddress {
        /// The address.
        address: SocketAddr,
        /// The other key.
        other: String,
    },
    /// The app is the agent itself, which would ask itself for ever.
    #[error("{url} is this agent's own {own}; name the server beside it")]
    OwnAddress {
        /// The URL of the app.
        url: String,
        /// The key of the listener.
        own: String,
    },
    /// A listener on every interface, and nothing that others could be told.
    #[error(
        "{listen} stands for every interface, which other agents cannot be told; set [peer] advertise to the address at which they reach this node"
    )]
    AdvertiseRequired {
        /// The address listened on.
        listen: SocketAddr,
    },
    /// An address that nobody can connect to.
    #[error(
        "{advertise} cannot be connected to; give the address and port at which other agents reach this node"
    )]
    AdvertiseUnusable {
        /// The address.
        advertise: SocketAddr,
    },
    /// Seeds elsewhere, and a socket that reaches this host only.
    #[error(
        "{seed} cannot be reached from {listen}, which is this host alone; set [peer] listen to an address of this node that other hosts reach"
    )]
    SeedBeyondLoopback {
        /// The seed.
        seed: String,
        /// The address listened on.
        listen: SocketAddr,
    },
    /// A peer port that other hosts reach, and no secret that all agents share.
    #[error(
        "{address} can be reached from other hosts, and no shared secret protects it; put the same string of 32 characters or more on every node into BASIC_AGENT_PEER_SECRET or into a file named by [peer] secret_file, or pass --insecure where nobody else is on the network"
    )]
    SecretRequired {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate that is of no use without the other files.
    #[error(
        "a certificate of your own needs [peer] tls_cert, tls_key and tls_ca together; {missing} is not set"
    )]
    CertificateIncomplete {
        /// The keys that are missing.
        missing: String,
    },
    /// An API that other hosts reach.
    #[error(
        "{listen} can be reached from other hosts, and the API asks nobody who they are; listen on 127.0.0.1, or pass --insecure where nobody else is on the network"
    )]
    ApiExposed {
        /// The address listened on.
        listen: SocketAddr,
    },
    /// Other hosts would be told an address that is their own.
    #[error(
        "other nodes would be told {app}, which is themselves; set [app] advertise to the host:port at which they reach this node's server"
    )]
    AppUnreachable {
        /// The address of the app.
        app: HostPort,
    },
    /// A node would be given up before the deletions that it has missed are forgotten.
    #[error(
        "{} is not more than [replication] tombstone_age, {}; a node that was away must have at least as long as deletions are remembered",
        humantime::format_duration(*.absent_max), humantime::format_duration(*.tombstone_age)
    )]
    AbsentTooShort {
        /// How long a node may be away.
        absent_max: Duration,
        /// How long deletions are remembered.
        tombstone_age: Duration,
    },
}

/// All conflicts, each with the origin of the key to change. Keys in `faulty` were refused already and are not
/// compared with others.
pub(super) fn conflicts(
    config: &Config,
    origins: &Origins,
    faulty: &[KeyId],
    secret_is_given: bool,
) -> Vec<Problem> {
    let rules = [
        same_addresses(config),
        own_address(config),
        advertise(config),
        seeds(config),
        secret(config, secret_is_given),
        certificate(config),
        api(config),
        app(config),
        absence(config),
    ];
    let found = rules.into_iter().flatten();
    found
        .filter(|found| !found.compared.iter().any(|key| faulty.contains(key)))
        .map(|found| Problem {
            origin: origins
                .of_key(found.key)
                .cloned()
                .unwrap_or(Origin::Default),
            subject: Some(found.key.to_string()),
            fault: found.conflict.into(),
        })
        .collect()
}

struct Found {
    key: KeyId,
    /// The keys whose values make the conflict.
    compared: Vec<KeyId>,
    conflict: Conflict,
}

fn listeners(config: &Config) -> [(KeyId, SocketAddr); 3] {
    [
        (PEER_LISTEN.id(), config.peer.listen),
        (API_LISTEN.id(), config.api.listen),
        (PROXY_LISTEN.id(), config.proxy.listen),
    ]
}

fn absence(config: &Config) -> Vec<Found> {
    let (absent_max, tombstone_age) = (
        config.replication.absent_max,
        config.replication.tombstone_age,
    );
    if absent_max > tombstone_age {
        return Vec::new();
    }
    vec![Found {
        key: REPLICATION_ABSENT_MAX.id(),
        compared: vec![REPLICATION_ABSENT_MAX.id(), REPLICATION_TOMBSTONE_AGE.id()],
        conflict: Conflict::AbsentTooShort {
            absent_max,
            tombstone_age,
        },
    }]
}

fn same_addresses(config: &Config) -> Vec<Found> {
    let listeners = listeners(config);
    let mut found = Vec::new();
    for (i, (key, address)) in listeners.iter().enumerate() {
        for (other, other_address) in listeners.iter().take(i) {
            let either_is_all =
                address.ip().is_unspecified() || other_address.ip().is_unspecified();
            if address.port() == other_address.port()
                && address.port() != 0
                && (address.ip() == other_address.ip() || either_is_all)
            {
                let conflict = Conflict::SameAddress {
                    address: *address,
                    other: other.to_string(),
                };
                found.push(Found {
                    key: *key,
                    compared: vec![*key, *other],
                    conflict,
                });
            }
        }
    }
    found
}

fn own_address(config: &Config) -> Vec<Found> {
    let app = config.app.url.host_port();
    let app_address = match app.socket_address() {
        None if app.is_loopback() => {
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), app.port()))
        }
        address => address,
    };
    let is_app = |listen: &SocketAddr| {
        app_address == Some(*listen)
            || listen.ip().is_unspecified() && app.is_loopback() && app.port() == listen.port()
    };
    let own = listeners(config)
        .into_iter()
        .filter(|(_, listen)| is_app(listen));
    own.map(|(key, _)| Found {
        key: APP_URL.id(),
        compared: vec![APP_URL.id(), key],
        conflict: Conflict::OwnAddress {
            url: config.app.url.to_string(),
            own: key.to_string(),
        },
    })
    .collect()
}

/// An address whose scope is a number of this host, which means nothing on another.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn advertise(config: &Config) -> Vec<Found> {
    let (listen, compared) = (
        config.peer.listen,
        vec![PEER_LISTEN.id(), PEER_ADVERTISE.id()],
    );
    let found = match config.peer.advertise {
        None if listen.ip().is_unspecified() => {
            (PEER_LISTEN.id(), Conflict::AdvertiseRequired { listen })
        }
        Some(advertise)
            if advertise.ip().is_unspecified()
                || is_link_local(advertise.ip())
                || advertise.port() == 0 =>
        {
            (
                PEER_ADVERTISE.id(),
                Conflict::AdvertiseUnusable { advertise },
            )
        }
        _ => return Vec::new(),
    };
    vec![Found {
        key: found.0,
        compared,
        conflict: found.1,
    }]
}

fn seeds(config: &Config) -> Vec<Found> {
    let listen = config.peer.listen;
    let compared = vec![PEER_LISTEN.id(), PEER_SEEDS.id()];
    // Names are not resolved here: what they stand for may change, and a check should not need the network.
    let beyond = config.peer.seeds.iter().find(|seed| {
        seed.socket_address()
            .is_some_and(|address| !address.ip().is_loopback())
    });
    match beyond {
        Some(seed) if listen.ip().is_loopback() => {
            let conflict = Conflict::SeedBeyondLoopback {
                seed: seed.to_string(),
                listen,
            };
            vec![Found {
                key: PEER_SEEDS.id(),
                compared,
                conflict,
            }]
        }
        _ => Vec::new(),
    }
}

fn secret(config: &Config, is_given: bool) -> Vec<Found> {
    if is_given || config.peer.insecure {
        return Vec::new();
    }
    let listen = (PEER_LISTEN.id(), config.peer.listen);
    let advertise = config
        .peer
        .advertise
        .map(|address| (PEER_ADVERTISE.id(), address));
    let exposed = [Some(listen), advertise]
        .into_iter()
        .flatten()
        .find(|(_, a)| !a.ip().is_loopback());
    let found = exposed.map(|(key, address)| Found {
        key,
        compared: vec![key],
        conflict: Conflict::SecretRequired { address },
    });
    found.into_iter().collect()
}

fn certificate(config: &Config) -> Vec<Found> {
    let keys = [
        (PEER_TLS_CERT.id(), config.peer.tls_cert.is_some()),
        (PEER_TLS_KEY.id(), config.peer.tls_key.is_some()),
        (PEER_TLS_CA.id(), config.peer.tls_ca.is_some()),
    ];
    let given = keys.iter().find(|(_, is_given)| *is_given);
    let missing = keys.iter().filter(|(_, is_given)| !*is_given);
    let missing: Vec<String> = missing.map(|(key, _)| key.to_string()).collect();
    match given {
        Some((key, _)) if !missing.is_empty() => vec![Found {
            key: *key,
            compared: vec![*key],
            conflict: Conflict::CertificateIncomplete {
                missing: missing.join(", "),
            },
        }],
        _ => Vec::new(),
    }
}

fn api(config: &Config) -> Vec<Found> {
    let listen = config.api.listen;
    if listen.ip().is_loopback() || config.peer.insecure {
        return Vec::new();
    }
    let key = API_LISTEN.id();
    vec![Found {
        key,
        compared: vec![key],
        conflict: Conflict::ApiExposed { listen },
    }]
}

fn app(config: &Config) -> Vec<Found> {
    let advertised = config.peer.advertised(config.peer.listen).ip();
    let app = config.app.advertised();
    let is_usable = !advertised.is_unspecified() && !is_link_local(advertised);
    if !is_usable || advertised.is_loopback() || !app.is_loopback() {
        return Vec::new();
    }
    let key = if config.app.advertise.is_some() {
        APP_ADVERTISE.id()
    } else {
        APP_URL.id()
    };
    let compared = vec![
        APP_URL.id(),
        APP_ADVERTISE.id(),
        PEER_LISTEN.id(),
        PEER_ADVERTISE.id(),
    ];
    vec![Found {
        key,
        compared,
        conflict: Conflict::AppUnreachable { app: app.clone() },
    }]
}
