//! Basic Agent: one process beside each server, which together turn one-node servers into a cluster.
//!
//! This crate is the composition root, the only one that knows all others. It holds no clustering, replication or
//! balancing of its own. The map:
//!
//! - [`agent`]: the life of the agent, from opening the store to the last word to its peers. Read it first.
//! - [`wiring`]: what one crate says, in the words of another.
//! - [`api`]: the HTTP API, all routes in one place.
//! - [`peer_port`]: the one port other hosts need, and all of TLS.
//! - [`operations`]: what operators decide about nodes, and the record of who did it.
//! - [`records`]: the agents' own documents in the replicated store.
//! - [`doctor`]: what keeps an agent from running well; [`host`]: what the machine allows.
//! - [`events`]: what happened, why, and how that is known; kept, served, and told to hooks.
//! - [`servers`]: servers without an agent beside them.
//! - [`sync_tasks`]: data that nodes are to have, in the author's JSON; by priority, with retries.
//! - [`sessions`]: the token by which a client finds on any node what it wrote on another.
//! - [`keys`]: the secrets of the cluster, their rotation, the join token.
//! - [`config`]: what is wanted. [`telemetry`]: what happens. [`cli`]: the command line.
//! - [`tasks`]: background tasks, by name. [`error`]: why an agent does not run.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod durations;
pub mod error;
pub mod events;
pub mod host;
pub mod keys;
mod names;
pub mod operations;
pub mod peer_port;
pub mod records;
mod replace;
pub mod servers;
pub mod sessions;
pub mod sync_tasks;
pub mod tasks;
pub mod telemetry;
pub mod wiring;
