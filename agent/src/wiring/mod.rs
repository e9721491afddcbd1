//! The seams between the crates: what one says, in the words of another.
//!
//! - [`peers`]: streams of the peer port for replication and for large gossip frames.
//! - [`routing`]: members become endpoints of the balancer and peers of replication.
//! - `servers`: servers without an agent become endpoints too.
//! - `targets`: where requests for an app may go.
//! - [`clock`]: a node whose clock is ahead of the others' takes no writes.
//! - [`health`]: what the probe of the app finds becomes metadata.
//! - [`readiness`]: when a node that starts has caught up with the others.
//! - [`settings`]: the configuration, crate by crate.
//!
//! Each is a function that runs until the agent stops, or a small type. What they decide
//! is what no crate can decide alone, because it takes facts of two of them.

pub mod clock;
pub mod health;
pub mod peers;
pub mod readiness;
pub mod routing;
mod servers;
pub mod settings;
mod targets;
