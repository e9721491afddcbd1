//! The tests.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use basic_sync::model::document::Action;
use basic_sync::protocol::{AckTarget, Counters, Mesh};
use basic_sync::storage::{read, state};
use bytes::Bytes;

use crate::options::Options;
use crate::world::{Commit, World, key};

/// How many seeds a run covers unless `SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 300;

pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

/// Runs one seed; on failure says how to replay it.
pub(crate) fn run(seed: u64) -> World {
    let options = Options::draw(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, options.clone());
        world.run_whole();
        world
    }));
    outcome.unwrap_or_else(|panic| {
        eprintln!(
            "seed {seed} failed with {options:?}\nreplay: SIMULATION_SEED={seed} \
             cargo nextest run -p basic-tests --test simulation many_seeds"
        );
        resume_unwind(panic)
    })
}

#[test]
fn many_seeds_of_all_faults_together_keep_every_invariant() {
    if let Some(seed) = from_environment("SIMULATION_SEED") {
        run(seed);
        return;
    }
    let first = from_environment("SIMULATION_FIRST").unwrap_or(0);
    let seeds = from_environment("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let sum = Mutex::new(Sometimes::default());
    let next = AtomicU64::new(first);
    let end = first + seeds;
    let run_some = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match catch_unwind(|| run(seed)) {
                Ok(world) => sum.lock().unwrap().add(&world),
                Err(panic) => {
                    // One is enough to look at.
                    next.store(end, Ordering::Relaxed);
                    resume_unwind(panic);
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run_some)).collect();
        for one in threads {
            one.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{seeds} seeds from {first} on: {sum:?}");
    sum.check();
}

/// What must have happened at least once, or the run has tested too little.
#[derive(Debug, Default)]
struct Sometimes {
    acknowledged: u64,
    taken_in: u64,
    superseded: u64,
    repeated: u64,
    pulls_completed: u64,
    pulls_abandoned: u64,
    pulls_refused: u64,
    commits_failed: u64,
    messages_lost: u64,
    clock_steps: u64,
    dated_ahead: u64,
    dates_come: u64,
    disks_lost: u64,
    disks_restored: u64,
    disks_copied: u64,
    snapshots: u64,
    collected: u64,
    buried: u64,
    fencings: u64,
    fenced: u64,
    exported: u64,
    untrusted: u64,
    forwarded: u64,
    pruned: u64,
    grafted: u64,
    roll_calls: u64,
    expired: u64,
}

impl Sometimes {
    fn add(&mut self, world: &World) {
        let Counters {
            taken_in,
            superseded,
            repeated,
            dated_ahead,
            dates_come,
            ..
        } = world.counters();
        let Counters {
            pulls_completed,
            pulls_abandoned,
            pulls_refused,
            ..
        } = world.counters();
        self.acknowledged += world.history.writes_acknowledged;
        self.taken_in += taken_in;
        self.superseded += superseded;
        self.repeated += repeated;
        self.pulls_completed += pulls_completed;
        self.pulls_abandoned += pulls_abandoned;
        self.pulls_refused += pulls_refused;
        self.commits_failed += world.commits_failed;
        self.messages_lost += world.messages_lost;
        self.clock_steps += world.clock_steps;
        self.dated_ahead += dated_ahead;
        self.dates_come += dates_come;
        let counters = world.counters();
        self.disks_lost += world.disks_lost;
        self.disks_restored += world.disks_restored;
        self.disks_copied += world.disks_copied;
        self.snapshots += counters.snapshots_taken;
        self.collected += counters.collected;
        self.buried += counters.buried;
        self.fencings += counters.fencings;
        self.fenced += counters.fenced;
        self.exported += counters.exported;
        self.untrusted += counters.untrusted;
        self.forwarded += counters.forwarded;
        self.pruned += counters.pruned;
        self.grafted += counters.grafted;
        self.roll_calls += counters.roll_calls;
        self.expired += world.history.expiries_told;
    }

    fn check(&self) {
        for (what, count) in [
            ("a write was acknowledged", self.acknowledged),
            ("a change was taken in", self.taken_in),
            ("a change had been superseded on the way", self.superseded),
            ("a change came twice", self.repeated),
            ("a pull was completed", self.pulls_completed),
            ("a pull was given up", self.pulls_abandoned),
            ("a pull was turned away", self.pulls_refused),
            ("a commit failed", self.commits_failed),
            ("a message was lost", self.messages_lost),
            ("a clock went wrong or was set right", self.clock_steps),
            ("a write came with a date far ahead", self.dated_ahead),
            ("a date far ahead came", self.dates_come),
            ("a disk was lost", self.disks_lost),
            ("an old copy of a disk was restored", self.disks_restored),
            ("a disk was a copy of another one", self.disks_copied),
            ("a snapshot was taken over", self.snapshots),
            ("a deletion was let go of", self.collected),
            ("an expired document was buried", self.buried),
            ("a replica was fenced", self.fencings),
            ("a replica found itself fenced", self.fenced),
            ("a write was taken out and kept aside", self.exported),
            (
                "something came from a replica that is not trusted",
                self.untrusted,
            ),
            ("a write was passed on", self.forwarded),
            ("a link was pruned", self.pruned),
            ("a link was grafted", self.grafted),
            ("the roll was called", self.roll_calls),
            ("a watcher was told of an expiry", self.expired),
        ] {
            assert!(count > 0, "it never happened that {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1000..1005 {
        assert_eq!(run(seed).trace(), run(seed).trace(), "seed {seed}");
    }
}

/// No faults but those of the scenario.
pub(crate) fn quiet(replicas: usize) -> Options {
    Options {
        replicas,
        loss: 0.0,
        duplication: 0.0,
        reordering: false,
        delay_max: Duration::from_millis(2),
        commit_max: Duration::from_millis(1),
        commit_failure: 0.0,
        clock_spread: Duration::ZERO,
        clock_steps_back: 0.0,
        wrong_clocks: 0,
        ttl: 0.0,
        disagreement: false,
        tombstone_age: Duration::from_secs(24 * 3600),
        absent_max: Duration::from_secs(7 * 24 * 3600),
        snapshot_from: u64::MAX,
        standing_every: 10,
        mesh: Mesh::default(),
        mesh_disagreement: false,
        ..Options::draw(0)
    }
}

pub(crate) fn text(text: &str) -> Bytes {
    Bytes::from(format!("{{\"text\":\"{text}\"}}"))
}

pub(crate) fn document(words: &str) -> Action {
    Action::Put(text(words))
}

#[test]
fn a_replica_that_was_cut_off_gets_what_it_missed_and_gives_what_it_wrote() {
    let mut world = World::new(1, quiet(3));
    world.run_until(Duration::from_secs(1));
    world.isolate(&[2]);
    world.write(0, vec![(key(1), document("from 0"))], AckTarget::Local);
    world.write(2, vec![(key(2), document("from 2"))], AckTarget::Local);
    world.write(
        0,
        vec![(key(1), document("from 0, again"))],
        AckTarget::Local,
    );
    world.run_until(Duration::from_secs(5));
    let absent = read(world.disk(2), |reader| state::entry(reader, &key(1))).unwrap();
    assert_eq!(absent, None, "the cut holds");
    world.heal();
    world.settle();
    world.check_end();
}

/// Trap (a): node 1 misses a write and the one that supersedes it; a pull must not
/// let it believe that it has the first before it has the second.
#[test]
fn a_superseded_write_is_not_claimed_before_its_successor_has_come() {
    let mut options = quiet(3);
    options.chunk_changes = 1;
    let mut world = World::new(2, options);
    world.run_until(Duration::from_secs(1));
    world.isolate(&[1]);
    for number in 0..40 {
        world.write(0, vec![(key(number), document("first"))], AckTarget::Local);
    }
    world.run_until(Duration::from_secs(2));
    world.heal();
    // While node 1 pulls, node 2 goes on superseding what the scan has yet to reach.
    for round in 0..60 {
        let number = 39 - round % 40;
        world.write(2, vec![(key(number), document("second"))], AckTarget::Local);
        world.run_until(Duration::from_millis(2_000 + 40 * (round as u64 + 1)));
        if round % 7 == 0 {
            world.crash(1);
            world.start(1);
        }
    }
    world.settle();
    world.check_end();
}

/// Trap (b): a data directory restored from an old copy must not give its old
/// numbers to new writes: also not to those made before it hears from its peers, if
/// they are more than the lost ones, and if it is restarted while nobody has told it.
#[test]
fn a_restored_old_copy_loses_nothing_that_its_peers_have_nor_what_it_writes_alone() {
    let mut world = World::new(3, quiet(3));
    world.run_until(Duration::from_secs(1));
    world.write(
        0,
        vec![(key(1), document("before the copy"))],
        AckTarget::Local,
    );
    world.run_until(Duration::from_secs(2));
    let copy = world.disk(0).fork();
    for number in 2..8 {
        world.write(
            0,
            vec![(key(number), document("after the copy"))],
            AckTarget::Local,
        );
    }
    world.run_until(Duration::from_secs(4));
    world.crash(0);
    world.replace_disk(0, copy);
    world.history.forget_watch(0);
    world.isolate(&[0]);
    world.start(0);
    for number in 100..120 {
        world.write(0, vec![(key(number), document("alone"))], AckTarget::Local);
        world.run_until(Duration::from_millis(4_000 + 20 * (number as u64 - 99)));
    }
    world.write(0, vec![(key(3), document("alone"))], AckTarget::Local);
    world.run_until(Duration::from_secs(5));
    world.crash(0);
    world.start(0);
    world.write(
        0,
        vec![(key(120), document("alone, later"))],
        AckTarget::Local,
    );
    world.run_until(Duration::from_secs(6));
    world.heal();
    world.settle();
    world.check_end();
    for (number, words) in [
        (5, "after the copy"),
        (3, "alone"),
        (110, "alone"),
        (120, "alone, later"),
    ] {
        let held = read(world.disk(1), |reader| state::entry(reader, &key(number))).unwrap();
        let value = held.unwrap().document.value(0);
        assert_eq!(value, Some(text(words)), "key {number}");
    }
}

/// Two replicas that began with copies of one store must not take each other's writes
/// for their own.
#[test]
fn two_copies_of_one_store_converge() {
    let mut world = World::new(5, quiet(3));
    world.run_until(Duration::from_secs(1));
    world.write(0, vec![(key(1), document("original"))], AckTarget::Local);
    world.run_until(Duration::from_secs(2));
    world.crash(1);
    let copy = world.disk(0).fork();
    world.replace_disk(1, copy);
    world.history.forget_watch(1);
    world.start(1);
    for replica in 0..2 {
        let number = 10 + replica;
        world.write(
            replica,
            vec![(key(number), document("by a copy"))],
            AckTarget::Local,
        );
    }
    world.run_until(Duration::from_secs(3));
    world.settle();
    world.check_end();
    let held = read(world.disk(2), |reader| state::entry(reader, &key(11))).unwrap();
    assert_eq!(held.unwrap().document.value(0), Some(text("by a copy")));
}

/// The first write of a life begins an origin. If its commit fails, that origin never was,
/// and the number of the write must not be taken for one of the origin before.
#[test]
fn a_first_write_whose_commit_failed_is_not_acknowledged_when_its_time_is_up() {
    let mut world = World::new(6, quiet(3));
    world.run_until(Duration::from_secs(1));
    for number in 0..5 {
        world.write(0, vec![(key(number), document("before"))], AckTarget::Local);
    }
    world.run_until(Duration::from_secs(2));
    world.crash(0);
    world.start(0);
    let before = world.history.writes_acknowledged;
    world.disks_fail = true;
    world.write(0, vec![(key(9), document("lost"))], AckTarget::Peers(1));
    world.run_until(Duration::from_secs(3));
    world.disks_fail = false;
    world.run_until(Duration::from_secs(8));
    assert_eq!(world.history.writes_acknowledged, before);
    world.settle();
    world.check_end();
}

#[test]
fn what_was_pushed_and_then_not_durable_comes_back_and_its_number_is_not_used_again() {
    for power_fails in [false, true] {
        let mut world = World::new(7, quiet(3));
        world.run_until(Duration::from_secs(1));
        world.write(0, vec![(key(1), document("before"))], AckTarget::Local);
        world.run_until(Duration::from_secs(2));
        let before = world.history.writes_acknowledged;
        world.write(0, vec![(key(2), document("pushed"))], AckTarget::Local);
        let (sent, kept) = (1, false);
        match power_fails {
            true => {
                world.commit(0, Commit::PowerLoss { sent, kept });
                world.crash(0);
                // It has come to the others, who then take the link for a new one.
                world.run_until(Duration::from_millis(2_010));
                world.start(0);
            }
            false => world.commit(0, Commit::NotSynced),
        }
        world.write(0, vec![(key(3), document("after"))], AckTarget::Local);
        world.run_until(Duration::from_secs(4));
        assert_eq!(world.history.writes_acknowledged, before + 1);
        world.settle();
        world.check_end();
        let vector = world.status(0).vector;
        assert_eq!(vector, world.status(1).vector);
        let own = world.status(0).origin;
        let written = vector
            .iter()
            .map(|(origin, set)| (origin == own, set.contiguous()));
        assert_eq!(
            written.collect::<Vec<_>>(),
            [(false, 2), (true, 1)],
            "power fails: {power_fails}"
        );
    }
}

/// An origin stays in all vectors for good.
#[test]
fn a_disk_that_goes_on_failing_costs_few_origins() {
    let mut world = World::new(8, quiet(3));
    let mut moment = Duration::from_secs(1);
    for number in 0..40 {
        moment += Duration::from_millis(100);
        world.run_until(moment);
        world.write(0, vec![(key(number), document("lost"))], AckTarget::Local);
        world.commit(0, Commit::NotSynced);
        world.write(0, vec![(key(number), document("kept"))], AckTarget::Local);
    }
    world.settle();
    world.check_end();
    let vector = world.status(1).vector;
    assert_eq!(vector, world.status(0).vector);
    // At first, after the first failure, and after pauses of one second and of two.
    assert_eq!(vector.iter().count(), 4);
}

#[test]
fn a_write_that_asks_for_all_peers_is_answered_when_they_have_it() {
    let mut world = World::new(4, quiet(3));
    world.run_until(Duration::from_secs(1));
    let before = world.history.writes_acknowledged;
    world.write(0, vec![(key(1), document("everywhere"))], AckTarget::All);
    world.run_until(Duration::from_millis(1_200));
    assert_eq!(world.history.writes_acknowledged, before + 1);
    world.isolate(&[0]);
    world.write(0, vec![(key(2), document("nowhere else"))], AckTarget::All);
    world.run_until(Duration::from_secs(3));
    assert_eq!(
        world.history.writes_acknowledged,
        before + 1,
        "nobody has it yet"
    );
    world.run_until(Duration::from_secs(4));
    assert_eq!(
        world.history.writes_acknowledged,
        before + 2,
        "time ran out; it is durable here"
    );
    world.heal();
    world.settle();
    world.check_end();
}

/// Each replica's watcher is told of the end of a document once, also where the replica was
/// down when the moment came, or had not heard that the document was written again.
#[test]
fn an_expiry_is_told_once_on_each_replica_wherever_it_was_at_that_moment() {
    let mut options = quiet(3);
    options.ttl = 1.0;
    let mut world = World::new(7, options);
    world.run_until(Duration::from_secs(1));
    for number in 0..20 {
        world.write(0, vec![(key(number), document("short"))], AckTarget::Local);
    }
    world.run_until(Duration::from_secs(2));
    world.crash(1);
    world.isolate(&[2]);
    world.write(2, vec![(key(3), document("again"))], AckTarget::Local);
    world.run_until(Duration::from_secs(30));
    world.start(1);
    world.run_until(Duration::from_secs(31));
    assert_eq!(world.history.expiries_told, 3 * 20);
    world.heal();
    world.settle();
    world.check_end();
    assert_eq!(world.history.expiries_told, 3 * 20);
}
