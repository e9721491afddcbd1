//! A disk that gets full, and has room again.

use std::fs;
use std::time::{Duration, Instant};

use basic_tests::harness::http::Answer;

use crate::readers::{READERS, Readers};
use crate::world::{World, small_disk};
use crate::writers::{Ledger, Sizes, WRITERS, Writers};

/// The whole disk. The journal reserves some megabytes of it ahead of what it writes.
const DISK_BYTES: u64 = 48 << 20;
/// Documents that soon fill what is reserved.
const LARGE: Sizes = Sizes::All(50_000);
/// How long a node whose disk has room again may refuse writes.
const BACK_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_full_disk_refuses_writes_with_advice_until_there_is_room() {
    let mut world = World::new("full-disk", 1);
    let Some(disk) = small_disk(&world, 1, DISK_BYTES) else {
        return;
    };
    let ledger = Ledger::default();
    world.start(1);
    world.wait_answering(1).await;
    let readers = Readers::start(&world, 1, READERS).await;
    let writers = Writers::start(&world, &[1], WRITERS, LARGE, &ledger);
    ledger.wait_for_more(&world, 1, 20).await;
    for round in 1..=2 {
        let filler = disk.fill().unwrap();
        let refused = wait_for_refusal(&world, &ledger, round * 20).await;
        assert_advice(&refused);
        let finding = world.wait_for_finding(1, "disk-full", true).await;
        assert!(
            finding["evidence"].to_string().contains("space"),
            "{finding}"
        );
        assert!(
            finding["next"].to_string().contains("make room"),
            "{finding}"
        );
        ledger.read_last(&world, 1).await;
        let kept = ledger.reckon(&world, 1).await;
        eprintln!("on a full disk (filler {} KiB): {kept}", filler >> 10);

        let back = Instant::now();
        disk.make_room().unwrap();
        ledger.wait_for_more(&world, 1, 20).await;
        let back = back.elapsed();
        eprintln!("20 writes were accepted {back:.1?} after room was made");
        assert!(back < BACK_MAX, "{back:?}");
        world.wait_for_finding(1, "disk-full", false).await;
    }
    writers.stop().await;
    let reads = readers.stop().await;
    eprintln!("{reads} reads meanwhile, each was answered with the document");
    let answers = ledger.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&507], "{answers:?}");
    ledger.reckon(&world, 1).await;

    // Where it cannot write who it is, it does not begin, and says why.
    // Filled when it has ended, since files that are gone but open keep their room until then.
    world.kill(1).await;
    disk.fill().unwrap();
    world.start(1);
    assert_eq!(world.ended(1).await.code(), Some(1));
    let said = fs::read_to_string(world.layout(1).agent_log()).unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("No space left"), "{said}");
    disk.make_room().unwrap();
    world.start(1);
    world.wait_answering(1).await;
    let reckoning = ledger.reckon(&world, 1).await;
    eprintln!("answers {answers:?}; after a restart {reckoning}");
}

#[tokio::test]
async fn a_node_whose_disk_is_full_holds_up_no_other_and_catches_up() {
    const OTHERS: [u16; 2] = [1, 2];
    let mut world = World::new("full-peer", 3);
    let Some(disk) = small_disk(&world, 3, DISK_BYTES) else {
        return;
    };
    for number in 1..=3 {
        world.start(number);
    }
    for number in 1..=3 {
        world.wait_answering(number).await;
    }
    let ledger = Ledger::default();
    let writers = Writers::start(&world, &OTHERS, 1, Sizes::All(10_000), &ledger);
    ledger.wait_for_more(&world, 1, 50).await;
    disk.fill().unwrap();
    world.wait_for_finding(3, "disk-full", true).await;
    let begin = Instant::now();
    ledger.wait_for_more(&world, 1, 500).await;
    let rate = 500.0 / begin.elapsed().as_secs_f64();
    writers.stop().await;
    let between = world.wait_converged(&OTHERS).await;
    for number in OTHERS {
        let reckoning = ledger.reckon(&world, number).await;
        eprintln!("beside a full node, {rate:.0} writes/s; node {number}: {reckoning}");
    }
    let behind = world.wait(3, "node 3 to know what it lacks", || async {
        let status = world.status(3).await?;
        let peers = status["sync"]["peers"].as_array();
        let mut behind = peers
            .into_iter()
            .flatten()
            .map(|peer| peer["behind"].as_u64());
        match behind.next().flatten() {
            Some(behind) if behind > 0 => Ok(behind),
            _ => Err(status["sync"]["peers"].to_string()),
        }
    });
    let behind = behind.await;

    disk.make_room().unwrap();
    let caught_up = world.wait_converged(&[1, 2, 3]).await;
    ledger.reckon(&world, 3).await;
    world.wait_for_finding(3, "disk-full", false).await;
    eprintln!(
        "the two were level after {between:.1?}, all three {caught_up:.1?} after room was made; the full one was {behind} writes of node 1 behind"
    );
    world.kill(3).await;
    world.start(3);
    world.wait_answering(3).await;
    ledger.reckon(&world, 3).await;
}

/// Waits until so many writes were refused for want of room; returns the last answer.
async fn wait_for_refusal(world: &World, ledger: &Ledger, count: usize) -> Answer {
    world
        .wait(1, "refusals", || {
            std::future::ready(match ledger.answer(507) {
                Some((refusals, last)) if refusals >= count => Ok(last),
                _ => Err(format!("the answers are {:?}", ledger.answers())),
            })
        })
        .await
}

/// RFC 9457, with something to do about it.
fn assert_advice(refused: &Answer) {
    let text = refused.text();
    let kind = refused.header("content-type").unwrap_or_default();
    assert!(
        kind.starts_with("application/problem+json"),
        "{kind}: {text}"
    );
    let problem = refused.json();
    assert_eq!(problem["status"], 507, "{text}");
    assert!(
        problem["detail"].to_string().contains("free some space"),
        "{text}"
    );
    assert!(problem["next"].is_string(), "{text}");
}
