//! How this node itself does: its process, its disk, its gossip, its clock against the others'.
//!
//! The numbers behind the findings, and those that show that nothing is wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use basic_membership::{Diagnostics, Member};
use serde::Serialize;

use super::members::rfc3339;
use crate::host::{DiskSpace, OpenFiles};
use crate::operations::TwoNodes;

/// The process.
#[derive(Serialize)]
pub(super) struct Process {
    pid: u32,
    open_files: Option<u64>,
    open_files_soft: Option<u64>,
    open_files_hard: Option<u64>,
}

/// The file system of the data directory.
#[derive(Serialize)]
pub(super) struct Disk {
    free_bytes: u64,
    total_bytes: u64,
}

/// Gossip, as this node sees and serves it.
#[derive(Serialize)]
pub(super) struct Gossip {
    /// Where other nodes are told to reach this one.
    advertised: SocketAddr,
    /// How late this node's own last tick came, and the latest of all.
    tick_delay_ms: u64,
    tick_delay_max_ms: u64,
    /// Whether it holds back its verdicts on others because it stalled itself.
    removals_held: bool,
    /// How long ago another node last began an exchange with this one.
    last_inbound_ms: Option<u64>,
    /// The longest silence among the members that live, the highest phi, and the phi at which one fails.
    heartbeat_age_max_ms: Option<u64>,
    phi_max: Option<f64>,
    phi_limit: f64,
    /// The others' clocks minus this one's: the median, and the one that is furthest off.
    clock_offset_median_ms: Option<i64>,
    clock_offset_max_ms: Option<i64>,
    silent_seeds: Vec<SocketAddr>,
    unresolved_seeds: BTreeMap<String, String>,
    /// Nodes that are remembered, present or not.
    roster: usize,
    restarts: u64,
}

/// Two processes with this node's id.
#[derive(Serialize)]
pub(super) struct Conflict {
    id: String,
    own: SocketAddr,
    rival: SocketAddr,
    since: String,
}

impl From<OpenFiles> for Process {
    fn from(files: OpenFiles) -> Self {
        Self {
            pid: std::process::id(),
            open_files: files.open,
            open_files_soft: files.soft,
            open_files_hard: files.hard,
        }
    }
}

impl From<DiskSpace> for Disk {
    fn from(space: DiskSpace) -> Self {
        Self {
            free_bytes: space.free,
            total_bytes: space.total,
        }
    }
}

impl From<TwoNodes> for Conflict {
    fn from(conflict: TwoNodes) -> Self {
        Self {
            id: conflict.id.to_string(),
            own: conflict.own,
            rival: conflict.rival,
            since: rfc3339(conflict.since),
        }
    }
}

impl Gossip {
    /// From what gossip has counted, and from the members.
    pub(super) fn new(
        advertised: SocketAddr,
        gossip: &Diagnostics,
        members: &[Member],
        roster: usize,
        phi_limit: f64,
    ) -> Self {
        let others: Vec<&Member> = members
            .iter()
            .filter(|member| member.live && !member.is_self)
            .collect();
        let ages = others.iter().filter_map(|member| member.heartbeat_age);
        let phis = others.iter().filter_map(|member| member.phi);
        let offsets = others.iter().filter_map(|member| member.clock_offset);
        Self {
            advertised,
            tick_delay_ms: millis(gossip.tick_delay),
            tick_delay_max_ms: millis(gossip.tick_delay_max),
            removals_held: gossip.removals_held,
            last_inbound_ms: gossip.last_inbound.map(millis),
            heartbeat_age_max_ms: ages.max().map(millis),
            phi_max: phis.max_by(f64::total_cmp),
            phi_limit,
            clock_offset_median_ms: gossip.clock_offset_median.map(|offset| offset.0),
            clock_offset_max_ms: offsets
                .max_by_key(|offset| offset.abs_ms())
                .map(|offset| offset.0),
            silent_seeds: gossip.silent_seeds.clone(),
            unresolved_seeds: gossip.unresolved_seeds.clone(),
            roster,
            restarts: gossip.counters.gossip_restarts,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
