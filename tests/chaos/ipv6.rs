//! A cluster whose hosts have IPv6 addresses.

use std::time::Duration;

use basic_tests::harness::network::Family;

use crate::world::{World, assert_none_lost};

#[tokio::test]
async fn a_cluster_on_ipv6_gossips_replicates_and_balances_and_notices_a_cut() {
    let Some(world) = World::up(Family::V6, 3, 3).await else {
        return;
    };
    let all = world.numbers();
    world.write(1, "v6").await;
    world.wait_converged(&all, &["v6".to_owned()]).await;
    let load = world.gets(1, 50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = load.stop().await;
    assert_eq!(report.answers_by_node().len(), 3, "{report}");
    assert_none_lost("through node 1", &report);

    world.network.isolate(3).unwrap();
    world.wait_for_state(1, 3, "failed").await;
    world.network.heal().unwrap();
    world.wait_all_active(&all).await;
}
