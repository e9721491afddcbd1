//! What a cluster costs: time to start, memory and processor at rest.
//!
//! The figures are printed. Memory is held to its limit; times are held only
//! to bounds that a busy machine keeps as well, and are measured by benches.

use std::fs;
use std::time::{Duration, Instant};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::process::{ProcessId, Usage};

/// Resident bytes of an agent at rest, at most.
const RESIDENT_MAX: u64 = 30 << 20;
/// How long agents are watched at rest.
const WATCHED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn three_nodes_are_soon_ready_and_small_at_rest() {
    let start = Instant::now();
    let cluster = Cluster::up("footprint", 3).await.unwrap();
    let ready = start.elapsed();
    eprintln!("three nodes ready after {:.2} s", ready.as_secs_f64());

    let env = cluster.command(&["env"]).await.unwrap();
    let agents: Vec<ProcessId> = (1..=3)
        .map(|node| {
            env.variable(&format!("PID_{node}"))
                .unwrap()
                .parse()
                .unwrap()
        })
        .map(|pid| ProcessId::of(pid).unwrap())
        .collect();
    let before: Vec<Usage> = agents.iter().map(|agent| agent.usage().unwrap()).collect();
    tokio::time::sleep(WATCHED).await;
    for (agent, before) in agents.iter().zip(before) {
        let now = agent.usage().unwrap();
        let busy = (now.processor - before.processor).as_secs_f64() / WATCHED.as_secs_f64();
        eprintln!(
            "agent {}: {:.1} MiB resident, {:.1} % of a core, {} open files",
            agent.pid,
            now.resident as f64 / f64::from(1 << 20),
            busy * 100.0,
            now.open_files
        );
        assert!(now.resident <= RESIDENT_MAX, "{now:?}");
        // Twice what is promised: this build is not optimised throughout.
        assert!(busy <= 0.04, "{:.1} % of a core at rest", busy * 100.0);
    }
    assert!(ready < Duration::from_secs(30), "ready after {ready:?}");
}

#[tokio::test]
async fn the_server_is_the_same_file_before_and_after() {
    let prepared = Cluster::prepare("same-file", 2).unwrap();
    let server = prepared.binaries().sample_server();
    let before = blake3::hash(&fs::read(&server).unwrap());
    prepared.start().await.unwrap();
    prepared.command(&["down"]).await.unwrap();
    assert_eq!(blake3::hash(&fs::read(&server).unwrap()), before);
}
