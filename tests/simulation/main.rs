//! Many replicas in one thread, from a seed: with loss, duplication, reordering,
//! partitions, crashes, failing disks, and clocks that step and are up to an hour off.
//!
//! - [`options`]: what a run is made of, drawn from its seed.
//! - [`world`]: virtual time, the network, disks, crashes; drives the replicas.
//! - [`history`]: what clients did and saw, and the invariants it must satisfy.
//! - [`harm`]: what the invariants rest on, taken out, to see that they notice.
//! - [`large`]: clusters too large for a full mesh, with figures instead of faults.
//! - [`runs`]: the tests: many seeds, repeatability, and named scenarios; those about wrong
//!   clocks are in [`clocks`], those about single messages of a pull in [`pulls`].
//!
//! A failure prints the seed, the options and the command that replays it:
//! `SIMULATION_SEED=n cargo nextest run -p basic-tests --test simulation many_seeds`.
//! `SIMULATION_SEEDS=n` sets how many seeds a run covers, `SIMULATION_FIRST=n` the first of
//! them; `scripts/soak simulation` runs many such runs, on all cores.
#![forbid(unsafe_code)]

mod clocks;
mod harm;
mod history;
mod large;
mod options;
mod pulls;
mod runs;
mod settlement;
mod world;
