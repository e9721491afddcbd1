//! The way for frames that are too large for one datagram.
//!
//! A datagram above some 1,200 bytes is cut into fragments on the way, and one
//! lost fragment loses all; so larger frames go over a reliable connection. This
//! crate knows no connections: the agent lends one by implementing
//! [`LargeFrames`] over its peer port, and hands in what arrives there. Frames
//! are sealed like datagrams, so the connection is trusted with nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

/// Longest frame there is, sealed, in bytes. A receiver may refuse longer ones
/// before it reads them.
pub const FRAME_LEN_MAX: usize = 66 * 1024;

/// Sends frames over a connection to another agent's peer port.
pub trait LargeFrames: Send + Sync + 'static {
    /// Queues `frame` for the agent at `to` and returns at once; it is called on
    /// the gossip thread. A frame that is queued may still be lost: gossip
    /// repeats itself.
    ///
    /// # Errors
    /// [`LargeFrameError`] where the frame is dropped here.
    fn send(&self, to: SocketAddr, frame: Bytes) -> Result<(), LargeFrameError>;
}

/// Why a large frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LargeFrameError {
    /// It is empty or longer than [`FRAME_LEN_MAX`].
    #[error("no frame has that length")]
    Length,
    /// There are connections to too many agents already.
    #[error("large frames go to too many agents already")]
    TooManyPeers,
    /// Too many frames wait for that agent.
    #[error("the queue of large frames to that agent is full")]
    QueueFull,
    /// The peer port has stopped.
    #[error("the peer port has stopped")]
    Stopped,
}

/// A large frame that arrived.
#[derive(Debug, Clone)]
pub struct ReceivedFrame {
    /// Where it came from, as far as the connection tells; for people only. An
    /// answer goes to the address that the frame itself names under its seal.
    pub from: SocketAddr,
    /// The frame, at most [`FRAME_LEN_MAX`] bytes.
    pub frame: Bytes,
}

/// Both directions of the connection path.
pub struct LargeFrameLink {
    /// The way out.
    pub outgoing: Arc<dyn LargeFrames>,
    /// The way in. The channel's capacity is its bound; the agent drops what
    /// does not fit.
    pub incoming: mpsc::Receiver<ReceivedFrame>,
}

impl fmt::Debug for LargeFrameLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeFrameLink").finish_non_exhaustive()
    }
}
