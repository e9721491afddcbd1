//! chitchat's view of the endpoint.
//!
//! chitchat asks for a transport, opens a socket on it, and sends and receives
//! messages. A request (SYN) is meant for whoever listens at the address. An
//! answer (SYN-ACK, ACK), which alone carries state, names the node that asked,
//! so that a recorded answer is worthless at any other node, and is sealed with a
//! key that this node has. To chitchat a sender is the address that it advertises
//! under the seal, whichever way its message came. Neither direction ever fails:
//! see [`Endpoint`].

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use tracing::debug;

use super::endpoint::{Destination, Endpoint};
use super::screening::Sender;
use super::sealed::FrameKind;

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
    asker: Option<Sender>,
}

/// A datagram cannot be longer.
const DATAGRAM_BUFFER_LEN: usize = 65_536;

#[async_trait]
impl Socket for GossipSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let destination = match (&message, &self.asker) {
            (ChitchatMessage::Syn { .. }, _) => self.endpoint.anyone_at(to),
            (_, Some(asker)) if asker.address == to => Destination::answer_to(asker),
            (_, _) => {
                debug!(%to, "an answer to nobody was dropped");
                return Ok(());
            }
        };
        let body = message.serialize_to_vec();
        self.endpoint
            .send(&destination, FrameKind::Gossip, &body)
            .await;
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        let accepted = self.endpoint.receive(&mut self.buffer).await;
        let from = accepted.sender.address;
        self.asker = Some(accepted.sender);
        Ok((from, accepted.message))
    }
}
