//! Streams of the peer port, for replication and for large gossip frames.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use basic_membership::{LargeFrameError, LargeFrameLink, ReceivedFrame};
use basic_sync::model::PeerId;
use basic_sync::net::{Connecting, Handle, Peer, Stream};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::peer_port::large_frames::{Driver, LargeFrames};
use crate::peer_port::{Connector, Incoming, Protocol};

/// Large gossip frames that wait for the gossip thread. More are dropped; gossip
/// repeats itself.
const LARGE_FRAMES_WAITING: usize = 64;

/// Opens replication connections over the peer port.
pub struct ReplicationConnector {
    connector: Connector,
}

impl ReplicationConnector {
    /// Over this connector.
    pub fn new(connector: Connector) -> Self {
        Self { connector }
    }
}

impl basic_sync::net::Connector for ReplicationConnector {
    fn connect<'c>(&'c self, peer: &'c Peer) -> Connecting<'c> {
        Box::pin(async move {
            let connected = self.connector.connect(peer.address, Protocol::Sync).await;
            let (stream, name) = connected.map_err(io::Error::other)?;
            if name.as_str() != peer.id.as_str() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!(
                        "the agent at {} is \"{name}\", not \"{}\"",
                        peer.address, peer.id
                    ),
                ));
            }
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Hands replication connections that peers open to the replica.
pub async fn serve_replication(mut incoming: mpsc::Receiver<Incoming>, replica: Handle) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = incoming.recv() => {
                let Some(Incoming { stream, peer, .. }) = accepted else { return };
                let replica = replica.clone();
                connections.spawn(async move {
                    replica.serve(Box::new(stream), PeerId::new(peer.as_str())).await;
                });
            }
            // A connection that has ended leaves nothing behind.
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Outgoing(LargeFrames);

impl basic_membership::LargeFrames for Outgoing {
    fn send(&self, to: SocketAddr, frame: Bytes) -> Result<(), LargeFrameError> {
        self.0.send(to, frame)
    }
}

/// The way for gossip frames that are too large for a datagram: what membership
/// needs of it, and the task that keeps it going.
pub fn large_frames(
    connector: Connector,
    advertised: SocketAddr,
    incoming: mpsc::Receiver<Incoming>,
) -> (LargeFrameLink, impl Future<Output = ()> + Send + 'static) {
    let (outgoing, driver) = LargeFrames::new(connector, advertised);
    let (forward, received) = mpsc::channel(LARGE_FRAMES_WAITING);
    let link = LargeFrameLink {
        outgoing: Arc::new(Outgoing(outgoing)),
        incoming: received,
    };
    (link, run_large_frames(driver, incoming, forward))
}

async fn run_large_frames(
    driver: Driver,
    incoming: mpsc::Receiver<Incoming>,
    forward: mpsc::Sender<ReceivedFrame>,
) {
    let (received, mut frames) = mpsc::channel(LARGE_FRAMES_WAITING);
    let forwarding = async {
        while let Some((from, frame)) = frames.recv().await {
            // A full queue drops it: gossip repeats itself.
            let _ = forward.try_send(ReceivedFrame { from, frame });
        }
    };
    tokio::join!(driver.run(incoming, received), forwarding);
}
