//! Named scenarios of what is settled: deletions that are let go of, replicas that were away
//! for too long, old copies of disks, halves of a cluster, and snapshots (DESIGN §6, trap
//! (d)).

pub(crate) mod overlays;

use std::time::Duration;

use basic_sync::model::document::{Action, Document};
use basic_sync::model::{Collection, Key, Timestamp, VersionVector};
use basic_sync::protocol::{AckTarget, Trust};
use basic_sync::storage::{MemoryStorage, exported, read, settlement, state, unindexed};
use bytes::Bytes;

use crate::options::Options;
use crate::runs::{document, quiet, text};
use crate::world::{World, key};

/// Deletions are remembered for a minute, and who is away for ten is given up.
pub(crate) fn short(replicas: usize) -> Options {
    Options {
        tombstone_age: Duration::from_secs(60),
        absent_max: Duration::from_secs(600),
        standing_every: 1,
        ..quiet(replicas)
    }
}

fn put(world: &mut World, replica: usize, number: usize, words: &str) {
    world.write(
        replica,
        vec![(key(number), document(words))],
        AckTarget::Local,
    );
}

fn delete(world: &mut World, replica: usize, number: usize) {
    world.write(
        replica,
        vec![(key(number), Action::Delete)],
        AckTarget::Local,
    );
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn held(world: &World, replica: usize, number: usize) -> Option<Document> {
    let held = read(world.disk(replica), |reader| {
        state::entry(reader, &key(number))
    });
    held.unwrap().map(|held| held.document)
}

/// What a reader sees.
fn seen(world: &World, replica: usize, number: usize) -> Option<String> {
    let value = held(world, replica, number)?.value(0)?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn shown(words: &str) -> Option<String> {
    Some(String::from_utf8(text(words).to_vec()).unwrap())
}

fn kept_aside(disk: &MemoryStorage) -> Vec<Key> {
    let kept = read(disk, exported).unwrap();
    kept.into_iter().map(|kept| kept.delta.key).collect()
}

#[test]
fn a_deletion_is_let_go_of_when_its_time_is_up_and_all_have_it_and_not_before() {
    let mut world = World::new(1, short(3));
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "to be deleted");
    world.run_until(seconds(2));
    world.crash(2);
    delete(&mut world, 0, 1);
    world.run_until(seconds(300));
    for replica in 0..2 {
        let held = held(&world, replica, 1);
        assert!(
            held.is_some_and(|held| held.is_tombstone(0)),
            "replica 2 may still send what was deleted"
        );
    }
    world.start(2);
    world.run_until(seconds(310));
    for replica in 0..3 {
        assert_eq!(held(&world, replica, 1), None, "replica {replica}");
    }
    delete(&mut world, 1, 2);
    put(&mut world, 1, 1, "written anew");
    delete(&mut world, 1, 1);
    world.run_until(seconds(320));
    for replica in 0..3 {
        let held = held(&world, replica, 1);
        assert!(held.is_some(), "its time is not up");
    }
    world.run_until(seconds(400));
    for replica in 0..3 {
        assert_eq!(held(&world, replica, 1), None, "replica {replica}");
    }
    world.check_end();
}

#[test]
fn who_was_away_for_too_long_brings_nothing_back_and_its_own_writes_are_kept_aside() {
    let mut world = World::new(2, short(3));
    world.run_until(seconds(1));
    for number in 0..10 {
        put(&mut world, 0, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.isolate(&[2]);
    put(&mut world, 2, 50, "in the dark");
    world.run_until(seconds(4));
    for number in 0..5 {
        delete(&mut world, 1, number);
    }
    world.run_until(seconds(590));
    assert!(held(&world, 0, 1).is_some(), "all wait for replica 2");
    world.run_until(seconds(700));
    assert_eq!(held(&world, 0, 1), None, "it was given up");
    put(&mut world, 2, 51, "in the dark, of late");
    world.run_until(seconds(701));
    let before = world.status(2).origin.replica;
    world.heal();
    world.settle();
    assert_ne!(world.status(2).origin.replica, before, "it is another now");
    for replica in 0..3 {
        assert_eq!(seen(&world, replica, 1), None, "replica {replica}");
        assert_eq!(seen(&world, replica, 7), shown("from the beginning"));
        assert_eq!(seen(&world, replica, 50), None, "it may have been deleted");
        assert_eq!(seen(&world, replica, 51), shown("in the dark, of late"));
    }
    assert_eq!(kept_aside(world.disk(2)), [key(50)]);
    world.check_end();
}

/// Replica 2 comes back with an old copy of its disk, and is written to.
pub(crate) fn bring_an_old_copy(world: &mut World) {
    world.run_until(seconds(1));
    for number in 0..10 {
        put(world, 0, number, "from the beginning");
    }
    world.run_until(seconds(3));
    let copy = world.disk(2).fork();
    for number in 0..5 {
        delete(world, 1, number);
    }
    world.run_until(seconds(300));
    assert_eq!(held(world, 0, 1), None);
    world.crash(2);
    world.replace_disk(2, copy);
    world.history.forget_watch(2);
    world.isolate(&[2]);
    world.start(2);
    world.run_until(seconds(302));
    assert_eq!(seen(world, 2, 1), shown("from the beginning"));
    put(world, 2, 1, "written over what was long deleted");
    put(world, 2, 60, "new");
    world.run_until(seconds(303));
    world.heal();
    world.settle();
}

#[test]
fn an_old_copy_of_a_disk_brings_nothing_back() {
    let mut world = World::new(3, short(3));
    bring_an_old_copy(&mut world);
    for replica in 0..3 {
        assert_eq!(seen(&world, replica, 2), None, "replica {replica}");
        let new = shown("written over what was long deleted");
        assert_eq!(seen(&world, replica, 1), new, "replica {replica}");
        assert_eq!(seen(&world, replica, 60), shown("new"));
    }
    assert_eq!(world.status(2).counters.snapshots_taken, 1);
    world.check_end();
}

#[test]
fn of_two_halves_neither_gives_the_other_up() {
    let mut world = World::new(4, short(4));
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(2));
    world.isolate(&[2, 3]);
    put(&mut world, 0, 2, "here");
    delete(&mut world, 2, 1);
    put(&mut world, 3, 3, "there");
    world.run_until(seconds(2_000));
    assert!(held(&world, 3, 1).is_some_and(|held| held.is_tombstone(0)));
    world.heal();
    world.settle();
    let counters = world.counters();
    assert_eq!((counters.fencings, counters.exported), (0, 0));
    for replica in 0..4 {
        assert_eq!(seen(&world, replica, 1), None, "replica {replica}");
        assert_eq!(seen(&world, replica, 2), shown("here"));
        assert_eq!(seen(&world, replica, 3), shown("there"));
    }
    world.check_end();
}

#[test]
fn the_smaller_part_of_a_cluster_is_given_up_and_a_cluster_that_was_off_is_not() {
    let mut world = World::new(5, short(5));
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(2));
    for replica in 1..5 {
        world.crash(replica);
    }
    world.run_until(seconds(2_000));
    for replica in 1..5 {
        world.start(replica);
    }
    world.run_until(seconds(2_010));
    assert_eq!(world.counters().fencings, 0, "one of five gives nobody up");
    world.isolate(&[3, 4]);
    world.run_until(seconds(2_700));
    let fenced = |world: &World, replica| {
        let roster = world.status(replica).roster;
        roster.iter().filter(|line| line.fenced).count()
    };
    assert_eq!((fenced(&world, 0), fenced(&world, 3)), (2, 0));
    world.heal();
    world.settle();
    let members = world.status(0).roster.len() - fenced(&world, 0);
    assert_eq!(members, 5, "they are back, each as another");
    world.check_end();
}

#[test]
fn an_empty_replica_takes_over_a_snapshot_and_goes_on_with_it_at_another() {
    let mut options = short(3);
    options.snapshot_from = 100;
    options.chunk_changes = 7;
    let mut world = World::new(6, options);
    world.run_until(seconds(1));
    world.crash(2);
    for number in 0..300 {
        put(&mut world, number % 2, number, "much");
    }
    world.run_until(seconds(5));
    // The first that serves it is gone in the middle.
    world.start(2);
    let mut moment = Duration::from_secs(5);
    let some = |world: &World| read(world.disk(2), state::dump).unwrap().len();
    while some(&world) < 50 {
        moment += Duration::from_millis(1);
        world.run_until(moment);
    }
    let had = some(&world);
    assert!(had < 250, "it is in the middle: {had}");
    assert!(world.status(2).filling);
    let peers = world.status(2).peers;
    assert!(peers.iter().all(|peer| peer.trust == Trust::Full));
    world.crash(0);
    world.run_until(moment + seconds(60));
    assert_eq!(some(&world), 300);
    let status = world.status(2);
    assert!(!status.filling);
    assert_eq!(status.counters.snapshots_taken, 1);
    assert!(
        status.counters.taken_in < 300 + 50,
        "it goes on where it was: {}",
        status.counters.taken_in
    );
    world.start(0);
    world.settle();
    world.check_end();
}

#[test]
fn clusters_that_each_have_a_history_do_not_mix() {
    let mut options = short(4);
    options.snapshot_from = 1;
    let mut world = World::new(7, options);
    for replica in [2, 3] {
        world.crash(replica);
        world.move_to(1, replica);
    }
    world.run_until(seconds(1));
    world.start(2);
    world.start(3);
    world.run_until(seconds(2));
    put(&mut world, 0, 1, "of the one");
    put(&mut world, 2, 2, "of the other");
    world.run_until(seconds(200));
    world.move_to(0, 2);
    world.move_to(0, 3);
    world.run_until(seconds(220));
    for replica in 0..4 {
        let foreign = world.status(replica).peers;
        let foreign = foreign.iter().filter(|peer| peer.trust == Trust::Foreign);
        assert_eq!(foreign.count(), 2, "replica {replica}");
        assert!(!world.status(replica).filling, "replica {replica}");
    }
    assert_eq!(seen(&world, 0, 2), None);
    assert_eq!(seen(&world, 2, 1), None);
}

#[test]
fn of_two_that_lived_alone_the_younger_joins_the_older() {
    let mut world = World::new(8, short(2));
    world.crash(1);
    world.move_to(1, 1);
    world.run_until(seconds(5));
    put(&mut world, 0, 1, "of the older");
    world.start(1);
    world.run_until(seconds(6));
    put(&mut world, 1, 2, "of the younger");
    world.run_until(seconds(200));
    put(&mut world, 1, 3, "of the younger, of late");
    world.run_until(seconds(201));
    world.move_to(0, 1);
    world.settle();
    for replica in 0..2 {
        assert_eq!(seen(&world, replica, 1), shown("of the older"));
        assert_eq!(seen(&world, replica, 3), shown("of the younger, of late"));
    }
    assert_eq!(kept_aside(world.disk(1)), [key(2)]);
    world.check_end();
}

#[test]
fn who_knew_of_each_other_and_met_late_has_no_past_to_lose() {
    let mut world = World::new(9, short(2));
    world.isolate(&[1]);
    put(&mut world, 0, 1, "here");
    put(&mut world, 1, 2, "there");
    world.run_until(seconds(2_000));
    world.heal();
    world.settle();
    for replica in 0..2 {
        assert_eq!(seen(&world, replica, 1), shown("here"));
        assert_eq!(seen(&world, replica, 2), shown("there"));
    }
    world.check_end();
}

/// Each learns at the same moment that the other has given it up. If both went on as others
/// then, each would wait for a snapshot of the other for ever.
#[test]
fn of_two_that_have_given_each_other_up_one_gives_in() {
    let mut world = World::new(10, short(2));
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(2));
    let before = [0, 1].map(|replica| world.status(replica).origin.replica);
    world.isolate(&[1]);
    world.give_up(0, 1);
    world.give_up(1, 0);
    put(&mut world, 0, 2, "here");
    put(&mut world, 1, 3, "there");
    world.run_until(seconds(3));
    world.heal();
    world.settle();
    let after = [0, 1].map(|replica| world.status(replica).origin.replica);
    let stayed = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before == after);
    assert_eq!(stayed.count(), 1);
    for replica in 0..2 {
        assert_eq!(seen(&world, replica, 1), shown("before"));
        assert_eq!(seen(&world, replica, 2), shown("here"));
        assert_eq!(seen(&world, replica, 3), shown("there"));
    }
    world.check_end();
}

/// What went on with a count is kept aside, and had taken the place of an earlier addition of
/// which a replica that the snapshot is not from has all.
#[test]
fn a_write_that_one_kept_aside_had_beaten_in_part_does_not_stay_in_part() {
    let mut options = short(5);
    options.ttl = 1.0;
    let mut world = World::new(51, options);
    let collection = Collection::new("counter").unwrap();
    let counter = Key::new(collection, "visits").unwrap();
    let write = |world: &mut World, replica: usize, action: Action| {
        let writes = vec![(counter.clone(), action)];
        world.write(replica, writes, AckTarget::Local);
    };
    let add = || Action::Patch(Bytes::from_static(br#"{"add":1}"#));
    world.run_until(seconds(1));
    write(&mut world, 4, Action::Put(Bytes::from_static(b"5")));
    world.run_until(seconds(22));
    world.isolate(&[3, 4]);
    // It takes what has expired out of the way, beside its count.
    write(&mut world, 4, add());
    world.run_until(seconds(23));
    world.crash(3);
    world.isolate(&[4]);
    write(&mut world, 4, add());
    world.give_up(0, 4);
    world.run_until(seconds(24));
    let before = world.status(4).origin.replica;
    world.heal();
    world.run_until(seconds(40));
    assert_ne!(world.status(4).origin.replica, before, "it is another now");
    world.start(3);
    world.settle();
    for replica in 0..5 {
        let held = read(world.disk(replica), |reader| state::entry(reader, &counter));
        let value = held.unwrap().and_then(|held| held.document.value(0));
        assert_eq!(value.as_deref(), Some(b"1".as_slice()), "replica {replica}");
    }
    world.check_end();
}

/// A new replica takes the others in, which have let go of nothing yet; until they hear of it
/// they have, and cannot do the same.
#[test]
fn who_is_heard_late_joins_by_a_snapshot() {
    let mut world = World::new(15, short(3));
    world.run_until(seconds(1));
    for number in 0..20 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(2));
    world.crash(2);
    world.give_up(0, 2);
    world.give_up(1, 2);
    world.lose_disk(2);
    world.mute(2);
    world.start(2);
    world.run_until(seconds(3));
    put(&mut world, 2, 30, "unheard");
    for number in 0..10 {
        delete(&mut world, 0, number);
    }
    world.run_until(seconds(300));
    let born = world.status(2).origin.replica;
    let known = |world: &World, replica: usize| {
        let roster = read(world.disk(replica), settlement).unwrap().roster;
        roster.iter().any(|line| line.replica == born)
    };
    assert!(!known(&world, 0) && !known(&world, 1));
    assert_eq!(held(&world, 0, 1), None, "it is let go of");
    world.heal();
    world.settle();
    assert!(known(&world, 0) && known(&world, 1));
    for replica in 0..3 {
        assert_eq!(seen(&world, replica, 1), None);
        assert_eq!(seen(&world, replica, 11), shown("from the beginning"));
    }
    world.check_end();
}

/// One that was alone with what it let go of does not make a cluster that took it in go by it.
#[test]
fn who_is_alone_and_did_not_hear_of_the_others_joins_them_and_not_the_other_way_round() {
    for replicas in [2, 4] {
        let mut world = World::new(17, short(replicas));
        world.run_until(Duration::from_millis(300));
        for other in 1..replicas {
            world.crash(other);
            world.lose_disk(other);
            world.give_up(0, other);
        }
        world.run_until(seconds(1));
        for other in 1..replicas {
            world.mute(other);
            world.start(other);
        }
        world.run_until(seconds(3));
        world.isolate(&[0]);
        put(&mut world, 0, 1, "alone");
        for other in 1..replicas {
            put(&mut world, other, 10 + other, "together");
        }
        world.run_until(seconds(300));
        world.heal();
        world.settle();
        for replica in 0..replicas {
            assert!(!world.status(replica).filling, "{replica} of {replicas}");
            for other in 1..replicas {
                assert_eq!(seen(&world, replica, 10 + other), shown("together"));
            }
        }
        world.check_end();
    }
}

/// What it took over before it went away again may have been deleted meanwhile.
#[test]
fn who_is_given_up_in_the_middle_of_a_snapshot_begins_it_anew() {
    let mut options = short(3);
    options.chunk_changes = 5;
    let mut world = World::new(11, options);
    world.run_until(seconds(1));
    for number in 0..200 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.isolate(&[2]);
    world.give_up(0, 2);
    world.give_up(1, 2);
    world.run_until(seconds(4));
    world.heal();
    let moment = run_until_half_filled(&mut world, seconds(4));
    assert!(world.status(2).filling, "it is in the middle");
    world.crash(2);
    world.give_up(0, 2);
    world.give_up(1, 2);
    for number in 0..200 {
        delete(&mut world, 0, number);
    }
    world.run_until(moment + seconds(200));
    assert_eq!(held(&world, 0, 1), None, "it is let go of");
    world.start(2);
    world.settle();
    for number in 0..200 {
        assert_eq!(seen(&world, 2, number), None, "{number}");
    }
    world.check_end();
}

/// What it writes meanwhile must not be older than a deletion that others have forgotten, also
/// not after a restart, before any of them has said again up to where they did.
#[test]
fn who_takes_over_a_snapshot_writes_after_the_floors_it_heard_of_before_it_restarted() {
    let mut options = short(3);
    options.chunk_changes = 5;
    let mut world = World::new(15, options);
    world.run_until(seconds(1));
    for number in 0..200 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(200));
    let floor = world.status(0).floor;
    assert!(floor > Timestamp::default(), "something was let go of");
    world.crash(2);
    world.lose_disk(2);
    world.set_clock(2, -3_600_000);
    world.start(2);
    let moment = run_until_half_filled(&mut world, seconds(200));
    world.crash(2);
    world.isolate(&[2]);
    world.start(2);
    world.run_until(moment + seconds(1));
    put(&mut world, 2, 7, "meanwhile");
    world.run_until(moment + seconds(2));
    let written = held(&world, 2, 7).and_then(|document| document.version());
    assert!(written.is_some_and(|version| version.clock > floor));
    world.heal();
    world.set_clock(2, 0);
    world.settle();
    world.check_end();
}

/// Three that take snapshots in small chunks; the third is down, and its disk is empty.
fn without_the_third(seed: u64) -> World {
    let mut options = short(3);
    options.snapshot_from = 50;
    options.chunk_changes = 5;
    let mut world = World::new(seed, options);
    world.run_until(seconds(1));
    world.crash(2);
    world.replace_disk(2, MemoryStorage::default());
    world
}

/// One served the beginning of a snapshot and another, which has nothing in common with it,
/// the rest: nothing can be claimed of that, also not after a crash.
#[test]
fn what_two_servers_of_a_snapshot_have_not_in_common_is_not_claimed() {
    let mut world = without_the_third(14);
    world.isolate(&[1]);
    for number in 0..200 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.start(2);
    let mut moment = seconds(3);
    let mut run_until = |world: &mut World, is: &dyn Fn(&World) -> bool| {
        while !is(world) {
            moment += Duration::from_millis(1);
            world.run_until(moment);
            assert!(moment < seconds(60), "it comes to that");
        }
    };
    run_until(&mut world, &half_filled);
    world.heal();
    world.isolate(&[0]);
    let claims_nothing = |world: &World| {
        let fill = read(world.disk(2), settlement).unwrap().fill.unwrap();
        fill.done.unwrap().claim == VersionVector::default()
    };
    run_until(&mut world, &claims_nothing);
    world.crash(2);
    world.start(2);
    run_until(&mut world, &|world| !world.status(2).filling);
    world.heal();
    world.settle();
    world.check_end();
}

/// One served the beginning of a snapshot, and its disk is lost before anybody else has its
/// writes: another, which has none of them, serves the rest.
#[test]
fn what_only_the_first_server_of_a_snapshot_had_is_claimed_and_told() {
    let mut world = without_the_third(17);
    for number in 0..200 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.isolate(&[1]);
    put(&mut world, 0, 0, "of the first alone");
    world.run_until(seconds(4));
    world.start(2);
    let moment = run_until_half_filled(&mut world, seconds(4));
    world.crash(0);
    world.lose_disk(0);
    world.heal();
    world.run_until(moment + seconds(20));
    assert!(!world.status(2).filling);
    world.start(0);
    world.settle();
    for replica in 0..3 {
        assert_eq!(seen(&world, replica, 0), shown("of the first alone"));
    }
    world.check_end();
}

/// What a snapshot brings is indexed when all of it has come. Meanwhile documents of it are
/// written and deleted, and the process ends and begins again.
#[test]
fn what_a_snapshot_brings_is_indexed_while_writes_go_on_and_after_a_crash() {
    let mut options = short(3);
    options.snapshot_from = 100;
    options.chunk_changes = 5;
    let mut world = World::new(13, options);
    world.run_until(seconds(1));
    for number in 0..300 {
        put(&mut world, number % 2, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.crash(2);
    world.lose_disk(2);
    world.start(2);
    let unindexed = |world: &World| read(world.disk(2), unindexed).unwrap();
    let mut moment = seconds(3);
    let mut crashes = 0;
    let mut number = 0;
    // It is indexed in steps, as soon as there is enough of it.
    while crashes < 3 || unindexed(&world).is_some() {
        moment += Duration::from_millis(1);
        world.run_until(moment);
        assert!(moment < seconds(60), "it comes to an end");
        let after = unindexed(&world).and_then(|one| one.after);
        if after.is_some() && crashes < 3 {
            crashes += 1;
            for _ in 0..20 {
                number = (number + 7) % 300;
                put(&mut world, 2, number, "meanwhile");
                delete(&mut world, 2, (number + 150) % 300);
            }
            world.run_until(moment + Duration::from_micros(300));
            world.crash(2);
            world.start(2);
        }
    }
    world.settle();
    world.check_end();
}

/// Some of the snapshot of replica 2 has come, and some has not.
fn half_filled(world: &World) -> bool {
    let settlement = read(world.disk(2), settlement).unwrap();
    settlement.fill.is_some_and(|fill| fill.done.is_some())
}

/// When that is so, some time after `moment`.
fn run_until_half_filled(world: &mut World, moment: Duration) -> Duration {
    let mut now = moment;
    while !half_filled(world) {
        now += Duration::from_millis(1);
        world.run_until(now);
        assert!(now < moment + seconds(30), "it begins");
    }
    now
}

#[test]
fn a_clock_that_jumps_ahead_for_a_moment_lets_nothing_go() {
    let mut options = short(1);
    options.ttl = 1.0;
    let mut world = World::new(12, options);
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "for some seconds");
    world.run_until(seconds(2));
    let floor = world.status(0).floor;
    world.set_clock(0, 365 * 24 * 3_600_000);
    // A round comes in that time, and not two.
    world.run_until(seconds(4));
    world.set_clock(0, 0);
    world.run_until(seconds(5));
    assert_eq!(world.status(0).floor, floor);
    assert_eq!(world.counters().buried, 0);
}
