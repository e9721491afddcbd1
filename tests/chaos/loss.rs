//! A bad network: of every five frames one is lost, at random.

use std::time::Duration;

use basic_tests::harness::network::Family;

use crate::watcher::{Watcher, counted};
use crate::world::{World, assert_none_lost};

/// Frames lost of a thousand.
const LOST: u16 = 200;
/// How long, unless [`SECONDS_VARIABLE`] says otherwise.
const LASTING: Duration = Duration::from_secs(60);
/// How long a client waits: TCP repeats a packet that is lost five times in a row,
/// as one of some thousands is, only after six seconds, and then after twelve.
const PATIENCE: Duration = Duration::from_secs(40);
/// Says how many seconds it is to last.
const SECONDS_VARIABLE: &str = "CHAOS_LOSS_SECONDS";

#[tokio::test]
async fn nobody_is_falsely_declared_failed_while_a_fifth_of_all_frames_is_lost() {
    let lasting = match std::env::var(SECONDS_VARIABLE) {
        Ok(seconds) => Duration::from_secs(seconds.parse().expect("a number of seconds")),
        Err(_) => LASTING,
    };
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let all = world.numbers();
    let watcher = Watcher::start(&world, &all);
    world.network.lose(LOST).unwrap();
    let load = world.get_load(1).per_second(20).timeout(PATIENCE).start();
    let mut keys = Vec::new();
    for number in &all {
        let key = format!("n{number}");
        world.write(*number, &key).await;
        keys.push(key);
    }
    tokio::time::sleep(lasting).await;
    let converged = world.wait_converged(&all, &keys).await;

    let changes = watcher.changes();
    eprintln!(
        "{lasting:?} with {} % loss: {} frames lost, states changed: {:?}, documents equal {converged:.2?} after that",
        LOST / 10,
        world.network.dropped().unwrap(),
        counted(&changes),
    );
    assert!(world.network.dropped().unwrap() > 0, "nothing was lost");
    watcher.assert_nobody_failed();
    world.network.heal().unwrap();
    assert_none_lost("through node 1", &load.stop().await);
}
