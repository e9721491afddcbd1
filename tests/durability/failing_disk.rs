//! A disk whose syncs fail now and then.

use basic_tests::harness::disk::{Calls, Fault, SyncFault, When};

use crate::readers::{READERS, Readers};
use crate::world::{World, sync_faults};
use crate::writers::{Ledger, Sizes, WRITERS, Writers};

/// Syncs of a thread that succeed before the first that fails, and from one to the next.
const FIRST: u32 = 20;
const STEP: u32 = 15;

#[tokio::test]
async fn a_sync_that_fails_is_told_and_the_agent_goes_on_as_its_peers_do() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("failing-syncs", 2);
    let ledger = Ledger::default();
    let fault = SyncFault {
        calls: Calls::Data,
        fault: Fault::Fail,
        when: When::Every {
            first: FIRST,
            step: STEP,
        },
        file: None,
    };
    world.start_by(1, |command| fault.around(&command));
    world.start(2);
    world.wait_answering(1).await;
    world.wait_answering(2).await;
    let writers = Writers::start(&world, &[1], WRITERS, Sizes::Mixed, &ledger);
    world
        .wait(1, "several failures", || {
            std::future::ready(match ledger.answer(500) {
                Some((count, _)) if count >= 20 => Ok(()),
                _ => Err(format!("the answers are {:?}", ledger.answers())),
            })
        })
        .await;
    ledger.wait_for_more(&world, 1, 200).await;
    writers.stop().await;

    let (_, failed) = ledger.answer(500).unwrap();
    let problem = failed.json();
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("may or may not have been done"),
        "{problem}"
    );
    assert!(problem["next"].is_string(), "{problem}");
    assert!(world.runs(1));
    let others = ledger.answers();
    assert_eq!(others.keys().collect::<Vec<_>>(), [&500], "{others:?}");

    let before = ledger.reckon(&world, 1).await;
    eprintln!("with failing syncs, answers {others:?}: {before}");
    // Its peer had those writes before their sync failed.
    world.wait_converged(&[1, 2]).await;
    world.kill(1).await;
    world.start(1);
    world.wait_answering(1).await;
    world.wait_converged(&[1, 2]).await;
    for number in [1, 2] {
        ledger.reckon(&world, number).await;
    }
}

#[tokio::test]
async fn checkpoints_that_fail_are_made_later_and_nothing_is_lost() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("failing-checkpoints", 1);
    let ledger = Ledger::default();
    world.start(1);
    world.wait_answering(1).await;
    world.stop(1).await;
    let fault = SyncFault {
        calls: Calls::All,
        fault: Fault::Fail,
        // After a failure the file is opened anew, with two syncs, and a checkpoint has
        // two or three: so each that fails is followed by one that does not.
        when: When::Every { first: 3, step: 7 },
        file: Some(world.layout(1).data_directory().join("store.redb")),
    };
    world.start_by(1, |command| fault.around(&command));
    world.wait_answering(1).await;
    let readers = Readers::start(&world, 1, READERS).await;
    let writers = Writers::start(&world, &[1], WRITERS, Sizes::All(200_000), &ledger);
    // More than memory keeps: it must get to the file for all that.
    ledger.wait_for_more(&world, 1, 500).await;
    writers.stop().await;
    let reads = readers.stop().await;
    eprintln!("{reads} reads meanwhile, each was answered with the document");
    let others = ledger.answers();
    let reckoning = ledger.reckon(&world, 1).await;
    eprintln!("with failing checkpoints, answers {others:?}: {reckoning}");
    world.kill(1).await;
    world.start(1);
    world.wait_answering(1).await;
    ledger.reckon(&world, 1).await;
}
