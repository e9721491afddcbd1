//! Processes that stand still for a while and go on, as under a hypervisor.

use std::time::{Duration, Instant};

use basic_tests::harness::network::Family;
use basic_tests::harness::process::Signal;

use crate::watcher::{Watcher, counted, sightings};
use crate::world::{World, assert_none_lost};

/// A stall that nobody may take for a failure, how often, and the time between.
const SHORT_STALL: Duration = Duration::from_millis(700);
const SHORT_STALLS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(500);
/// A stall that is as good as a failure.
const LONG_STALL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn short_stalls_of_a_node_are_not_taken_for_its_failure() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let watcher = Watcher::start(&world, &all);
    let load = world.gets(1, 50);
    for stall in 0..SHORT_STALLS {
        // Each in turn, the seeds too.
        let number = all[usize::try_from(stall).unwrap() % all.len()];
        world.signal(number, Signal::STOP);
        tokio::time::sleep(SHORT_STALL).await;
        world.signal(number, Signal::CONT);
        tokio::time::sleep(BETWEEN).await;
    }
    let changes = watcher.changes();
    eprintln!(
        "{SHORT_STALLS} stalls; states changed: {:?}",
        counted(&changes)
    );
    watcher.assert_nobody_failed();
    assert_none_lost("through node 1", &load.stop().await);
    world.wait_all_active(&all).await;
}

#[tokio::test]
async fn a_long_stall_is_declared_a_failure_and_ends_without_a_lost_request() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let others = [1, 2, 4, 5];
    let watcher = Watcher::start(&world, &others);
    let loads = [1, 5].map(|number| (number, world.gets(number, 50)));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let stopped = Instant::now();
    world.signal(3, Signal::STOP);
    tokio::time::sleep(LONG_STALL).await;
    let seen = sightings(&watcher.changes_to("failed"), "n3", stopped);
    for (observer, after) in &seen {
        eprintln!("node {observer} declares n3 failed after {after:.2?}");
    }
    assert_eq!(seen.len(), others.len(), "declared by {seen:?}");

    world.signal(3, Signal::CONT);
    let back = world.wait_all_active(&all).await;
    eprintln!("all active again {back:.2?} after it goes on");
    for (number, load) in loads {
        let report = load.stop().await;
        assert!(report.answers_by_node().contains_key("n3"), "{report}");
        assert_none_lost(&format!("through node {number}"), &report);
    }
    // It has judged nobody by the time that it missed itself.
    let about_others = watcher.changes_to("failed");
    assert!(
        about_others.iter().all(|change| change.member == "n3"),
        "{about_others:?}"
    );
}
