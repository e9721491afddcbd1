//! The disk under the data directory: whether it answers, whether it can be written, how much room it has.

use basic_sync::net::DiskFailure;

use super::{Code, Facts, Finding};
use crate::host::bytes;

/// All of them. A disk that does not answer can tell nothing else; one that has refused a write for want of room is
/// full, whatever it says of its room.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let found = stuck(facts)
        .or_else(|| failed(facts))
        .or_else(|| room(facts));
    found.into_iter()
}

fn stuck(facts: &Facts<'_>) -> Option<Finding> {
    let waited = facts.store.stuck?;
    let place = facts.config.node.data_dir.display();
    Some(
        Finding::error(
            Code::DiskStuck,
            format!("the disk under {place} does not answer: this node takes no writes and nothing from its peers"),
        )
        .cause("the drive or what it hangs on fails, a network file system is away, or a volume is throttled; reads go on as far as memory has what they ask for")
        .evidence(format!("a write has waited for it for {waited:.1?}"))
        .next("write on another node meanwhile; look at the disk (`dmesg`, `iostat -x 1`). Once it answers, all goes on by itself; if it does not, restart this agent on another disk"),
    )
}

fn failed(facts: &Facts<'_>) -> Option<Finding> {
    let DiskFailure {
        full,
        reason,
        since,
        last,
    } = facts.store.failure.as_ref()?;
    let place = facts.config.node.data_dir.display();
    let ago = facts.now.duration_since(*last).unwrap_or_default();
    let room = facts.disk.map_or_else(String::new, |space| {
        let (free, total) = (bytes(space.free), bytes(space.total));
        format!("; {free} of {total} are free")
    });
    let finding = if *full {
        Finding::error(
            Code::DiskFull,
            format!("the disk under {place} is full: this node takes no writes and nothing from its peers"),
        )
        .cause("nothing is left, or a quota is used up; what was acknowledged is safe, and reads go on")
        .next(format!(
            "make room on the disk of {place}; writes are accepted again at once, without a restart"
        ))
    } else {
        Finding::error(
            Code::DiskFailed,
            format!("the disk under {place} failed when it was last written to"),
        )
        .cause("the drive or what it hangs on fails; what was acknowledged is safe, and every write is tried anew")
        .next("look at the disk (`dmesg`); if this comes again, move the data directory to another one")
    };
    let evidence = format!("the last write that failed was {ago:.1?} ago: {reason}{room}");
    Some(finding.since(*since).evidence(evidence))
}

fn room(facts: &Facts<'_>) -> Option<Finding> {
    let space = facts.disk.filter(|space| space.is_nearly_full())?;
    let (free, total) = (bytes(space.free), bytes(space.total));
    let finding = if space.is_critical() {
        let fact = format!("the disk under the data directory is full: {free} are left");
        Finding::error(Code::DiskNearlyFull, fact)
            .cause("writes are refused once nothing is left; those that were acknowledged are safe")
    } else {
        let fact = format!("the disk under the data directory is nearly full: {free} are left");
        Finding::warning(Code::DiskNearlyFull, fact)
            .cause("something on this machine fills it; not all of it may be the agent's")
    };
    Some(
        finding
            .evidence(format!("{free} of {total} are free"))
            .next(format!(
                "make room on the disk of {}, or move it to a larger one ([node] data_dir)",
                facts.config.node.data_dir.display()
            )),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scene::{Scene, now};
    use super::*;
    use crate::host::DiskSpace;

    #[test]
    fn a_disk_is_a_warning_before_it_is_an_error() {
        let scene = |free| Scene {
            disk: Some(DiskSpace {
                free,
                total: 100 << 30,
            }),
            ..Scene::healthy()
        };
        let warning = scene(200 << 20).only(Code::DiskNearlyFull);
        assert!(
            !warning.is_error() && warning.fact.contains("200.0 MiB"),
            "{warning:?}"
        );
        assert!(scene(1 << 20).only(Code::DiskNearlyFull).is_error());
        let unknown = Scene {
            disk: None,
            ..Scene::healthy()
        };
        assert_eq!(unknown.findings(), []);
    }

    /// A store whose last write failed two seconds ago.
    fn failing(full: bool) -> Scene {
        let mut scene = Scene::healthy();
        scene.store.failure = Some(DiskFailure {
            full,
            reason: "as the system said".to_owned(),
            since: now() - Duration::from_secs(60),
            last: now() - Duration::from_secs(2),
        });
        scene
    }

    #[test]
    fn a_write_that_was_refused_for_want_of_room_is_told_with_the_room_there_is() {
        let mut scene = failing(true);
        // By its figures there is room, as where a quota is used up.
        let full = scene.only(Code::DiskFull);
        assert!(full.is_error() && full.since.is_some(), "{full:?}");
        for part in ["2.0s ago", "as the system said", "50.0 GiB of 100.0 GiB"] {
            assert!(full.evidence.contains(part), "{part}: {full:?}");
        }
        scene.disk = Some(DiskSpace {
            free: 0,
            total: 100 << 30,
        });
        scene.only(Code::DiskFull);
    }

    #[test]
    fn a_disk_that_fails_is_told_apart_from_a_full_one() {
        let failed = failing(false).only(Code::DiskFailed);
        assert!(failed.evidence.contains("as the system said"), "{failed:?}");
    }

    #[test]
    fn a_disk_that_does_not_answer_is_told_before_all_that_it_said_earlier() {
        let mut scene = failing(true);
        scene.store.stuck = Some(Duration::from_millis(6200));
        let stuck = scene.only(Code::DiskStuck);
        assert!(
            stuck.is_error() && stuck.evidence.contains("6.2s"),
            "{stuck:?}"
        );
    }
}
