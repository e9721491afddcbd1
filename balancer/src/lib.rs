//! Spreads requests over endpoints, and carries them there.
//!
//! The map of this crate, from pure to concrete:
//!
//! - [`Endpoint`] and [`EndpointId`] (`endpoint.rs`): what can be picked, and whether it may be.
//! - [`Balancer`] (`balancer.rs`): picks an endpoint, learns from outcomes. It opens no socket,
//!   reads no clock and draws no random number: time comes in as an argument. Beside it `table.rs`
//!   (the endpoints, swapped whole), `strategy/` (who is next), `health.rs` (passive ejection).
//! - `retry/`: whether a failed request may be sent again: idempotency, attempts, a budget. Pure.
//! - `http1/`: which bytes of a client are one request with one meaning. Pure.
//! - [`probe`]: asks one app over HTTP whether it is well, and publishes the answer.
//! - [`Proxy`] (`proxy/`): the data plane. The only place with sockets, threads and hyper.
//! - [`metrics`]: the counters that the above keep.
//!
//! This crate knows nothing of membership, replication or the agent. Whoever owns it translates
//! members to endpoints and hands them to [`Balancer::set_endpoints`].

#![forbid(unsafe_code)]

mod balancer;
mod config;
mod endpoint;
mod error;
mod health;
mod http1;
pub mod metrics;
pub mod probe;
mod proxy;
mod retry;
mod strategy;
mod table;

pub use balancer::{Balancer, EndpointSnapshot, FailureKind, Outcome, Picked};
pub use config::{Config, EjectionConfig, PoolConfig, ProxyConfig, RetryConfig, Timeouts};
pub use endpoint::{Admission, Endpoint, EndpointId, Refusal};
pub use error::{BindError, StartError};
pub use proxy::{Drained, Proxy, RunningProxy};
pub use retry::BudgetConfig;
pub use strategy::{Strategy, UnknownStrategy};
