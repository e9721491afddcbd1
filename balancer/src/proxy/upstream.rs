//! A connection to an endpoint.
//!
//! In: an address. Out: a connection that takes one request at a time. hyper drives it in a task
//! of its own, on the worker's thread; it closes when the [`Upstream`] is dropped. The socket is
//! shared between that task and the [`Upstream`], so that its quietness can be checked.
//! What can fail is connecting ([`ConnectError`]).

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::request_body::RequestBody;
use crate::config::Timeouts;

/// Most bytes of a response head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that are buffered of a response.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Refused(io::Error),
    #[error("{0}")]
    Lost(hyper::Error),
}

/// An open connection to an endpoint.
pub(super) struct Upstream {
    sender: SendRequest<RequestBody>,
    socket: SharedSocket,
}

impl Upstream {
    /// Connects to `target` in the time that is allowed for it.
    pub(super) async fn connect(
        target: SocketAddr,
        timeouts: &Timeouts,
    ) -> Result<Self, ConnectError> {
        let limit = timeouts.connect;
        let stream = tokio::time::timeout(limit, TcpStream::connect(target))
            .await
            .map_err(|_| ConnectError::TimedOut(limit))?
            .map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        end_when_unheard(&stream, timeouts.unheard).map_err(ConnectError::Refused)?;
        let socket = SharedSocket(Rc::new(RefCell::new(TokioIo::new(stream))));
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(socket.clone())
            .await
            .map_err(ConnectError::Lost)?;
        tokio::task::spawn_local(async move {
            // Whoever waits for a response learns of the error; on an idle connection it is none.
            let _ = connection.await;
        });
        Ok(Self { sender, socket })
    }

    /// Whether it can take a request now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Waits until it can take a request. False if it has closed.
    pub(super) async fn becomes_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Whether the endpoint has neither closed it nor sent anything on it, by asking the kernel:
    /// the news may not have reached the event loop. One system call.
    pub(super) fn is_quiet(&self) -> bool {
        let socket = self.socket.0.borrow();
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(socket.inner()).peek(&mut byte);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request. An error holds the request if no byte of it was sent.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>
    {
        self.sender.try_send_request(request)
    }
}

/// Lets the kernel end the connection when the other host acknowledges nothing for so long.
///
/// Without this, a request that is at a host which then vanishes waits for its response as if the
/// endpoint were slow. Data that was sent is repeated and has to be acknowledged in time
/// (TCP_USER_TIMEOUT, RFC 5482); while nothing is under way, probes take its place.
fn end_when_unheard(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    // The kernel counts probes in whole seconds, and refuses none.
    let second = Duration::from_secs(1);
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time((limit / 2).max(second))
        .with_interval((limit / 4).max(second));
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limit))?;
    Ok(())
}

/// A socket with two owners on one thread.
#[derive(Clone)]
struct SharedSocket(Rc<RefCell<TokioIo<TcpStream>>>);

impl Read for SharedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, cursor)
    }
}

impl Write for SharedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_how_long_a_silent_host_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        end_when_unheard(&stream, Duration::from_secs(8)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(4));
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(2)
        );
        let limit = socket.tcp_user_timeout().unwrap();
        assert_eq!(limit, Some(Duration::from_secs(8)));
    }
}
