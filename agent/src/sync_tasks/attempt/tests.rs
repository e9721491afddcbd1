//! What is written, and what it means where it is not.

use basic_sync::model::Collection;

use super::*;
use crate::records::Records;
use crate::records::tests::records;
use crate::sync_tasks::board::tests::record;

fn document() -> Key {
    Key::new(Collection::new("users").unwrap(), "u1").unwrap()
}

async fn commit(
    records: &Records,
    record: &Record,
    revision: Revision,
) -> Result<Dot, RecordError> {
    let batch = batch("t", &document(), "{}".into(), record, revision)?;
    Ok(records.commit(batch).await?[0].version.dot)
}

#[tokio::test]
async fn what_a_commit_has_written_is_found_again_and_not_written_twice() {
    let records = records();
    let stored = Batch::default()
        .put(System::Tasks, "t", &record(1, 0, &["n2"]))
        .unwrap();
    let stored = stored.put_text(System::TaskData, "t", "{}".into()).unwrap();
    records.write(stored).await.unwrap();
    let (mut kept, before) = records.find::<Record>(System::Tasks, "t").unwrap().unwrap();
    assert_eq!(write_of(&kept, &before), None);

    kept.told.written_at = Some("now".to_owned());
    let write = commit(&records, &kept, before).await.unwrap();
    let (found, revision) = records.find::<Record>(System::Tasks, "t").unwrap().unwrap();
    assert_eq!(write_of(&found, &revision), Some(write));
    assert_eq!(records.text(System::TaskData, "t").unwrap(), None);
    let again = commit(&records, &kept, before).await.unwrap_err();
    assert!(matches!(failed(&again), Outcome::HeldUp(_)), "{again}");

    // A later record names the version, and is no neighbour of the document any longer.
    kept.told.version = Some(
        Revision {
            version: revision_of(write),
            fingerprint: None,
        }
        .to_string(),
    );
    records.put(System::Tasks, "t", &kept).await.unwrap();
    let (found, revision) = records.find::<Record>(System::Tasks, "t").unwrap().unwrap();
    assert_eq!(write_of(&found, &revision), Some(write));
}

fn revision_of(dot: Dot) -> basic_sync::model::Version {
    basic_sync::model::Version {
        clock: basic_sync::model::Timestamp(1),
        dot,
    }
}

#[test]
fn only_what_can_never_be_written_fails_a_task() {
    let refused = |refused| failed(&RecordError::Write(WriteError::Refused(refused)));
    let lasting = |outcome| matches!(outcome, Outcome::Ended(Err((Failure::Lasting, _))));
    assert!(lasting(refused(WriteRefused::Unfit(
        "a counter".to_owned()
    ))));
    assert!(lasting(refused(WriteRefused::DocumentTooLarge {
        bytes: 2,
        most: 1
    })));
    assert!(!lasting(refused(WriteRefused::DiskFull)));
    assert!(!lasting(failed(&RecordError::Write(WriteError::HeldBack(
        "its clock".into()
    )))));
    let unknown = RecordError::Write(WriteError::Unanswered(Duration::from_secs(5)));
    assert!(may_be_done(&unknown) && !lasting(failed(&unknown)));
    assert!(!may_be_done(&RecordError::Write(WriteError::Stopped)));
}
