//! When a node that starts has caught up with the others.
//!
//! It must not take traffic while its data is older than what its peers have shown to
//! clients. So it first looks for the others, and then waits until it has heard from
//! every running member what that member has, and has it too. These may keep it from
//! that for ever, and bound the wait; each is said aloud:
//! - no other member is there: it is alone, or the others are down;
//! - a member is alive in gossip, but its peer port cannot be reached by TCP;
//! - what a member sends is refused, its clock being far off, while another member
//!   has been caught up with. If all are refused it is this node's clock that is wrong,
//!   and it does not become ready.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use basic_membership::{Cluster, Member, MemberState, Members};
use basic_sync::model::PeerId;
use basic_sync::net::Handle;
use basic_sync::protocol::{Status, Trust};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Config;

/// How long a node looks for the first other member, at least; with slow gossip, for
/// as many rounds as [`DISCOVERY_ROUNDS`] says.
const DISCOVERY_MIN: Duration = Duration::from_secs(3);
/// Rounds of gossip in which a member that runs is surely found.
const DISCOVERY_ROUNDS: u32 = 15;
/// Rounds of gossip after the first other member was found, for the rest to be found.
const SETTLING_ROUNDS: u32 = 2;
/// How long a member that cannot be caught up with is waited for.
const HOPELESS_AFTER: Duration = Duration::from_secs(10);
/// How often the time limits are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks for other members. Others are to be expected if there are seeds besides this
/// node itself, if the roster names others that have not left, or if the store holds
/// writes of others; without, it returns at once.
pub async fn discover(config: &Config, own: SocketAddr, cluster: &Cluster, replica: &Handle) {
    let others_are_seeds = config
        .peer
        .seeds
        .iter()
        .any(|seed| seed.socket_address() != Some(own));
    let others_have_written = {
        let status = replica.status().borrow().clone();
        status
            .vector
            .iter()
            .any(|(origin, _)| origin.replica != status.origin.replica)
    };
    let others_are_known = cluster
        .roster()
        .iter()
        .any(|entry| entry.id != cluster.identity().id && entry.last_state != MemberState::Left);
    if !others_are_seeds && !others_are_known && !others_have_written {
        return;
    }
    let began = Instant::now();
    let limit = DISCOVERY_MIN.max(config.gossip.interval * DISCOVERY_ROUNDS);
    let settling = config.gossip.interval * SETTLING_ROUNDS;
    let mut changes = cluster.watch();
    let mut found = None;
    loop {
        let others = others_running(&changes.borrow_and_update());
        match found {
            None if others > 0 => found = Some(Instant::now()),
            Some(when) if when.elapsed() >= settling => return,
            None if began.elapsed() >= limit => {
                warn!("no other member answers; going on alone");
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

fn others_running(members: &Members) -> usize {
    let running = members
        .iter()
        .filter(|member| !member.is_self && member.state.is_running());
    running.count()
}

/// Returns when this node has all that the running members have.
pub async fn caught_up(cluster: &Cluster, replica: &Handle) {
    let began = Instant::now();
    let mut members_changed = cluster.watch();
    let mut status_changed = replica.status();
    let mut since: HashMap<PeerId, Instant> = HashMap::new();
    loop {
        let members = members_changed.borrow_and_update().clone();
        let status = status_changed.borrow_and_update().clone();
        let now = Instant::now();
        let waits = waits(members.iter().as_slice(), &status);
        since.retain(|peer, _| waits.iter().any(|wait| wait.peer == *peer));
        let mut hopeful = false;
        for wait in &waits {
            let waited = now - *since.entry(wait.peer.clone()).or_insert(now);
            hopeful |= wait.hopeless.is_none() || waited < HOPELESS_AFTER;
        }
        if !hopeful {
            for Wait { peer, hopeless } in waits {
                warn!(%peer, reason = hopeless, "not waited for any longer; its latest writes may be missing here");
            }
            break;
        }
        tokio::select! {
            Ok(()) = members_changed.changed() => {}
            Ok(()) = status_changed.changed() => {}
            () = sleep(LOOK) => {}
        }
    }
    info!(
        took_ms = began.elapsed().as_millis(),
        "caught up with the other members"
    );
}

/// Whether this node has all that the running members have; `None` where it may wait for it
/// in vain.
pub(super) fn has_all(members: &[Member], status: &Status) -> Option<bool> {
    let waits = waits(members, status);
    match waits.iter().any(|wait| wait.hopeless.is_none()) {
        true => Some(false),
        false => waits.is_empty().then_some(true),
    }
}

/// A member whose data this node does not have yet.
struct Wait {
    peer: PeerId,
    /// Why waiting for it may be in vain.
    hopeless: Option<&'static str>,
}

fn waits(members: &[Member], status: &Status) -> Vec<Wait> {
    let running = members
        .iter()
        .filter(|member| !member.is_self && member.state.is_running());
    let wait = |peer: PeerId| {
        let known = status.peers.iter().find(|known| known.peer == peer);
        let hopeless = match known {
            // What they have comes by way of those that are near.
            Some(known) if known.caught_up || !known.near => return None,
            Some(known) if matches!(known.trust, Trust::Foreign | Trust::Fenced | Trust::Stale) => {
                Some("nothing is taken from it")
            }
            Some(known) if known.linked && known.heard => None,
            _ => Some("its peer port cannot be reached"),
        };
        Some(Wait { peer, hopeless })
    };
    running
        .filter_map(|member| wait(PeerId::new(member.id.as_str())))
        .collect()
}
