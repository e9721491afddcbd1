//! The seeds are gone: by whom a node finds the others then.

use std::net::SocketAddr;
use std::time::Instant;

use basic_tests::harness::network::Family;
use basic_tests::harness::wait::wait_until;

use crate::world::{LIMIT, World};

/// Nodes 1 and 2 are the seeds of every node.
const SEEDS: [u16; 2] = [1, 2];
const LIVING: [u16; 3] = [3, 4, 5];

#[tokio::test]
async fn a_sixth_node_joins_by_a_living_member_and_again_by_its_roster_while_both_seeds_are_dead() {
    let Some(mut world) = World::up(Family::V4, 5, 6).await else {
        return;
    };
    kill_seeds(&mut world).await;

    // New to the cluster: it is told of the dead seeds and of one that lives.
    let seeds = [1, 2, 4].map(|number| world.layout(number).peer());
    world.configure(6, &seeds);
    let start = Instant::now();
    world.start(6);
    world.wait_all_active(&[3, 4, 5, 6]).await;
    eprintln!("a new node is active after {:.2?}", start.elapsed());
    world.write(3, "before").await;
    world.wait_for_document(6, "before").await;

    // Known by now, it goes, and comes back with nothing but the dead seeds.
    world.kill(6);
    for observer in LIVING {
        world.wait_for_state(observer, 6, "failed").await;
    }
    world.configure(6, &seeds[..2]);
    let start = Instant::now();
    world.start(6);
    world.wait_all_active(&[3, 4, 5, 6]).await;
    eprintln!("by its roster it is back after {:.2?}", start.elapsed());
    world.write(6, "after").await;
    world.wait_for_document(4, "after").await;
}

#[tokio::test]
async fn a_cluster_that_was_off_finds_together_though_no_seed_is_where_it_was() {
    let Some(mut world) = World::up(Family::V4, 5, 6).await else {
        return;
    };
    let all = world.numbers();
    world.write(1, "before").await;
    for number in &all {
        world.wait_for_document(*number, "before").await;
    }
    for number in &all {
        wait_for_roster(&world, *number, &all).await;
    }
    // Nobody is, or ever was, at the sixth host.
    let gone: [SocketAddr; 1] = [world.layout(6).peer()];
    for number in &all {
        world.kill(*number);
        world.configure(*number, &gone);
    }
    let start = Instant::now();
    for number in &all {
        world.start(*number);
    }
    world.wait_all_active(&all).await;
    eprintln!("all five are active again after {:.2?}", start.elapsed());
    world.write(5, "after").await;
    let keys = ["before", "after"].map(str::to_owned);
    world.wait_converged(&all, &keys).await;
}

/// Waits until the file of a node names all of these: that it sees them says nothing of it.
async fn wait_for_roster(world: &World, number: u16, members: &[u16]) {
    let file = world.layout(number).data_directory().join("roster.json");
    let written = || async {
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let names = |member: &u16| text.contains(&format!("\"n{member}\""));
        members.iter().all(names).then_some(()).ok_or(text)
    };
    let awaited = format!("the roster of node {number} to name all");
    wait_until(awaited, LIMIT, written).await.unwrap();
}

async fn kill_seeds(world: &mut World) {
    for seed in SEEDS {
        world.kill(seed);
    }
    for observer in LIVING {
        for seed in SEEDS {
            world.wait_for_state(observer, seed, "failed").await;
        }
    }
}
