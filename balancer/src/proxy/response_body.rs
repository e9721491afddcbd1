//! The body of a response on its way to the client.
//!
//! In: what an endpoint sends, or what the proxy says itself. Out: frames as they come, none held
//! back, so that a slow client slows its server and event streams flow. Trailers are dropped. A
//! body that ends too early, or stalls, ends in an error ([`ResponseCut`]), which hyper turns into
//! a broken connection: the client must not take it for whole. At the end of the body the
//! connection to the endpoint goes back to the pool, and the request is no longer in flight.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::connection::ConnectionState;
use super::pool::Pool;
use super::upstream::Upstream;
use crate::balancer::{Balancer, FailureKind, Outcome, Picked};
use crate::metrics::ProxyMetrics;

/// A request in flight on its connection, until dropped.
pub(super) struct InFlight {
    state: Rc<ConnectionState>,
    metrics: Arc<ProxyMetrics>,
}

impl InFlight {
    pub(super) fn new(state: Rc<ConnectionState>, metrics: Arc<ProxyMetrics>) -> Self {
        metrics.in_flight.add_one();
        Self { state, metrics }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.subtract_one();
        self.state.end_request();
    }
}

/// The body of a response.
pub(super) struct ResponseBody {
    source: Source,
    in_flight: InFlight,
}

enum Source {
    /// What this proxy says itself.
    Own(Option<Bytes>),
    /// What an endpoint sends.
    Relayed(Relay),
}

/// The body of an endpoint's response and what depends on its end.
pub(super) struct Relay {
    incoming: Incoming,
    picked: Picked,
    /// The connection that it comes on, until that is given back.
    upstream: Option<Upstream>,
    pool: Rc<Pool>,
    balancer: Balancer,
    /// How long the endpoint may send nothing.
    idle: Duration,
    /// Runs while the endpoint sends nothing.
    stall: Option<Pin<Box<Sleep>>>,
    has_ended: bool,
}

/// A response that breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseCut {
    #[error("the endpoint broke off its response: {0}")]
    Broken(hyper::Error),
    #[error("the endpoint sent nothing for {0:?}")]
    Stalled(Duration),
}

impl ResponseBody {
    pub(super) fn own(bytes: Bytes, in_flight: InFlight) -> Self {
        Self {
            source: Source::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            in_flight,
        }
    }

    pub(super) fn relayed(relay: Relay, in_flight: InFlight) -> Self {
        Self {
            source: Source::Relayed(relay),
            in_flight,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseCut>>> {
        let this = self.get_mut();
        let data = match &mut this.source {
            Source::Own(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Relayed(relay) => ready!(relay.poll_data(cx)),
        };
        if matches!(data, Some(Err(_))) {
            this.in_flight.state.cut_response();
            this.in_flight.metrics.responses_cut.add_one();
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Relayed(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Relayed(relay) => relay.incoming.size_hint(),
        }
    }
}

impl Relay {
    pub(super) fn new(
        incoming: Incoming,
        picked: Picked,
        upstream: Upstream,
        pool: Rc<Pool>,
        balancer: Balancer,
        idle: Duration,
    ) -> Self {
        let upstream = Some(upstream);
        Self {
            incoming,
            picked,
            upstream,
            pool,
            balancer,
            idle,
            stall: None,
            has_ended: false,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ResponseCut>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(self.idle)));
                ready!(stall.as_mut().poll(cx));
                return Poll::Ready(Some(Err(self.cut(ResponseCut::Stalled(self.idle)))));
            };
            self.stall = None;
            match frame {
                None => {
                    self.has_ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(self.cut(ResponseCut::Broken(error)))));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn cut(&mut self, cut: ResponseCut) -> ResponseCut {
        let error = cut.to_string();
        let outcome = Outcome::Failed(FailureKind::CutShort, &error);
        self.balancer
            .record(std::time::Instant::now(), &self.picked, outcome);
        cut
    }
}

impl Drop for Relay {
    /// A connection can be used again if its response was read to the end. Otherwise it closes.
    fn drop(&mut self) {
        if (self.has_ended || self.incoming.is_end_stream())
            && let Some(upstream) = self.upstream.take()
        {
            self.pool.give_back(self.picked.target(), upstream);
        }
    }
}
