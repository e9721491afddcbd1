use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::document::{Part, PartWrite, Write};
use crate::model::{Collection, Dot, Epoch, Key, Origin, ReplicaId, Timestamp, Version};
use crate::storage::state::{Digest, Merging, Storing, feed_after, feed_ends, store};
use crate::storage::{MemoryStorage, read};

const ORIGIN: Origin = Origin {
    replica: ReplicaId([1; 16]),
    epoch: Epoch(1),
};

/// A store and what its feed should hold: of each position the key and the value.
struct Feed {
    storage: MemoryStorage,
    header: Header,
    written: Vec<(Key, Bytes)>,
}

impl Feed {
    fn new(bounds: FeedBounds) -> Self {
        let header = Header {
            origin: ORIGIN,
            clock: Timestamp(0),
            feed: FeedEnds::default(),
            bounds,
            digest: Digest::default(),
        };
        Self {
            storage: MemoryStorage::default(),
            header,
            written: Vec::new(),
        }
    }

    fn put(&mut self, number: u8, bytes: usize) {
        let seq = self.written.len() as u64 + 1;
        let dot = Dot {
            origin: ORIGIN,
            seq,
        };
        let clock = Timestamp(seq);
        let version = Version { clock, dot };
        let value = Bytes::from(vec![b'1'; bytes]);
        let root = PartWrite {
            part: Part::Root,
            value: Some(value.clone()),
        };
        let parts = vec![root];
        let write = Write { version, parts };
        let key = Key::new(Collection::new("users").unwrap(), &format!("u{number}")).unwrap();
        self.written.push((key.clone(), value));
        let header = &mut self.header;
        let written = self.storage.write(&mut |writer| {
            let merging = Merging::of(crate::storage::state::entry(writer, &key)?, &write);
            store(writer, header, &key, dot, Storing::default(), merging)?.unwrap();
            crate::storage::state::set_header(writer, header)?;
            Ok(Finish::Commit)
        });
        written.unwrap();
    }

    /// Everything above the floor is there as it was written, and is counted.
    fn check(&self) {
        let ends = read(&self.storage, feed_ends).unwrap();
        assert_eq!(ends, self.header.feed);
        assert_eq!(ends.head, self.written.len() as u64);
        let items = read(&self.storage, |reader| {
            feed_after(reader, ends.floor, usize::MAX, usize::MAX)
        });
        let items = items.unwrap();
        let kept = usize::try_from(ends.floor).unwrap();
        assert_eq!(items.len(), self.written.len() - kept);
        for (item, (key, value)) in items.iter().zip(&self.written[kept..]) {
            assert_eq!(&item.change.key, key);
            assert_eq!(item.change.entry.value.as_ref(), Some(value));
        }
        assert_eq!(read(&self.storage, past_bytes).unwrap(), ends.past_bytes);
        // Nothing is left below it.
        let mut oldest = u64::MAX;
        let lowest = |reader: &dyn Reader| {
            let mut lowest = None;
            reader.scan(Table::Past, &[], None, &mut |at, _| {
                lowest = at.try_into().ok().map(u64::from_be_bytes);
                std::ops::ControlFlow::Break(())
            })?;
            Ok(lowest)
        };
        oldest = read(&self.storage, lowest).unwrap().unwrap_or(oldest);
        assert!(oldest > ends.floor, "{oldest} {ends:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_feed_is_within_its_bounds_and_whole(
        positions in 1..120_u64,
        past_bytes in prop_oneof![Just(0_u64), 0..20_000_u64],
        writes in prop::collection::vec((0..6_u8, prop_oneof![4 => 1..40_usize, 1 => 1..9_000_usize]), 1..250),
    ) {
        let mut feed = Feed::new(FeedBounds { positions, past_bytes });
        for (number, bytes) in writes {
            feed.put(number, bytes);
            let ends = feed.header.feed;
            prop_assert!(ends.head - ends.floor <= positions, "{ends:?}");
            let most = past_bytes + positions * STEP_BYTES as u64;
            prop_assert!(ends.past_bytes <= most, "{ends:?}");
        }
        feed.check();
        // What is left of a backlog is worked off by changes that add none.
        for number in 100..140 {
            feed.put(number, 1);
        }
        let ends = feed.header.feed;
        prop_assert!(ends.past_bytes <= past_bytes, "{ends:?}");
        feed.check();
    }
}

#[test]
fn a_store_that_did_not_count_its_past_does_so_when_it_is_opened() {
    let mut feed = Feed::new(FeedBounds::default());
    for bytes in 1..20 {
        feed.put(0, bytes);
    }
    let counted = feed.header.feed.past_bytes;
    assert!(counted > 0);
    let forgets = |writer: &mut dyn Writer| {
        writer.remove(Table::Meta, records::META_PAST)?;
        Ok(Finish::Commit)
    };
    feed.storage.write(&mut { forgets }).unwrap();
    assert_eq!(read(&feed.storage, feed_ends).unwrap().past_bytes, 0);
    count_past(&feed.storage).unwrap();
    assert_eq!(read(&feed.storage, feed_ends).unwrap().past_bytes, counted);
}
