mod power_loss;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::medium::Segment;
use super::segment::{BLOCK_BYTES, HEADER_BYTES, Header};
use super::*;
use crate::protocol::Config;

/// So long that what an earlier use left in a segment goes beyond its first block.
const VALUE_BYTES: usize = 400;

/// A disk that keeps what was synced, and of the rest any part.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    segments: BTreeMap<u64, Contents>,
    /// Operations from now on until the fault, and which.
    fault: Option<(u32, Fault)>,
}

#[derive(Clone, Default)]
struct Contents {
    durable: Vec<u8>,
    /// Written and not synced, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// The write writes half and fails for want of room.
    Full,
    /// The sync fails, and what was written is dropped.
    Sync,
    /// The sync fails, and what was written is there all the same.
    SyncKept,
    /// Nothing works any more.
    Dead,
}

fn overlay(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    let end = at + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(written);
}

impl Disk {
    fn with<T>(&self, work: impl FnOnce(&mut DiskState) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn break_after(&self, operations: u32, fault: Fault) {
        self.with(|disk| disk.fault = Some((operations, fault)));
    }

    /// The process ends and begins again; the kernel keeps what was written, and has not
    /// written all of it yet.
    fn begin_again(&self) -> Self {
        let segments = self.with(|disk| disk.segments.clone());
        let fault = None;
        Self(Arc::new(Mutex::new(DiskState { segments, fault })))
    }

    /// The power fails: of what was not synced, each piece of 16 bytes is kept if
    /// `keep` says so. Afterwards the disk is sound again.
    fn lose_power(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut segments = self.with(|disk| disk.segments.clone());
        for contents in segments.values_mut() {
            for (at, written) in std::mem::take(&mut contents.pending) {
                for (piece, bytes) in written.chunks(16).enumerate() {
                    if keep() {
                        overlay(&mut contents.durable, at + piece * 16, bytes);
                    }
                }
            }
        }
        let fault = None;
        Self(Arc::new(Mutex::new(DiskState { segments, fault })))
    }
}

impl DiskState {
    /// Whether this operation meets the fault.
    fn fault(&mut self) -> Option<Fault> {
        match &mut self.fault {
            Some((0, fault)) => {
                let fault = *fault;
                if fault != Fault::Dead {
                    self.fault = None;
                }
                Some(fault)
            }
            Some((operations, _)) => {
                *operations -= 1;
                None
            }
            None => None,
        }
    }
}

impl Medium for Disk {
    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.with(|disk| disk.segments.keys().copied().collect()))
    }

    fn create(&self, id: u64) -> io::Result<Box<dyn Segment>> {
        self.with(|disk| match disk.fault() {
            Some(_) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            None => {
                disk.segments.insert(id, Contents::default());
                Ok(())
            }
        })?;
        Ok(Box::new(Open {
            disk: self.clone(),
            id,
        }))
    }

    fn recycle(&self, old: u64, id: u64) -> io::Result<Box<dyn Segment>> {
        self.with(|disk| {
            let fault = disk.fault();
            let contents = disk.segments.get_mut(&old).ok_or(io::ErrorKind::NotFound)?;
            for (at, written) in std::mem::take(&mut contents.pending) {
                overlay(&mut contents.durable, at, &written);
            }
            overlay(&mut contents.durable, 0, &[0; BLOCK_BYTES]);
            match fault {
                Some(_) => Err(io::Error::from(io::ErrorKind::StorageFull)),
                None => {
                    let contents = disk.segments.remove(&old).unwrap_or_default();
                    disk.segments.insert(id, contents);
                    Ok(())
                }
            }
        })?;
        Ok(Box::new(Open {
            disk: self.clone(),
            id,
        }))
    }

    fn read(&self, id: u64) -> io::Result<Vec<u8>> {
        self.with(|disk| {
            let contents = disk.segments.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
            for (at, written) in std::mem::take(&mut contents.pending) {
                overlay(&mut contents.durable, at, &written);
            }
            Ok(contents.durable.clone())
        })
    }

    fn remove(&self, id: u64) -> io::Result<()> {
        self.with(|disk| disk.segments.remove(&id));
        Ok(())
    }

    fn name(&self, id: u64) -> PathBuf {
        PathBuf::from(format!("segment {id}"))
    }
}

struct Open {
    disk: Disk,
    id: u64,
}

impl Segment for Open {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.disk.with(|disk| {
            let fault = disk.fault();
            let half = match fault {
                None => bytes,
                Some(_) => &bytes[..bytes.len() / 2],
            };
            let contents = disk.segments.entry(self.id).or_default();
            contents
                .pending
                .push((usize::try_from(at).unwrap(), half.to_vec()));
            match fault {
                None => Ok(()),
                Some(_) => Err(io::ErrorKind::StorageFull.into()),
            }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.with(|disk| {
            let fault = disk.fault();
            let contents = disk.segments.entry(self.id).or_default();
            let pending = std::mem::take(&mut contents.pending);
            if matches!(fault, None | Some(Fault::SyncKept)) {
                for (at, written) in &pending {
                    overlay(&mut contents.durable, *at, written);
                }
            }
            match fault {
                None => Ok(()),
                // The kernel has given up on these pages, and says so once; for a reason that
                // must not be taken for that of a write that has not begun.
                Some(_) => Err(io::ErrorKind::StorageFull.into()),
            }
        })
    }
}

/// A base one of whose transactions fails.
#[derive(Clone, Default)]
struct FailingBase {
    base: MemoryStorage,
    /// Transactions from now on until it does.
    fault: Arc<Mutex<Option<u32>>>,
    /// Every transaction panics.
    panics: Arc<AtomicBool>,
}

impl Storage for FailingBase {
    fn read(
        &self,
        work: &mut dyn FnMut(&dyn Reader) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.base.read(work)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<Finish, StoreError>,
    ) -> Result<(), StoreError> {
        assert!(!self.panics.load(Ordering::Relaxed), "a page is not right");
        let mut fault = self.fault.lock().unwrap();
        let fails = *fault == Some(0);
        *fault = fault.and_then(|transactions| transactions.checked_sub(1));
        self.base.write(&mut |writer| match work(writer)? {
            Finish::Commit if fails => Err(StoreError::NotRun),
            finish => Ok(finish),
        })
    }
}

impl Base for FailingBase {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.base.snapshot()
    }

    fn has_failed(&self) -> bool {
        false
    }
}

fn open(base: &MemoryStorage, disk: &Disk) -> Result<JournaledStorage, OpenError> {
    open_over(Box::new(base.clone()), disk)
}

fn open_over(base: Box<dyn Base>, disk: &Disk) -> Result<JournaledStorage, OpenError> {
    JournaledStorage::begin(base, Box::new(disk.clone()), PathBuf::from("test"))
}

fn put(storage: &JournaledStorage, rows: &[(u8, Option<u8>)]) -> Result<(), StoreError> {
    stage(storage, rows)?;
    storage.settle()
}

fn stage(storage: &JournaledStorage, rows: &[(u8, Option<u8>)]) -> Result<(), StoreError> {
    storage.stage(&mut |writer| {
        for (key, value) in rows {
            match value {
                Some(value) => writer.insert(Table::Entries, &[*key], &[*value; VALUE_BYTES])?,
                None => writer.remove(Table::Entries, &[*key])?,
            }
        }
        Ok(Finish::Commit)
    })
}

type Model = BTreeMap<u8, u8>;

fn apply(model: &mut Model, rows: &[(u8, Option<u8>)]) {
    for (key, value) in rows {
        match value {
            Some(value) => model.insert(*key, *value),
            None => model.remove(key),
        };
    }
}

fn rows(storage: &dyn Storage) -> Model {
    super::super::read(storage, |reader| {
        let mut found = Model::new();
        reader.scan(Table::Entries, &[], None, &mut |key, value| {
            found.insert(key[0], value[0]);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    })
    .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    /// A write between whose halves all that is there is brought into the base.
    SlowWrite(Vec<(u8, Option<u8>)>),
    /// The first half of a write; the other comes with the next, if it does.
    Stage(Vec<(u8, Option<u8>)>),
    Checkpoint,
    Fault(u32, Fault),
    /// So many transactions from now one of the base fails.
    BaseFault(u32),
    PowerLoss(u64),
    /// The process ends and begins again; the kernel keeps what was written.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..12_u8, proptest::option::of(any::<u8>()));
    let fault = prop_oneof![
        Just(Fault::Full),
        Just(Fault::Sync),
        Just(Fault::SyncKept),
        Just(Fault::Dead)
    ];
    let step = prop_oneof![
        8 => proptest::collection::vec(row.clone(), 1..4).prop_map(Step::Write),
        2 => proptest::collection::vec(row.clone(), 1..4).prop_map(Step::SlowWrite),
        2 => proptest::collection::vec(row, 1..4).prop_map(Step::Stage),
        1 => Just(Step::Checkpoint),
        2 => (0..6_u32, fault).prop_map(|(after, fault)| Step::Fault(after, fault)),
        1 => (0..4_u32).prop_map(Step::BaseFault),
        1 => any::<u64>().prop_map(Step::PowerLoss),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Ends the life of a store as a crash does: nothing more reaches the disk.
fn crash(storage: JournaledStorage, disk: &Disk) {
    disk.break_after(0, Fault::Dead);
    storage.shared.crash();
    drop(storage);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is acknowledged is there after any fault; whatever was refused for want
    /// of room is not, and what failed in its sync is there as a whole or not at all.
    #[test]
    fn what_was_acknowledged_survives_every_fault(steps in steps()) {
        let base = FailingBase::default();
        let mut disk = Disk::default();
        let open = |disk: &Disk| open_over(Box::new(base.clone()), disk);
        let mut storage = open(&disk).unwrap();
        let mut model = Model::new();
        // As it would be with a write whose outcome is not known.
        let mut in_doubt: Option<Model> = None;
        let mut staged: Option<Model> = None;
        for step in steps {
            match step {
                Step::Fault(..) | Step::BaseFault(_) => {}
                Step::PowerLoss(_) | Step::Kill => in_doubt = staged.take().or(in_doubt),
                _ => {
                    if let Some(after) = staged.take() {
                        match storage.settle() {
                            Ok(()) => (model, in_doubt) = (after, None),
                            Err(_) => in_doubt = Some(after),
                        }
                    }
                }
            }
            match step {
                Step::Write(_) | Step::SlowWrite(_) => {
                    let (Step::Write(write) | Step::SlowWrite(write)) = &step else {
                        unreachable!("it is one of them")
                    };
                    let mut after = model.clone();
                    apply(&mut after, write);
                    let mut outcome = stage(&storage, write);
                    if outcome.is_ok() {
                        let found = rows(&storage);
                        prop_assert!(found == model || found == after);
                        if matches!(step, Step::SlowWrite(_)) {
                            let _ = storage.checkpoint();
                        }
                        outcome = storage.settle();
                    }
                    match outcome {
                        Ok(()) => {
                            model = after;
                            in_doubt = None;
                        }
                        Err(StoreError::Full(_)) => {}
                        Err(_) => in_doubt = Some(after),
                    }
                    prop_assert_eq!(rows(&storage), model.clone());
                }
                Step::Stage(write) => {
                    let mut after = model.clone();
                    apply(&mut after, &write);
                    match stage(&storage, &write) {
                        Ok(()) => staged = Some(after),
                        Err(StoreError::Full(_)) => {}
                        Err(_) => in_doubt = Some(after),
                    }
                    // The thread that brings all into the base may have done the other half.
                    let found = rows(&storage);
                    prop_assert!(found == model || Some(&found) == staged.as_ref());
                }
                // It may fail on a disk that is broken.
                Step::Checkpoint => drop(storage.checkpoint()),
                Step::Fault(after, fault) => disk.break_after(after, fault),
                Step::BaseFault(after) => *base.fault.lock().unwrap() = Some(after),
                Step::PowerLoss(seed) => {
                    let mut random = seed;
                    crash(storage, &disk);
                    disk = disk.lose_power(|| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        random >> 63 == 1
                    });
                    storage = open(&disk).unwrap();
                    let found = rows(&storage);
                    prop_assert!(found == model || Some(&found) == in_doubt.as_ref());
                    model = found;
                    in_doubt = None;
                }
                Step::Kill => {
                    crash(storage, &disk);
                    disk = disk.begin_again();
                    storage = open(&disk).unwrap();
                    let found = rows(&storage);
                    prop_assert!(found == model || Some(&found) == in_doubt.as_ref());
                    model = found;
                    in_doubt = None;
                }
            }
        }
        disk.with(|disk| disk.fault = None);
        *base.fault.lock().unwrap() = None;
        if let Some(after) = staged
            && storage.settle().is_ok()
        {
            model = after;
        }
        // A clean end brings all into the base.
        put(&storage, &[(200, Some(1))]).unwrap();
        model.insert(200, 1);
        drop(storage);
        prop_assert_eq!(rows(&base.base), model);
    }

    /// A scan over all layers sees what a plain map would hold, wherever it begins, ends
    /// or stops.
    #[test]
    fn layers_read_as_one_table(
        below in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..40),
        layers in proptest::collection::vec(
            proptest::collection::vec((any::<u8>(), proptest::option::of(any::<u8>())), 0..40), 3),
        from in any::<u8>(), to in proptest::option::of(any::<u8>()), most in 1..50_usize,
    ) {
        let base = MemoryStorage::default();
        let mut model = Model::new();
        base.write(&mut |writer| {
            for (key, value) in &below {
                writer.insert(Table::Dots, &[*key], &[*value])?;
            }
            Ok(Finish::Commit)
        }).unwrap();
        model.extend(below);
        let mut batches = Vec::new();
        for layer in layers {
            let mut batch = Batch::default();
            for (key, value) in &layer {
                batch.set(Table::Dots, vec![*key], value.map(|value| vec![value]));
            }
            apply(&mut model, &layer);
            batches.push(batch);
        }
        let view = View::new([Some(&batches[2]), Some(&batches[1]), Some(&batches[0])], &base);
        let mut found = Vec::new();
        view.scan(Table::Dots, &[from], to.as_ref().map(std::slice::from_ref), &mut |key, value| {
            found.push((key[0], value[0]));
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }).unwrap();
        let in_range = |key: &u8| *key >= from && to.is_none_or(|to| *key < to);
        let expected: Vec<(u8, u8)> =
            model.iter().filter(|(key, _)| in_range(key)).map(|(k, v)| (*k, *v)).take(most).collect();
        prop_assert_eq!(found, expected);
        for key in 0..=u8::MAX {
            let value = view.get(Table::Dots, &[key]).unwrap();
            prop_assert_eq!(value, model.get(&key).map(|value| vec![*value]));
        }
        let mut batch = Batch::default();
        let bytes: usize = batches.iter().map(Batch::bytes).sum();
        batches.into_iter().for_each(|later| batch.absorb(later));
        prop_assert!(batch.bytes() <= bytes);
    }

    /// No bytes in a segment can do more than end the replay, or be called damaged.
    #[test]
    fn garbage_after_the_header_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (base, disk) = (MemoryStorage::default(), Disk::default());
        let storage = open(&base, &disk).unwrap();
        put(&storage, &[(1, Some(1))]).unwrap();
        crash(storage, &disk);
        let disk = disk.lose_power(|| true);
        disk.with(|disk| {
            let (_, contents) = disk.segments.first_key_value().unwrap();
            let mut bytes = contents.durable.clone();
            bytes.extend(garbage);
            disk.segments.first_entry().unwrap().get_mut().durable = bytes;
        });
        let storage = open(&base, &disk).unwrap();
        prop_assert_eq!(rows(&storage), Model::from([(1, 1)]));
    }
}

/// A store with ten writes in its journal, crashed.
fn crashed() -> (MemoryStorage, Disk) {
    let (base, disk) = (MemoryStorage::default(), Disk::default());
    let storage = open(&base, &disk).unwrap();
    for key in 0..10 {
        put(&storage, &[(key, Some(key))]).unwrap();
    }
    crash(storage, &disk);
    (base, disk.lose_power(|| true))
}

#[test]
fn damage_before_the_end_is_told_and_nothing_is_dropped() {
    let (base, disk) = crashed();
    disk.with(|disk| {
        let segment = disk.segments.first_entry().unwrap().into_mut();
        // In the third record or so.
        segment.durable[HEADER_BYTES + 2 * 448 + 40] ^= 1;
    });
    let refused = open(&base, &disk).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    assert_eq!(rows(&base), Model::new(), "the file is left alone");
}

#[test]
fn a_journal_that_is_gone_is_told() {
    let (base, disk) = crashed();
    disk.with(|disk| disk.segments.clear());
    let refused = open(&base, &disk).err().unwrap();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused:?}");
}

#[test]
fn what_follows_a_failed_sync_is_never_believed() {
    let (base, disk) = (MemoryStorage::default(), Disk::default());
    let storage = open(&base, &disk).unwrap();
    put(&storage, &[(1, Some(1))]).unwrap();
    // The next write's sync.
    disk.break_after(1, Fault::Sync);
    assert!(put(&storage, &[(2, Some(2))]).is_err());
    put(&storage, &[(3, Some(3))]).unwrap();
    // The disk had written what it said it had not.
    disk.with(|disk| {
        let segment = disk.segments.first_entry().unwrap().into_mut();
        let key = Header::decode(&segment.durable).unwrap().key;
        let mut changes = Batch::default();
        changes.set(Table::Entries, vec![2], Some(vec![2; 40]));
        let mut record = Vec::new();
        super::segment::encode_record(&key, 2, &changes, &mut record).unwrap();
        segment.durable.extend(record);
    });
    crash(storage, &disk);
    let storage = open(&base, &disk.lose_power(|| true)).unwrap();
    assert_eq!(rows(&storage), Model::from([(1, 1), (3, 3)]));
}

#[test]
fn a_full_disk_refuses_and_room_is_used_at_once() {
    let (base, disk) = (MemoryStorage::default(), Disk::default());
    let storage = open(&base, &disk).unwrap();
    disk.break_after(0, Fault::Dead);
    for _ in 0..3 {
        let refused = put(&storage, &[(1, Some(1))]);
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    assert_eq!(rows(&storage), Model::new(), "reads go on");
    disk.with(|disk| disk.fault = None);
    put(&storage, &[(1, Some(2))]).unwrap();
    assert_eq!(rows(&storage), Model::from([(1, 2)]));
}

#[test]
fn checkpoints_cut_the_journal_off() {
    let (base, disk) = (MemoryStorage::default(), Disk::default());
    let storage = open(&base, &disk).unwrap();
    for key in 0..5 {
        put(&storage, &[(key, Some(key))]).unwrap();
        storage.checkpoint().unwrap();
        assert_eq!(rows(&base).len(), usize::from(key) + 1);
    }
    // The one in use, and one that may be ready.
    let segments = disk.segments().unwrap();
    assert!(
        segments.len() <= 3 && *segments.iter().min().unwrap() > 1,
        "{segments:?}"
    );
}

#[test]
fn a_segment_is_used_again_and_what_it_held_is_not_taken_for_new() {
    let (base, disk) = (MemoryStorage::default(), Disk::default());
    let storage = open(&base, &disk).unwrap();
    let mut model = Model::new();
    for round in 0..5 {
        // Each time less, so that older records follow the last one.
        for key in 0..100 - 10 * round {
            put(&storage, &[(key, Some(round))]).unwrap();
            model.insert(key, round);
        }
        storage.checkpoint().unwrap();
    }
    let last = |disk: &Disk| {
        let durable = |disk: &mut DiskState| {
            let last = disk.segments.last_key_value().unwrap();
            last.1.durable.clone()
        };
        disk.with(durable)
    };
    // The thread makes it when it has ended the checkpoint.
    while Header::decode(&last(&disk)).is_some() {
        std::thread::yield_now();
    }
    let ahead = last(&disk);
    assert!(ahead[..BLOCK_BYTES].iter().all(|byte| *byte == 0));
    assert!(ahead[BLOCK_BYTES..].iter().any(|byte| *byte != 0));
    assert!(disk.segments().unwrap().len() <= 3);
    for key in 0..20 {
        put(&storage, &[(key, Some(9))]).unwrap();
        model.insert(key, 9);
    }
    crash(storage, &disk);
    let disk = disk.lose_power(|| true);
    let storage = open(&base, &disk).unwrap();
    assert_eq!(rows(&storage), model);
    // What was kept for another use when it ended is not left behind.
    let oldest = disk.segments().unwrap().into_iter().min();
    assert!(oldest.unwrap() > 5, "{oldest:?}");
}

/// Whoever writes documents can write what looks like the beginnings of many large records.
#[test]
fn what_only_looks_like_a_record_is_not_read_as_one() {
    let mut bytes = Vec::new();
    for at in (0..8 * 1024 * 1024_u32).step_by(16).rev() {
        bytes.extend(0xB51C_0DE5_u32.to_be_bytes());
        bytes.extend(at.saturating_sub(64).to_be_bytes());
        bytes.extend(u64::MAX.to_be_bytes());
    }
    // Hashing them all would take hours.
    assert!(!super::segment::has_record_after(&[7; 32], &bytes, 0, 41));
    let mut record = Vec::new();
    let mut changes = Batch::default();
    changes.set(Table::Entries, vec![2], Some(vec![2; 40]));
    super::segment::encode_record(&[7; 32], 43, &changes, &mut record).unwrap();
    bytes.extend(record);
    assert!(super::segment::has_record_after(&[7; 32], &bytes, 0, 41));
    assert!(!super::segment::has_record_after(&[7; 32], &bytes, 0, 43));
}

/// The files of a store as the first format left them, made by that version of the
/// program: 43 keys, five of them deleted, ten of them written twice, two of another
/// replica.
fn store_of_format_1(directory: &Path) {
    let packed = include_bytes!("../../../testdata/store-format-1.redb.zst");
    let store = zstd::decode_all(&packed[..]).unwrap();
    std::fs::write(directory.join("store.redb"), store).unwrap();
    std::fs::write(directory.join("store.created"), b"").unwrap();
}

#[test]
fn a_store_of_the_first_format_is_opened_and_kept_whole() {
    use crate::storage::{records, state};
    let directory = tempfile::tempdir().unwrap();
    store_of_format_1(directory.path());
    let check = |storage: &JournaledStorage| {
        super::super::read(storage, |reader| {
            let dump = state::dump(reader)?;
            assert_eq!(dump.len(), 43);
            let tombstones = dump.iter().filter(|(_, document)| document.is_tombstone(0));
            assert_eq!(tombstones.count(), 5);
            let (_, changed) = &dump[3];
            assert_eq!(
                changed.revision().unwrap().to_string(),
                "18bcfe568290000-07070707070707070707070707070707-18bcfe56801beeb-29"
            );
            assert_eq!(
                changed.value(0).as_deref(),
                Some(&br#"{"name":"user 0","changed":true}"#[..])
            );
            assert_eq!(state::feed_after(reader, 0, 1000, 1 << 20)?.len(), 58);
            assert_eq!(state::vector(reader)?.iter().count(), 2);
            assert_eq!(
                reader.get(Table::Meta, records::META_FORMAT)?,
                Some(records::FORMAT.to_be_bytes().to_vec())
            );
            Ok(())
        })
        .unwrap();
    };
    let storage = JournaledStorage::open(directory.path(), 1 << 20).unwrap();
    check(&storage);
    drop(storage);
    let storage = JournaledStorage::open(directory.path(), 1 << 20).unwrap();
    check(&storage);
    // And it can be written.
    let now = crate::protocol::Now {
        wall_ms: 1_700_000_100_000,
        elapsed: std::time::Duration::ZERO,
    };
    let identity = crate::model::ReplicaId([1; 16]);
    let replica =
        crate::protocol::Replica::open(&storage, Config::default(), identity, now, 1).unwrap();
    assert_eq!(replica.status().written, 56);
}

#[test]
fn a_directory_is_a_medium() {
    let directory = tempfile::tempdir().unwrap();
    let storage = JournaledStorage::open(directory.path(), 1 << 20).unwrap();
    put(&storage, &[(1, Some(1)), (2, Some(2))]).unwrap();
    put(&storage, &[(2, None)]).unwrap();
    storage.shared.crash();
    drop(storage);
    let base = RedbStorage::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(rows(&base), Model::new(), "it is in the journal alone");
    drop(base);
    let storage = JournaledStorage::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(rows(&storage), Model::from([(1, 1)]));
    drop(storage);
    let base = RedbStorage::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(
        rows(&base),
        Model::from([(1, 1)]),
        "a clean end brings it into the file"
    );
}

#[test]
fn a_base_that_panics_is_said_to_have_failed_and_is_tried_again() {
    let (base, disk) = (FailingBase::default(), Disk::default());
    let storage = open_over(Box::new(base.clone()), &disk).unwrap();
    put(&storage, &[(1, Some(1))]).unwrap();
    base.panics.store(true, Ordering::Relaxed);
    for key in 2..4 {
        put(&storage, &[(key, Some(key))]).unwrap();
        assert!(storage.checkpoint().is_err());
    }
    base.panics.store(false, Ordering::Relaxed);
    storage.checkpoint().unwrap();
    let all = Model::from([(1, 1), (2, 2), (3, 3)]);
    assert_eq!(rows(&storage), all);
    assert_eq!(rows(&base), all);
}
