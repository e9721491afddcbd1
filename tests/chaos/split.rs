//! The cluster falls into two parts, both of which go on, and joins again.

use std::time::{Duration, Instant};

use basic_tests::harness::network::Family;

use crate::world::World;

/// How long writes go on after each side has declared the other failed.
const APART: Duration = Duration::from_secs(3);
/// A pause between writes, so that there are hundreds and not thousands to check.
const WRITE_PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn writes_on_both_sides_of_a_split_are_on_all_nodes_after_the_heal() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let (minority, majority) = ([1, 2], [3, 4, 5]);
    let split = Instant::now();
    world.network.split(&minority, &majority).unwrap();
    for (side, other) in [(&minority[..], &majority[..]), (&majority, &minority)] {
        for (observer, member) in side.iter().flat_map(|o| other.iter().map(move |m| (o, m))) {
            world.wait_for_state(*observer, *member, "failed").await;
        }
    }
    eprintln!(
        "both sides have declared each other failed after {:.2?}",
        split.elapsed()
    );

    let mut keys = Vec::new();
    let until = Instant::now() + APART;
    while Instant::now() < until {
        for number in &all {
            let key = format!("n{number}-{}", keys.len());
            world.write(*number, &key).await;
            keys.push(key);
        }
        tokio::time::sleep(WRITE_PAUSE).await;
    }
    // The split is one for documents too: nothing of one side is on the other.
    for (key, number) in [(&keys[0], 3), (&keys[2], 1)] {
        let url = format!("{}/v1/data/chaos/{key}", world.api(number));
        assert_eq!(world.client.get(&url).await.unwrap().status, 404, "{url}");
    }

    world.network.heal().unwrap();
    let active = world.wait_all_active(&all).await;
    let converged = world.wait_converged(&all, &keys).await;
    eprintln!(
        "{} writes; after the heal all active in {active:.2?}, and equal {converged:.2?} later",
        keys.len()
    );
}
