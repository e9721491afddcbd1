//! A hundred nodes and fewer: how soon they know each other, how soon they miss
//! one, and what it costs. All times are simulated; the figures are printed.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::swarm::{Plan, Swarm};
use crate::event::EventKind;
use crate::member::MemberState;

/// For a full view after a start, and for half of the nodes to see a crash.
const TARGET: Duration = Duration::from_secs(2);
/// For the last node to see a crash, in most runs.
const WORST: Duration = Duration::from_millis(2300);
/// Only a hang takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn plan(nodes: usize) -> Plan {
    Plan {
        nodes,
        seed: 7,
        loss: 0.0,
        connections: true,
    }
}

/// Starts a swarm, waits until all know all, and prints how long that took and
/// what it costs.
async fn forms(plan: Plan) -> Swarm {
    let swarm = Swarm::start(plan).await;
    swarm.until_complete(PATIENCE).await;
    let complete = swarm.age();
    let traffic = swarm.traffic().await;
    eprintln!(
        "n={:<3} connections={:<5} full view after {complete:?}; {traffic}",
        plan.nodes, plan.connections,
    );
    assert!(complete <= TARGET, "{complete:?}");
    for node in swarm.running() {
        let diagnostics = node.cluster.diagnostics();
        let inbound = diagnostics.last_inbound;
        assert!(inbound.is_some_and(|age| age < PATIENCE), "{inbound:?}");
        assert!(diagnostics.counters.exchanges_received > 0);
        assert!(diagnostics.clock_offset_median.is_some());
        assert_eq!(diagnostics.counters.rejected.values().sum::<u64>(), 0);
    }
    swarm
}

/// Crashes some nodes, one after the other, and prints how soon they are missed.
/// One crash says little: which peers chitchat speaks to is drawn by lot, and not
/// from our seed.
async fn detects(mut swarm: Swarm, crashes: usize) {
    let nodes = swarm.running().count();
    let mut all = Vec::new();
    let mut worst = Vec::new();
    for _ in 0..crashes {
        let dead = swarm.crash(1).await;
        let detections = swarm.detections(&dead, PATIENCE).await;
        worst.extend(detections.last());
        all.extend(detections);
    }
    let median = middle(all);
    eprintln!("n={nodes:<3} crashes seen: median {median:?}, by the last node {worst:?}");
    assert!(median <= TARGET, "{median:?}");
    assert!(middle(worst.clone()) <= WORST, "{worst:?}");
    for node in swarm.running() {
        assert_eq!(node.count(MemberState::Failed), crashes, "{}", node.id);
    }
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(start_paused = true)]
async fn three_nodes_soon_know_each_other_and_soon_miss_one() {
    detects(forms(plan(3)).await, 1).await;
}

#[tokio::test(start_paused = true)]
async fn ten_nodes_soon_know_each_other_and_soon_miss_one() {
    detects(forms(plan(10)).await, 5).await;
}

#[tokio::test(start_paused = true)]
async fn thirty_nodes_soon_know_each_other_and_soon_miss_one() {
    detects(forms(plan(30)).await, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_nodes_soon_know_each_other_and_soon_miss_one() {
    detects(forms(plan(100)).await, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_nodes_soon_know_each_other_without_connections_too() {
    let plan = Plan {
        connections: false,
        ..plan(100)
    };
    forms(plan).await;
}

#[tokio::test(start_paused = true)]
async fn thirty_of_a_hundred_that_die_at_once_are_missed_and_nobody_else() {
    let mut swarm = Swarm::start(plan(100)).await;
    swarm.until_complete(PATIENCE).await;
    let dead = swarm.crash(30).await;
    let detections = swarm.detections(&dead, PATIENCE).await;
    let (median, worst) = (middle(detections.clone()), detections.last().unwrap());
    eprintln!(
        "30 of 100 dead: all seen by the median node after {median:?}, by all after {worst:?}"
    );
    for node in swarm.running() {
        assert_eq!(node.count(MemberState::Failed), 30, "{}", node.id);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_twenty_per_cent_loss_call_nobody_failed() {
    let plan = Plan {
        loss: 0.2,
        ..plan(10)
    };
    let swarm = Swarm::start(plan).await;
    swarm.until_complete(PATIENCE).await;
    let mut events: Vec<_> = swarm.running().map(|node| node.cluster.events()).collect();
    let traffic = swarm.traffic().await;
    for _ in 0..60 {
        sleep(Duration::from_secs(10)).await;
        for stream in &mut events {
            while let Ok(Some(event)) = timeout(Duration::ZERO, stream.next()).await {
                let event = event.unwrap();
                let is_failure = matches!(event.kind, EventKind::Failed { .. });
                assert!(!is_failure, "{:?}: {event:?}", swarm.age());
            }
        }
    }
    for node in swarm.running() {
        assert_eq!(node.count(MemberState::Failed), 0, "{}", node.id);
    }
    eprintln!("20 % loss, n=10, ten minutes: nobody failed; {traffic}");
}
