//! One attempt: a request sent to one endpoint, up to the head of its response.
//!
//! In: a request, where to, and over which connection. Out: a response that may be passed on, with
//! the connection that its body still comes on; or how it failed ([`AttemptError`]), from which the
//! retry policy decides what follows. Everything hangs on one question: may a byte of the request
//! have reached the endpoint? It has not if connecting failed, nor if hyper gives the request back.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::TRANSFER_ENCODING;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::outbound::Outbound;
use super::pool::Pool;
use super::problem::Failure;
use super::request_body::{Progress, RequestBody};
use super::upstream::Upstream;
use crate::balancer::FailureKind;
use crate::config::ProxyConfig;
use crate::metrics::ProxyMetrics;
use crate::retry::Failed;

/// What attempts need.
pub(super) struct Sender {
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<ProxyMetrics>,
    pub(super) pool: Rc<Pool>,
}

/// A response head, and the connection on which its body follows.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) upstream: Upstream,
}

/// Over which connection an attempt may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    PooledOrNew,
    New,
}

/// Why an attempt brought no response.
pub(super) enum AttemptError {
    /// The endpoint failed, and said this.
    Endpoint(Failed, String),
    /// The client failed, and there is nothing to try again.
    Client(Failure),
}

/// Who has been waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    Client,
    Endpoint,
}

impl Sender {
    /// Sends the request to `target` and waits for the head of the response.
    pub(super) async fn attempt(
        &self,
        target: SocketAddr,
        outbound: &mut Outbound,
        via: Via,
    ) -> Result<Answered, AttemptError> {
        let (mut upstream, reused) = self.connection(target, outbound, via).await?;
        let sent = |kind| Failed {
            kind,
            sent: true,
            reused,
        };
        let progress = Rc::new(Progress::new(Instant::now()));
        let sending = upstream.send(outbound.request(&progress));
        match self.response_head(sending, &progress).await {
            Ok(Ok(response)) => match unfit(&response) {
                None => Ok(Answered { response, upstream }),
                Some(error) => Err(AttemptError::Endpoint(
                    sent(FailureKind::Malformed),
                    error.to_owned(),
                )),
            },
            Ok(Err(error)) => Err(send_failed(error, outbound, &progress, reused)),
            Err(Overdue::Client) => Err(AttemptError::Client(Failure::BodyStalled(
                self.config.timeouts.body_idle,
            ))),
            Err(Overdue::Endpoint) => {
                let error = format!("no answer in {:?}", self.config.timeouts.response_head);
                Err(AttemptError::Endpoint(sent(FailureKind::Timeout), error))
            }
        }
    }

    /// A connection to `target`, and whether it has served before.
    async fn connection(
        &self,
        target: SocketAddr,
        outbound: &Outbound,
        via: Via,
    ) -> Result<(Upstream, bool), AttemptError> {
        if via == Via::PooledOrNew {
            // What cannot be sent again must not meet a connection that is closing.
            let request = outbound.repeatability();
            let must_be_quiet = !(request.idempotent && request.body_kept);
            if let Some(upstream) = self.pool.take(target, Instant::now(), must_be_quiet) {
                self.metrics.upstream_reuses.add_one();
                return Ok((upstream, true));
            }
        }
        match Upstream::connect(target, &self.config.timeouts).await {
            Ok(upstream) => {
                self.metrics.upstream_connects.add_one();
                Ok((upstream, false))
            }
            Err(error) => {
                let failed = Failed {
                    kind: FailureKind::Connect,
                    sent: false,
                    reused: false,
                };
                Err(AttemptError::Endpoint(failed, error.to_string()))
            }
        }
    }

    /// Waits for a response head for as long as bytes move or the endpoint may still answer.
    async fn response_head<T>(
        &self,
        sending: impl Future<Output = T>,
        progress: &Progress,
    ) -> Result<T, Overdue> {
        let timeouts = &self.config.timeouts;
        let mut sending = pin!(sending);
        loop {
            let (overdue, allowed) = if progress.awaits_client() {
                (Overdue::Client, timeouts.body_idle)
            } else {
                (Overdue::Endpoint, timeouts.response_head)
            };
            let (now, moved) = (Instant::now(), progress.moved());
            if moved + allowed <= now {
                return Err(overdue);
            }
            // Who is waited for can change at any time, so look at the nearer deadline first.
            let nearer = moved + timeouts.body_idle.min(timeouts.response_head);
            let look = if nearer > now {
                nearer
            } else {
                moved + allowed
            };
            if let Ok(sent) = timeout_at(look, &mut sending).await {
                return Ok(sent);
            }
        }
    }
}

/// What it means that sending, or waiting for the response, failed.
fn send_failed(
    mut error: TrySendError<Request<RequestBody>>,
    outbound: &mut Outbound,
    progress: &Progress,
    reused: bool,
) -> AttemptError {
    // hyper gives a request back if and only if it wrote no byte of it.
    if let Some(request) = error.take_message() {
        outbound.take_back(request);
        let kind = if reused {
            FailureKind::Reset
        } else {
            FailureKind::Connect
        };
        let failed = Failed {
            kind,
            sent: false,
            reused,
        };
        return AttemptError::Endpoint(failed, "the connection closed unused".to_owned());
    }
    let error = error.into_error();
    let description = describe(&error);
    if progress.is_broken() {
        return AttemptError::Client(Failure::BodyBroken(description));
    }
    let kind = if error.is_parse() {
        FailureKind::Malformed
    } else {
        FailureKind::Reset
    };
    AttemptError::Endpoint(
        Failed {
            kind,
            sent: true,
            reused,
        },
        description,
    )
}

/// Why a response may not be passed on, if so.
fn unfit(response: &Response<Incoming>) -> Option<&'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Some("it switched protocols, which was not asked for");
    }
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let is_sound = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    (!is_sound).then_some("it used a transfer coding other than chunked")
}

/// An error with its causes, on one line.
fn describe(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
