//! Records on a replica in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use basic_sync::net::{Connecting, Connector, Options, Peer};
use basic_sync::storage::MemoryStorage;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// There are no peers.
struct Alone;

impl Connector for Alone {
    fn connect<'c>(&'c self, _: &'c Peer) -> Connecting<'c> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// A replica in memory without peers.
pub(crate) fn replica() -> Handle {
    let storage = Arc::new(MemoryStorage::default());
    basic_sync::net::start(storage, Options::new("c", "n1"), Arc::new(Alone)).unwrap()
}

/// Records in a replica of their own, whose changes are signalled.
pub(crate) fn records() -> Records {
    let (records, signalling) = Records::new(replica());
    tokio::spawn(signalling);
    records
}

#[tokio::test]
async fn a_record_is_read_as_it_was_written_until_it_is_deleted() {
    let records = records();
    assert_eq!(
        records.get::<Value>(System::Members, "n1/drain").unwrap(),
        None
    );
    let document = json!({ "why": "a new disk" });
    records
        .put(System::Members, "n1/drain", &document)
        .await
        .unwrap();
    let found = records.get::<Value>(System::Members, "n1/drain").unwrap();
    assert_eq!(found, Some(document.clone()));
    assert_eq!(
        records.all::<Value>(System::Members).unwrap(),
        [("n1/drain".to_owned(), document)]
    );
    assert_eq!(records.all::<Value>(System::Audit).unwrap(), []);
    assert!(records.delete(System::Members, "n1/drain").await.unwrap());
    assert!(!records.delete(System::Members, "n1/drain").await.unwrap());
    assert_eq!(records.all::<Value>(System::Members).unwrap(), []);
}

#[tokio::test]
async fn a_collection_of_many_pages_is_read_whole_and_in_order() {
    let records = records();
    let count = 2 * PAGE + 1;
    for chunk in (0..count).collect::<Vec<_>>().chunks(200) {
        let mut batch = Batch::default();
        for number in chunk {
            batch = batch
                .put(System::Audit, &format!("{number:06}"), number)
                .unwrap();
        }
        records.write(batch).await.unwrap();
    }
    let numbers: Vec<usize> = records
        .all(System::Audit)
        .unwrap()
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_takes_effect_whole_or_not_at_all() {
    let records = records();
    let batch = Batch::default().put(System::Members, "a", &1).unwrap();
    let batch = batch.delete(System::Members, "missing").unwrap();
    let refused = records.write(batch).await;
    assert!(matches!(
        refused,
        Err(RecordError::Write(WriteError::Refused(
            WriteRefused::NotFound(_)
        )))
    ));
    assert_eq!(records.all::<u32>(System::Members).unwrap(), []);
    records.write(Batch::default()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_understood_is_passed_over_in_a_list_and_named_by_key() {
    let records = records();
    records.put(System::Members, "bad", &"text").await.unwrap();
    records.put(System::Members, "good", &7).await.unwrap();
    assert_eq!(
        records.all::<u32>(System::Members).unwrap(),
        [("good".to_owned(), 7)]
    );
    let error = records.get::<u32>(System::Members, "bad").unwrap_err();
    assert!(error.to_string().contains("agent.members/bad"), "{error}");
    assert!(records.put(System::Members, "a\0b", &1).await.is_err());
}

#[tokio::test]
async fn a_change_wakes_those_who_wait_for_its_collection() {
    let records = records();
    let mut members = records.changes(System::Members);
    let mut audit = records.changes(System::Audit);
    // The first signal says that watching has begun.
    timeout(PATIENCE, members.changed()).await.unwrap();
    timeout(PATIENCE, audit.changed()).await.unwrap();
    records.put(System::Members, "n1/drain", &1).await.unwrap();
    timeout(PATIENCE, members.changed()).await.unwrap();
    assert!(audit.changed().now_or_never().is_none());
    records.delete(System::Members, "n1/drain").await.unwrap();
    timeout(PATIENCE, members.changed()).await.unwrap();
}

#[test]
fn every_collection_is_reserved_and_found_by_its_name() {
    for system in System::ALL {
        assert!(system.name().starts_with(RESERVED_PREFIX));
        assert_eq!(System::named(system.name()), Some(system));
        assert!(system.key("k").is_ok());
    }
    assert_eq!(System::named("users"), None);
}
