//! This node and its machine: processor, files, its record of events, and how its start goes on.

use std::time::Duration;

use basic_membership::AnnouncedState;

use super::{Code, Facts, Finding, START_MAX};
use crate::events::HookStatus;
use crate::host::OpenFiles;

/// A tick of gossip that was so late tells of an overloaded or stopped machine.
const TICK_DELAY_MAX: Duration = Duration::from_millis(500);
/// How long a dropped event is worth a word: such events never reach the hook, also if it does well since.
const DROPPED_RECENTLY: Duration = Duration::from_secs(600);

/// All of them.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let found = [
        stalled(facts),
        files(facts),
        slow_start(facts),
        roster(facts),
        journal(facts),
    ];
    let hooks = facts.hooks.iter();
    let hooks = hooks.filter_map(|status| hook(facts, status));
    found.into_iter().flatten().chain(hooks)
}

fn stalled(facts: &Facts<'_>) -> Option<Finding> {
    let delay = facts.gossip.tick_delay;
    let held = facts.gossip.removals_held;
    if delay < TICK_DELAY_MAX && !held {
        return None;
    }
    let evidence = if delay < TICK_DELAY_MAX {
        let worst = facts.gossip.tick_delay_max;
        format!("its own gossip tick came late a moment ago (up to {worst:.1?} since its start)")
    } else {
        format!("its own gossip tick came {delay:.1?} late")
    };
    let verdicts = if held {
        "; until it is sure, it calls no other member failed"
    } else {
        ""
    };
    Some(
        Finding::warning(
            Code::Stalled,
            format!("this agent does not get enough processor time{verdicts}"),
        )
        .cause("the machine is overloaded, or the process was stopped for a while")
        .evidence(evidence)
        .next("look at the load of this machine (`uptime`, `vmstat 1`)"),
    )
}

fn files(facts: &Facts<'_>) -> Option<Finding> {
    let files = facts.files;
    let soft = files.soft?;
    let exhausted = files.is_nearly_exhausted();
    if !exhausted && soft >= OpenFiles::SOFT_MIN {
        return None;
    }
    let open = files
        .open
        .map_or_else(|| "an unknown number".to_owned(), |open| open.to_string());
    let (finding, cause) = if exhausted {
        let fact = "this agent is about to run out of files and connections";
        let finding = Finding::error(Code::FileLimit, fact);
        (finding, "more connections than the limit was made for")
    } else {
        let fact = "this agent may have few files and connections open";
        let finding = Finding::warning(Code::FileLimit, fact);
        (
            finding,
            "the limit is that of an interactive shell, not that of a server",
        )
    };
    Some(
        finding
            .cause(cause)
            .evidence(format!("{open} of {soft} are in use"))
            .next("raise it: LimitNOFILE= in the systemd unit, or `ulimit -n` before the agent is started"),
    )
}

fn slow_start(facts: &Facts<'_>) -> Option<Finding> {
    let starting = matches!(
        facts.announced,
        AnnouncedState::Joining | AnnouncedState::CatchingUp
    );
    if !starting || facts.uptime < START_MAX {
        return None;
    }
    let waits = facts.peers.iter();
    let waits = waits.filter(|peer| peer.near && !peer.caught_up);
    let waits: Vec<String> = waits
        .map(|peer| format!("{} ({} behind)", peer.peer, peer.behind))
        .collect();
    let evidence = if waits.is_empty() {
        "no peer has said yet what it has".to_owned()
    } else {
        format!("not yet level with: {}", waits.join(", "))
    };
    Some(
        Finding::warning(
            Code::CatchingUp,
            "this node is still catching up and takes no traffic",
        )
        .cause("it fetches what its peers wrote while it was away")
        .evidence(evidence)
        .next("wait; `basic-agent status` shows the numbers fall"),
    )
}

fn roster(facts: &Facts<'_>) -> Option<Finding> {
    let problem = facts.gossip.roster_problem.clone()?;
    Some(
        Finding::warning(
            Code::RosterLost,
            "what is known of the members is not kept for the next start",
        )
        .cause(problem)
        .evidence("roster.json in the data directory could not be read or written")
        .next("see that the data directory can be written: basic-agent doctor"),
    )
}

fn journal(facts: &Facts<'_>) -> Option<Finding> {
    let failure = facts.journal.failure.clone()?;
    let unwritten = facts.journal.unwritten;
    Some(
        Finding::warning(
            Code::JournalLost,
            "events are kept in memory only; those of now are lost when this agent stops",
        )
        .cause(failure)
        .evidence(format!(
            "the journal in the data directory cannot be written; {unwritten} events were given up"
        ))
        .next("see that the data directory can be written: basic-agent doctor"),
    )
}

fn hook(facts: &Facts<'_>, status: &HookStatus) -> Option<Finding> {
    let (hook, target) = (status.hook, &status.target);
    let fails = status.last_failed > status.last_delivered;
    let age = |dropped| facts.now.duration_since(dropped).unwrap_or_default();
    let drops = status
        .last_dropped
        .filter(|dropped| age(*dropped) < DROPPED_RECENTLY);
    let (fact, cause, since) = if fails {
        let error = status.last_error.clone().unwrap_or_default();
        let fact = format!("the {hook} {target} could not be told of the last event");
        (fact, error, status.last_failed)
    } else {
        let cause = "events come faster than it takes them, or it was down for long";
        let fact = format!("the {hook} {target} misses events");
        (fact, cause.to_owned(), Some(drops?))
    };
    let finding = Finding::warning(Code::HookFails, fact)
        .cause(cause)
        .evidence(format!(
            "{} delivered, {} failed, {} dropped, {} waiting since this agent started",
            status.delivered, status.failed, status.dropped, status.waiting
        ))
        .next(
            "repair it; what it has missed is in `basic-agent events` ([events] has its settings)",
        );
    Some(match since {
        Some(since) => finding.since(since),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, now};
    use super::*;

    #[test]
    fn a_late_tick_is_told_and_that_verdicts_are_held() {
        let mut scene = Scene::healthy();
        scene.gossip.tick_delay = Duration::from_millis(499);
        assert_eq!(scene.findings(), []);
        scene.gossip.tick_delay = Duration::from_millis(1300);
        assert!(scene.only(Code::Stalled).evidence.contains("1.3s"));
        scene.gossip.tick_delay = Duration::ZERO;
        scene.gossip.tick_delay_max = Duration::from_secs(10);
        scene.gossip.removals_held = true;
        let held = scene.only(Code::Stalled);
        assert!(
            held.fact.contains("calls no other member failed"),
            "{held:?}"
        );
        assert!(held.evidence.contains("10.0s"), "{held:?}");
    }

    #[test]
    fn files_are_an_error_when_they_run_out() {
        let mut scene = Scene::healthy();
        scene.files.open = Some(60_000);
        assert!(scene.only(Code::FileLimit).is_error());
        scene.files.open = Some(10);
        scene.files.soft = Some(256);
        let low = scene.only(Code::FileLimit);
        assert!(
            !low.is_error() && low.evidence == "10 of 256 are in use",
            "{low:?}"
        );
    }

    #[test]
    fn a_start_that_takes_long_tells_what_it_waits_for() {
        let mut scene = Scene::healthy();
        scene.announced = AnnouncedState::CatchingUp;
        let found = scene.only(Code::CatchingUp);
        assert!(found.evidence.contains("no peer has said"), "{found:?}");
        scene.uptime = Duration::from_secs(2);
        assert_eq!(scene.findings(), []);
    }

    /// A hook that was told of its last event a minute ago.
    fn hook() -> HookStatus {
        HookStatus {
            hook: "webhook",
            target: "10.0.0.9:80".to_owned(),
            delivered: 3,
            failed: 0,
            retried: 0,
            dropped: 0,
            waiting: 0,
            last_error: None,
            last_delivered: Some(now() - Duration::from_secs(60)),
            last_failed: None,
            last_dropped: None,
        }
    }

    #[test]
    fn a_hook_that_fails_is_told_until_it_is_reached_again() {
        let mut scene = Scene::healthy();
        scene.hooks = vec![HookStatus {
            failed: 1,
            last_failed: Some(now() - Duration::from_secs(61)),
            last_error: Some("connection refused".to_owned()),
            ..hook()
        }];
        assert_eq!(scene.findings(), []);
        scene.hooks[0].last_failed = Some(now());
        let found = scene.only(Code::HookFails);
        assert_eq!(found.cause, "connection refused");
        assert!(found.evidence.contains("1 failed"), "{found:?}");
    }

    #[test]
    fn a_hook_that_has_dropped_events_is_told_for_a_while() {
        let mut scene = Scene::healthy();
        scene.hooks = vec![HookStatus {
            dropped: 4,
            last_dropped: Some(now() - Duration::from_secs(1)),
            ..hook()
        }];
        let found = scene.only(Code::HookFails);
        assert!(found.fact.contains("misses events"), "{found:?}");
        scene.hooks[0].last_dropped = Some(now() - DROPPED_RECENTLY);
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_journal_that_is_not_kept_is_told() {
        let mut scene = Scene::healthy();
        scene.journal.failure = Some("disk full".to_owned());
        assert_eq!(scene.only(Code::JournalLost).cause, "disk full");
    }

    #[test]
    fn a_roster_that_is_not_kept_is_told() {
        let mut scene = Scene::healthy();
        scene.gossip.roster_problem = Some("disk full".to_owned());
        assert_eq!(scene.only(Code::RosterLost).cause, "disk full");
    }
}
