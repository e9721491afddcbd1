//! The counters of this crate: plain atomics, one sentence each.
//!
//! Those of an endpoint live with the endpoint and those of a proxy with the proxy, so that the
//! path of a request adds to them without any look-up by name. All count up from zero for as long
//! as their owner lives, except where a sentence says "now".

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// What has been counted so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A time that only grows.
#[derive(Debug, Default)]
pub struct Total(AtomicU64);

impl Total {
    /// What has come together so far.
    pub fn value(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, time: Duration) {
        // Five hundred years fit.
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// A number of things that exist now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// How many there are now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn subtract_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happened to requests given to one endpoint.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Requests with this endpoint now.
    pub in_flight: Gauge,
    /// Times that it was picked, for first attempts and repeats alike.
    pub picked: Counter,
    /// Response heads that it sent, whatever their status.
    pub answered: Counter,
    /// How long response heads were waited for, connecting included.
    pub waited: Total,
    /// Connections that could not be opened.
    pub connect_failures: Counter,
    /// Connections that broke before a response head.
    pub resets: Counter,
    /// Response heads that did not come in time.
    pub timeouts: Counter,
    /// Responses that were not HTTP, or not HTTP that may be passed on.
    pub malformed: Counter,
    /// Response bodies that ended too early.
    pub cut_short: Counter,
    /// Times that connect failures ejected it.
    pub ejections: Counter,
    /// What its latest failure said.
    last_error: Mutex<Option<String>>,
}

impl EndpointCounters {
    /// What its latest failure said, if it ever failed.
    pub fn last_error(&self) -> Option<String> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Failures of all kinds.
    pub fn failures(&self) -> u64 {
        let kinds = [
            &self.connect_failures,
            &self.resets,
            &self.timeouts,
            &self.malformed,
            &self.cut_short,
        ];
        kinds.into_iter().map(Counter::value).sum()
    }

    pub(crate) fn set_last_error(&self, error: &str) {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_owned());
    }
}

/// What happened at one proxy.
#[derive(Debug, Default)]
pub struct ProxyMetrics {
    /// Connections of clients that are open now.
    pub connections: Gauge,
    /// Connections of clients that were accepted.
    pub accepted: Counter,
    /// Times that accepting failed, mostly for lack of file descriptors.
    pub accept_failures: Counter,
    /// Times that accepting waited because the most connections allowed were open.
    pub accept_pauses: Counter,
    /// Requests being served now.
    pub in_flight: Gauge,
    /// Requests whose head was sound.
    pub requests: Counter,
    /// Requests refused because they had no single meaning or were too large.
    pub refused: Counter,
    /// Connections closed because a request head took too long.
    pub heads_timed_out: Counter,
    /// Requests refused because they had passed through here before.
    pub loops: Counter,
    /// Requests for which no endpoint was left to try.
    pub no_endpoint: Counter,
    /// Requests answered with an error of this proxy after an endpoint failed.
    pub failed: Counter,
    /// Requests sent again after a failure, here or elsewhere.
    pub retries: Counter,
    /// Repeats that were allowed but for the budget.
    pub retries_over_budget: Counter,
    /// Connections opened to endpoints.
    pub upstream_connects: Counter,
    /// Requests sent on a connection that was open already.
    pub upstream_reuses: Counter,
    /// Responses that broke off because the endpoint's did.
    pub responses_cut: Counter,
}
