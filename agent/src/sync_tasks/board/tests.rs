//! The life of a task on the board.

use basic_sync::model::{Collection, Epoch, Origin, ReplicaId};

use super::super::record::Told;
use super::*;

const AT: &str = "2026-01-01T00:00:00.000Z";
const NOW: Duration = Duration::ZERO;

fn document(name: &str) -> Key {
    Key::new(Collection::new("users").unwrap(), name).unwrap()
}

fn dot(seq: u64) -> Dot {
    let origin = Origin {
        replica: ReplicaId([1; 16]),
        epoch: Epoch(1),
    };
    Dot { origin, seq }
}

pub(crate) fn record(number: u64, priority: i64, targets: &[&str]) -> Record {
    Record {
        number,
        fingerprint: String::new(),
        told: Told {
            status: Status::Queued,
            node: "n1".to_owned(),
            source_node: None,
            target_nodes: Vec::new(),
            data_type: "user".to_owned(),
            priority,
            timestamp: None,
            collection: "users".to_owned(),
            key: number.to_string(),
            version: None,
            attempts: 0,
            accepted_at: AT.to_owned(),
            written_at: None,
            finished_at: None,
            targets: targets
                .iter()
                .map(|target| ((*target).to_owned(), Target::waiting()))
                .collect(),
            error: None,
        },
    }
}

fn submit(board: &mut Board, id: &str, priority: i64) {
    let number = board.hold(priority).unwrap();
    board.accept(
        id.into(),
        record(number, priority, &["n2", "n3"]),
        document(id),
    );
}

#[test]
fn a_task_that_is_confirmed_after_a_retry_is_counted_once_with_its_retry() {
    let mut board = Board::new(5, 5);
    submit(&mut board, "t", 0);
    let (id, job) = board.take(NOW).unwrap();
    assert_eq!((&*id, job.write), ("t", None));
    assert_eq!(board.view("t").unwrap().told.status, Status::Running);
    board.written("t", dot(1), Some("v".to_owned()), AT);
    board.confirmed("t", "n2", AT);
    board.explain("t", "n3", Some("it has left"));
    let due = (Duration::from_secs(5), "soon".to_owned());
    let kept = board.retry("t", 1, "n3: it has left", due).unwrap();
    assert_eq!(
        (kept.told.status, kept.told.attempts),
        (Status::Retrying, 1)
    );
    assert_eq!(
        board.view("t").unwrap().next_attempt_at.as_deref(),
        Some("soon")
    );
    assert!(board.take(NOW).is_none());
    let (_, job) = board.take(Duration::from_secs(5)).unwrap();
    assert_eq!(job.write, Some(dot(1)), "it is not written again");
    board.confirmed("t", "n2", "later");
    board.confirmed("t", "n3", AT);
    let (kept, forgotten) = board.finish(&id, 2, None, AT).unwrap();
    assert!(forgotten.is_empty());
    assert_eq!(
        (kept.told.status, kept.told.error),
        (Status::Completed, None)
    );
    assert_eq!(kept.told.targets["n2"].at.as_deref(), Some(AT));
    let statistics = board.statistics();
    let counts = (
        statistics.total_sync_tasks,
        statistics.completed_sync_tasks,
        statistics.retry_sync_tasks,
    );
    assert_eq!(counts, (1, 1, 1));
    assert_eq!(statistics.sync_targets["n2"].success, 1);
    assert_eq!(board.counts(), Counts::default());
}

#[test]
fn a_task_that_fails_says_which_target_it_was() {
    let mut board = Board::new(5, 5);
    submit(&mut board, "t", 0);
    let (id, _) = board.take(NOW).unwrap();
    board.written("t", dot(1), None, AT);
    board.confirmed("t", "n2", AT);
    let (kept, _) = board.finish(&id, 1, Some("n3 was removed"), AT).unwrap();
    assert_eq!(kept.told.status, Status::Failed);
    assert_eq!(kept.told.targets["n2"].status, TargetStatus::Confirmed);
    assert_eq!(kept.told.targets["n3"].status, TargetStatus::Failed);
    let statistics = board.statistics();
    assert_eq!(statistics.failed_sync_tasks, 1);
    assert_eq!(
        (
            statistics.sync_targets["n2"].failed,
            statistics.sync_targets["n3"].failed
        ),
        (0, 1)
    );
}

#[test]
fn a_task_that_cannot_be_written_uses_up_no_retry() {
    let mut board = Board::new(5, 5);
    submit(&mut board, "t", 0);
    for times in 1..4 {
        board.take(Duration::from_secs(times)).unwrap();
        let due = (Duration::from_secs(times + 1), String::new());
        assert_eq!(
            u64::from(board.hold_up("t", "the disk is full", due)),
            times
        );
    }
    assert_eq!(board.record("t").unwrap().told.attempts, 0);
    assert_eq!(board.statistics().retry_sync_tasks, 0);
    board.take(Duration::from_secs(9)).unwrap();
    board.written("t", dot(1), None, AT);
    assert_eq!(board.held_up("t"), 0);
}

#[test]
fn what_is_found_at_the_start_goes_on_where_it_was() {
    let mut board = Board::new(1, 5);
    let mut done = record(7, 0, &["n2"]);
    done.told.status = Status::Completed;
    board.resume("done".into(), done, document("done"), None);
    let mut half = record(5, 0, &["n2"]);
    half.told.status = Status::Running;
    board.resume("half".into(), half, document("same"), Some(dot(3)));
    board.resume("new".into(), record(6, 0, &["n2"]), document("same"), None);
    assert_eq!(
        board.counts(),
        Counts {
            queued: 2,
            ..Counts::default()
        }
    );
    assert!(
        board.hold(0).is_err(),
        "they are more than there are places for"
    );
    let (first, job) = board.take(NOW).unwrap();
    assert_eq!((&*first, job.write), ("half", Some(dot(3))));
    assert_eq!(
        &*board.take(NOW).unwrap().0,
        "new",
        "the half is written and keeps nobody"
    );
    assert_eq!(board.statistics().total_sync_tasks, 2);
    assert_eq!(board.hold(0).unwrap(), 8, "numbers go on");
}

#[test]
fn those_that_are_done_are_remembered_within_a_bound() {
    let mut board = Board::new(9, 2);
    for id in ["a", "b", "c"] {
        submit(&mut board, id, 0);
        let (id, _) = board.take(NOW).unwrap();
        let (_, forgotten) = board.finish(&id, 1, None, AT).unwrap();
        assert_eq!(forgotten.is_empty(), &*id != "c");
    }
    assert!(board.view("a").is_none() && board.view("b").is_some());
    submit(&mut board, "d", 0);
    let ids = |status| -> Vec<String> {
        let listed = board.list(status, 2);
        listed.into_iter().map(|view| view.task_id).collect()
    };
    assert_eq!(ids(None), ["d", "c"]);
    assert_eq!(ids(Some(Status::Completed)), ["c", "b"]);
    assert!(ids(Some(Status::Failed)).is_empty());
}

#[test]
fn a_task_of_somebody_else_is_dropped_and_keeps_nobody() {
    let mut board = Board::new(9, 2);
    for number in 1..=2 {
        let id = format!("t{number}");
        board.hold(0).unwrap();
        board.accept(id.as_str().into(), record(number, 0, &[]), document("same"));
    }
    assert_eq!(&*board.take(NOW).unwrap().0, "t1");
    assert!(board.take(NOW).is_none());
    board.drop_task("t1");
    assert_eq!(&*board.take(NOW).unwrap().0, "t2");
    assert!(board.view("t1").is_none());
    board.hold(0).unwrap();
    board.let_go(0);
    board.hold(-1).unwrap();
    assert_eq!(board.counts().refused, 0);
}
