//! End to end: real binaries, started by the real scripts, seen from outside.
//!
//! Each test has a cluster of its own, on its own ports and in its own
//! directory; one runs at a time (`.config/nextest.toml`). They know what a user
//! knows: commands, configuration files, HTTP answers, exit codes, logs.

mod acknowledgements;
mod backup;
mod bad_input;
mod batches;
mod clocks;
mod command_line;
mod conditions;
mod doctor;
mod documents;
mod events;
mod explain;
mod failover;
mod footprint;
mod history;
mod hostile_peer;
mod ipv6;
mod keys;
mod lag;
mod leaving;
mod local_cluster;
mod metrics;
mod operations;
mod overlay;
mod policies;
mod proxying;
mod recovery;
mod refusals;
mod sample_server;
mod servers;
mod sessions;
mod settled;
mod support;
mod tasks;
mod trust;
mod verify;
mod watchers;
