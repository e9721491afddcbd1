//! The settings of this crate, each with its meaning, its default and its neighbours.
//!
//! They arrive checked: whoever reads files and flags turns them into these types once, before
//! anything starts.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::retry::BudgetConfig;
use crate::strategy::Strategy;

/// How a [`crate::Balancer`] picks and what it learns.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who is next.
    pub strategy: Strategy,
    /// When an endpoint that cannot be connected to is left out for a while.
    pub ejection: EjectionConfig,
}

/// Passive ejection: consecutive connect failures keep an endpoint out for a short, growing time.
///
/// Only connect failures count. An app that answers 500 or 503 has answered, and one route's
/// broken dependency is no reason to take a node out.
#[derive(Clone, Debug)]
pub struct EjectionConfig {
    /// Consecutive connect failures that eject. Default 2; at least 1.
    pub connect_failures: u32,
    /// Length of the first ejection. Each that follows without a success between is twice as
    /// long. Default 1 s.
    pub duration_base: Duration,
    /// Longest ejection. Default 30 s.
    pub duration_max: Duration,
    /// When an ejection is over, one request tries the endpoint; others stay away until that one
    /// has an outcome, or this time has passed. Default 2 s; longer than [`Timeouts::connect`].
    pub trial: Duration,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            connect_failures: 2,
            duration_base: Duration::from_secs(1),
            duration_max: Duration::from_secs(30),
            trial: Duration::from_secs(2),
        }
    }
}

/// How a [`crate::Proxy`] carries requests.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Name of this proxy, unique among all that a request may pass through. It goes into `Via`,
    /// by which a request that comes back is recognised.
    pub instance: String,
    /// Worker threads. Default: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// Connections of clients in all. When that many are open, no more are accepted: newcomers
    /// wait in the kernel's queue until one closes. Default 16,384.
    pub connections_max: usize,
    /// Whether clients are proxies of one's own, whose `X-Forwarded-Proto` and `X-Forwarded-Host`
    /// are to be kept. Otherwise they are overwritten with what this proxy saw. Default false.
    pub trust_forwarded: bool,
    /// A timer for each phase.
    pub timeouts: Timeouts,
    /// Sending a request again after a failure.
    pub retry: RetryConfig,
    /// Idle connections to endpoints.
    pub pool: PoolConfig,
    /// While draining, how long a connection without a request stays open for one more, which
    /// then is answered with `Connection: close`. Default 500 ms; less than the grace period.
    pub drain_idle: Duration,
}

impl ProxyConfig {
    /// The defaults, for a proxy of this name.
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            workers: None,
            connections_max: 16_384,
            trust_forwarded: false,
            timeouts: Timeouts::default(),
            retry: RetryConfig::default(),
            pool: PoolConfig::default(),
            drain_idle: Duration::from_millis(500),
        }
    }
}

/// How long each phase of a request may take.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a request head to its last. Default 10 s.
    pub client_head: Duration,
    /// A client's connection without a request. Default 75 s.
    pub client_idle: Duration,
    /// Opening a connection to an endpoint. Default 1 s.
    pub connect: Duration,
    /// A connected endpoint whose host acknowledges nothing: the network to it is cut, or the host
    /// is dead. A slow endpoint on a living host is not meant, its host goes on to acknowledge.
    /// Longer than a bad network takes to lose a packet and its first repeats. Default 4 s.
    pub unheard: Duration,
    /// From the last byte of the request taken by the endpoint to the end of its response head.
    /// Default 60 s.
    pub response_head: Duration,
    /// Any body, in either direction, without a byte moving. Default 60 s.
    pub body_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client_head: Duration::from_secs(10),
            client_idle: Duration::from_secs(75),
            connect: Duration::from_secs(1),
            unheard: Duration::from_secs(4),
            response_head: Duration::from_secs(60),
            body_idle: Duration::from_secs(60),
        }
    }
}

/// When a request that failed is sent again.
#[derive(Clone, Debug)]
pub struct RetryConfig {
    /// How often one request may be sent, the first time included. Default 3.
    pub attempts_max: u32,
    /// How many endpoints one request may fail to connect to. Such a failure sends nothing, so it
    /// counts neither as an attempt nor against the budget. Default 16.
    pub connect_attempts_max: u32,
    /// Bytes of a repeatable request's body that are kept for sending it again. A longer body is
    /// streamed and its request not repeated once sending began. Default 64 KiB.
    pub body_bytes_max: usize,
    /// How much of the traffic may be repeats.
    pub budget: BudgetConfig,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            connect_attempts_max: 16,
            body_bytes_max: 64 * 1024,
            budget: BudgetConfig::default(),
        }
    }
}

/// Idle connections to endpoints. Each worker has its own; the one used last is used first.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Idle connections kept for each endpoint and worker; more are closed. Default 256.
    pub idle_max: usize,
    /// How long an idle connection is kept. Shorter than the keep-alive of common servers, so
    /// that it is this side that closes. Default 30 s.
    pub idle_timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            idle_max: 256,
            idle_timeout: Duration::from_secs(30),
        }
    }
}
