//! One node is cut off from all others, and comes back.

use std::time::{Duration, Instant};

use basic_tests::harness::network::Family;
use basic_tests::harness::wait::wait_until;

use crate::watcher::{Watcher, sightings};
use crate::world::{LIMIT, World, assert_none_lost};

/// By when all others have declared it failed: twice what is promised and more,
/// since a busy machine may run this.
const DETECTION_MAX: Duration = Duration::from_secs(6);
/// How long it stays cut off: longer than a client's patience (10 s), so that a
/// request which waits for the way to come back is lost.
const CUT: Duration = Duration::from_secs(13);
const OTHERS: [u16; 4] = [1, 2, 4, 5];

#[tokio::test]
async fn an_isolated_node_is_declared_failed_serves_its_own_clients_and_catches_up() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let watcher = Watcher::start(&world, &OTHERS);
    let loads = [1, 3, 5].map(|number| (number, world.gets(number, 50)));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let cut = Instant::now();
    world.network.isolate(3).unwrap();
    let mut keys = Vec::new();
    for number in &all {
        let key = format!("during-{number}");
        world.write(*number, &key).await;
        keys.push(key);
    }
    let seen = wait_until("all others to declare n3 failed", LIMIT, || async {
        let seen = sightings(&watcher.changes_to("failed"), "n3", cut);
        match seen.len() == OTHERS.len() {
            true => Ok(seen),
            false => Err(format!("seen by {seen:?}")),
        }
    });
    let seen = seen.await.unwrap();
    for (observer, after) in &seen {
        eprintln!("node {observer} declares n3 failed after {after:.2?}");
    }
    let worst = seen.iter().map(|(_, after)| *after).max().unwrap();
    assert!(worst <= DETECTION_MAX, "declared failed after {worst:?}");

    // Seen from the isolated node, it is the others that are gone.
    for other in OTHERS {
        world.wait_for_state(3, other, "failed").await;
    }
    tokio::time::sleep(CUT.saturating_sub(cut.elapsed())).await;
    for load in &loads {
        world.write(load.0, &format!("late-{}", load.0)).await;
        keys.push(format!("late-{}", load.0));
    }
    assert!(world.network.dropped().unwrap() > 0, "nothing was cut");

    world.network.heal().unwrap();
    let healed = world.wait_all_active(&all).await;
    let converged = world.wait_converged(&all, &keys).await;
    eprintln!("after the heal: all active in {healed:.2?}, and equal {converged:.2?} later");
    for (number, load) in loads {
        assert_none_lost(&format!("through node {number}"), &load.stop().await);
    }
}
