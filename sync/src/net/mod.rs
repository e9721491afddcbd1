//! The replica among its peers and callers: threads, connections, queues.
//!
//! - [`driver`](self): one thread owns the replica and the store's only writer. It
//!   takes what has arrived, commits it, and hands out replies and messages. The links
//!   live on the same thread, so that between a commit here and one there a message wakes
//!   nobody but the other node.
//! - [`Handle`]: what callers hold. Writes go through the driver; reads and watches
//!   go to the store directly and see what is committed.
//! - `links`: one task a peer that connects, greets, and sends what the replica says:
//!   the live lane from the ring and a queue, the bulk lane (chunks of pulls) over a
//!   connection of its own, so that catching up never stands in the way of the rest.
//! - `arrival`: waiting until what others have written is here.
//! - `lag`: how far behind a peer is, from what the replica and the links know.
//! - `incoming`: one task a connection that greets and reads.
//! - `hub`: tells watchers that have caught up of what concerns them.
//! - `ring`: encoded pushes, once for all peers, with a cursor for each. There is no
//!   queue for each peer to grow; who falls off the ring pulls from the disk.
//! - [`verify`](self): comparing what all nodes hold, and mending it.
//! - `disk`: whether the disk answers and works, as those see it who wait for the driver.
//!
//! Each connection carries messages one way, from the side that opened it; so each
//! direction fails and recovers alone.
//!
//! Bounds: commands in the driver's queue ([`Options::commands_max`]), bytes of
//! messages and writes not yet committed ([`Options::pending_bytes_max`]; readers and
//! callers wait), bytes in the ring, changes in the mailbox of a watcher, messages queued for a peer (beyond it they are
//! dropped; vectors and pulls make good for them), one frame in memory a connection.
//! And in time: a write is answered within [`Options::disk_patience`] of the moment at
//! which the disk ceased to answer, with an error that says whether it can have been done.
//! Reads go on meanwhile, and so do the peers: what they send waits with them.

mod arrival;
mod disk;
mod driver;
mod handle;
mod hub;
mod incoming;
mod lag;
mod links;
mod ring;
mod verify;
mod watch;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};

pub use arrival::{Lacking, WaitError};
pub use disk::{DiskFailure, DiskStatus};
pub use handle::{Handle, Options, ReadError, StartError, WriteError, start};
pub use hub::Seen;
pub use lag::PeerLag;
pub use links::{LinkStatus, Peer, Queued};
pub use verify::{
    FINDINGS_MAX, Finding, NodeReport, Outcome, Remedy, Repair, Report, VerifyError, VerifyOptions,
    VerifyProgress,
};
pub use watch::{Cursor, ParseCursorError, Snapshot, Watch, WatchError};

/// Milliseconds since 1970.
fn wall_ms() -> u64 {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// A connection to a peer, already private and authenticated.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// The future of a connection.
pub type Connecting<'c> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'c>>;

/// Opens connections to peers. The agent implements it over its peer port.
pub trait Connector: Send + Sync + 'static {
    /// Connects to a peer and makes sure that it is who it should be. It must end by
    /// itself within some seconds.
    fn connect<'c>(&'c self, peer: &'c Peer) -> Connecting<'c>;
}

#[cfg(test)]
mod tests;
