//! The power fails, at every write and every sync of the file under the journal.
//!
//! Segments of the journal are removed once the file has what they say. So what is missing in
//! the file is missing for good, if a page was synced too late or not at all. Here a store
//! works, and is then opened from what would have been left of it: as often as its file was
//! written or synced, and in several ways each time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::storage::redb::lossy::{Change, Cut, Harm, Loss, Lossy, Random};

/// So small that pages are written before they are synced, and read again.
const CACHE_BYTES: usize = 64 * 1024;

/// Of so many cuts one is followed by others, while the store opens again.
const AGAIN: usize = 5;

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

const TABLES: [Table; 3] = [Table::Entries, Table::Feed, Table::Past];

/// What clients know.
#[derive(Clone, Default)]
struct Known {
    acknowledged: Arc<Rows>,
    /// As it would be with a write that was not answered.
    in_doubt: Option<Arc<Rows>>,
    commits: u64,
}

/// What a cut needs to know besides the file.
#[derive(Clone)]
struct Moment {
    journal: Disk,
    known: Known,
}

/// Writes that come while the file is written: one is asked for and waited for, after so many
/// changes of the file, so that the same seed always does the same.
struct Turns {
    ask: Sender<()>,
    answered: Receiver<()>,
    left: u32,
    changes: u32,
}

impl Turns {
    fn count(&mut self) {
        self.changes += 1;
        if self.left > 0 && self.changes.is_multiple_of(12) {
            self.left -= 1;
            self.ask.send(()).unwrap();
            self.answered.recv().unwrap();
        }
    }
}

/// A machine whose power may fail.
struct Machine {
    file: Lossy<Moment>,
    journal: Disk,
    known: Arc<Mutex<Known>>,
    turns: Arc<Mutex<Option<Turns>>>,
}

impl Machine {
    fn new(file: Vec<u8>, journal: Disk, known: Known) -> Self {
        let known = Arc::new(Mutex::new(known));
        let turns = Arc::new(Mutex::new(None::<Turns>));
        let moment = {
            let (journal, known, turns) = (journal.clone(), known.clone(), turns.clone());
            move || {
                let moment = Moment {
                    known: known.lock().unwrap().clone(),
                    journal: journal.begin_again(),
                };
                if let Some(turns) = &mut *turns.lock().unwrap() {
                    turns.count();
                }
                moment
            }
        };
        Self {
            file: Lossy::new(file, moment),
            journal,
            known,
            turns,
        }
    }

    fn base(&self) -> Result<RedbStorage, OpenError> {
        RedbStorage::over(self.file.clone(), CACHE_BYTES)
    }

    fn open(&self) -> Result<JournaledStorage, OpenError> {
        open_over(Box::new(self.base()?), &self.journal)
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap().clone()
    }

    /// The first half of a commit of some rows.
    fn stage(&self, storage: &JournaledStorage, random: &mut Random) {
        let mut known = self.known();
        known.commits += 1;
        let mut rows = (*known.acknowledged).clone();
        let mut changes = Batch::default();
        for _ in 0..=random.below(6) {
            let table = TABLES[usize::try_from(random.below(3)).unwrap()];
            let key = random.below(150).to_be_bytes()[6..].to_vec();
            let length = match random.below(100) {
                0..20 => 0,
                20..90 => 8 + random.below(600),
                90..99 => 8 + random.below(9_000),
                _ => 80_000,
            };
            let bytes = known.commits.to_be_bytes().into_iter().cycle();
            let bytes: Vec<u8> = bytes.take(usize::try_from(length).unwrap()).collect();
            let value = Some(bytes).filter(|bytes| !bytes.is_empty());
            match &value {
                Some(value) => rows.insert((table, key.clone()), value.clone()),
                None => rows.remove(&(table, key.clone())),
            };
            changes.set(table, key, value);
        }
        self.stage_all(storage, known, rows, &changes);
    }

    /// The first half of a commit that removes almost all rows.
    fn stage_removal(&self, storage: &JournaledStorage) {
        let mut known = self.known();
        known.commits += 1;
        let mut rows = (*known.acknowledged).clone();
        let mut changes = Batch::default();
        for (table, key) in known.acknowledged.keys().skip(10) {
            rows.remove(&(*table, key.clone()));
            changes.set(*table, key.clone(), None);
        }
        self.stage_all(storage, known, rows, &changes);
    }

    fn stage_all(&self, storage: &JournaledStorage, mut known: Known, rows: Rows, changes: &Batch) {
        known.in_doubt = Some(Arc::new(rows));
        *self.known.lock().unwrap() = known;
        let staged = storage.stage(&mut |writer| {
            for (table, key, value) in changes.iter() {
                match value {
                    Some(value) => writer.insert(table, key, value)?,
                    None => writer.remove(table, key)?,
                }
            }
            Ok(Finish::Commit)
        });
        staged.unwrap();
    }

    /// The other half.
    fn settle(&self, storage: &JournaledStorage) {
        storage.settle().unwrap();
        let mut known = self.known.lock().unwrap();
        if let Some(rows) = known.in_doubt.take() {
            known.acknowledged = rows;
        }
    }

    fn commit(&self, storage: &JournaledStorage, random: &mut Random) {
        self.stage(storage, random);
        self.settle(storage);
    }

    /// Brings all into the file, while others write.
    fn checkpoint(&self, storage: &JournaledStorage, random: &mut Random) {
        let (ask, asked) = channel();
        let (answer, answered) = channel();
        *self.turns.lock().unwrap() = Some(Turns {
            ask,
            answered,
            left: 3,
            changes: 0,
        });
        std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| {
                let outcome = storage.checkpoint();
                // It goes on by itself with what was written meanwhile.
                while outcome.is_ok() && !storage.shared.rests() {
                    std::thread::yield_now();
                }
                self.turns.lock().unwrap().take();
                outcome
            });
            while asked.recv().is_ok() {
                self.settle(storage);
                self.stage(storage, random);
                answer.send(()).unwrap();
            }
            checkpoint.join().unwrap().unwrap();
        });
    }
}

/// A store that works for a while: it grows, is opened again, shrinks, and ends.
fn work(seed: u64, rounds: u64) -> Machine {
    let mut random = Random(seed);
    let new = Machine::new(Vec::new(), Disk::default(), Known::default());
    // A file has its name only once it has been begun.
    drop(new.base().unwrap());
    let machine = Machine::new(new.file.bytes(), new.journal, Known::default());
    let mut storage = machine.open().unwrap();
    for round in 1..=rounds {
        for _ in 0..random.below(10) {
            machine.commit(&storage, &mut random);
        }
        if round % 3 == 0 {
            machine.stage_removal(&storage);
        } else {
            machine.stage(&storage, &mut random);
        }
        // With one whose other half has not come.
        machine.checkpoint(&storage, &mut random);
        machine.settle(&storage);
        if round % 2 == 0 {
            drop(storage);
            storage = machine.open().unwrap();
        }
    }
    drop(storage);
    machine
}

/// Rows of a store, without what it keeps for itself.
fn all_rows(storage: &dyn Storage) -> Result<Rows, StoreError> {
    crate::storage::read(storage, |reader| {
        let mut rows = Rows::new();
        for table in TABLES {
            reader.scan(table, &[], None, &mut |key, value| {
                rows.insert((table, key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        Ok(rows)
    })
}

/// What is there against what should be, in few words.
fn compare(found: &Rows, expected: &Rows) -> Result<(), String> {
    let missing = expected.iter().filter(|(key, _)| !found.contains_key(*key));
    let other = found
        .iter()
        .filter(|(key, row)| expected.get(*key) != Some(row));
    match (missing.count(), other.count()) {
        (0, 0) => Ok(()),
        (missing, other) => Err(format!(
            "of {} rows {missing} are missing, and {other} are others",
            expected.len()
        )),
    }
}

/// What was looked at.
#[derive(Default, Debug)]
struct Seen {
    writes: u32,
    syncs: u32,
    growths: u32,
    shrinkings: u32,
    openings: u32,
    /// Times that a write was there that had not been answered.
    kept: u32,
    /// Times that it was not.
    dropped: u32,
}

/// Opens what is left after a cut, and looks whether all is there; then whether it still works.
fn open_left(
    cut: &Cut<'_, Moment>,
    loss: Loss,
    random: &mut Random,
    seen: &mut Seen,
) -> Result<Machine, String> {
    let said = |error: OpenError| format!("it cannot be opened: {error:?}");
    let journal = cut.moment.journal.lose_power(|| match loss {
        Loss::Everything => false,
        Loss::Nothing => true,
        Loss::Random => random.one_in(2),
    });
    let machine = Machine::new(cut.left(loss, random), journal, cut.moment.known.clone());
    let storage = machine.open().map_err(said)?;
    machine.file.make_safe();
    seen.openings += 1;

    let known = machine.known();
    let found = all_rows(&storage).map_err(|error| format!("{error:?}"))?;
    let found = match known.in_doubt {
        Some(rows) if compare(&found, &rows).is_ok() => {
            seen.kept += 1;
            rows
        }
        in_doubt => {
            compare(&found, &known.acknowledged)?;
            seen.dropped += u32::from(in_doubt.is_some());
            known.acknowledged
        }
    };
    *machine.known.lock().unwrap() = Known {
        acknowledged: found,
        in_doubt: None,
        commits: known.commits,
    };

    machine.commit(&storage, random);
    // A clean end brings all into the file.
    drop(storage);
    let mut base = machine.base().map_err(said)?;
    let found = all_rows(&base).map_err(|error| format!("{error:?}"))?;
    compare(&found, &machine.known().acknowledged)?;
    match base.is_sound() {
        Ok(true) => Ok(machine),
        unsound => Err(format!("its pages do not fit each other: {unsound:?}")),
    }
}

/// Cuts the power of a machine at every moment of its work, and again while it opens.
fn cut_everywhere(seed: u64, rounds: u64, harm: Harm, seen: &mut Seen) -> Result<(), String> {
    let mut random = Random(!seed);
    let mut length = 0;
    let checked = |cut: &Cut<'_, Moment>, loss, random: &mut Random, seen: &mut Seen| {
        let opened = catch_unwind(AssertUnwindSafe(|| open_left(cut, loss, random, seen)));
        let opened = opened.unwrap_or_else(|panic| Err(format!("a panic: {}", text(&*panic))));
        opened.map_err(|said| format!("seed {seed}, change {}, {loss:?}: {said}", cut.number))
    };
    work(seed, rounds).file.each_cut(harm, |cut| {
        match cut.change {
            Change::Write(..) => seen.writes += 1,
            Change::Sync => seen.syncs += 1,
            Change::SetLength(_) if cut.length < length => seen.shrinkings += 1,
            Change::SetLength(_) => seen.growths += 1,
        }
        length = cut.length;
        for loss in [Loss::Everything, Loss::Nothing] {
            checked(cut, loss, &mut random, seen)?;
        }
        let machine = checked(cut, Loss::Random, &mut random, seen)?;
        if !cut.number.is_multiple_of(AGAIN) {
            return Ok(());
        }
        machine.file.each_cut(Harm::Nothing, |second| {
            let again = checked(second, Loss::Random, &mut random, seen);
            again
                .map(drop)
                .map_err(|said| format!("change {}, then {said}", cut.number))
        })
    })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

/// How many stores work, one after the other: more with `POWER_LOSS_SEEDS`.
fn seeds() -> u64 {
    let seeds = std::env::var("POWER_LOSS_SEEDS");
    seeds.map_or(2, |seeds| {
        seeds.parse().expect("POWER_LOSS_SEEDS is a number")
    })
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power_at_every_write_and_every_sync() {
    let mut seen = Seen::default();
    for seed in 0..seeds() {
        cut_everywhere(seed, 4, Harm::Nothing, &mut seen).unwrap();
    }
    eprintln!("{seen:?}");
    assert!(seen.growths > 0 && seen.shrinkings > 0, "{seen:?}");
    assert!(seen.kept > 0 && seen.dropped > 0, "{seen:?}");
}

#[test]
fn a_seed_always_does_the_same() {
    let (one, other) = (work(7, 4), work(7, 4));
    assert_eq!(one.file.changes(), other.file.changes());
    assert!(one.file.bytes() == other.file.bytes());
}

/// Cuts the power of a machine with harm until it is noticed. redb may panic on what is left.
fn caught(harm: Harm) {
    let noticed = cut_everywhere(0, 4, harm, &mut Seen::default());
    eprintln!("{harm:?}: {}", noticed.expect_err("nothing is noticed"));
}

#[test]
fn without_the_sync_an_acknowledged_write_is_found_to_be_lost() {
    caught(Harm::NoSync);
}

#[test]
fn a_sync_before_the_pages_that_wait_is_found_to_lose_some() {
    caught(Harm::EarlySync);
}

#[test]
fn a_page_that_is_dropped_before_a_sync_is_found_to_be_lost() {
    caught(Harm::LostPage);
}
