//! Picks an endpoint for each attempt, and learns from how it went.
//!
//! In: the endpoints, whole ([`Balancer::set_endpoints`]), and the outcome of each attempt
//! ([`Balancer::record`]). Out: the next endpoint to try ([`Balancer::next_attempt`]) and what is
//! known about each ([`Balancer::snapshot`]). It does no input or output and takes the time as an
//! argument.
//!
//! Candidates come in two tiers. First those that accept requests and are not ejected. When none
//! of these is left, all that are not out for good (see [`Admission`]): it fails open, because
//! asking a server that is thought dead beats refusing for certain. The only answer but an
//! endpoint is `None`: there is nothing (more) to try.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::endpoint::{Admission, Endpoint, EndpointId};
use crate::strategy::Chooser;
use crate::table::{Entry, Table};

/// Spreads attempts over endpoints. Clones share everything.
#[derive(Clone)]
pub struct Balancer {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    chooser: Chooser,
    table: ArcSwap<Table>,
}

impl Balancer {
    /// A balancer without endpoints.
    pub fn new(config: Config) -> Self {
        let chooser = Chooser::new(config.strategy);
        let table = ArcSwap::default();
        Self {
            shared: Arc::new(Shared {
                config,
                chooser,
                table,
            }),
        }
    }

    /// Replaces the endpoints. What was learned about those that stay (same id, same target) is
    /// kept; an endpoint that was refused and is accepted now is no longer ejected. Of several
    /// with one id the first counts. Attempts under way are not disturbed.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.shared
            .table
            .rcu(|table| table.followed_by(endpoints.clone()));
    }

    /// The endpoint to try at `now`, other than those in `tried`.
    ///
    /// It counts as in flight until the returned value is dropped.
    pub fn next_attempt(&self, now: Instant, tried: &[EndpointId]) -> Option<Picked> {
        let table = self.shared.table.load();
        let untried = |entry: &Entry| !tried.contains(&entry.endpoint.id);
        let in_rotation = |entry: &Entry| {
            entry.endpoint.admission.accepts()
                && untried(entry)
                && !entry.learned.health.is_ejected(now)
        };
        let last_resort =
            |entry: &Entry| entry.endpoint.admission.is_last_resort() && untried(entry);
        let entry = self
            .choose_among(&table, in_rotation)
            .or_else(|| self.choose_among(&table, last_resort))?;
        entry
            .learned
            .health
            .record_pick(now, &self.shared.config.ejection);
        Some(Picked::new(Arc::clone(entry)))
    }

    /// Learns at `now` how the attempt with `picked` went.
    pub fn record(&self, now: Instant, picked: &Picked, outcome: Outcome<'_>) {
        let learned = &picked.entry.learned;
        let id = picked.id();
        let (kind, error) = match outcome {
            Outcome::Answered { waited } => {
                learned.counters.answered.add_one();
                learned.counters.waited.add(waited);
                if learned.health.record_answer() {
                    tracing::info!(endpoint = %id, "endpoint answers again");
                }
                return;
            }
            Outcome::Failed(kind, error) => (kind, error),
        };
        learned.counters.set_last_error(error);
        match kind {
            FailureKind::Connect => &learned.counters.connect_failures,
            FailureKind::Reset => &learned.counters.resets,
            FailureKind::Timeout => &learned.counters.timeouts,
            FailureKind::Malformed => &learned.counters.malformed,
            FailureKind::CutShort => &learned.counters.cut_short,
        }
        .add_one();
        if kind != FailureKind::Connect {
            return;
        }
        let ejection = learned
            .health
            .record_connect_failure(now, &self.shared.config.ejection);
        if let Some(ejection) = ejection {
            learned.counters.ejections.add_one();
            tracing::warn!(endpoint = %id, duration = ?ejection.duration, error, "endpoint ejected");
        }
    }

    /// What is known at `now` about each endpoint, in the order of the table.
    pub fn snapshot(&self, now: Instant) -> Vec<EndpointSnapshot> {
        let table = self.shared.table.load();
        table
            .entries
            .iter()
            .map(|entry| EndpointSnapshot::new(entry, now))
            .collect()
    }

    fn choose_among<'t>(
        &self,
        table: &'t Table,
        is_candidate: impl Fn(&Entry) -> bool,
    ) -> Option<&'t Arc<Entry>> {
        let candidates = || table.entries.iter().filter(|entry| is_candidate(entry));
        let weights = candidates().map(|entry| entry.endpoint.weight);
        let position = self.shared.chooser.choose(weights);
        // Another worker may have ejected one between the choice and now: then take any.
        position
            .and_then(|position| candidates().nth(position))
            .or_else(|| candidates().next())
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("table", &self.shared.table.load())
            .finish()
    }
}

/// An endpoint that was picked for an attempt. In flight until dropped.
#[derive(Debug)]
pub struct Picked {
    entry: Arc<Entry>,
}

impl Picked {
    /// Which endpoint.
    pub fn id(&self) -> &EndpointId {
        &self.entry.endpoint.id
    }

    /// Where to connect to.
    pub fn target(&self) -> SocketAddr {
        self.entry.endpoint.target
    }

    fn new(entry: Arc<Entry>) -> Self {
        entry.learned.counters.picked.add_one();
        entry.learned.counters.in_flight.add_one();
        Self { entry }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.entry.learned.counters.in_flight.subtract_one();
    }
}

/// How an attempt went.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// A response head came. Its status does not matter: a 503 is the app's answer.
    Answered {
        /// Since the attempt began, with the time to connect.
        waited: Duration,
    },
    /// It failed in this way; the text says what the system or the protocol said.
    Failed(FailureKind, &'a str),
}

/// In which way an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be opened; nothing was sent.
    Connect,
    /// The connection broke before a response head came.
    Reset,
    /// No response head came in time.
    Timeout,
    /// What came was not a response that may be passed on.
    Malformed,
    /// The body of the response broke off. Its head had been passed on already.
    CutShort,
}

/// What is known about an endpoint at one moment.
#[derive(Clone, Debug)]
pub struct EndpointSnapshot {
    /// The endpoint as it was given.
    pub endpoint: Endpoint,
    /// Requests with it now.
    pub in_flight: u64,
    /// Times that it was picked.
    pub picked: u64,
    /// Response heads that it sent.
    pub answered: u64,
    /// How long these were waited for, all together.
    pub waited: Duration,
    /// Failures of all kinds.
    pub failures: u64,
    /// Of these, connections that could not be opened.
    pub connect_failures: u64,
    /// Times that it was ejected.
    pub ejections: u64,
    /// How much longer it is ejected, if it is.
    pub ejected_for: Option<Duration>,
    /// Connections in a row that could not be opened, up to now; 0 once it has answered.
    pub failing: u32,
    /// How long ago the first of these failed.
    pub failing_for: Option<Duration>,
    /// What its latest failure said.
    pub last_error: Option<String>,
}

impl EndpointSnapshot {
    /// Whether it is given new requests in the ordinary course.
    pub fn in_rotation(&self) -> bool {
        self.endpoint.admission == Admission::Accepting && self.ejected_for.is_none()
    }

    fn new(entry: &Entry, now: Instant) -> Self {
        let counters = &entry.learned.counters;
        let ejected_until = entry.learned.health.ejected_until(now);
        let trouble = entry.learned.health.trouble();
        Self {
            endpoint: entry.endpoint.clone(),
            in_flight: counters.in_flight.value(),
            picked: counters.picked.value(),
            answered: counters.answered.value(),
            waited: counters.waited.value(),
            failures: counters.failures(),
            connect_failures: counters.connect_failures.value(),
            ejections: counters.ejections.value(),
            ejected_for: ejected_until.map(|until| until.saturating_duration_since(now)),
            failing: trouble.map_or(0, |trouble| trouble.failures),
            failing_for: trouble.map(|trouble| now.saturating_duration_since(trouble.since)),
            last_error: counters.last_error(),
        }
    }
}

#[cfg(test)]
mod tests;
