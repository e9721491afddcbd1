//! Waiting until all targets of a task have it on their disks, for as long as that is worth it.

use std::time::{Duration, SystemTime};

use basic_membership::NodeId;
use basic_sync::model::Dot;
use tokio::time::{Instant, sleep, sleep_until};

use super::front::Shared;
use super::record::{Record, TargetStatus, moment};
use super::retry::Failure;
use super::standing::{self, Known, Standing};

/// Before the replica is asked for the first time what its peers have; doubled each time, until it tells by itself.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The replica tells by itself so often.
const TOLD_EVERY: Duration = Duration::from_millis(50);
/// Targets that an error names.
const NAMED_MAX: usize = 8;

/// Waits until all targets have the write on their disks.
pub(super) async fn confirmed(
    shared: &Shared,
    id: &str,
    record: &Record,
    write: Dot,
) -> Result<(), (Failure, String)> {
    let targets = record.told.targets.iter();
    let unconfirmed = targets.filter(|(_, target)| target.status != TargetStatus::Confirmed);
    // Names that are no ids can only come from a record of another version.
    let mut waiting: Vec<NodeId> = unconfirmed
        .filter_map(|(name, _)| name.parse().ok())
        .collect();
    let mut status = shared.replica.status();
    let mut members = shared.cluster.watch();
    let deadline = Instant::now() + shared.config.task_timeout;
    let mut pause = FIRST_LOOK;
    loop {
        status.mark_unchanged();
        members.mark_unchanged();
        let round = look(shared, id, &mut waiting, write);
        if let Some(result) = round.result() {
            return result;
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                // The replica has stopped, and the agent will.
                std::future::pending::<()>().await;
            },
            Ok(()) = members.changed() => {}
            () = sleep(pause), if pause < TOLD_EVERY => {
                pause *= 2;
                shared.replica.refresh_status().await;
            }
            () = sleep_until(deadline) => {
                let limit = humantime::format_duration(shared.config.task_timeout);
                let names = names(&waiting);
                return Err((Failure::Passing, format!("{names}: not confirmed within {limit}")));
            }
        }
    }
}

/// What a look at the targets has shown.
#[derive(Debug, Default)]
struct Round {
    awaited: usize,
    down: Vec<String>,
    gone: Vec<String>,
}

impl Round {
    /// How the attempt ends; `None` while it is worth waiting.
    fn result(self) -> Option<Result<(), (Failure, String)>> {
        let Round {
            awaited,
            down,
            gone,
        } = self;
        let said = |reasons: &[String]| {
            let more = reasons.len().saturating_sub(NAMED_MAX);
            let listed = reasons[..reasons.len() - more].join("; ");
            match more {
                0 => listed,
                more => format!("{listed}; and {more} more"),
            }
        };
        match (awaited, down.is_empty(), gone.is_empty()) {
            (1.., _, _) => None,
            (0, true, true) => Some(Ok(())),
            (0, false, true) => Some(Err((Failure::Passing, said(&down)))),
            (0, _, false) => Some(Err((Failure::Lasting, said(&[gone, down].concat())))),
        }
    }
}

/// Looks at the targets that have not confirmed, keeps those that still have not, and tells the board.
fn look(shared: &Shared, id: &str, waiting: &mut Vec<NodeId>, write: Dot) -> Round {
    let status = shared.replica.status().borrow().clone();
    let mut round = Round::default();
    let mut board = shared.board();
    waiting.retain(|target| {
        let standing = match *target == shared.own {
            true => Standing::Confirmed,
            false => standing::of(target, write, &status, || {
                Known::of(target, &shared.cluster)
            }),
        };
        let reason = match &standing {
            Standing::Confirmed => {
                board.confirmed(id, target.as_str(), &moment(SystemTime::now()));
                return false;
            }
            Standing::Awaited => None,
            Standing::Down(reason) | Standing::Gone(reason) => Some(reason.as_str()),
        };
        board.explain(id, target.as_str(), reason);
        match &standing {
            Standing::Down(reason) => round.down.push(format!("{target}: {reason}")),
            Standing::Gone(reason) => round.gone.push(format!("{target}: {reason}")),
            _ => round.awaited += 1,
        }
        true
    });
    round
}

fn names(nodes: &[NodeId]) -> String {
    let names = nodes.iter().take(NAMED_MAX).map(NodeId::as_str);
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(awaited: usize, down: &[&str], gone: &[&str]) -> Round {
        let said = |reasons: &[&str]| reasons.iter().map(|reason| (*reason).to_owned()).collect();
        Round {
            awaited,
            down: said(down),
            gone: said(gone),
        }
    }

    #[test]
    fn an_attempt_ends_when_nobody_is_left_to_wait_for() {
        assert_eq!(round(0, &[], &[]).result(), Some(Ok(())));
        assert_eq!(round(1, &["n2: away"], &["n3: gone"]).result(), None);
        let passing = Err((Failure::Passing, "n2: away".to_owned()));
        assert_eq!(round(0, &["n2: away"], &[]).result(), Some(passing));
        // Trying again would never complete it.
        let lasting = Err((Failure::Lasting, "n3: gone; n2: away".to_owned()));
        assert_eq!(
            round(0, &["n2: away"], &["n3: gone"]).result(),
            Some(lasting)
        );
    }

    #[test]
    fn an_error_names_a_few_and_counts_the_rest() {
        let Some(Err((_, reason))) = round(0, &["x"; 20], &[]).result() else {
            panic!("it has failed");
        };
        assert_eq!(reason, "x; x; x; x; x; x; x; x; and 12 more");
    }
}
