//! The connecting side: from an address to an authenticated stream.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::credentials::Credentials;
use super::handshake::Refusal;
use super::name::PeerName;
use super::notices::Notices;
use super::protocol::Protocol;
use super::stream::{self, PeerStream};

/// Opens streams to other agents. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    credentials: Credentials,
    timeout: Duration,
    notices: Notices,
}

impl Connector {
    /// Time in which a peer must have answered, where nothing else is known:
    /// as long as a listener gives a handshake.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

    /// A connector that gives each attempt, TCP and TLS together, `timeout`.
    /// Each attempt uses the credentials in force at its time.
    pub fn new(credentials: &Credentials, timeout: Duration) -> Connector {
        Connector {
            shared: Arc::new(Shared {
                credentials: credentials.clone(),
                timeout,
                notices: Notices::default(),
            }),
        }
    }

    /// Connects to the agent at `address` and says who it turned out to be.
    ///
    /// The peer has accepted us when this returns, as far as it shares our
    /// secret; it may still close the stream at once when it is full, which
    /// the first read shows.
    ///
    /// # Errors
    /// See [`ConnectError`]. A wrong secret or cluster is also logged here, at a
    /// bounded rate, since only a person can change it.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<(PeerStream, PeerName), ConnectError> {
        let limit = self.shared.timeout;
        let result = match timeout(limit, self.shared.attempt(address, protocol)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout {
                address,
                after: limit,
            }),
        };
        if let Err(error) = &result {
            self.shared.notice(address, error);
        }
        result
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Why there is no stream to a peer. Trying again may help after all but
/// [`OtherSecret`](ConnectError::OtherSecret), [`OtherCluster`](ConnectError::OtherCluster)
/// and [`NotAnAgent`](ConnectError::NotAnAgent), which a person has to change.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("nothing listens on {address}: is the agent there running?")]
    Refused {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// No way to that host, or any other answer of the kernel.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where it was tried.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No connection with a finished handshake in time.
    #[error("no answer from {address} within {} ms", after.as_millis())]
    Timeout {
        /// Where it was tried.
        address: SocketAddr,
        /// How long.
        after: Duration,
    },
    /// The two secrets differ.
    #[error(
        "the agent at {address} does not share our peer secret: give both agents the same \
         BASIC_AGENT_PEER_SECRET or [peer] secret_file. Where the key was rotated, a fresh token \
         (`basic-agent token` on a node of the cluster, `basic-agent join` here) brings the new one"
    )]
    OtherSecret {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// A certificate that was given as a file is out of date, on one of the sides.
    #[error(
        "a certificate has expired or is not valid yet, ours or that of the agent at {address}: \
         look at the clocks of both, and renew what [peer] tls_cert names"
    )]
    Expired {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// The secret is the same, the cluster is not.
    #[error(
        "the agent at {address} belongs to cluster {theirs:?}, we to {ours:?}: check \
         [node] cluster and [peer] seeds"
    )]
    OtherCluster {
        /// Where it was tried.
        address: SocketAddr,
        /// The cluster in its certificate.
        theirs: String,
        /// The cluster in ours.
        ours: String,
    },
    /// It is an agent, and does not serve the protocol (any more, or yet).
    #[error("the agent at {address} does not serve {protocol}: is it of another version?")]
    NotServed {
        /// Where it was tried.
        address: SocketAddr,
        /// What was asked for.
        protocol: Protocol,
    },
    /// Something else answers there.
    #[error("what answers at {address} is not an agent: is it another service's port?")]
    NotAnAgent {
        /// Where it was tried.
        address: SocketAddr,
        /// What was wrong with its answer.
        source: Refusal,
    },
    /// It hung up during the handshake.
    #[error("{address} hung up during the handshake: is that agent stopping?")]
    Closed {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// Any other fault of the handshake.
    #[error("the handshake with {address} failed")]
    Handshake {
        /// Where it was tried.
        address: SocketAddr,
        /// What went wrong.
        source: Refusal,
    },
}

impl Shared {
    async fn attempt(
        &self,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<(PeerStream, PeerName), ConnectError> {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|source| match source.kind() {
                io::ErrorKind::ConnectionRefused => ConnectError::Refused { address },
                _ => ConnectError::Unreachable { address, source },
            })?;
        self.greet(tcp, protocol)
            .await
            .map_err(|refusal| self.explain(refusal, address, protocol))
    }

    async fn greet(
        &self,
        tcp: TcpStream,
        protocol: Protocol,
    ) -> Result<(PeerStream, PeerName), Refusal> {
        stream::configure(&tcp).map_err(Refusal::of)?;
        let current = self.credentials.current();
        let connector = TlsConnector::from(current.client_config(protocol));
        let tls = connector
            .connect(current.server_name(), tcp)
            .await
            .map_err(Refusal::of)?;
        let session = tls.get_ref().1;
        let peer = self.credentials.peer_name(session.peer_certificates())?;
        if session.alpn_protocol() != Some(protocol.alpn().as_bytes()) {
            return Err(Refusal::NoCommonProtocol);
        }
        Ok((PeerStream::new(tls, current.generation(), None), peer))
    }

    fn explain(&self, refusal: Refusal, address: SocketAddr, protocol: Protocol) -> ConnectError {
        match refusal {
            Refusal::OtherSecret => ConnectError::OtherSecret { address },
            Refusal::Expired => ConnectError::Expired { address },
            Refusal::OtherCluster { cluster } => ConnectError::OtherCluster {
                address,
                theirs: cluster,
                ours: self.credentials.identity().cluster.clone(),
            },
            Refusal::NoCommonProtocol => ConnectError::NotServed { address, protocol },
            Refusal::Closed => ConnectError::Closed { address },
            source @ (Refusal::NotTls(_) | Refusal::NoName) => {
                ConnectError::NotAnAgent { address, source }
            }
            source => ConnectError::Handshake { address, source },
        }
    }

    fn notice(&self, address: SocketAddr, error: &ConnectError) {
        let permanent = matches!(
            error,
            ConnectError::OtherSecret { .. }
                | ConnectError::Expired { .. }
                | ConnectError::OtherCluster { .. }
                | ConnectError::NotAnAgent { .. }
        );
        if !permanent {
            return;
        }
        if let Some(suppressed) = self.notices.admit(address.ip(), Instant::now()) {
            tracing::warn!(%address, suppressed, reason = %error, "cannot join with a peer");
        }
    }
}
