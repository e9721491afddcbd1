//! When a node that starts has caught up with the others.
//!
//! It must not take traffic while its data is older than what its peers have shown to
//! clients. So it waits until it has heard from every running member what that member
//! has, and has it too. Three things may keep it from that for ever, and bound the
//! wait: no other member is there (it is alone, or the others are down), a member is
//! alive in gossip but its peer port cannot be reached by TCP, and a store that fails.
//! The first two are waited for a while and then said aloud; the last is in the log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use basic_membership::{Cluster, Members};
use basic_sync::model::PeerId;
use basic_sync::net::Handle;
use basic_sync::protocol::Status;
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a node with seeds waits for the first other member.
const DISCOVERY_MAX: Duration = Duration::from_secs(3);
/// After the first other member was found: how long for more to be found.
const DISCOVERY_SETTLES: Duration = Duration::from_millis(400);
/// How long a member may stay unreachable for replication before it is not waited for.
const UNREACHABLE_MAX: Duration = Duration::from_secs(10);
/// How often the time limits are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Returns when this node has all that the running members have. `seeds` tells
/// whether there are others to be expected.
pub async fn caught_up(cluster: &Cluster, replica: &Handle, seeds: bool) {
    let began = Instant::now();
    if seeds {
        discover(cluster, began).await;
    }
    let mut members_changed = cluster.watch();
    let mut status_changed = replica.status();
    let mut seen: HashMap<PeerId, Instant> = HashMap::new();
    loop {
        let members = members_changed.borrow_and_update().clone();
        let status = status_changed.borrow_and_update().clone();
        let now = Instant::now();
        let waits = waiting_for(&members, &status);
        seen.retain(|peer, _| waits.iter().any(|wait| wait.peer == *peer));
        let still = waits.iter().filter(|wait| {
            let since = *seen.entry(wait.peer.clone()).or_insert(now);
            wait.heard || now - since < UNREACHABLE_MAX
        });
        if still.count() == 0 {
            for wait in waits {
                warn!(peer = %wait.peer, "not waited for any longer: its peer port cannot be reached");
            }
            break;
        }
        tokio::select! {
            _ = members_changed.changed() => {}
            _ = status_changed.changed() => {}
            () = sleep(LOOK) => {}
        }
    }
    info!(
        took_ms = began.elapsed().as_millis(),
        "caught up with the other members"
    );
}

async fn discover(cluster: &Cluster, began: Instant) {
    let mut changes = cluster.watch();
    let others = |members: &Members| {
        members
            .iter()
            .filter(|member| !member.is_self && member.state.is_running())
            .count()
    };
    let mut found = None;
    loop {
        let count = others(&changes.borrow_and_update());
        match found {
            None if count > 0 => found = Some(Instant::now()),
            Some(when) if when.elapsed() >= DISCOVERY_SETTLES => return,
            None if began.elapsed() >= DISCOVERY_MAX => {
                info!("no other member answers; going on alone");
                return;
            }
            _ => {}
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// A member whose data this node does not have yet.
struct Wait {
    peer: PeerId,
    /// It has told what it has.
    heard: bool,
}

fn waiting_for(members: &Members, status: &Status) -> Vec<Wait> {
    let running = members
        .iter()
        .filter(|member| !member.is_self && member.state.is_running());
    running
        .filter_map(|member| {
            let peer = PeerId::new(member.id.as_str());
            let known = status.peers.iter().find(|known| known.peer == peer);
            if known.is_some_and(|known| known.caught_up) {
                return None;
            }
            Some(Wait {
                peer,
                heard: known.is_some_and(|known| known.heard && known.linked),
            })
        })
        .collect()
}
