//! Connections that peers open: greet, check, read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Stream;
use super::driver::Command;
use super::links::Links;
use super::verify::Desk;
use crate::codec::{
    self, DecodeError, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, LENGTH_BYTES, Lane, PROTOCOL,
};
use crate::model::PeerId;

/// How long a peer may take to greet.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A live connection on which nothing comes for so long is dead: vectors come every
/// second.
const LIVE_SILENCE_MAX: Duration = Duration::from_secs(15);
/// A bulk connection on which nothing comes for so long is dead: its owner closes it
/// earlier.
const BULK_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Memory that is taken at once for a frame: a chunk of a snapshot fits.
const READ_AHEAD_BYTES: usize = 192 * 1024;

/// How this node introduces itself.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub(super) cluster: String,
    pub(super) node: String,
}

/// A peer is not who or what it should be.
#[derive(Debug, Error)]
enum HelloRefused {
    #[error(
        "the peer speaks protocol {theirs} and this node {PROTOCOL}; bring both to the same version"
    )]
    Protocol { theirs: u16 },
    #[error(
        "the peer belongs to the cluster \"{theirs}\" and this node to \"{ours}\"; set [node] cluster alike"
    )]
    Cluster { theirs: String, ours: String },
    #[error("the peer calls itself \"{said}\" but its certificate says \"{certified}\"")]
    Node { said: String, certified: PeerId },
    #[error("the peer bears this node's own name, \"{0}\"; every node needs its own [node] id")]
    OwnName(String),
}

impl Greeting {
    /// Checks a peer's greeting against its certificate.
    pub(super) fn check(&self, hello: &Hello, certified: &PeerId) -> io::Result<()> {
        let refused = if hello.protocol != PROTOCOL {
            HelloRefused::Protocol {
                theirs: hello.protocol,
            }
        } else if hello.cluster != self.cluster {
            HelloRefused::Cluster {
                theirs: hello.cluster.clone(),
                ours: self.cluster.clone(),
            }
        } else if hello.node != certified.as_str() {
            HelloRefused::Node {
                said: hello.node.clone(),
                certified: certified.clone(),
            }
        } else if hello.node == self.node {
            HelloRefused::OwnName(hello.node.clone())
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
    }
}

/// What the readers share.
#[derive(Clone)]
pub(super) struct Incoming {
    pub(super) greeting: Greeting,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) links: Arc<Links>,
    /// Answers questions about what the store holds.
    pub(super) desk: Desk,
    /// A permit a byte that is not yet committed.
    pub(super) pending_bytes: Arc<Semaphore>,
}

impl Incoming {
    /// Serves one connection until it ends.
    pub(super) async fn serve(self, mut stream: Box<dyn Stream>, peer: PeerId) {
        match self.read_all(&mut stream, &peer).await {
            Ok(()) => debug!(%peer, "a replication connection ended"),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                warn!(%peer, %error, "a replication connection was refused");
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                warn!(%peer, %error, "a replication connection was closed: the peer sent what cannot be understood");
            }
            Err(error) => debug!(%peer, %error, "a replication connection failed"),
        }
    }

    async fn read_all(&self, stream: &mut Box<dyn Stream>, peer: &PeerId) -> io::Result<()> {
        let theirs = read_hello(stream).await?;
        let Greeting { cluster, node } = self.greeting.clone();
        let hello = Hello {
            protocol: PROTOCOL,
            cluster,
            node,
            lane: theirs.lane,
        };
        // The answer goes out before the check, so that both sides know what is wrong.
        stream.write_all(&codec::encode_hello(&hello)).await?;
        stream.flush().await?;
        self.greeting.check(&theirs, peer)?;

        let silence_max = match theirs.lane {
            Lane::Live => {
                self.links.is_back(peer);
                LIVE_SILENCE_MAX
            }
            Lane::Bulk => BULK_SILENCE_MAX,
            Lane::Verify => return self.desk.serve(stream).await,
        };
        loop {
            let first = timeout(silence_max, read_length(stream, FRAME_BYTES_MAX)).await;
            let Some(length) = first.map_err(|_| silent())?? else {
                return Ok(());
            };
            let permits = u32::try_from(length).unwrap_or(u32::MAX);
            let Ok(permit) = self.pending_bytes.clone().acquire_many_owned(permits).await else {
                return Ok(());
            };
            let frame = timeout(silence_max, read_body(stream, length))
                .await
                .map_err(|_| silent())??;
            let message = codec::decode_message_of(&frame.into()).map_err(invalid)?;
            let command = Command::Message {
                peer: peer.clone(),
                message,
                permit,
            };
            if self.commands.send(command).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Reads a peer's greeting.
pub(super) async fn read_hello(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let read = async {
        let length = read_length(stream, HELLO_BYTES_MAX).await?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer hung up before it greeted",
            )
        })?;
        let frame = read_body(stream, length).await?;
        codec::decode_hello(&frame).map_err(invalid)
    };
    timeout(HELLO_TIMEOUT, read).await.map_err(|_| silent())?
}

/// Reads the length of the next frame; `None` at a clean end.
pub(super) async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<Option<usize>> {
    let mut bytes = [0; LENGTH_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    codec::frame_length(bytes, most).map(Some).map_err(invalid)
}

/// Reads the rest of a frame. Memory is taken as the bytes come, not as they are
/// announced.
pub(super) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(length.min(READ_AHEAD_BYTES));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    if stream.take(limit).read_to_end(&mut frame).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

pub(super) fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

pub(super) fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer has fallen silent")
}
