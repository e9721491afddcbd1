//! Named scenarios of what is settled where each replica hears of its neighbours only.

use basic_sync::protocol::Mesh;

use super::*;

/// An overlay of `replicas`, each of which links to few.
pub(crate) fn overlay(replicas: usize) -> Options {
    let mut options = short(replicas);
    options.mesh = Mesh {
        peers_max: 2,
        rings_max: 2,
    };
    options
}

/// Beyond a full mesh too, what was lost of how replicas stand is told again.
#[test]
fn on_an_overlay_who_was_given_up_hears_of_it_although_word_of_it_was_lost() {
    let mut world = World::new(16, overlay(5));
    world.run_until(seconds(2));
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(4));
    let before = world.status(4).origin.replica;
    world.mute(0);
    world.give_up(0, 4);
    world.run_until(seconds(6));
    world.heal();
    world.settle();
    assert_ne!(
        world.status(4).origin.replica,
        before,
        "it goes on as another"
    );
    for replica in 0..5 {
        assert_eq!(seen(&world, replica, 1), shown("before"));
    }
    world.check_end();
}

/// Replica 5 does not hear of it.
pub(crate) fn delete_while_one_is_away(world: &mut World) {
    world.run_until(seconds(1));
    put(world, 0, 1, "to be deleted");
    world.run_until(seconds(2));
    world.isolate(&[5]);
    delete(world, 0, 1);
    world.run_until(seconds(300));
    for replica in (0..9).filter(|replica| *replica != 5) {
        let held = held(world, replica, 1);
        let remembered = held.is_some_and(|held| held.is_tombstone(0));
        assert!(remembered, "replica 5 may still send what was deleted");
    }
}

#[test]
fn on_an_overlay_too_a_deletion_is_let_go_of_when_all_have_it_and_not_before() {
    let mut world = World::new(31, overlay(9));
    delete_while_one_is_away(&mut world);
    world.heal();
    world.run_until(seconds(320));
    for replica in 0..9 {
        assert_eq!(held(&world, replica, 1), None, "replica {replica}");
    }
    world.check_end();
}

#[test]
fn on_an_overlay_too_who_was_away_for_too_long_is_given_up_and_brings_nothing_back() {
    let mut world = World::new(32, overlay(9));
    world.run_until(seconds(1));
    for number in 0..10 {
        put(&mut world, 0, number, "from the beginning");
    }
    world.run_until(seconds(3));
    world.isolate(&[4]);
    put(&mut world, 4, 50, "in the dark");
    world.run_until(seconds(4));
    for number in 0..5 {
        delete(&mut world, 1, number);
    }
    world.run_until(seconds(590));
    assert!(held(&world, 0, 1).is_some(), "all wait for replica 4");
    world.run_until(seconds(720));
    for replica in (0..9).filter(|replica| *replica != 4) {
        assert_eq!(held(&world, replica, 1), None, "it was given up");
    }
    let before = world.status(4).origin.replica;
    world.heal();
    world.settle();
    assert_ne!(world.status(4).origin.replica, before, "it is another now");
    for replica in 0..9 {
        assert_eq!(seen(&world, replica, 1), None, "replica {replica}");
        assert_eq!(seen(&world, replica, 7), shown("from the beginning"));
        assert_eq!(seen(&world, replica, 50), None, "it may have been deleted");
    }
    assert_eq!(kept_aside(world.disk(4)), [key(50)]);
    world.check_end();
}

#[test]
fn of_two_halves_of_an_overlay_neither_gives_the_other_up() {
    let mut world = World::new(33, overlay(8));
    world.run_until(seconds(1));
    put(&mut world, 0, 1, "before");
    world.run_until(seconds(2));
    world.isolate(&[4, 5, 6, 7]);
    put(&mut world, 0, 2, "here");
    delete(&mut world, 5, 1);
    put(&mut world, 6, 3, "there");
    world.run_until(seconds(2_000));
    assert!(held(&world, 7, 1).is_some_and(|held| held.is_tombstone(0)));
    world.heal();
    world.settle();
    let counters = world.counters();
    assert_eq!((counters.fencings, counters.exported), (0, 0));
    for replica in 0..8 {
        assert_eq!(seen(&world, replica, 1), None, "replica {replica}");
        assert_eq!(seen(&world, replica, 2), shown("here"));
        assert_eq!(seen(&world, replica, 3), shown("there"));
    }
    world.check_end();
}

/// When replica 7 is heard again after replica 5, for which all have waited, was: before the
/// census is complete, at about that time, and after all have let go.
const DELAYS_MS: [u64; 6] = [0, 20, 60, 150, 400, 3_000];

/// Replica 7 has what was deleted afterwards; replica 5 was away when it was. All others have
/// counted all but replica 5, and wait for it.
fn delete_while_one_is_waited_for(world: &mut World) -> MemoryStorage {
    world.run_until(seconds(1));
    for number in 0..10 {
        put(world, 0, number, "from the beginning");
    }
    world.run_until(seconds(3));
    let copy = world.disk(7).fork();
    world.isolate(&[5]);
    for number in 0..5 {
        delete(world, 1, number);
    }
    world.run_until(seconds(300));
    for replica in (0..9).filter(|replica| *replica != 5) {
        assert!(held(world, replica, 1).is_some(), "all wait for replica 5");
    }
    copy
}

/// Replica 5 is back, and a little later replica 7 is.
fn come_back_one_after_the_other(world: &mut World, delay: u64) {
    world.isolate(&[5, 7]);
    world.start(7);
    world.run_until(seconds(301));
    put(world, 7, 60, "new");
    world.run_until(seconds(302));
    world.isolate(&[7]);
    world.run_until(seconds(302) + Duration::from_millis(delay));
    world.heal();
    world.settle();
    world.run_until(seconds(500));
    for replica in 0..9 {
        for number in 0..5 {
            assert_eq!(held(world, replica, number), None, "replica {replica}");
        }
        assert_eq!(seen(world, replica, 7), shown("from the beginning"));
        assert_eq!(seen(world, replica, 60), shown("new"));
    }
    world.check_end();
}

/// What it had when it was counted it has no more when the census is complete.
#[test]
fn an_old_copy_of_a_disk_that_was_counted_with_a_newer_one_brings_nothing_back() {
    for delay in DELAYS_MS {
        let mut world = World::new(34, overlay(9));
        let copy = delete_while_one_is_waited_for(&mut world);
        world.crash(7);
        world.replace_disk(7, copy);
        world.history.forget_watch(7);
        come_back_one_after_the_other(&mut world, delay);
    }
}

/// Who was counted is an empty replica when the census is complete, and takes over a snapshot
/// of one that lets go meanwhile.
#[test]
fn a_snapshot_that_is_taken_while_a_census_comes_to_its_end_brings_nothing_back() {
    for delay in DELAYS_MS {
        let mut options = overlay(9);
        options.chunk_changes = 3;
        let mut world = World::new(35, options);
        delete_while_one_is_waited_for(&mut world);
        world.crash(7);
        world.lose_disk(7);
        come_back_one_after_the_other(&mut world, delay);
    }
}
