//! The journal: what survives a restart, a full disk, and a reader that is far behind.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::events::kind::Kind;
use crate::events::record::{Cause, CauseCode};

const START: u64 = 1_000_000;

fn at(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

fn fact(message: &str) -> Fact {
    Fact::new(
        at(5),
        Kind::Joined,
        "n2".parse().unwrap(),
        Cause::new(CauseCode::Heard, "x"),
        message,
    )
}

/// A journal that is being written, as by the agent.
fn run(data: &TempDir, start_ms: u64) -> (Journal, tokio::task::JoinHandle<()>) {
    let Start {
        journal, writing, ..
    } = Journal::open(data.path(), "n1".parse().unwrap(), at(start_ms));
    (journal, tokio::spawn(writing))
}

async fn stop(journal: Journal, writing: tokio::task::JoinHandle<()>) {
    journal.flush(Duration::from_secs(60)).await;
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
}

async fn messages(journal: &Journal, cursor: EventId) -> Vec<String> {
    let records = journal.after(cursor, usize::MAX).await.unwrap();
    records
        .iter()
        .map(|record| record.fact.message.clone())
        .collect()
}

fn files(data: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(data.path().join(DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_cursor_of_an_earlier_run_goes_on_with_what_came_after_it_once() {
    let data = TempDir::new().unwrap();
    let (journal, writing) = run(&data, START);
    let first = journal.append(fact("a")).id;
    journal.append(fact("b"));
    assert_eq!(first, EventId(START));
    stop(journal, writing).await;

    let (journal, writing) = run(&data, START + 5_000);
    assert_eq!(journal.append(fact("c")).id, EventId(START + 5_000));
    assert_eq!(messages(&journal, first).await, ["b", "c"]);
    assert_eq!(messages(&journal, journal.first()).await, ["a", "b", "c"]);
    stop(journal, writing).await;

    // The clock has gone back.
    let (journal, writing) = run(&data, 7);
    assert_eq!(journal.append(fact("d")).id, EventId(START + 5_001));
    assert_eq!(messages(&journal, first).await, ["b", "c", "d"]);
    stop(journal, writing).await;
}

#[tokio::test]
async fn a_cursor_that_is_too_old_or_was_never_given_is_an_error() {
    let data = TempDir::new().unwrap();
    let (journal, writing) = run(&data, START);
    let id = journal.append(fact("a")).id;
    let old = journal.after(EventId(3), 1).await;
    assert_eq!(
        old,
        Err(ReadError::Gone {
            cursor: EventId(3),
            first: EventId(START - 1)
        })
    );
    let future = EventId(id.0 + 1);
    assert_eq!(
        journal.after(future, 1).await,
        Err(ReadError::Unknown {
            cursor: future,
            newest: id
        })
    );
    stop(journal, writing).await;
}

#[tokio::test]
async fn memory_is_bounded_and_the_rest_is_read_from_disk() {
    let data = TempDir::new().unwrap();
    let (journal, writing) = run(&data, START);
    let count = MEMORY_RECORDS + 500;
    for number in 0..count {
        journal.append(fact(&number.to_string()));
        if number % 500 == 0 {
            journal.flush(Duration::from_secs(60)).await;
        }
    }
    journal.flush(Duration::from_secs(60)).await;
    assert_eq!(journal.0.memory().records.len(), MEMORY_RECORDS);
    let mut cursor = journal.first();
    let mut read = Vec::new();
    while read.len() < count {
        let page = journal.after(cursor, 300).await.unwrap();
        cursor = page.last().unwrap().id;
        read.extend(page.iter().map(|record| record.fact.message.clone()));
    }
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(read, expected);
    let (latest, newest) = journal
        .latest(&Filter::default(), MEMORY_RECORDS + 10)
        .await
        .unwrap();
    assert_eq!(latest.len(), MEMORY_RECORDS + 10);
    assert_eq!(latest.last().unwrap().id, newest);
    assert_eq!(latest[0].fact.message, "490");
    assert_eq!(journal.status().unwritten, 0);
    stop(journal, writing).await;

    let Start { journal, kept, .. } = Journal::open(data.path(), "n1".parse().unwrap(), at(7));
    assert_eq!(kept.len(), count);
    assert_eq!(journal.0.memory().records.len(), MEMORY_RECORDS);
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_dropped_and_the_journal_goes_on_behind_it() {
    let data = TempDir::new().unwrap();
    let (journal, writing) = run(&data, START);
    journal.append(fact("a"));
    stop(journal, writing).await;
    let file = &files(&data)[0];
    let mut segment = fs::File::options().append(true).open(file).unwrap();
    segment.write_all(b"{\"id\":1000001,\"at\":\"19").unwrap();

    for (start, message) in [(START + 10, "b"), (START + 20, "c")] {
        let (journal, writing) = run(&data, start);
        journal.append(fact(message));
        stop(journal, writing).await;
    }
    let (journal, writing) = run(&data, START + 30);
    assert_eq!(messages(&journal, journal.first()).await, ["a", "b", "c"]);
    stop(journal, writing).await;
}

#[tokio::test]
async fn files_of_others_and_damaged_lines_do_no_harm() {
    let data = TempDir::new().unwrap();
    let (journal, writing) = run(&data, START);
    journal.append(fact("a"));
    stop(journal, writing).await;
    let directory = data.path().join(DIRECTORY);
    fs::write(
        directory.join("00000000000000000000.jsonl"),
        b"\xff\xfe\n\n",
    )
    .unwrap();
    fs::write(directory.join("x.jsonl"), "{\"journal\":99,\"after\":0}\n").unwrap();
    fs::write(directory.join("notes.txt"), "hello").unwrap();
    let own = files(&data)
        .into_iter()
        .find(|path| path.to_string_lossy().contains("999999"))
        .unwrap();
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, format!("{text}garbage\n{text}")).unwrap();

    let (journal, writing) = run(&data, START + 10);
    journal.append(fact("b"));
    assert_eq!(messages(&journal, journal.first()).await, ["a", "b"]);
    stop(journal, writing).await;
}

#[tokio::test]
async fn without_usable_files_it_goes_on_in_memory() {
    let data = TempDir::new().unwrap();
    fs::write(data.path().join(DIRECTORY), "not a directory").unwrap();
    let (journal, writing) = run(&data, START);
    for number in 0..MEMORY_RECORDS + 1 {
        journal.append(fact(&number.to_string()));
    }
    journal.flush(Duration::from_secs(60)).await;
    assert!(journal.status().failure.is_some());
    let first = journal.first();
    assert_eq!(first, EventId(START));
    assert_eq!(messages(&journal, first).await.len(), MEMORY_RECORDS);
    let gone = journal.after(EventId(START - 1), 1).await;
    assert!(matches!(gone, Err(ReadError::Gone { .. })), "{gone:?}");
    writing.abort();
}

/// Opens segments of a small size.
fn segments(directory: &std::path::Path) -> Opened {
    Segments::open_with(directory, EventId(0), 2_000).unwrap()
}

fn record(id: u64) -> Arc<Record> {
    Arc::new(Record {
        id: EventId(id),
        fact: fact(&"x".repeat(300)),
        seen_by: "n1".parse().unwrap(),
    })
}

#[test]
fn the_oldest_segment_makes_room_for_the_next() {
    let directory = TempDir::new().unwrap();
    let mut opened = segments(directory.path());
    for id in 1..=100 {
        opened
            .segments
            .append(EventId(id - 1), &[record(id)])
            .unwrap();
    }
    let count = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(count, segments::SEGMENTS_MAX);
    let floor = opened.segments.floor();
    let (read_floor, records) = segments::read(directory.path(), floor, usize::MAX)
        .unwrap()
        .unwrap();
    assert_eq!(read_floor, floor);
    let ids: Vec<_> = records.iter().map(|record| record.id.0).collect();
    assert_eq!(ids, (floor.0 + 1..=100).collect::<Vec<_>>());
    assert!(ids.len() >= 8, "{ids:?}");
    let reopened = segments(directory.path());
    assert_eq!((reopened.floor, reopened.records.len()), (floor, ids.len()));
    assert_eq!(reopened.segments.last(), EventId(100));
}

#[test]
fn what_is_before_a_gap_is_not_given_out() {
    let directory = TempDir::new().unwrap();
    let mut opened = segments(directory.path());
    let (before, after) = ([record(1), record(2)], [record(9)]);
    opened.segments.append(EventId(0), &before).unwrap();
    // 3 to 8 were lost while the disk was full.
    opened.segments.append(EventId(8), &after).unwrap();
    assert_eq!(opened.segments.floor(), EventId(8));
    let (floor, records) = segments::read(directory.path(), EventId(0), 10)
        .unwrap()
        .unwrap();
    assert_eq!(floor, EventId(8));
    assert_eq!(records.len(), 1);
    assert_eq!(segments(directory.path()).floor, EventId(8));
}
