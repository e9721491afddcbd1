//! Named scenarios of clocks that are wrong (DESIGN §6, trap (c)).

use std::time::Duration;

use basic_sync::model::Timestamp;
use basic_sync::protocol::{AckTarget, Config};
use basic_sync::storage::{read, state};

use crate::runs::{document, quiet, text};
use crate::world::{World, key, wall_ms};

const HOUR_MS: i64 = 3_600_000;

/// Three replicas that have found each other.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, quiet(3));
    world.run_until(seconds(1.0));
    world
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn put(world: &mut World, replica: usize, number: usize, words: &str) {
    world.write(
        replica,
        vec![(key(number), document(words))],
        AckTarget::Local,
    );
}

/// Every replica shows this document.
fn all_show(world: &World, number: usize, words: &str) {
    for replica in 0..3 {
        let held = read(world.disk(replica), |reader| {
            state::entry(reader, &key(number))
        });
        let value = held.unwrap().and_then(|held| held.document.value(0));
        assert_eq!(value, Some(text(words)), "key {number} on {replica}");
    }
}

/// The date of a document, on the replica.
fn date(world: &World, replica: usize, number: usize) -> Timestamp {
    let held = read(world.disk(replica), |reader| {
        state::entry(reader, &key(number))
    });
    held.unwrap().unwrap().document.version().unwrap().clock
}

fn is_far_ahead(world: &World, date: Timestamp) -> bool {
    date.is_ahead(wall_ms(world), Config::default().clock_ahead_max_ms)
}

#[test]
fn a_node_an_hour_ahead_beats_nobody_who_has_seen_its_writes() {
    let mut world = world(11);
    world.set_clock(2, HOUR_MS);
    put(&mut world, 2, 1, "an hour ahead");
    put(&mut world, 2, 2, "an hour ahead");
    world.run_until(seconds(2.0));
    all_show(&world, 1, "an hour ahead");
    assert!(is_far_ahead(&world, date(&world, 0, 1)));

    put(&mut world, 0, 1, "later, by a right clock");
    world.run_until(seconds(2.5));
    all_show(&world, 1, "later, by a right clock");
    put(&mut world, 2, 1, "still ahead, and later");
    world.run_until(seconds(3.0));
    all_show(&world, 1, "still ahead, and later");
    put(&mut world, 1, 1, "later again");
    put(&mut world, 1, 3, "elsewhere");
    world.run_until(seconds(3.5));
    all_show(&world, 1, "later again");
    assert!(
        !is_far_ahead(&world, date(&world, 0, 3)),
        "no clock follows"
    );
    world.settle();
    world.check_end();
}

#[test]
fn a_node_that_was_set_right_is_right_with_its_next_write() {
    let mut world = world(12);
    world.set_clock(2, HOUR_MS);
    put(&mut world, 2, 1, "an hour ahead");
    world.run_until(seconds(2.0));
    world.set_clock(2, 0);
    put(&mut world, 2, 2, "by a clock that was set right");
    world.run_until(seconds(2.5));
    assert!(!is_far_ahead(&world, date(&world, 0, 2)));
    // Nobody has seen the other's write: the clocks decide, and they are right.
    world.isolate(&[2]);
    put(&mut world, 2, 3, "cut off, earlier");
    world.run_until(seconds(4.0));
    put(&mut world, 0, 3, "later");
    world.run_until(seconds(5.0));
    world.heal();
    world.settle();
    all_show(&world, 3, "later");
    // What it wrote ahead is written over by itself as by others, also after a restart.
    world.crash(2);
    world.start(2);
    put(&mut world, 2, 1, "after all");
    world.settle();
    all_show(&world, 1, "after all");
    world.check_end();
}

#[test]
fn who_wrote_ahead_is_on_record_over_a_restart_until_the_time_has_come() {
    let mut world = world(13);
    world.set_clock(2, HOUR_MS);
    put(&mut world, 2, 1, "an hour ahead");
    put(&mut world, 2, 2, "an hour ahead");
    world.run_until(seconds(2.0));
    // Its date is not held against who writes over it.
    put(&mut world, 1, 1, "over it");
    world.run_until(seconds(3.0));
    world.crash(0);
    world.start(0);
    world.run_until(seconds(4.0));
    let record = world.status(0).dated_ahead;
    assert_eq!(record.len(), 1, "{record:?}");
    assert_eq!(record[0].origin, world.status(2).origin);
    assert_eq!(record[0].writes, 2);
    assert!(is_far_ahead(&world, record[0].latest));
    assert_eq!(world.status(2).dated_ahead, []);

    for replica in 0..3 {
        world.set_clock(replica, HOUR_MS);
    }
    world.settle();
    assert_eq!(world.status(0).dated_ahead, []);
    assert_eq!(world.counters().dates_come, 4);
    world.check_end();
}

#[test]
fn a_node_an_hour_behind_sees_everything_and_loses_only_to_what_it_has_not_seen() {
    let mut world = world(14);
    world.set_clock(2, -HOUR_MS);
    put(&mut world, 0, 1, "by a right clock");
    world.run_until(seconds(2.0));
    all_show(&world, 1, "by a right clock");
    put(&mut world, 2, 1, "later, an hour behind");
    world.run_until(seconds(3.0));
    all_show(&world, 1, "later, an hour behind");
    world.isolate(&[2]);
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(4.0));
    put(&mut world, 2, 1, "after, and unaware");
    put(&mut world, 2, 2, "alone");
    world.run_until(seconds(5.0));
    world.heal();
    world.settle();
    all_show(&world, 1, "before");
    all_show(&world, 2, "alone");
    world.check_end();
}

#[test]
fn a_clock_beyond_all_sense_leaves_room_for_later_writes() {
    let mut world = world(15);
    world.set_clock(2, i64::MAX);
    put(&mut world, 2, 1, "in the year 6429");
    world.run_until(seconds(2.0));
    all_show(&world, 1, "in the year 6429");
    put(&mut world, 0, 1, "now");
    put(&mut world, 0, 2, "now");
    world.run_until(seconds(3.0));
    all_show(&world, 1, "now");
    all_show(&world, 2, "now");
    world.settle();
    world.check_end();
}
