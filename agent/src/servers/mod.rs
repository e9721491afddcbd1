//! Servers without an agent: registered by a person, probed by one agent, balanced to by all.
//!
//! A server here is a member of the cluster in the eyes of clients and operators, and nothing but an address in those
//! of gossip. Three kinds of records make it, all in the replicated store, so that every agent knows the same: its
//! registration, what operators decided about it, and what its probe has found. In go these records and the list of
//! agents; out come [`Servers`], each with its state, for the API and for the balancer.
//!
//! - [`registry`]: the front door: register, unregister, see.
//! - [`request`]: what is asked for, in either of its two shapes. [`registration`]: what is registered, checked.
//! - [`address`]: where a server may be. `preflight`: what answers there already.
//! - [`server`]: a server as its records make it, and the states it goes through.
//! - [`owner`]: which agent probes which server. `attendance`: which can publish what it finds. [`prober`]: doing so.
//!   [`verdict`]: what was found.
//!
//! What is wrong with a request is told before anything is stored. A record of a newer agent that is not understood
//! has no effect. A server whose owner dies, or can no longer write, is probed by the next one; until that has its own finding, the last
//! verdict stands.

pub mod address;
mod attendance;
pub mod owner;
mod preflight;
pub mod prober;
pub mod registration;
pub mod registry;
pub mod request;
pub mod server;
pub mod verdict;

pub use registration::Registration;
pub use registry::{RegisterError, Registered, Registry};
pub use request::{RegistrationError, Request};
pub use server::{Server, Servers};
pub use verdict::Verdict;
