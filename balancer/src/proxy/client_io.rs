//! The socket of a client, with a guard before hyper.
//!
//! Reading passes through [`Inbound`]: hyper sees only bytes of sound requests, and the next
//! request only when the one before is answered. Writing notes when the client does not take what
//! is sent. Both tell [`ConnectionState`], from which the timers of the connection follow.
//! What can fail is what sockets fail with, and a refusal, which is left in the state.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connection::ConnectionState;
use crate::http1::{HEAD_BYTES_MAX, Inbound, Progress};

/// How much is read from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Bytes of following requests that are taken in while one is in flight. A client that sends more
/// waits.
const PIPELINED_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// Most bytes thrown away after the last response, and for how long.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// Room to read into, one for all connections of a worker, so that idle ones need none.
#[derive(Clone)]
pub(super) struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(
            vec![0; SCRATCH_BYTES].into_boxed_slice(),
        )))
    }
}

/// The socket of a client.
pub(super) struct ClientIo {
    stream: TcpStream,
    inbound: Inbound,
    state: Rc<ConnectionState>,
    scratch: Scratch,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, state: Rc<ConnectionState>, scratch: Scratch) -> Self {
        Self {
            stream,
            inbound: Inbound::new(),
            state,
            scratch,
        }
    }

    /// Sends a last answer, past hyper. Only for a connection on which no response is under way.
    pub(super) async fn answer(&mut self, bytes: &[u8]) {
        // If the client is gone or takes nothing, there is nobody to tell.
        let _ = tokio::time::timeout(LINGER_TIME_MAX, self.stream.write_all(bytes)).await;
    }

    /// Whether the client has sent something that nobody read.
    pub(super) fn has_unread(&self) -> bool {
        !self.inbound.is_between_requests() || self.inbound.len() > 0
    }

    /// Closes without losing what was sent last.
    ///
    /// A socket that is closed with unread bytes sends a reset, which may overtake the response.
    /// So the client is told that nothing more comes, and what it still sends is thrown away,
    /// within bounds.
    pub(super) async fn close_gently(mut self) {
        let drained = async {
            self.stream.shutdown().await?;
            let mut dropped = 0;
            while dropped < LINGER_BYTES_MAX {
                match std::future::poll_fn(|cx| self.poll_fill(cx)).await? {
                    0 => break,
                    read => dropped += read,
                }
                self.inbound = Inbound::new();
            }
            io::Result::Ok(())
        };
        // Whichever way this ends, the socket closes.
        let _ = tokio::time::timeout(LINGER_TIME_MAX, drained).await;
    }

    /// Closes so that the client cannot take what it got for a complete response.
    pub(super) fn reset(self) {
        // If it fails the connection is gone already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads from the socket into `inbound`: how many bytes, zero at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = self.scratch.0.borrow_mut();
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(&mut scratch) {
                Ok(read) => {
                    self.inbound.push(&scratch[..read]);
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let released = this.inbound.released();
            if !released.is_empty() {
                let count = released.len().min(cursor.remaining());
                cursor.put_slice(&released[..count]);
                this.inbound.take(count);
                return Poll::Ready(Ok(()));
            }
            let is_between = this.inbound.is_between_requests();
            if is_between && this.state.is_busy() {
                // Read on only to learn whether the client hangs up.
                this.state.wake_when_free(cx.waker());
                if this.inbound.len() >= PIPELINED_BYTES_MAX {
                    return Poll::Pending;
                }
            } else {
                match this.inbound.advance() {
                    Ok(Progress::Head) => {
                        this.state.begin_request();
                        continue;
                    }
                    Ok(Progress::Body) => continue,
                    Ok(Progress::Starved) if is_between && this.inbound.len() > 0 => {
                        this.state.begin_head();
                    }
                    Ok(Progress::Starved) => {}
                    Err(refusal) => {
                        this.state.refuse(refusal);
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            refusal,
                        )));
                    }
                }
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.state.note_write(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.state.note_write(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
