use std::io::Write as _;

use bytes::Bytes;

use super::*;
use crate::model::document::{Part, PartWrite, Write};
use crate::model::{Collection, Dot, Epoch, Key, Origin, ReplicaId, Timestamp, Version};
use crate::storage::state::{self, Header, Storing};

const CACHE: usize = 4 * 1024 * 1024;

fn put(storage: &RedbStorage, seq: u64, name: &str, value: &str) {
    let origin = Origin {
        replica: ReplicaId([1; 16]),
        epoch: Epoch(1),
    };
    let version = Version {
        clock: Timestamp(seq),
        dot: Dot { origin, seq },
    };
    let key = Key::new(Collection::new("users").unwrap(), name).unwrap();
    let root = PartWrite {
        part: Part::Root,
        value: Some(Bytes::from(value.to_owned())),
    };
    let parts = vec![root];
    let write = Write { version, parts };
    storage
        .write(&mut |writer| {
            let mut header = state::header(writer)?.unwrap_or(Header {
                origin,
                clock: Timestamp(0),
                feed: state::FeedEnds::default(),
                bounds: super::super::FeedBounds::default(),
                digest: state::Digest::default(),
            });
            let current = state::entry(writer, &key)?;
            let merging = state::Merging::of(current, &write);
            state::store(
                writer,
                &mut header,
                &key,
                version.dot,
                Storing::default(),
                merging,
            )?;
            state::set_header(writer, &header)?;
            Ok(Finish::Commit)
        })
        .unwrap();
}

fn names(storage: &RedbStorage) -> Vec<String> {
    let users = Collection::new("users").unwrap();
    let page = super::super::read(storage, |reader| {
        state::documents(reader, &users, "", None, 100, 0)
    });
    page.unwrap()
        .documents
        .iter()
        .map(|change| change.key.name().to_owned())
        .collect()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    put(&storage, 1, "a", "{}");
    put(&storage, 2, "b", "{}");
    drop(storage);
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    assert_eq!(names(&storage), ["a", "b"]);
}

#[test]
fn a_discarded_or_failed_transaction_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    let insert = |writer: &mut dyn Writer| writer.insert(Table::Meta, b"x", b"1");
    storage
        .write(&mut |writer| insert(writer).map(|()| Finish::Discard))
        .unwrap();
    let failed = storage.write(&mut |writer| {
        insert(writer)?;
        Err(StoreError::NotRun)
    });
    assert!(failed.is_err());
    let value = super::super::read(&storage, |reader| reader.get(Table::Meta, b"x")).unwrap();
    assert_eq!(value, None);
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let _open = RedbStorage::open(directory.path(), CACHE).unwrap();
    assert!(matches!(
        RedbStorage::open(directory.path(), CACHE),
        Err(OpenError::InUse { .. })
    ));
}

#[test]
fn a_store_that_is_missing_or_empty_is_never_begun_anew_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    put(
        &RedbStorage::open(directory.path(), CACHE).unwrap(),
        1,
        "a",
        "{}",
    );
    let bytes = fs::read(&path).unwrap();

    fs::remove_file(&path).unwrap();
    assert!(matches!(
        RedbStorage::open(directory.path(), CACHE),
        Err(OpenError::Missing { .. })
    ));
    assert!(!path.exists());

    fs::write(&path, b"").unwrap();
    assert!(matches!(
        RedbStorage::open(directory.path(), CACHE),
        Err(OpenError::Damaged { .. })
    ));

    fs::write(&path, bytes).unwrap();
    assert_eq!(
        names(&RedbStorage::open(directory.path(), CACHE).unwrap()),
        ["a"]
    );
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    put(
        &RedbStorage::open(directory.path(), CACHE).unwrap(),
        1,
        "a",
        "{}",
    );
    let sound = fs::read(&path).unwrap();

    let mut garbage = sound.clone();
    garbage[..256].fill(0x5a);
    let text = b"this is not a store".to_vec();
    let cut = sound[..sound.len() / 3].to_vec();
    for damaged in [garbage, text, cut] {
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&damaged).unwrap();
        drop(file);
        let refused = RedbStorage::open(directory.path(), CACHE).err().unwrap();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "the evidence is kept");
    }
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    storage
        .write(&mut |writer| {
            writer.insert(
                Table::Meta,
                records::META_FORMAT,
                &(FORMAT + 1).to_be_bytes(),
            )?;
            Ok(Finish::Commit)
        })
        .unwrap();
    drop(storage);
    assert!(matches!(
        RedbStorage::open(directory.path(), CACHE),
        Err(OpenError::TooNew {
            found,
            known: FORMAT,
            ..
        }) if found == FORMAT + 1
    ));
}

#[test]
fn a_store_of_format_3_gets_what_it_lacks_and_keeps_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    put(&storage, 1, "a", "{}");
    let transaction = storage.database().unwrap().begin_write().unwrap();
    for table in [Table::Expiries, Table::History] {
        assert!(transaction.delete_table(definition(table)).unwrap());
    }
    transaction
        .open_table(definition(Table::Meta))
        .unwrap()
        .insert(records::META_FORMAT, &3_u32.to_be_bytes()[..])
        .unwrap();
    transaction.commit().unwrap();
    drop(storage);
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    assert_eq!(names(&storage), ["a"]);
    let (format, first) = super::super::read(&storage, |reader| {
        Ok((
            reader.get(Table::Meta, records::META_FORMAT)?,
            super::super::expiries::first(reader, 0)?,
        ))
    })
    .unwrap();
    assert_eq!(format, Some(FORMAT.to_be_bytes().to_vec()));
    assert_eq!(first, None);
}

proptest::proptest! {
    /// Whatever runs and gaps there are between the rows of a table and those that come.
    #[test]
    fn rows_in_order_become_what_they_say(
        batches in proptest::collection::vec(
            proptest::collection::btree_map(
                0..400_u16,
                proptest::option::weighted(0.9, 0..900_usize),
                0..120,
            ),
            1..5,
        ),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
        let mut expected = std::collections::BTreeMap::new();
        for batch in batches {
            let batch = batch.into_iter().map(|(key, length)| {
                (key.to_be_bytes(), length.map(|length| vec![7; length]))
            });
            let batch: Vec<_> = batch.collect();
            let written = storage.write(&mut |writer| {
                let mut rows = batch.iter().map(|(key, value)| (&key[..], value.as_deref()));
                writer.apply(Table::Past, &mut rows)?;
                Ok(Finish::Commit)
            });
            written.unwrap();
            for (key, value) in batch {
                match value {
                    Some(value) => expected.insert(key.to_vec(), value),
                    None => expected.remove(&key[..]),
                };
            }
            let mut found = std::collections::BTreeMap::new();
            let read = storage.read(&mut |reader| {
                reader.scan(Table::Past, &[], None, &mut |key, value| {
                    found.insert(key.to_vec(), value.to_vec());
                    ControlFlow::Continue(())
                })
            });
            read.unwrap();
            proptest::prop_assert_eq!(&found, &expected);
        }
    }
}

/// Whether all of a file has to be read when it is opened as a crash has left it.
fn is_read_whole(path: &Path) -> bool {
    let whole = Arc::new(AtomicBool::new(false));
    let noted = whole.clone();
    let mut builder = builder(CACHE);
    builder.set_repair_callback(move |_| noted.store(true, Ordering::SeqCst));
    let file = fs::File::options().read(true).write(true).open(path);
    let opened = builder.create_with_backend(Runs::new(file.unwrap()).unwrap());
    drop(opened.unwrap());
    whole.load(Ordering::SeqCst)
}

#[test]
fn what_a_crash_has_left_is_opened_without_reading_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join("left");
    let storage = RedbStorage::open(directory.path(), CACHE).unwrap();
    for seq in 1..50 {
        put(&storage, seq, &format!("u{seq}"), "1");
    }
    fs::copy(&storage.path, &left).unwrap();
    assert!(!is_read_whole(&left));
    // It would be noticed: this transaction leaves less behind than ours.
    let database = storage.database().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(definition(Table::Meta)).unwrap();
    transaction.commit().unwrap();
    fs::copy(&storage.path, &left).unwrap();
    assert!(is_read_whole(&left));
}
