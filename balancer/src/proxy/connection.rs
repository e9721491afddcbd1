//! One connection of a client, from accepting to closing.
//!
//! hyper parses and writes; this drives it, and keeps the timers that hyper does not: how long a
//! head may take, how long the client may idle, how long it may refuse to take what is sent. There
//! is one timer a connection. It is moved only when a deadline comes nearer and otherwise looks
//! again when it fires, so that a busy connection hardly touches it.
//!
//! Nothing here fails: however a connection ends, it ends this connection only.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Lifecycle;
use super::acceptor::Accepted;
use super::client_io::ClientIo;
use super::problem::Problem;
use super::response_body::ResponseBody;
use super::worker::Worker;
use crate::config::ProxyConfig;
use crate::http1::{HEAD_BYTES_MAX, Refusal};

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// A request was in flight and was cut because the proxy stopped.
    pub(super) cut: bool,
}

/// Serves one connection.
pub(super) async fn serve(worker: Rc<Worker>, accepted: Accepted) -> Ended {
    let Accepted {
        stream,
        peer,
        permit,
    } = accepted;
    let _permit = permit;
    let stream = match TcpStream::from_std(stream).and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    }) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection lost before it was served");
            return Ended { cut: false };
        }
    };
    let state = Rc::new(ConnectionState::new());
    let io = ClientIo::new(stream, Rc::clone(&state), worker.scratch.clone());
    let requests = Requests {
        worker: Rc::clone(&worker),
        peer,
        state: Rc::clone(&state),
    };
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, requests);
    let mut lifecycle = worker.lifecycle.clone();
    let end = drive(&mut connection, &state, &worker.config, &mut lifecycle).await;
    let io = connection.into_parts().io;
    let close = close(io, end, &state, &worker);
    tokio::select! {
        biased;
        () = close => {}
        _ = lifecycle.wait_for(|now| *now == Lifecycle::Stopped) => {}
    }
    Ended {
        cut: matches!(end, End::Stopped { in_flight: true }),
    }
}

/// What a connection is doing, told by its socket and its requests, read by its timer.
#[derive(Debug)]
pub(super) struct ConnectionState {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    write_blocked_since: Cell<Option<Instant>>,
    refusal: Cell<Option<Refusal>>,
    response_cut: Cell<bool>,
    /// Whom to wake when the next request no longer has to wait.
    reader: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte of a request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is being served.
    InFlight,
}

impl ConnectionState {
    fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            since: Cell::new(Instant::now()),
            write_blocked_since: Cell::new(None),
            refusal: Cell::new(None),
            response_cut: Cell::new(false),
            reader: RefCell::new(None),
        }
    }

    /// Whether the next request has to wait.
    pub(super) fn is_busy(&self) -> bool {
        self.phase.get() == Phase::InFlight || self.write_blocked_since.get().is_some()
    }

    /// Has `reader` woken when [`Self::is_busy`] may have changed.
    pub(super) fn wake_when_free(&self, reader: &Waker) {
        *self.reader.borrow_mut() = Some(reader.clone());
    }

    /// Bytes of a head have come, but not all.
    pub(super) fn begin_head(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete.
    pub(super) fn begin_request(&self) {
        self.enter(Phase::InFlight);
    }

    /// The response has been handed to the socket, or the request was given up.
    pub(super) fn end_request(&self) {
        self.enter(Phase::Idle);
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }

    /// The bytes of the client are refused.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refusal.set(Some(refusal));
    }

    /// Why the bytes of the client are refused, if they are.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }

    /// The response under way cannot be completed.
    pub(super) fn cut_response(&self) {
        self.response_cut.set(true);
    }

    /// The socket took bytes, or did not.
    pub(super) fn note_write(&self, is_blocked: bool) {
        match (is_blocked, self.write_blocked_since.get()) {
            (true, None) => self.write_blocked_since.set(Some(Instant::now())),
            (false, Some(_)) => self.write_blocked_since.set(None),
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// When the client has had enough time for what it is doing; a request in flight has timers
    /// of its own.
    fn deadline(&self, config: &ProxyConfig, draining_since: Option<Instant>) -> Option<Instant> {
        let timeouts = &config.timeouts;
        if let Some(blocked_since) = self.write_blocked_since.get() {
            return Some(blocked_since + timeouts.body_idle);
        }
        let since = self.since.get();
        match (self.phase.get(), draining_since) {
            (Phase::InFlight, _) => None,
            (Phase::Head, _) => Some(since + timeouts.client_head),
            (Phase::Idle, None) => Some(since + timeouts.client_idle),
            (Phase::Idle, Some(draining_since)) => {
                Some(since.max(draining_since) + config.drain_idle)
            }
        }
    }
}

/// What ended the driving of a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    /// hyper was done with it, in peace or not.
    Done,
    /// A deadline passed.
    Overdue,
    /// The proxy stopped.
    Stopped { in_flight: bool },
}

async fn drive(
    connection: &mut http1::Connection<ClientIo, Requests>,
    state: &ConnectionState,
    config: &ProxyConfig,
    lifecycle: &mut watch::Receiver<Lifecycle>,
) -> End {
    let mut draining_since = None;
    let mut timer = pin!(sleep_until(Instant::now() + config.timeouts.client_idle));
    lifecycle.mark_changed();
    loop {
        let turn = poll_fn(|cx| {
            // Without hyper's shutdown, because after a refusal there is something left to say.
            if connection.poll_without_shutdown(cx).is_ready() {
                return Poll::Ready(End::Done);
            }
            let Some(deadline) = state.deadline(config, draining_since) else {
                return Poll::Pending;
            };
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                if deadline <= Instant::now() {
                    return Poll::Ready(End::Overdue);
                }
                timer.as_mut().reset(deadline);
            }
        });
        tokio::select! {
            biased;
            changed = lifecycle.changed() => {
                let now = *lifecycle.borrow_and_update();
                if changed.is_err() || now == Lifecycle::Stopped {
                    let in_flight = state.phase.get() == Phase::InFlight;
                    return End::Stopped { in_flight };
                }
                if now == Lifecycle::Draining {
                    draining_since = Some(Instant::now());
                }
            }
            end = turn => return end,
        }
    }
}

async fn close(mut io: ClientIo, end: End, state: &ConnectionState, worker: &Worker) {
    if state.response_cut.get() || matches!(end, End::Stopped { in_flight: true }) {
        return io.reset();
    }
    match (end, state.phase.get()) {
        (End::Done, phase) => {
            // A body is refused while its request is in flight and answered like any request.
            if let (Some(refusal @ Refusal::Head(_)), Phase::Idle | Phase::Head) =
                (state.refusal(), phase)
            {
                worker.metrics.refused.add_one();
                io.answer(&Problem::from(refusal).to_bytes()).await;
                return io.close_gently().await;
            }
            if io.has_unread() {
                io.close_gently().await;
            }
        }
        (End::Overdue, Phase::Head) => {
            worker.metrics.heads_timed_out.add_one();
            io.answer(&Problem::head_timeout(worker.config.timeouts.client_head).to_bytes())
                .await;
            io.close_gently().await;
        }
        // Nobody takes what is sent: not even a farewell.
        (End::Overdue, Phase::InFlight) => io.reset(),
        (End::Overdue | End::Stopped { .. }, _) => {}
    }
}

/// The requests of one connection, as hyper calls for them.
struct Requests {
    worker: Rc<Worker>,
    peer: SocketAddr,
    state: Rc<ConnectionState>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    /// Boxed, so that an idle connection does not hold room for a request.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let worker = Rc::clone(&self.worker);
        let state = Rc::clone(&self.state);
        let peer = self.peer.ip();
        Box::pin(async move { Ok(worker.forwarder.serve(request, peer, state).await) })
    }
}
