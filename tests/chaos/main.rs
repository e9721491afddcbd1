//! Faults between hosts: real binaries in network namespaces on a bridge.
//!
//! Each test has a cluster of its own, one node a host ([`world`]), does one kind
//! of harm to it, and looks at it from outside as a user does: members, documents,
//! requests through the proxies ([`watcher`] records every state that any node
//! sees of any other). One test runs at a time, alone (`.config/nextest.toml`).
//!
//! Where network namespaces cannot be made, a test says `skipped` with the reason;
//! where the variable `CI` is set it fails instead. `CHAOS_LOSS_SECONDS` makes the
//! test of packet loss longer.

mod copied;
mod hosts;
mod in_flight;
mod ipv6;
mod isolation;
mod loss;
mod names;
mod one_way;
mod seeds;
mod split;
mod stalls;
mod watcher;
mod world;
