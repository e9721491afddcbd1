//! chitchat's view of the endpoint.
//!
//! chitchat asks for a transport, opens a socket on it, and sends and receives
//! messages. A request (SYN) is meant for whoever listens at the address. An
//! answer (SYN-ACK, ACK), which alone carries state, names the node that asked,
//! so that a recorded answer is worthless at any other node. Neither direction
//! ever fails: see [`Endpoint`].

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use tracing::debug;

use super::endpoint::Endpoint;
use super::sealed::FrameKind;
use crate::name::NodeId;

/// Gives chitchat one socket after another, all of them the same endpoint.
pub(crate) struct GossipTransport(pub(crate) Arc<Endpoint>);

#[async_trait]
impl Transport for GossipTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(GossipSocket {
            endpoint: Arc::clone(&self.0),
            buffer: vec![0; DATAGRAM_BUFFER_LEN],
            asker: None,
        }))
    }
}

struct GossipSocket {
    endpoint: Arc<Endpoint>,
    buffer: Vec<u8>,
    /// Who sent the message that chitchat is working on. It answers one message
    /// before it takes the next.
    asker: Option<(SocketAddr, NodeId)>,
}

/// A datagram cannot be longer.
const DATAGRAM_BUFFER_LEN: usize = 65_536;

#[async_trait]
impl Socket for GossipSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let recipient = match (&message, &self.asker) {
            (ChitchatMessage::Syn { .. }, _) => None,
            (_, Some((address, asker))) if *address == to => Some(asker.clone()),
            (_, _) => {
                debug!(%to, "an answer to nobody was dropped");
                return Ok(());
            }
        };
        let body = message.serialize_to_vec();
        self.endpoint
            .send(to, FrameKind::Gossip, recipient, &body)
            .await;
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        let accepted = self.endpoint.receive(&mut self.buffer).await;
        self.asker = Some((accepted.from, accepted.sender));
        Ok((accepted.from, accepted.message))
    }
}
