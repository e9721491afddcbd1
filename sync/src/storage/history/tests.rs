use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::document::{Part, PartWrite, Write};
use crate::model::{Collection, Dot, Epoch, Origin, ReplicaId, Timestamp, Version};
use crate::storage::state::{Digest, FeedEnds, Header, Merging, Storing, store};
use crate::storage::{FeedBounds, Finish, MemoryStorage, Storage, read};

const ORIGIN: Origin = Origin {
    replica: ReplicaId([1; 16]),
    epoch: Epoch(1),
};

struct Store {
    storage: MemoryStorage,
    header: Header,
    written: Vec<(Key, Bytes)>,
}

fn key(number: usize) -> Key {
    Key::new(Collection::new("users").unwrap(), &format!("u{number}")).unwrap()
}

impl Store {
    fn new() -> Self {
        Self {
            storage: MemoryStorage::default(),
            header: Header {
                origin: ORIGIN,
                clock: Timestamp(0),
                feed: FeedEnds::default(),
                // A history does not need the feed's.
                bounds: FeedBounds {
                    positions: 1,
                    past_bytes: 0,
                },
                digest: Digest::default(),
            },
            written: Vec::new(),
        }
    }

    fn put(&mut self, number: usize, bytes: usize, keep: Keep, now_ms: u64) {
        let seq = self.written.len() as u64 + 1;
        let dot = Dot {
            origin: ORIGIN,
            seq,
        };
        let clock = Timestamp::from_millis(now_ms);
        let value = Bytes::from(vec![b'1'; bytes]);
        let root = PartWrite {
            part: Part::Root,
            value: Some(value.clone()),
        };
        let write = Write {
            version: Version { clock, dot },
            parts: vec![root],
        };
        let key = key(number);
        self.written.push((key.clone(), value));
        let (header, storing) = (&mut self.header, Storing { now_ms, keep });
        let written = self.storage.write(&mut |writer| {
            let merging = Merging::of(state::entry(writer, &key)?, &write);
            store(writer, header, &key, dot, storing, merging)?.unwrap();
            Ok(Finish::Commit)
        });
        written.unwrap();
    }

    fn versions(&self, number: usize, keep: Keep, now_ms: u64) -> Vec<Kept> {
        let key = key(number);
        read(&self.storage, |reader| versions(reader, &key, keep, now_ms)).unwrap()
    }

    /// What was written to a key, the newest first, at most so many.
    fn expected(&self, number: usize, count: usize) -> Vec<Bytes> {
        let key = key(number);
        let own = self.written.iter().rev().filter(|(at, _)| *at == key);
        own.map(|(_, value)| value.clone()).take(count).collect()
    }

    fn rows(&self) -> usize {
        let count = |reader: &dyn Reader| {
            let mut count = 0;
            reader.scan(Table::History, &[], None, &mut |_, _| {
                count += 1;
                ControlFlow::Continue(())
            })?;
            Ok(count)
        };
        read(&self.storage, count).unwrap()
    }
}

fn values(versions: &[Kept]) -> Vec<Bytes> {
    let value = |kept: &Kept| kept.item.change.entry.value.clone().unwrap();
    versions.iter().map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_last_versions_of_each_key_are_kept_and_no_more(
        count in 1..9_usize,
        writes in prop::collection::vec((0..4_usize, 1..200_usize), 1..150),
    ) {
        let keep = Keep { versions: count, age: None };
        let mut store = Store::new();
        for (at, (number, bytes)) in writes.into_iter().enumerate() {
            store.put(number, bytes, keep, at as u64 + 1);
        }
        for number in 0..4 {
            let kept = store.versions(number, keep, 1_000);
            prop_assert_eq!(values(&kept), store.expected(number, count + 1));
            prop_assert!(kept.iter().skip(1).all(|kept| kept.superseded_ms.is_some()));
            let present = kept.first().map(|kept| kept.superseded_ms);
            prop_assert!(matches!(present, None | Some(None)));
        }
        // The older ones, and a summary for each key.
        prop_assert!(store.rows() <= 4 * (count + 1), "{}", store.rows());
    }
}

#[test]
fn versions_are_bounded_by_bytes_and_age_too() {
    let keep = Keep {
        versions: 1_000,
        age: Some(Duration::from_millis(100)),
    };
    let mut store = Store::new();
    let large = usize::try_from(BYTES_MAX / 4).unwrap();
    for at in 1..=6 {
        store.put(0, large, keep, at);
    }
    assert_eq!(
        store.versions(0, keep, 6).len(),
        4,
        "the present one and three"
    );
    store.put(1, 1, keep, 10);
    store.put(1, 2, keep, 20);
    store.put(1, 3, keep, 90);
    assert_eq!(store.versions(1, keep, 119).len(), 3);
    assert_eq!(store.versions(1, keep, 120).len(), 2, "superseded at 20");
    let rows = store.rows();
    store.put(1, 4, keep, 200);
    assert_eq!(store.rows(), rows - 1, "one came, two went");
}

#[test]
fn a_policy_that_changes_holds_from_then_on() {
    let keep = |versions| Keep {
        versions,
        age: None,
    };
    let mut store = Store::new();
    for at in 1..=2 * REMOVED_MAX {
        store.put(0, at, keep(200), at as u64);
    }
    assert_eq!(store.versions(0, keep(200), 0).len(), 2 * REMOVED_MAX);
    assert_eq!(store.versions(0, keep(3), 0).len(), 4, "more are not shown");
    assert_eq!(store.versions(0, keep(0), 0).len(), 1);
    for at in 1..=3 {
        store.put(0, at, keep(3), 1_000);
    }
    assert_eq!(store.rows(), 3 + 1, "nor kept for long");
    assert_eq!(values(&store.versions(0, keep(3), 0)), store.expected(0, 4));
    store.put(0, 1, keep(0), 1_000);
    assert_eq!(store.rows(), 3 + 1);
}
