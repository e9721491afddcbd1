//! A cluster too large for a full mesh: how far writes go, what that costs, what a crash of
//! many at once costs, and that it does not grow with the cluster.
//!
//! `SIMULATION_SIZE=n` sets how many replicas there are; `scripts/soak simulation` takes
//! 1,000.

mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use basic_sync::model::Dot;
use basic_sync::model::document::Action;
use basic_sync::protocol::{AckTarget, Config, Mesh};

use self::cluster::{Cluster, Journey};
use crate::runs::from_environment;

/// Replicas, unless `SIMULATION_SIZE` says otherwise.
const SIZE: u64 = 300;
/// Replicas that count each other, unless it says otherwise.
const COUNTED: u64 = 100;
/// Writes of each part.
const WRITES: u32 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// What one part of a run came to.
struct Figures {
    hops: Spread<u32>,
    to_all: Spread<Duration>,
    /// Writes pushed to who had them, for each that was pushed to who had not.
    duplicates: f64,
    /// Bytes that a replica sends for a write: all together, and the one that sent most.
    bytes: f64,
    bytes_max: f64,
    /// Writes that came by a pull.
    pulls: u64,
}

#[derive(Debug)]
struct Spread<T> {
    median: T,
    most: T,
}

impl<T: Ord + Copy> Spread<T> {
    fn of(values: impl Iterator<Item = T>) -> Self {
        let mut all: Vec<T> = values.collect();
        all.sort_unstable();
        Self {
            median: all[all.len() / 2],
            most: all[all.len() - 1],
        }
    }
}

/// Lets some write, one after the other, and sees where it goes.
fn part(cluster: &mut Cluster, title: &str, during: impl FnOnce(&mut Cluster)) -> Figures {
    cluster.forget_traffic();
    cluster.journeys.clear();
    let pulls = cluster.count(|counters| counters.pulls_completed);
    during(cluster);
    for _ in 0..WRITES {
        let writer = cluster.someone();
        cluster.write(writer, AckTarget::Local);
        cluster.run_for(PAUSE);
    }
    // What does not come by the tree is asked for within a second.
    cluster.run_for(Duration::from_millis(1_500));
    let living = cluster.living();
    let journeys: Vec<(&Dot, &Journey)> = cluster.journeys.iter().collect();
    assert_eq!(journeys.len(), WRITES as usize);
    for (dot, journey) in &journeys {
        let lacking = living.iter();
        let lacking = lacking.filter(|own| !journey.arrived.contains_key(own));
        assert_eq!(lacking.count(), 0, "{title}: replicas lack {dot:?}");
    }
    let arrivals = || {
        let all = journeys.iter();
        let arrived = all.flat_map(|(_, journey)| journey.arrived.iter());
        arrived.filter(|(own, _)| living.contains(own))
    };
    let last = |journey: &Journey| {
        let arrived = journey.arrived.values().map(|(_, took)| *took);
        arrived.max().expect("the writer has it")
    };
    let traffic = &cluster.traffic;
    let writes = f64::from(WRITES);
    let figures = Figures {
        hops: Spread::of(arrivals().map(|(_, (hops, _))| *hops)),
        to_all: Spread::of(journeys.iter().map(|(_, journey)| last(journey))),
        duplicates: traffic.duplicates as f64 / (traffic.pushed - traffic.duplicates) as f64,
        bytes: traffic.bytes.iter().sum::<u64>() as f64 / living.len() as f64 / writes,
        bytes_max: traffic.bytes.iter().max().map_or(0.0, |most| *most as f64) / writes,
        pulls: cluster.count(|counters| counters.pulls_completed) - pulls,
    };
    let median = Spread::of(arrivals().map(|(_, (_, took))| *took)).median;
    eprintln!(
        "{title}: hops {} (most {}); to one {median:.0?}, to all {:.0?} (most {:.0?}); {:.3} \
         duplicates a delivery; {:.0} bytes a replica and write (most {:.0}); {} pulls; {}",
        figures.hops.median,
        figures.hops.most,
        figures.to_all.median,
        figures.to_all.most,
        figures.duplicates,
        figures.bytes,
        figures.bytes_max,
        figures.pulls,
        kinds(cluster),
    );
    figures
}

fn kinds(cluster: &Cluster) -> String {
    let kinds = cluster.traffic.kinds.iter();
    let kinds = kinds.map(|(kind, (count, bytes))| format!("{kind} {count} ({bytes} bytes)"));
    kinds.collect::<Vec<_>>().join(", ")
}

/// What a whole run came to.
struct Run {
    tree: Figures,
    crash: Figures,
    mended: Figures,
    /// Bytes that a replica sends in a second in which nothing is written.
    idle: f64,
    /// How long a write took that waited for all.
    all: Duration,
}

fn run(size: usize, grafts_lost: bool) -> Run {
    eprintln!("--- {size} replicas");
    let mut cluster = Cluster::new(size, &Config::default(), grafts_lost);
    cluster.run_for(Duration::from_secs(1));
    let links = Spread::of((0..size).map(|own| cluster.links_of(own)));
    eprintln!("links: {links:?}");
    part(&mut cluster, "while the tree forms", |_| {});
    let tree = part(&mut cluster, "when it has formed", |_| {});
    cluster.forget_traffic();
    cluster.run_for(Duration::from_secs(2));
    let idle = cluster.traffic.bytes.iter().sum::<u64>() as f64 / size as f64 / 2.0;
    eprintln!("idle: {idle:.0} bytes a replica and second");

    cluster.forget_traffic();
    let (began, writer) = (cluster.now, cluster.someone());
    let id = cluster.write(writer, AckTarget::All);
    cluster.run_for(Duration::from_secs(1));
    let receipt = cluster.receipts.iter().find(|(of, ..)| *of == id);
    let (_, answered, receipt) = receipt.expect("it was answered");
    let all = *answered - began;
    eprintln!(
        "acks=all: {} of {} after {all:.0?}; {}",
        receipt.acks,
        size - 1,
        kinds(&cluster)
    );
    assert!(receipt.complete && receipt.acks == size - 1, "{receipt:?}");

    let crash = part(&mut cluster, "a tenth crashes", |cluster| {
        for _ in 0..size / 10 {
            let victim = cluster.someone();
            cluster.crash(victim);
        }
    });
    part(&mut cluster, "while it mends", |_| {});
    let mended = part(&mut cluster, "afterwards", |_| {});
    let living = cluster.living();
    let first = cluster.status(living[0]);
    for own in living {
        let status = cluster.status(own);
        assert_eq!(status.vector, first.vector, "replica {own} differs");
        assert_eq!(status.digest, first.digest, "replica {own} differs");
    }
    let count = |of| cluster.count(of);
    eprintln!(
        "forwarded {}, pruned {}, grafted {}",
        count(|counters| counters.forwarded),
        count(|counters| counters.pruned),
        count(|counters| counters.grafted)
    );
    Run {
        tree,
        crash,
        mended,
        idle,
        all,
    }
}

/// What the same costs where everyone links to everyone: bytes a replica and write.
fn full_mesh(size: usize) -> f64 {
    eprintln!("--- {size} replicas, a full mesh");
    let config = Config {
        mesh: Mesh {
            peers_max: size,
            ..Mesh::default()
        },
        ..Config::default()
    };
    let mut cluster = Cluster::new(size, &config, false);
    cluster.run_for(Duration::from_secs(1));
    part(&mut cluster, "in a full mesh", |_| {}).bytes
}

fn check(run: &Run) {
    let most = |what: &Figures, to_all: u64, hops: u32| {
        assert!(what.hops.most <= hops, "{:?} hops", what.hops);
        let to_all = Duration::from_millis(to_all);
        assert!(what.to_all.most <= to_all, "to all in {:?}", what.to_all);
    };
    most(&run.tree, 300, 24);
    // Where many links were grafted in haste the way is longer.
    most(&run.crash, 3_000, 48);
    // A way that nothing has come by since waits for the first write that does: among 1,000
    // some are still found after dozens of writes.
    most(&run.mended, 1_000, 48);
    for what in [&run.tree, &run.mended] {
        assert!(what.duplicates < 0.05, "{} duplicates", what.duplicates);
        assert_eq!(what.pulls, 0, "what comes by the tree is not pulled");
    }
    assert!(run.all < Duration::from_secs(1), "{:?}", run.all);
}

#[test]
fn a_write_reaches_many_hundred_replicas_at_a_cost_that_does_not_grow_with_them() {
    let size = from_environment("SIMULATION_SIZE").unwrap_or(SIZE);
    let mesh = full_mesh(128);
    let small = run(128, false);
    check(&small);
    let size = usize::try_from(size).expect("a size");
    let large = run(size, false);
    check(&large);
    // What grows is the number of links: 20 instead of 14 among 1,000.
    assert!(large.tree.bytes < 1.8 * small.tree.bytes);
    assert!(large.idle < 1.8 * small.idle);
    assert!(small.tree.bytes < mesh / 5.0);
}

/// Deletions are let go of among many too: they hear of each other how all stand. All have
/// written, so that a vector has a line for each.
#[test]
fn what_many_have_deleted_all_of_them_let_go_of() {
    let size = from_environment("SIMULATION_SIZE").unwrap_or(COUNTED);
    let size = usize::try_from(size).expect("a size");
    let config = Config {
        tombstone_age: Duration::from_secs(30),
        ..Config::default()
    };
    let mut cluster = Cluster::new(size, &config, false);
    cluster.run_for(Duration::from_secs(1));
    for replica in 0..size {
        cluster.write(replica, AckTarget::Local);
        cluster.run_for(Duration::from_millis(5));
    }
    cluster.run_for(Duration::from_secs(1));
    for number in 1..=size / 2 {
        let replica = cluster.someone();
        cluster.act(replica, number, Action::Delete, AckTarget::Local);
        cluster.run_for(Duration::from_millis(5));
    }
    let deleted = cluster.now;
    cluster.run_for(config.tombstone_age - Duration::from_secs(5));
    assert_eq!(cluster.holds(0), size, "their time is not up");
    cluster.forget_traffic();
    let left = size - size / 2;
    let forgotten = |cluster: &Cluster| (0..size).all(|own| cluster.holds(own) == left);
    while !forgotten(&cluster) {
        cluster.run_for(Duration::from_secs(1));
        let took = cluster.now - deleted;
        assert!(took < 2 * config.tombstone_age, "they are still remembered");
    }
    let passed = cluster.now - deleted - config.tombstone_age + Duration::from_secs(5);
    let (count, bytes) = cluster.traffic.kinds["census"];
    eprintln!(
        "{size} replicas: forgotten {:.0?} after the last deletion; in {passed:.0?} {:.1} tellings \
         of a census a replica, of {} bytes, {:.0} bytes a second",
        cluster.now - deleted,
        count as f64 / size as f64,
        bytes / count,
        bytes as f64 / size as f64 / passed.as_secs_f64(),
    );
    assert_eq!(cluster.count(|counters| counters.fencings), 0);
}

/// A check of the checks: without grafts, what was pruned wrongly or has crashed is mended
/// by pulls alone, and that is noticed.
#[test]
fn without_grafts_the_scenario_fails() {
    let harmed = || check(&run(128, true));
    assert!(catch_unwind(AssertUnwindSafe(harmed)).is_err());
}
