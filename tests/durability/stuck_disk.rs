//! A disk that does not answer for a while.

use std::time::{Duration, Instant};

use basic_tests::harness::disk::{Calls, Fault, SyncFault, When};

use crate::world::{World, sync_faults};
use crate::writers::{Ledger, Sizes, WRITERS, Writers};

/// Which sync of the writing thread hangs, and how long.
const NTH: u32 = 30;
const STUCK: Duration = Duration::from_secs(8);
/// How long any write may wait, at most: what the agent allows the disk, and some more
/// for a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(7);
/// An answer that waits for no disk.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_disk_that_hangs_holds_up_nobody_and_is_named_while_it_lasts() {
    if !sync_faults() {
        return;
    }
    let mut world = World::new("stuck-disk", 1);
    let ledger = Ledger::default();
    let fault = SyncFault {
        calls: Calls::Data,
        fault: Fault::Delay(STUCK),
        when: When::Nth(NTH),
        file: None,
    };
    world.start_by(1, |command| fault.around(&command));
    world.wait_answering(1).await;
    let writers = Writers::start(&world, &[1], WRITERS, Sizes::Mixed, &ledger);
    let finding = world.wait_for_finding(1, "disk-stuck", true).await;
    let seen = Instant::now();
    assert!(finding["next"].is_string(), "{finding}");

    ledger.read_last(&world, 1).await;
    let extra = Ledger::default();
    let taken = extra
        .write(&world.client, &world.api(1), Sizes::Mixed)
        .await;
    let refused = extra.answer(503);
    assert!(!taken && refused.is_some(), "{:?}", extra.answers());
    let (_, refused) = refused.unwrap();
    let kind = refused.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/problem+json"), "{kind}");
    assert!(refused.json()["next"].is_string(), "{}", refused.text());
    assert!(extra.slowest() < AT_ONCE, "{:?}", extra.slowest());
    assert!(seen.elapsed() < AT_ONCE, "reads wait for the disk");

    world.wait_for_finding(1, "disk-stuck", false).await;
    ledger.wait_for_more(&world, 1, 100).await;
    writers.stop().await;
    let (slowest, answers) = (ledger.slowest(), ledger.answers());
    eprintln!(
        "a sync of {STUCK:?}: told {:.1?} before its end, the slowest write waited {slowest:.1?}, answers {answers:?}",
        STUCK.saturating_sub(slowest)
    );
    assert!((Duration::from_secs(1)..ANSWER_MAX).contains(&slowest));
    assert!(answers.contains_key(&504), "{answers:?}");
    assert_eq!(
        answers.keys().find(|status| ![503, 504].contains(*status)),
        None
    );

    ledger.reckon(&world, 1).await;
    world.kill(1).await;
    world.start(1);
    world.wait_answering(1).await;
    let reckoning = ledger.reckon(&world, 1).await;
    eprintln!("after a stuck disk: {reckoning}");
}
