//! Carries one request to an endpoint and its response back.
//!
//! In: a request whose head is sound. Out: a response, always: an endpoint's, passed through
//! whatever its status, or a problem of our own ([`Failure`]). Between them: headers rewritten, an
//! endpoint picked, the request sent on a pooled or new connection, the outcome recorded, and on
//! failure the retry policy asked. The body of the response goes on from here by itself
//! (`response_body.rs`) and returns the connection to the pool.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time;

use http::header::{CONNECTION, HeaderValue};
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Lifecycle;
use super::attempt::{Answered, AttemptError, Sender, Via};
use super::connection::ConnectionState;
use super::headers::{self, Hop, Randoms, X_REQUEST_ID};
use super::outbound::Outbound;
use super::pool::Pool;
use super::problem::{Failure, Problem, Unanswered};
use super::request_body::Payload;
use super::response_body::{InFlight, Relay, ResponseBody};
use crate::balancer::{Balancer, Outcome, Picked};
use crate::config::ProxyConfig;
use crate::metrics::ProxyMetrics;
use crate::retry::{self, Attempts, Decision, Failed, RetryBudget};

/// What a worker needs to forward requests.
pub(super) struct Forwarder {
    balancer: Balancer,
    config: Arc<ProxyConfig>,
    metrics: Arc<ProxyMetrics>,
    lifecycle: watch::Receiver<Lifecycle>,
    hop: Hop,
    sender: Sender,
    budget: RefCell<RetryBudget>,
    random: RefCell<StdRng>,
}

impl Forwarder {
    pub(super) fn new(
        balancer: Balancer,
        config: Arc<ProxyConfig>,
        metrics: Arc<ProxyMetrics>,
        lifecycle: watch::Receiver<Lifecycle>,
    ) -> Self {
        let budget = RetryBudget::new(time::Instant::now(), &config.retry.budget);
        let pool = Rc::new(Pool::new(config.pool.clone()));
        Self {
            balancer,
            lifecycle,
            hop: Hop::new(&config.instance, config.trust_forwarded),
            sender: Sender {
                config: Arc::clone(&config),
                metrics: Arc::clone(&metrics),
                pool,
            },
            budget: RefCell::new(budget),
            random: RefCell::new(StdRng::from_rng(&mut rand::rng())),
            config,
            metrics,
        }
    }

    /// Answers one request of the client at `peer`.
    pub(super) async fn serve(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        state: Rc<ConnectionState>,
    ) -> Response<ResponseBody> {
        self.metrics.requests.add_one();
        let in_flight = InFlight::new(Rc::clone(&state), Arc::clone(&self.metrics));
        let randoms = self.randoms();
        let (mut parts, incoming) = request.into_parts();
        let is_loop = self.hop.has_seen(&parts.headers);
        self.hop
            .prepare_request(&mut parts.headers, parts.version, peer, randoms);
        let request_id = parts.headers.get(X_REQUEST_ID).cloned();
        let answered = if is_loop {
            self.metrics.loops.add_one();
            Err(Failure::Loop)
        } else {
            self.forward(parts, incoming).await
        };
        let mut response = match answered {
            Ok(response) => response.map(|relay| ResponseBody::relayed(relay, in_flight)),
            Err(failure) => self
                .problem(failure, &state)
                .map(|bytes| ResponseBody::own(bytes, in_flight)),
        };
        if let Some(id) = request_id {
            response.headers_mut().entry(X_REQUEST_ID).or_insert(id);
        }
        if *self.lifecycle.borrow() != Lifecycle::Serving {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Closes connections to endpoints that have been idle for too long.
    pub(super) fn evict_idle(&self) {
        self.sender.pool.evict_idle(Instant::now());
    }

    fn randoms(&self) -> Randoms {
        let mut random = self.random.borrow_mut();
        Randoms {
            request: random.random(),
            trace: random.random(),
            span: random.random(),
        }
    }

    fn problem(&self, failure: Failure, state: &ConnectionState) -> Response<bytes::Bytes> {
        match &failure {
            Failure::NoEndpoint => self.metrics.no_endpoint.add_one(),
            Failure::Unanswered(_) => self.metrics.failed.add_one(),
            Failure::BodyStalled(_) | Failure::BodyBroken(_) => self.metrics.refused.add_one(),
            Failure::Loop => {}
        }
        // What the guard of the socket says is closer to the cause than what hyper makes of it.
        let problem = match (state.refusal(), failure) {
            (Some(refusal), Failure::BodyBroken(_)) => Problem::from(refusal),
            (_, failure) => Problem::from(failure),
        };
        problem.into_response()
    }

    async fn forward(&self, parts: Parts, incoming: Incoming) -> Result<Response<Relay>, Failure> {
        self.budget.borrow_mut().deposit(time::Instant::now());
        let is_idempotent = retry::is_idempotent(&parts.method, &parts.headers);
        let payload = if is_idempotent {
            let bytes_max = self.config.retry.body_bytes_max;
            Payload::kept(incoming, bytes_max, self.config.timeouts.body_idle).await?
        } else {
            Payload::streaming(incoming)
        };
        let outbound = Outbound::new(parts, payload, is_idempotent);
        self.try_endpoints(outbound).await
    }

    /// Attempts until an endpoint answers, or the retry policy or the endpoints are exhausted.
    async fn try_endpoints(&self, mut outbound: Outbound) -> Result<Response<Relay>, Failure> {
        let mut attempts = Attempts::default();
        let mut tried = Vec::new();
        let mut via = Via::PooledOrNew;
        let first = self.balancer.next_attempt(time::Instant::now(), &tried);
        let mut picked = first.ok_or(Failure::NoEndpoint)?;
        loop {
            let began = time::Instant::now();
            let (failed, error) = match self
                .sender
                .attempt(picked.target(), &mut outbound, via)
                .await
            {
                Ok(answered) => return Ok(self.relay(answered, picked, began)),
                Err(AttemptError::Client(failure)) => return Err(failure),
                Err(AttemptError::Endpoint(failed, error)) => (failed, error),
            };
            let now = time::Instant::now();
            let decision = self.after_failure(now, failed, &outbound, &mut attempts);
            if decision == Ok(Decision::SamePlaceNewConnection) {
                via = Via::New;
                self.metrics.retries.add_one();
                continue;
            }
            self.balancer
                .record(now, &picked, Outcome::Failed(failed.kind, &error));
            tried.push(picked.id().clone());
            let next = decision.map(|_| self.balancer.next_attempt(now, &tried));
            let refused = match next {
                Ok(Some(next)) => {
                    picked = next;
                    via = Via::PooledOrNew;
                    self.metrics.retries.add_one();
                    continue;
                }
                Ok(None) => None,
                Err(refused) => Some(refused),
            };
            let endpoint = picked.id().clone();
            let unanswered = Unanswered {
                endpoint,
                kind: failed.kind,
                error,
                refused,
            };
            return Err(Failure::Unanswered(unanswered));
        }
    }

    fn after_failure(
        &self,
        now: time::Instant,
        failed: Failed,
        outbound: &Outbound,
        attempts: &mut Attempts,
    ) -> Result<Decision, retry::Refused> {
        let request = outbound.repeatability();
        let mut budget = self.budget.borrow_mut();
        let decision =
            attempts.after_failure(now, failed, request, &self.config.retry, &mut budget);
        if decision == Err(retry::Refused::OverBudget) {
            self.metrics.retries_over_budget.add_one();
        }
        decision
    }

    fn relay(&self, answered: Answered, picked: Picked, began: time::Instant) -> Response<Relay> {
        let now = time::Instant::now();
        let waited = now.saturating_duration_since(began);
        self.balancer
            .record(now, &picked, Outcome::Answered { waited });
        let (mut parts, incoming) = answered.response.into_parts();
        headers::prepare_response(&mut parts.headers, picked.id().as_str());
        parts.version = Version::HTTP_11;
        let relay = Relay::new(
            incoming,
            picked,
            answered.upstream,
            Rc::clone(&self.sender.pool),
            self.balancer.clone(),
            self.config.timeouts.body_idle,
        );
        Response::from_parts(parts, relay)
    }
}
