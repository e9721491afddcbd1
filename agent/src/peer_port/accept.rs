//! The listening side: from a TCP connection to an authenticated stream in the
//! queue of its protocol.
//!
//! Three bounds hold at any load. Handshakes under way: at the bound no
//! connection is accepted, and the kernel's backlog holds the rest. Connections
//! in use: only authenticated ones count, so that a stranger can never take a
//! peer's place; at the bound a new one is closed. Connections waiting in a
//! protocol's queue: likewise. A peer that is turned away tries again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::bind::Listener;
use super::credentials::Credentials;
use super::handshake::Refusal;
use super::name::PeerName;
use super::notices::Notices;
use super::protocol::Protocol;
use super::statistics::Statistics;
use super::stream::{self, PeerStream};

/// Pause after `accept` failed, as it does while the process is out of file
/// descriptors; trying again at once would only burn a core.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A connection from a peer that has proved who it is.
#[derive(Debug)]
pub struct Incoming {
    /// The bytes to and from it.
    pub stream: PeerStream,
    /// The node id in its certificate.
    pub peer: PeerName,
    /// Where the connection comes from; its port means nothing.
    pub address: SocketAddr,
}

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Handshakes under way at once. Default 64.
    pub handshakes_max: usize,
    /// Time for one handshake. Default 5 s.
    pub handshake_timeout: Duration,
    /// Authenticated connections open at once, over all protocols. Default 1,024.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(5),
            connections_max: 1024,
        }
    }
}

/// Who serves which protocol. A protocol without a route is not offered: the
/// peer is told so in the handshake.
#[derive(Debug, Default)]
pub struct Routes {
    queues: Vec<(Protocol, mpsc::Sender<Incoming>)>,
}

impl Routes {
    /// No protocol is served.
    pub fn new() -> Routes {
        Routes::default()
    }

    /// Serves `protocol` through the returned queue, in which at most `waiting_max`
    /// connections wait; further ones are closed. A second route for the same
    /// protocol takes the place of the first.
    pub fn serve(&mut self, protocol: Protocol, waiting_max: usize) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(waiting_max);
        self.queues.retain(|(served, _)| *served != protocol);
        self.queues.push((protocol, sender));
        receiver
    }

    fn protocols(&self) -> Vec<Protocol> {
        let served = |protocol: &Protocol| self.queue(*protocol).is_some();
        Protocol::ALL.into_iter().filter(served).collect()
    }

    fn queue(&self, protocol: Protocol) -> Option<&mpsc::Sender<Incoming>> {
        self.queues
            .iter()
            .find(|(served, _)| *served == protocol)
            .map(|(_, queue)| queue)
    }
}

impl Listener {
    /// Accepts connections until `shutdown` completes. Then nothing more is
    /// accepted and handshakes under way are dropped; connections that were
    /// handed on belong to who serves them and stay open. Each handshake uses
    /// the credentials in force when it begins.
    ///
    /// # Errors
    /// Before the first connection, if the listener cannot be given to the runtime.
    pub async fn serve(
        self,
        credentials: &Credentials,
        routes: Routes,
        limits: Limits,
        statistics: Arc<Statistics>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let listener = TcpListener::from_std(self.listener).map_err(ServeError::Runtime)?;
        let reception = Arc::new(Reception {
            credentials: credentials.clone(),
            protocols: routes.protocols(),
            routes,
            limits,
            places: Arc::new(Semaphore::new(limits.connections_max)),
            statistics,
            notices: Notices::default(),
        });
        let mut handshakes = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept(), if handshakes.len() < limits.handshakes_max => {
                    match accepted {
                        Ok((tcp, address)) => {
                            handshakes.spawn(reception.clone().receive(tcp, address));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept connections to the peer port");
                            sleep(ACCEPT_RETRY_DELAY).await;
                        }
                    }
                }
            }
        }
    }
}

/// Why a listener could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The runtime did not take the listening socket.
    #[error("cannot wait for connections on the peer port")]
    Runtime(#[source] io::Error),
}

/// What every handshake needs.
struct Reception {
    credentials: Credentials,
    protocols: Vec<Protocol>,
    routes: Routes,
    limits: Limits,
    places: Arc<Semaphore>,
    statistics: Arc<Statistics>,
    notices: Notices,
}

impl Reception {
    async fn receive(self: Arc<Self>, tcp: TcpStream, address: SocketAddr) {
        self.statistics.record_accepted();
        let limit = self.limits.handshake_timeout;
        let result = match timeout(limit, self.admit(tcp, address)).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::Timeout(limit)),
        };
        match result {
            Ok(()) => self.statistics.record_admitted(),
            Err(refusal) => self.refuse(address, &refusal),
        }
    }

    async fn admit(&self, tcp: TcpStream, address: SocketAddr) -> Result<(), Refusal> {
        stream::configure(&tcp).map_err(Refusal::of)?;
        let current = self.credentials.current();
        let config = current.server_config(&self.protocols);
        let accepted = TlsAcceptor::from(config).accept(tcp).await;
        let tls = accepted.map_err(Refusal::of)?;
        let session = tls.get_ref().1;
        let peer = self.credentials.peer_name(session.peer_certificates())?;
        let protocol = session.alpn_protocol().and_then(Protocol::from_alpn);
        let protocol = protocol.ok_or(Refusal::NoCommonProtocol)?;
        let queue = self
            .routes
            .queue(protocol)
            .ok_or(Refusal::NoCommonProtocol)?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Refusal::Full(self.limits.connections_max))?;
        let stream = PeerStream::new(tls, current.generation(), Some(place));
        queue
            .try_send(Incoming {
                stream,
                peer,
                address,
            })
            .map_err(|error| match error {
                TrySendError::Full(_) => Refusal::Busy(protocol),
                TrySendError::Closed(_) => Refusal::Stopped(protocol),
            })
    }

    fn refuse(&self, address: SocketAddr, refusal: &Refusal) {
        self.statistics.record_refused(refusal);
        if let Some(suppressed) = self.notices.admit(address.ip(), Instant::now()) {
            let cause = std::error::Error::source(refusal).map(ToString::to_string);
            tracing::warn!(
                %address,
                reason = %refusal,
                cause,
                suppressed,
                "refused a connection to the peer port"
            );
        }
    }
}
