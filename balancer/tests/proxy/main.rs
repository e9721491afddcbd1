//! The proxy over real sockets on loopback, between raw clients and raw servers.
//!
//! `harness/` holds the three of them: a client that sees every byte, servers that misbehave on
//! demand, and a proxy over some of these. One module for each promise of the proxy.

#![forbid(unsafe_code)]

mod balancing;
mod bodies;
mod forwarding;
mod harness;
mod limits;
mod probing;
mod retries;
mod shutdown;
mod strictness;
