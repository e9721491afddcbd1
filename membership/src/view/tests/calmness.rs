//! How often a doubt arises that comes to nothing, with heartbeats that are lost.
//!
//! The heartbeats of one node reach another along several ways at once: its own
//! rounds, its answers, and what others pass on. Here each of those is a chance a
//! round, lost at random, with the counters and the detector's arithmetic as they
//! are in production.

use chitchat::ChitchatId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::heartbeat::HeartbeatTable;
use crate::transport::inspect::{DigestEntry, Inspected};

const ROUND: Duration = Duration::from_millis(200);
const HOUR: u32 = 3600 * 5;

/// One hour of one node watching another; how often it doubted, and failed it.
fn hour(loss: f64, ways: u32, seed: u64) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut table = HeartbeatTable::new(ROUND, Duration::from_secs(2));
    let mut world = World::new();
    let member = ChitchatId::new("n1", 1, ([127, 0, 0, 1], 9400).into());
    let own = ChitchatId::new("own", 1, ([127, 0, 0, 1], 9401).into());
    let (mut doubts, mut failures, mut beat) = (0, 0, 0);
    for _ in 0..HOUR {
        for _ in 0..ways {
            world.pass(ROUND / ways);
            beat += 1;
            if !random.random_bool(loss) {
                let digest = vec![DigestEntry {
                    member: member.clone(),
                    heartbeat: beat,
                    max_version: 1,
                    bytes: 0..48,
                }];
                let message = Inspected {
                    digest,
                    delta: Vec::new(),
                };
                table.admit(&message, &own, world.now).unwrap();
            }
            let silence = table.silence(&member, world.now.instant);
            let phi = silence.and_then(|silence| silence.phi());
            let observation = Observation {
                silence,
                live: phi.is_none_or(|phi| phi <= PHI_THRESHOLD),
                ..live("n1", 1)
            };
            for event in world.observe(&[observation]) {
                match event {
                    EventKind::Suspected { .. } => doubts += 1,
                    EventKind::Failed { .. } => failures += 1,
                    _ => {}
                }
            }
        }
    }
    (doubts, failures)
}

#[test]
fn loss_of_a_fifth_brings_no_failure_and_next_to_no_doubt() {
    // Two nodes: a round of its own, and the answer to a round of the other, for
    // which two datagrams must arrive.
    for (what, loss, ways) in [
        ("no loss", 0.0, 2),
        ("20 % loss, two nodes", 0.28, 2),
        ("20 % loss, five nodes", 0.28, 4),
        ("half is lost", 0.5, 3),
    ] {
        let hours: Vec<_> = (0..4).map(|seed| hour(loss, ways, seed)).collect();
        let doubts: usize = hours.iter().map(|hour| hour.0).sum();
        let failures: usize = hours.iter().map(|hour| hour.1).sum();
        println!("{what}: {doubts} doubts and {failures} failures in 4 hours of one pair");
        if loss < 0.3 {
            assert!(doubts <= 8, "{what}: {doubts}");
            assert_eq!(failures, 0, "{what}");
        }
        assert!(loss > 0.0 || doubts == 0);
    }
}
