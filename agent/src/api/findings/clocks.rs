//! Clocks that differ, and what replication makes of it.

use std::time::{Duration, UNIX_EPOCH};

use basic_membership::{ClockOffset, Member};
use basic_sync::storage::DatedAhead;

use super::{Code, Facts, Finding, rfc3339};
use crate::wiring::clock::{AHEAD_MAX_MS, OwnClockAhead};

/// Beyond this, of two writes at the same time the wrong one may win.
const OFFSET_MAX_MS: u64 = AHEAD_MAX_MS.unsigned_abs();
/// Beyond this it needs a hand now.
const OFFSET_ERROR_MS: u64 = 60_000;
const NEXT: &str = "set the clocks right (NTP; `timedatectl` shows the state) on both machines";
const NEXT_OWN: &str = "set this machine's clock right (NTP; `timedatectl` shows the state)";

/// This node's own clock, those of others, and writes that came with dates far ahead.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let own = own_ahead(facts).or_else(|| own_off(facts));
    let is_own = own.is_some();
    let others = facts.others_live().filter(move |_| !is_own);
    let others = others.filter_map(other);
    let dated = facts.dated_ahead.iter().map(|one| dated_ahead(facts, one));
    own.into_iter().chain(others).chain(dated)
}

/// This node takes no writes because of its clock.
fn own_ahead(facts: &Facts<'_>) -> Option<Finding> {
    let OwnClockAhead { ahead_ms, since } = facts.clock_ahead?;
    let fact = format!(
        "this node's clock is {ahead_ms} ms ahead of those of most others; it takes no writes"
    );
    Some(
        Finding::error(Code::ClockOff, fact)
            .about(facts.own_id)
            .since(since)
            .cause(
                "this machine's clock is not kept right; what it wrote would win over newer writes",
            )
            .evidence(compared(facts))
            .next(format!("{NEXT_OWN}; then it takes writes again by itself")),
    )
}

/// If this clock is far from the middle of all, its own among them, it is this one
/// that is wrong; of two nodes nobody can tell.
fn own_off(facts: &Facts<'_>) -> Option<Finding> {
    let median = facts.gossip.clock_offset_median?;
    if median.abs_ms() <= OFFSET_MAX_MS || measured(facts).count() < 2 {
        return None;
    }
    let ms = median.abs_ms();
    // Others ahead of this clock: this clock is behind.
    let (direction, cause) = match median.0 > 0 {
        true => (
            "behind",
            "this machine's clock is not kept right; where another node writes the same at the same time, its write wins",
        ),
        false => (
            "ahead of",
            "this machine's clock is not kept right, or gossip is long on its way",
        ),
    };
    let fact = format!("this node's clock is {ms} ms {direction} those of the others");
    Some(
        judged(ms, fact)
            .about(facts.own_id)
            .cause(cause)
            .evidence(compared(facts))
            .next(NEXT_OWN),
    )
}

fn other(member: &Member) -> Option<Finding> {
    let offset = member.clock_offset?;
    let ms = offset.abs_ms();
    if ms <= OFFSET_MAX_MS {
        return None;
    }
    let direction = if offset.0 > 0 { "ahead of" } else { "behind" };
    let fact = format!(
        "the clock of {} is {ms} ms {direction} this node's",
        member.id
    );
    // It judges that by itself, and announces it.
    let finding = if member.metadata.clock_ahead && offset.0 > 0 {
        Finding::error(Code::ClockOff, format!("{fact}; it takes no writes"))
            .cause("the clock of its machine is not kept right; what it wrote would win over newer writes")
            .next(format!(
                "set the clock right on the host of {} (NTP; `timedatectl` shows the state); then it takes writes again by itself",
                member.id
            ))
    } else {
        judged(ms, fact)
            .cause("the clock of one of the two machines is not kept right; of two writes at the same time that of the one ahead wins")
            .next(NEXT)
    };
    Some(
        finding
            .about(&member.id)
            .evidence(format!("measured by its gossip: {offset}")),
    )
}

fn measured<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = (&'f Member, ClockOffset)> {
    let others = facts.others_live();
    others.filter_map(|member| Some((member, member.clock_offset?)))
}

fn compared(facts: &Facts<'_>) -> String {
    let each: Vec<String> = measured(facts)
        .map(|(member, offset)| format!("{}: {offset}", member.id))
        .collect();
    if each.is_empty() {
        return "no other node is heard now; it was measured before".to_owned();
    }
    format!("their clocks against this one's: {}", each.join(", "))
}

fn judged(ms: u64, fact: String) -> Finding {
    if ms > OFFSET_ERROR_MS {
        Finding::error(Code::ClockOff, fact)
    } else {
        Finding::warning(Code::ClockOff, fact)
    }
}

/// Writes came with dates far ahead of this node's clock. They are in, and win against
/// whatever was written without knowing of them.
fn dated_ahead(facts: &Facts<'_>, one: &DatedAhead) -> Finding {
    let writer = writer(facts, one);
    let latest = UNIX_EPOCH.checked_add(Duration::from_millis(one.latest.millis()));
    let until = latest.map_or_else(|| "the far future".to_owned(), rfc3339);
    let (writes, key) = (one.writes, &one.key);
    let document = format!("{}/{}", key.collection(), key.name());
    let name = writer.map_or_else(
        || format!("replica {}", one.origin),
        |member| member.id.to_string(),
    );
    let finding = Finding::warning(
        Code::DatedAhead,
        format!("{writes} writes of {name} are dated ahead of this node's clock, up to {until}"),
    )
    .cause(format!(
        "the clock of {name} was ahead when it took them, or this node's is behind"
    ))
    .evidence(format!("the latest is in {document}"))
    .next("nothing is lost, and whoever writes such a document anew wins; look whether another node's write at the same time was beaten");
    match writer {
        Some(member) => finding.about(&member.id),
        None => finding,
    }
}

/// The member whose data it is: its origin names the replica and one life of it.
fn writer<'f>(facts: &'f Facts<'_>, one: &DatedAhead) -> Option<&'f Member> {
    let replica = one.origin.replica.to_string();
    let mut members = facts.members.iter();
    members.find(|member| {
        let announced = member.metadata.replica.as_deref();
        announced.is_some_and(|origin| origin.starts_with(&replica))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use basic_sync::model::{Collection, Epoch, Key, Origin, ReplicaId, Timestamp};

    use super::super::scene::{Scene, now};
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
    fn a_clock_that_is_behind_is_a_warning_and_an_hour_behind_an_error() {
        assert_eq!(offsets(400, -400).findings(), []);
        let off = offsets(-700, 0).only(Code::ClockOff);
        assert!(
            !off.is_error() && off.fact.contains("700 ms behind"),
            "{off:?}"
        );
        let hour = offsets(-3_600_000, 5).only(Code::ClockOff);
        assert!(
            hour.is_error() && hour.node.as_deref() == Some("n2"),
            "{hour:?}"
        );
    }

    #[test]
    fn a_clock_that_is_ahead_of_most_is_an_error_since_its_node_takes_no_writes() {
        let mut scene = offsets(5, 700);
        let mut metadata = (*scene.member("n3").metadata).clone();
        metadata.clock_ahead = true;
        scene.member("n3").metadata = Arc::new(metadata);
        let off = scene.only(Code::ClockOff);
        assert!(
            off.is_error() && off.node.as_deref() == Some("n3"),
            "{off:?}"
        );
        assert!(off.fact.contains("700 ms ahead of"), "{off:?}");
        assert!(off.fact.contains("it takes no writes"), "{off:?}");
    }

    #[test]
    fn a_clock_ahead_of_this_one_alone_keeps_nobody_from_writing() {
        let off = offsets(700, 0).only(Code::ClockOff);
        assert!(!off.is_error() && !off.fact.contains("takes no"), "{off:?}");
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
    fn a_node_that_takes_no_writes_for_its_clock_says_so_and_what_to_do() {
        let mut scene = offsets(-3_600_000, -3_600_010);
        scene.clock_ahead = Some(OwnClockAhead {
            ahead_ms: 3_600_000,
            since: now(),
        });
        let own = scene.only(Code::ClockOff);
        assert!(own.is_error() && own.fact.contains("takes no writes"));
        assert!(own.evidence.contains("n3: -3600010 ms"), "{own:?}");
        for id in ["n2", "n3"] {
            scene.member(id).clock_offset = None;
        }
        let alone = scene.only(Code::ClockOff);
        assert!(alone.evidence.contains("no other node"), "{alone:?}");
    }

    #[test]
    fn offsets_beyond_all_sense_are_told_like_any_other() {
        for extreme in [i64::MIN, i64::MAX] {
            let scene = offsets(extreme, extreme);
            assert!(scene.only(Code::ClockOff).is_error());
        }
    }

    #[test]
    fn who_wrote_ahead_is_named_with_the_document_and_until_when() {
        let replica = ReplicaId([7; 16]);
        let mut scene = Scene::healthy();
        let mut metadata = (*scene.member("n3").metadata).clone();
        metadata.replica = Some(format!("{replica}.1f"));
        scene.member("n3").metadata = Arc::new(metadata);
        scene.dated_ahead = vec![DatedAhead {
            origin: Origin {
                replica,
                epoch: Epoch(9),
            },
            writes: 4,
            latest: Timestamp::from_millis(1_800_003_600_000),
            key: Key::new(Collection::new("users").unwrap(), "u1").unwrap(),
        }];
        let found = scene.only(Code::DatedAhead);
        assert!(!found.is_error());
        assert_eq!(found.node.as_deref(), Some("n3"));
        assert!(found.fact.contains("4 writes of n3"), "{found:?}");
        assert!(found.fact.contains("2027-01-15T09:00:00"), "{found:?}");
        assert!(found.evidence.contains("users/u1"), "{found:?}");
        scene.dated_ahead[0].origin.replica = ReplicaId([8; 16]);
        scene.dated_ahead[0].latest = Timestamp::LAST;
        assert_eq!(scene.only(Code::DatedAhead).node, None);
    }
}
