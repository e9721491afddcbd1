//! How this node itself does: its process, its disk, its gossip, its clock against the others', its record of events.
//!
//! The numbers behind the findings, and those that show that nothing is wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use basic_membership::{Diagnostics, Member};
use basic_sync::net::DiskStatus;
use serde::Serialize;

use super::members::rfc3339;
use crate::events::{EventId, HookStatus, JournalStatus};
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

/// The store: whether its disk answers and can be written.
#[derive(Serialize)]
pub(super) struct Store {
    /// For how long the disk has not answered, once that is too long.
    stuck_ms: Option<u64>,
    /// Why nothing could be written the last time, until something can be.
    failure: Option<StoreFailure>,
}

#[derive(Serialize)]
struct StoreFailure {
    full: bool,
    reason: String,
    since: String,
    last: String,
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

/// The journal of events, and those who are told of them.
#[derive(Serialize)]
pub(super) struct Events {
    /// Everything after this one is kept.
    first: EventId,
    newest: EventId,
    /// Why events are kept in memory only, if they are.
    failure: Option<String>,
    /// Events that never reached the disk.
    unwritten: u64,
    hooks: Vec<Hook>,
}

#[derive(Serialize)]
struct Hook {
    hook: &'static str,
    target: String,
    delivered: u64,
    failed: u64,
    retried: u64,
    dropped: u64,
    waiting: usize,
    last_error: Option<String>,
    last_delivered: Option<String>,
    last_failed: Option<String>,
    last_dropped: Option<String>,
}

impl Events {
    /// From what the journal and the hooks have counted.
    pub(super) fn new(journal: JournalStatus, hooks: Vec<HookStatus>) -> Self {
        let JournalStatus {
            first,
            newest,
            failure,
            unwritten,
        } = journal;
        Self {
            first,
            newest,
            failure,
            unwritten,
            hooks: hooks.into_iter().map(Hook::from).collect(),
        }
    }
}

impl From<HookStatus> for Hook {
    fn from(status: HookStatus) -> Self {
        Self {
            hook: status.hook,
            target: status.target,
            delivered: status.delivered,
            failed: status.failed,
            retried: status.retried,
            dropped: status.dropped,
            waiting: status.waiting,
            last_error: status.last_error,
            last_delivered: status.last_delivered.map(rfc3339),
            last_failed: status.last_failed.map(rfc3339),
            last_dropped: status.last_dropped.map(rfc3339),
        }
    }
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

impl From<DiskStatus> for Store {
    fn from(status: DiskStatus) -> Self {
        Self {
            stuck_ms: status.stuck.map(millis),
            failure: status.failure.map(|failure| StoreFailure {
                full: failure.full,
                reason: failure.reason,
                since: rfc3339(failure.since),
                last: rfc3339(failure.last),
            }),
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

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
