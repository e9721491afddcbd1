//! Clocks that differ, and what replication makes of it.

use basic_membership::{ClockOffset, Member};
use basic_sync::protocol::PeerStatus;

use super::{Code, Facts, Finding};

/// Beyond this, of two writes at the same time the wrong one may win.
const OFFSET_MAX_MS: u64 = 500;
/// Beyond this a node that is ahead has its writes refused.
const OFFSET_REFUSED_MS: u64 = 60_000;
const NEXT: &str = "set the clocks right (NTP; `timedatectl` shows the state) on both machines";

/// This node's own clock, those of others, and writes that were refused for it.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let own = own(facts);
    let is_own = own.is_some();
    let others = facts.others_live().filter(move |_| !is_own);
    let others = others.filter_map(other);
    let refused = facts.peers.iter().filter_map(|peer| refused(facts, peer));
    own.into_iter().chain(others).chain(refused)
}

/// If this clock is far from the middle of all, its own among them, it is this one
/// that is wrong; of two nodes nobody can tell.
fn own(facts: &Facts<'_>) -> Option<Finding> {
    let median = facts.gossip.clock_offset_median?;
    let measured: Vec<(&Member, ClockOffset)> = facts
        .others_live()
        .filter_map(|member| Some((member, member.clock_offset?)))
        .collect();
    if median.abs_ms() <= OFFSET_MAX_MS || measured.len() < 2 {
        return None;
    }
    // Others ahead of this clock: this clock is behind.
    let (ms, direction) = (
        median.abs_ms(),
        if median.0 > 0 { "behind" } else { "ahead of" },
    );
    let each: Vec<String> = measured
        .iter()
        .map(|(member, offset)| format!("{}: {offset}", member.id))
        .collect();
    Some(
        judged(
            ms,
            format!("this node's clock is {ms} ms {direction} those of the others"),
        )
        .about(facts.own_id)
        .cause("this machine's clock is not kept right")
        .evidence(format!(
            "their clocks against this one's: {}",
            each.join(", ")
        ))
        .next("set this machine's clock right (NTP; `timedatectl` shows the state)"),
    )
}

fn other(member: &Member) -> Option<Finding> {
    let offset = member.clock_offset?;
    let ms = offset.abs_ms();
    if ms <= OFFSET_MAX_MS {
        return None;
    }
    let direction = if offset.0 > 0 { "ahead of" } else { "behind" };
    Some(
        judged(
            ms,
            format!(
                "the clock of {} is {ms} ms {direction} this node's",
                member.id
            ),
        )
        .about(&member.id)
        .cause("the clock of one of the two machines is not kept right")
        .evidence(format!("measured by its gossip: {offset}"))
        .next(NEXT),
    )
}

fn judged(ms: u64, fact: String) -> Finding {
    if ms > OFFSET_REFUSED_MS {
        let fact = format!("{fact}; writes of the one that is ahead are refused by the others");
        Finding::error(Code::ClockOff, fact)
    } else {
        Finding::warning(Code::ClockOff, fact)
    }
}

fn refused(facts: &Facts<'_>, peer: &PeerStatus) -> Option<Finding> {
    let error = peer.last_error.clone()?;
    Some(
        Finding::error(
            Code::ReplicationBroken,
            format!("writes of {} are not taken in", peer.peer),
        )
        .cause(error)
        .evidence(format!(
            "{} messages were refused for their clock",
            facts.clocks_refused
        ))
        .next(NEXT),
    )
}

#[cfg(test)]
mod tests {
    use basic_sync::model::PeerId;

    use super::super::scene::Scene;
    use super::*;

    fn offsets(n2: i64, n3: i64) -> Scene {
        let mut scene = Scene::healthy();
        scene.member("n2").clock_offset = Some(ClockOffset(n2));
        scene.member("n3").clock_offset = Some(ClockOffset(n3));
        // As gossip concludes it: this node's own clock is one of the three.
        let mut clocks = [n2, n3, 0];
        clocks.sort_unstable();
        scene.gossip.clock_offset_median = Some(ClockOffset(clocks[1]));
        scene
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning_and_an_hour_off_an_error() {
        assert_eq!(offsets(400, -400).findings(), []);
        let off = offsets(700, 0).only(Code::ClockOff);
        assert!(
            !off.is_error() && off.fact.contains("700 ms ahead of"),
            "{off:?}"
        );
        let hour = offsets(-3_600_000, 5).only(Code::ClockOff);
        assert!(
            hour.is_error() && hour.node.as_deref() == Some("n2"),
            "{hour:?}"
        );
    }

    #[test]
    fn if_all_others_agree_it_is_this_nodes_clock_that_is_wrong() {
        let own = offsets(3_600_000, 3_600_010).only(Code::ClockOff);
        assert!(
            own.is_error() && own.node.as_deref() == Some("n1"),
            "{own:?}"
        );
        assert!(own.fact.contains("behind those of the others"), "{own:?}");
    }

    #[test]
    fn offsets_beyond_all_sense_are_told_like_any_other() {
        let scene = offsets(i64::MIN, i64::MIN);
        assert!(scene.only(Code::ClockOff).is_error());
    }

    #[test]
    fn writes_that_are_refused_are_an_error() {
        let mut scene = Scene::healthy();
        scene.peers = vec![PeerStatus {
            peer: PeerId::new("n2"),
            linked: true,
            heard: true,
            behind: 3,
            unacknowledged: 0,
            caught_up: false,
            last_error: Some("its clock is 61 s ahead".to_owned()),
            progress: Default::default(),
        }];
        let found = scene.only(Code::ReplicationBroken);
        assert_eq!(found.cause, "its clock is 61 s ahead");
    }
}
