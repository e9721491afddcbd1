//! The seams between the crates: what one says, in the words of another.
//!
//! - [`peers`]: streams of the peer port for replication and for large gossip frames.
//! - [`routing`]: members become endpoints of the balancer and peers of replication.
//! - [`health`]: what the probe of the app finds becomes metadata.
//! - [`readiness`]: when a node that starts has caught up with the others.
//! - [`journal`]: what happens to members is logged.
//! - [`settings`]: the configuration, crate by crate.
//!
//! Each is a function that runs until the agent stops, or a small type. None of them
//! decides anything that a crate could decide by itself.

pub mod health;
pub mod journal;
pub mod peers;
pub mod readiness;
pub mod routing;
pub mod settings;
