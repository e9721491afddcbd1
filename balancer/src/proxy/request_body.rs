//! The body of a request on its way to an endpoint.
//!
//! In: the body as hyper reads it from the client. Out: a body for each attempt. Frames are passed
//! on as they come and none is held back, so that memory stays constant and a slow server slows
//! its client; unless the body is kept whole to be sent again ([`Payload`]). Trailers are dropped.
//! While a body is sent, [`Progress`] tells the attempt's timer who is waited for. What can fail
//! is the client: it stalls, or breaks off.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout};

use super::problem::Failure;

/// The body of a request, between attempts.
#[derive(Debug)]
pub(super) enum Payload {
    /// All of it is here, to be sent as often as needed.
    Kept(Bytes),
    /// It comes while it is sent, and can be sent once.
    Streaming(RequestBody),
    /// It was streamed.
    Gone,
}

impl Payload {
    /// A body that is sent as it comes.
    pub(super) fn streaming(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Payload::Kept(Bytes::new());
        }
        Payload::Streaming(RequestBody {
            front: VecDeque::new(),
            rest: Some(incoming),
            progress: None,
        })
    }

    /// A body that is kept if it is no longer than `bytes_max`.
    pub(super) async fn kept(
        mut incoming: Incoming,
        bytes_max: usize,
        idle: Duration,
    ) -> Result<Self, Failure> {
        let announced = incoming.size_hint().exact();
        if announced == Some(0) {
            return Ok(Payload::Kept(Bytes::new()));
        }
        if announced.is_some_and(|length| length > bytes_max as u64) {
            return Ok(Self::streaming(incoming));
        }
        let mut front = VecDeque::new();
        let mut length = 0;
        while length <= bytes_max {
            let frame = timeout(idle, incoming.frame()).await;
            match frame.map_err(|_| Failure::BodyStalled(idle))? {
                None => return Ok(Payload::Kept(concat(front, length))),
                Some(Err(error)) => return Err(Failure::BodyBroken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        length += data.len();
                        front.push_back(data);
                    }
                }
            }
        }
        Ok(Payload::Streaming(RequestBody {
            front,
            rest: Some(incoming),
            progress: None,
        }))
    }

    /// Whether it can be sent again.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Payload::Kept(_))
    }

    /// Its length, if that is known before it is sent.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Payload::Kept(bytes) => Some(bytes.len() as u64),
            Payload::Streaming(body) => body.size_hint().exact(),
            Payload::Gone => None,
        }
    }

    /// Hands it out to be sent.
    ///
    /// # Panics
    /// A streamed body was handed out before and not taken back. The retry policy is asked first,
    /// and is told that such a body is not kept.
    pub(super) fn hand_out(&mut self, progress: &Rc<Progress>) -> RequestBody {
        let mut body = match self {
            Payload::Kept(bytes) if bytes.is_empty() => RequestBody::default(),
            Payload::Kept(bytes) => RequestBody {
                front: VecDeque::from([bytes.clone()]),
                ..RequestBody::default()
            },
            Payload::Streaming(body) => {
                let body = std::mem::take(body);
                *self = Payload::Gone;
                body
            }
            Payload::Gone => unreachable!("a streamed body is sent once"),
        };
        body.progress = Some(Rc::clone(progress));
        body
    }

    /// Takes back what was handed out and not sent.
    pub(super) fn take_back(&mut self, body: RequestBody) {
        if matches!(self, Payload::Gone) {
            *self = Payload::Streaming(body);
        }
    }
}

fn concat(mut chunks: VecDeque<Bytes>, length: usize) -> Bytes {
    match chunks.pop_front() {
        None => Bytes::new(),
        Some(only) if chunks.is_empty() => only,
        Some(first) => {
            let mut whole = Vec::with_capacity(length);
            whole.extend_from_slice(&first);
            chunks
                .iter()
                .for_each(|chunk| whole.extend_from_slice(chunk));
            whole.into()
        }
    }
}

/// How far the body of one attempt has got, told by the body and read by the attempt's timer.
#[derive(Debug)]
pub(super) struct Progress {
    moved: Cell<Instant>,
    awaits_client: Cell<bool>,
    is_broken: Cell<bool>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            moved: Cell::new(now),
            awaits_client: Cell::new(false),
            is_broken: Cell::new(false),
        }
    }

    /// When a byte last left, or when the attempt began.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Whether it is the client that the endpoint waits for.
    pub(super) fn awaits_client(&self) -> bool {
        self.awaits_client.get()
    }

    /// Whether the client's body ended in an error.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }
}

/// The body of one attempt: what was read ahead, then what comes.
#[derive(Debug, Default)]
pub(super) struct RequestBody {
    front: VecDeque<Bytes>,
    rest: Option<Incoming>,
    progress: Option<Rc<Progress>>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = this.poll_data(cx);
        if let Some(progress) = &this.progress {
            progress.awaits_client.set(polled.is_pending());
            if polled.is_ready() {
                progress.moved.set(Instant::now());
            }
            if matches!(polled, Poll::Ready(Some(Err(_)))) {
                progress.is_broken.set(true);
            }
        }
        polled.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let front: u64 = self.front.iter().map(|chunk| chunk.len() as u64).sum();
        let mut hint = self
            .rest
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint);
        // The upper bound first: a lower bound must not pass it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(front));
        }
        hint.set_lower(hint.lower().saturating_add(front));
        hint
    }
}

impl RequestBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        if let Some(chunk) = self.front.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        loop {
            match ready!(Pin::new(&mut *rest).poll_frame(cx)?) {
                None => return Poll::Ready(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}
