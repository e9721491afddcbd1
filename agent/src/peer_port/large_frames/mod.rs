//! Gossip frames that are too large for a datagram, over the peer port's TLS.
//!
//! A datagram above the path's MTU is cut into fragments, and with one fragment
//! the whole is lost. Such frames go over a `basic-gossip/1` stream instead: one
//! connection to each peer, opened by the first frame, used for all that follow,
//! and closed when none came for a while. In goes a frame and an address, at any
//! time and without waiting; out comes, at the other agent, the same frame with
//! the address that its sender advertises.
//!
//! Delivery is as with datagrams: a try. Frames for a peer that cannot be
//! reached, or that is slow, are dropped oldest first, and counted. Every bound
//! is a constant below: frames waiting, peers, connections, bytes in a frame.

mod queue;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use basic_membership::LargeFrameError;
use bytes::Bytes;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::queue::FrameQueue;
pub use self::wire::FRAME_BYTES_MAX;
use self::wire::{ReadError, read_body, read_hello, read_length, write_frame, write_hello};
use super::accept::Incoming;
use super::connect::Connector;
use super::notices::Notices;
use super::protocol::Protocol;
use super::stream::PeerStream;

/// Frames that wait for one peer; a slow peer costs about 1 MiB at most.
const WAITING_MAX: usize = 16;
/// Peers with an outgoing connection or one being opened; frames for further
/// ones are dropped until another falls idle.
const LINKS_MAX: usize = 256;
/// Incoming connections that are read; further ones are closed.
const READERS_MAX: usize = 256;
/// An outgoing connection that carried nothing for so long is closed.
const LINK_IDLE_MAX: Duration = Duration::from_secs(60);
/// An incoming one is closed later, so that it is the sender who lets go.
const READER_IDLE_MAX: Duration = Duration::from_secs(300);
/// Time for the hello, for the rest of a frame that has begun, and for a frame
/// to be taken by the kernel.
const PROGRESS_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed connection. Fixed, for a large frame is rare.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Sends large frames; cheap to clone, usable from any thread and any runtime.
#[derive(Clone)]
pub struct LargeFrames {
    shared: Arc<Shared>,
}

impl LargeFrames {
    /// The two ends of it: what sends, and the [`Driver`] that does the work and
    /// must be run. `advertised` is this agent's address as others know it.
    pub fn new(connector: Connector, advertised: SocketAddr) -> (LargeFrames, Driver) {
        // Room for every link there can be, so that announcing one never fails.
        let (opened, to_open) = mpsc::channel(LINKS_MAX);
        let shared = Arc::new(Shared {
            connector,
            advertised,
            queues: Mutex::default(),
            opened,
            counters: Counters::default(),
            notices: Notices::default(),
        });
        (
            LargeFrames {
                shared: shared.clone(),
            },
            Driver { shared, to_open },
        )
    }

    /// Queues a frame for the agent at `to` and returns at once. A frame that is
    /// empty or above [`FRAME_BYTES_MAX`] is dropped, as is one for a peer too
    /// many; [`statistics`](LargeFrames::statistics) counts both.
    ///
    /// # Errors
    /// Why this frame was dropped. That an older one was dropped for it is no error.
    pub fn send(&self, to: SocketAddr, frame: Bytes) -> Result<(), LargeFrameError> {
        let sent = self.enqueue(to, frame);
        // Either older frames, or this one.
        self.shared.counters.dropped(sent.unwrap_or(1));
        sent.map(drop)
    }

    /// How many older frames were dropped for this one.
    fn enqueue(&self, to: SocketAddr, frame: Bytes) -> Result<u64, LargeFrameError> {
        if frame.is_empty() || frame.len() > FRAME_BYTES_MAX {
            return Err(LargeFrameError::Length);
        }
        let mut queues = self.shared.lock_queues();
        if let Some(queue) = queues.get(&to) {
            return Ok(queue.push(frame));
        }
        if queues.len() >= LINKS_MAX {
            return Err(LargeFrameError::TooManyPeers);
        }
        self.shared
            .opened
            .try_send(to)
            .map_err(|error| match error {
                TrySendError::Full(_) => LargeFrameError::TooManyPeers,
                TrySendError::Closed(_) => LargeFrameError::Stopped,
            })?;
        let queue = FrameQueue::new(WAITING_MAX);
        let older = queue.push(frame);
        queues.insert(to, Arc::new(queue));
        Ok(older)
    }

    /// What has been sent, received and dropped so far.
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.snapshot()
    }
}

impl fmt::Debug for LargeFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeFrames")
            .field("statistics", &self.statistics())
            .finish()
    }
}

/// Counts of large frames, from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Frames written to a peer's connection.
    pub sent: u64,
    /// Frames received and handed on.
    pub received: u64,
    /// Frames dropped: too large, too many waiting, or the peer out of reach.
    pub dropped: u64,
    /// Incoming connections closed because of what they carried or because
    /// there were too many.
    pub refused: u64,
}

/// Does the work of [`LargeFrames`]: the connections, both ways.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    to_open: mpsc::Receiver<SocketAddr>,
}

impl Driver {
    /// Runs until the listener that feeds `incoming` has stopped; then, or when
    /// the future is dropped, all connections are closed. Received frames go to
    /// `received` with the sender's advertised address. While that is full no
    /// connection is read, so that the senders' own bounds apply.
    pub async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Incoming>,
        received: mpsc::Sender<(SocketAddr, Bytes)>,
    ) {
        let mut links = JoinSet::new();
        let mut readers = JoinSet::new();
        loop {
            tokio::select! {
                Some(to) = self.to_open.recv() => {
                    links.spawn(self.shared.clone().link(to));
                }
                connection = incoming.recv() => {
                    let Some(connection) = connection else { return };
                    if readers.len() < READERS_MAX {
                        readers.spawn(self.shared.clone().receive(connection, received.clone()));
                    } else {
                        self.shared.counters.refused();
                    }
                }
                Some(_) = links.join_next() => {}
                Some(_) = readers.join_next() => {}
            }
        }
    }
}

struct Shared {
    connector: Connector,
    advertised: SocketAddr,
    queues: Mutex<HashMap<SocketAddr, Arc<FrameQueue>>>,
    opened: mpsc::Sender<SocketAddr>,
    counters: Counters,
    notices: Notices,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The life of one outgoing connection, from the first frame to idleness.
    async fn link(self: Arc<Self>, to: SocketAddr) {
        let Some(queue) = self.lock_queues().get(&to).cloned() else {
            return;
        };
        loop {
            if let Err(error) = self.carry(to, &queue).await {
                self.counters.dropped(queue.clear());
                tracing::debug!(%to, %error, "lost the connection for large gossip frames");
                sleep(RECONNECT_DELAY).await;
            }
            // A sender holds this lock while it pushes: either it finds no
            // queue and opens a new link, or the frame is seen here.
            let mut queues = self.lock_queues();
            if queue.is_empty() {
                queues.remove(&to);
                return;
            }
        }
    }

    /// Connects and writes frames until none came for a while.
    async fn carry(&self, to: SocketAddr, queue: &FrameQueue) -> io::Result<()> {
        let connection = self.connector.connect(to, Protocol::Gossip).await;
        let (mut stream, _) = connection.map_err(io::Error::other)?;
        timeout(PROGRESS_MAX, write_hello(&mut stream, self.advertised)).await??;
        while let Ok(frame) = timeout(LINK_IDLE_MAX, queue.pop()).await {
            let written = timeout(PROGRESS_MAX, write_frame(&mut stream, &frame)).await;
            written
                .map_err(io::Error::from)
                .flatten()
                .inspect_err(|_| self.counters.dropped(1))?;
            self.counters.sent();
        }
        timeout(PROGRESS_MAX, stream.shutdown()).await?
    }

    async fn receive(
        self: Arc<Self>,
        connection: Incoming,
        received: mpsc::Sender<(SocketAddr, Bytes)>,
    ) {
        let Incoming {
            mut stream,
            peer,
            address,
        } = connection;
        let error = match self.read_frames(&mut stream, &received).await {
            Ok(()) | Err(ReadError::End) => return,
            Err(error) => error,
        };
        if matches!(error, ReadError::Length(..) | ReadError::Hello) {
            self.counters.refused();
            if let Some(suppressed) = self.notices.admit(address.ip(), Instant::now()) {
                tracing::warn!(%peer, %address, %error, suppressed, "refused gossip from a peer");
            }
        }
    }

    async fn read_frames(
        &self,
        stream: &mut PeerStream,
        received: &mpsc::Sender<(SocketAddr, Bytes)>,
    ) -> Result<(), ReadError> {
        let from = timeout(PROGRESS_MAX, read_hello(stream))
            .await
            .map_err(io::Error::from)??;
        while let Ok(length) = timeout(READER_IDLE_MAX, read_length(stream, FRAME_BYTES_MAX)).await
        {
            let body = timeout(PROGRESS_MAX, read_body(stream, length?)).await;
            let frame = body.map_err(io::Error::from)??;
            if received.send((from, frame)).await.is_err() {
                break;
            }
            self.counters.received();
        }
        Ok(())
    }

    fn lock_queues(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<FrameQueue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    fn dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Statistics {
        Statistics {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
