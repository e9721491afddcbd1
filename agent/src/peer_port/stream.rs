//! One authenticated connection to or from a peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;

use super::generation::{Ended, Generation};

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged before the connection is given
/// up (RFC 5482); the same time in which keepalive gives up a silent one.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(25);

/// A stream of bytes to a peer that has proved who it is. Dropping it closes
/// the connection and gives back its place under the listener's cap. When a key
/// is retired it ends with an error, so that the peer proves itself anew.
pub struct PeerStream {
    tls: TlsStream<TcpStream>,
    /// Reading and writing may be two tasks, each of which has to be woken.
    ended_reading: Ended,
    ended_writing: Ended,
    /// An incoming connection's place; outgoing ones are bounded by who asks.
    _place: Option<OwnedSemaphorePermit>,
}

impl PeerStream {
    pub(super) fn new(
        tls: impl Into<TlsStream<TcpStream>>,
        generation: &Generation,
        place: Option<OwnedSemaphorePermit>,
    ) -> PeerStream {
        PeerStream {
            tls: tls.into(),
            ended_reading: generation.ended(),
            ended_writing: generation.ended(),
            _place: place,
        }
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream").finish_non_exhaustive()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended_reading.poll(cx).is_ready() {
            return Poll::Ready(Err(key_retired()));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended_writing.poll(cx).is_ready() {
            return Poll::Ready(Err(key_retired()));
        }
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ended_writing.poll(cx).is_ready() {
            return Poll::Ready(Err(key_retired()));
        }
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended_writing.poll(cx).is_ready() {
            return Poll::Ready(Err(key_retired()));
        }
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

fn key_retired() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "a key was retired, so that every peer has to connect anew",
    )
}

/// Sets what every connection of the peer port wants of the kernel: no delay
/// for small writes, and an end in bounded time when the other host is gone.
///
/// # Errors
/// When the kernel refuses an option, which it does for a socket that the
/// other side has already closed.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}
