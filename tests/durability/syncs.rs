//! Agents that are killed at each of their syncs in turn.
//!
//! A random moment is seldom the one between a write and its sync, or in the middle of
//! a checkpoint. Here strace kills the agent as it enters its N-th sync.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use basic_tests::harness::disk::{Calls, Fault, SyncFault, When};

use crate::world::{World, sync_faults};
use crate::writers::{Ledger, Sizes, WRITERS, Writers};

/// The N of a directory that is new: from the making of its first file to writes in the
/// steady state.
const OF_NEW: std::ops::RangeInclusive<u32> = 1..=40;
const OF_NEW_LATER: [u32; 3] = [75, 150, 300];
/// The N of syncs of the store's file: from its making to the fifth checkpoint.
const OF_FILE: std::ops::RangeInclusive<u32> = 1..=10;
/// The N of syncs of the store's file when it is opened again after a crash.
const OF_OPENING: [u32; 2] = [1, 2];
/// Documents that soon fill what is kept in memory, so that it goes to the file.
const LARGE: Sizes = Sizes::All(200_000);

#[tokio::test]
async fn a_kill_at_any_sync_of_a_first_life_loses_nothing() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("first-syncs", 1);
    let mut acknowledged = Vec::new();
    for nth in OF_NEW.chain(OF_NEW_LATER) {
        let ledger = Ledger::default();
        world.erase(1);
        live_until_killed(&mut world, &kill_at(nth, None), Sizes::Mixed, &ledger).await;
        acknowledged.push((nth, ledger.acknowledged()));
        comes_back(&mut world, &ledger).await;
        world.kill(1).await;
    }
    eprintln!("killed at the N-th sync, after so many acknowledged writes: {acknowledged:?}");
    assert!(acknowledged.last().is_some_and(|(_, count)| *count > 0));
}

#[tokio::test]
async fn a_kill_at_any_sync_of_a_checkpoint_loses_nothing() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("checkpoint-syncs", 1);
    let store = world.layout(1).data_directory().join("store.redb");
    let mut acknowledged = Vec::new();
    for nth in OF_FILE {
        let ledger = Ledger::default();
        world.erase(1);
        let fault = kill_at(nth, Some(store.clone()));
        live_until_killed(&mut world, &fault, LARGE, &ledger).await;
        acknowledged.push((nth, ledger.acknowledged()));
        for again in OF_OPENING {
            let fault = kill_at(again, Some(store.clone()));
            live_until_killed(&mut world, &fault, LARGE, &ledger).await;
        }
        comes_back(&mut world, &ledger).await;
        world.kill(1).await;
    }
    eprintln!(
        "killed at the N-th sync of the file, and then at its opening, after so many acknowledged writes: {acknowledged:?}"
    );
    let last = acknowledged.last();
    assert!(last.is_some_and(|(_, count)| *count > 0));
}

/// Runs an agent with this fault, under load, until it is dead of it.
async fn live_until_killed(world: &mut World, fault: &SyncFault, sizes: Sizes, ledger: &Ledger) {
    world.start_by(1, |command| fault.around(&command));
    let writers = Writers::start(world, &[1], WRITERS, sizes, ledger);
    let status = world.ended(1).await;
    writers.stop().await;
    assert_eq!(
        status.signal(),
        Some(9),
        "{fault:?}: it ended with {status}"
    );
}

/// Starts the agent anew, which must have everything and take more.
async fn comes_back(world: &mut World, ledger: &Ledger) {
    world.start(1);
    world.wait_answering(1).await;
    ledger.reckon(world, 1).await;
    let api = world.api(1);
    let taken = ledger.write(&world.client, &api, Sizes::Mixed).await;
    assert!(taken, "it takes no writes: {:?}", ledger.answers());
}

fn kill_at(nth: u32, file: Option<PathBuf>) -> SyncFault {
    SyncFault {
        calls: Calls::All,
        fault: Fault::Kill,
        when: When::Nth(nth),
        file,
    }
}
