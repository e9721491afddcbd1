//! What one node sends to another is lost; the way back stays open.
//!
//! Gossip goes around the cut: others tell node 2 of node 1. So both stay what
//! they are, and what needs the direct way, requests and replication, must go
//! around as well.

use std::time::Duration;

use basic_tests::harness::network::Family;

use crate::watcher::{Watcher, counted};
use crate::world::{World, assert_none_lost};

/// How long the cut stays: longer than a client's patience (10 s).
const CUT: Duration = Duration::from_secs(13);
/// State changes that all nodes together may see: doubt and trust once for each
/// observer of either node, and that again at the heal.
const CHANGES_MAX: usize = 20;

#[tokio::test]
async fn a_one_way_cut_leaves_both_sides_in_a_steady_state() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let watcher = Watcher::start(&world, &all);
    let loads = [1, 2].map(|number| (number, world.gets(number, 50)));
    tokio::time::sleep(Duration::from_secs(1)).await;

    world.network.cut_one_way(1, 2).unwrap();
    world.write(1, "from-1").await;
    world.write(2, "from-2").await;
    world.wait_for_document(2, "from-1").await;
    world.wait_for_document(1, "from-2").await;
    tokio::time::sleep(CUT).await;
    for observer in [1, 2] {
        for member in [1, 2] {
            world.wait_for_state(observer, member, "active").await;
        }
    }
    assert!(world.network.dropped().unwrap() > 0, "nothing was cut");

    world.network.heal().unwrap();
    world.wait_all_active(&all).await;
    let keys = ["from-1", "from-2"].map(str::to_owned);
    world.wait_converged(&all, &keys).await;
    let changes = watcher.changes();
    eprintln!("states changed: {:?}", counted(&changes));
    assert!(changes.len() <= CHANGES_MAX, "{} changes", changes.len());
    watcher.assert_nobody_failed();
    for (number, load) in loads {
        assert_none_lost(&format!("through node {number}"), &load.stop().await);
    }
}
