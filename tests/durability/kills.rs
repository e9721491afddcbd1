//! Agents that are killed at random moments, again and again, under load.

use std::time::{Duration, Instant};

use basic_tests::harness::load::quantile;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::world::World;
use crate::writers::{Ledger, Sizes, WRITERS, Writers};

/// How long an agent lives at most after it has answered.
const LIFE_MAX: Duration = Duration::from_millis(600);
/// One in so many is killed while it starts.
const STILLBORN: u32 = 5;
/// How long one of those lives at most.
const BIRTH_MAX: Duration = Duration::from_millis(150);
/// Kills unless asked otherwise; of a cluster there are fewer, for it starts more slowly.
const KILLS: u32 = 50;
const KILLS_OF_CLUSTER: u32 = 10;

#[tokio::test]
async fn what_was_acknowledged_survives_kills_under_load() {
    let mut world = World::new("kills", 1);
    let ledger = Ledger::default();
    let (kills, mut random) = (kills(KILLS), random());
    let begin = Instant::now();
    world.start(1);
    world.wait_answering(1).await;
    let writers = Writers::start(&world, &[1], WRITERS, Sizes::Mixed, &ledger);
    let starts = kill_at_random(&mut world, &[1], kills, &ledger, &mut random).await;
    writers.stop().await;
    let lived = begin.elapsed();
    let reckoning = ledger.reckon(&world, 1).await;
    eprintln!("{kills} kills in {:.1} s: {reckoning}", lived.as_secs_f64());
    report(starts);
    let enough = usize::try_from(kills).unwrap_or(usize::MAX) * 10;
    assert!(ledger.acknowledged() > enough, "hardly any load");
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills_of_any_node_on_all_of_them() {
    const NODES: [u16; 3] = [1, 2, 3];
    let mut world = World::new("kills-of-three", 3);
    let ledger = Ledger::default();
    let (kills, mut random) = (kills(KILLS_OF_CLUSTER), random());
    for number in NODES {
        world.start(number);
    }
    for number in NODES {
        world.wait_answering(number).await;
    }
    let writers = Writers::start(&world, &NODES, 2, Sizes::Mixed, &ledger);
    let starts = kill_at_random(&mut world, &NODES, kills, &ledger, &mut random).await;
    writers.stop().await;
    let converged = world.wait_converged(&NODES).await;
    for number in NODES {
        let reckoning = ledger.reckon(&world, number).await;
        eprintln!("{kills} kills among three, node {number}: {reckoning}");
    }
    eprintln!("level {converged:.1?} after the last write");
    report(starts);
}

/// Kills one of these agents at a random moment and starts it again, so many times.
/// Returns how long it took each to answer.
async fn kill_at_random(
    world: &mut World,
    numbers: &[u16],
    kills: u32,
    ledger: &Ledger,
    random: &mut StdRng,
) -> Vec<Duration> {
    let mut starts = Vec::new();
    for _ in 0..kills {
        let number = numbers[random.random_range(0..numbers.len())];
        tokio::time::sleep(LIFE_MAX.mul_f64(random.random())).await;
        world.kill(number).await;
        world.start(number);
        if random.random_ratio(1, STILLBORN) {
            tokio::time::sleep(BIRTH_MAX.mul_f64(random.random())).await;
            world.kill(number).await;
            world.start(number);
        }
        let start = Instant::now();
        world.wait_answering(number).await;
        starts.push(start.elapsed());
        if let [alone] = numbers {
            // Of several, another may have acknowledged it a moment ago.
            ledger.read_last(world, *alone).await;
        }
    }
    starts
}

fn report(mut starts: Vec<Duration>) {
    starts.sort_unstable();
    eprintln!(
        "from the start to the first answered read: median {:.0?}, at most {:.0?}",
        quantile(&starts, 0.5),
        quantile(&starts, 1.0)
    );
}

/// How many kills are asked for by `CRASH_KILLS`, of which this test has its part.
fn kills(default: u32) -> u32 {
    let asked = std::env::var("CRASH_KILLS").ok();
    let asked: u32 = asked.map_or(KILLS, |asked| {
        asked.parse().expect("CRASH_KILLS is a number")
    });
    (asked * default / KILLS).max(1)
}

/// The moments of this run, which are printed, and which `CRASH_SEED` repeats.
fn random() -> StdRng {
    let seed = match std::env::var("CRASH_SEED") {
        Ok(seed) => seed.parse().expect("CRASH_SEED is a number"),
        Err(_) => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_be_bytes(bytes)
        }
    };
    eprintln!("CRASH_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
