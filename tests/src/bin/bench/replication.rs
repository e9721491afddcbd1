//! Replication: a write on one node until it is visible on all others.
//!
//! Each round starts a new cluster with empty stores. First one writer writes
//! one document after the other: when is it acknowledged, and when has a watch
//! on each other node told of it? Then 64 writers write as fast as they can:
//! how many writes a second, and what processor time of the whole cluster does
//! one cost? Then the same with the writers spread over all nodes. A round
//! counts only if every acknowledged write was seen on every other node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::load::quantile;
use tokio::task::JoinSet;

use crate::agents::Agents;
use crate::arguments::Arguments;
use crate::peers::Program;
use crate::peers::etcd::Etcd;
use crate::progress;
use crate::sightings::{Sightings, Watch};
use crate::table::{Column, Figures, OURS, Summary, Table, Unit, microseconds, milliseconds};
use crate::workspace::Workspace;

const VALUE_BYTES: usize = 512;
const WRITERS: u64 = 64;
/// Writes of the 64 writers at most, whatever the time.
const WRITES_MAX: u64 = 200_000;

const COLUMNS: &[Column] = &[
    Column {
        key: "acknowledged_p50_ms",
        heading: "ack p50",
        unit: Unit::Milliseconds,
        summary: Summary::Median,
    },
    Column {
        key: "acknowledged_p99_ms",
        heading: "ack p99",
        unit: Unit::Milliseconds,
        summary: Summary::Median,
    },
    Column {
        key: "visible_p50_ms",
        heading: "visible p50",
        unit: Unit::Milliseconds,
        summary: Summary::Median,
    },
    Column {
        key: "visible_p99_ms",
        heading: "visible p99",
        unit: Unit::Milliseconds,
        summary: Summary::Median,
    },
    Column {
        key: "writes_per_second",
        heading: "64 writers",
        unit: Unit::PerSecond,
        summary: Summary::Median,
    },
    Column {
        key: "processor_us_per_write",
        heading: "CPU/write",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
    Column {
        key: "writes_per_second_on_all",
        heading: "on all nodes",
        unit: Unit::PerSecond,
        summary: Summary::Median,
    },
    Column {
        key: "processor_us_per_write_on_all",
        heading: "CPU/write",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
];

/// A cluster that replicates documents.
pub(crate) trait Store: Send + Sync + 'static {
    /// Writes a document on a node, counted from 0; returns when it is acknowledged.
    fn put(
        &self,
        node: usize,
        key: &str,
        document: String,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// A watch on a node, counted from 0, from now on.
    fn watch(&self, node: usize) -> impl Future<Output = anyhow::Result<Watch>> + Send;
    /// Processor time of all processes of the cluster.
    fn processor_time(&self) -> anyhow::Result<Duration>;
}

/// Runs the bench.
pub(crate) async fn run(
    arguments: &Arguments,
    nodes: u16,
    workspace: &Workspace,
) -> anyhow::Result<Table> {
    let effort = Effort::of(arguments, nodes);
    let rounds = arguments.rounds(5, 1);
    let mut ours = match arguments.wants_ours() {
        true => Some(Figures::new(OURS, Agents::version()?)),
        false => None,
    };
    let mut theirs = None;
    let mut absent = Vec::new();
    match Program::Etcd.find() {
        _ if !arguments.wants_peer(Program::Etcd) => {}
        Some(_) => theirs = Some(Figures::new("etcd", Program::Etcd.version())),
        None => absent.push(Program::Etcd),
    }
    for round in 1..=rounds {
        if let Some(figures) = &mut ours {
            progress(format!("replication: round {round} of {rounds}: {OURS}"));
            let cluster = Agents::start(workspace, &format!("agents-{round}"), nodes).await?;
            let round = effort.spend(cluster).await.context(OURS)?;
            figures.add_round(COLUMNS, &round);
        }
        if let Some(figures) = &mut theirs {
            progress(format!("replication: round {round} of {rounds}: etcd"));
            let cluster = Etcd::start(workspace, &format!("etcd-{round}"), nodes).await?;
            let round = effort.spend(cluster).await.context("etcd")?;
            figures.add_round(COLUMNS, &round);
        }
    }
    Ok(Table {
        bench: "replication",
        work: format!(
            "{nodes} nodes on loopback, values of {VALUE_BYTES} bytes, written over HTTP and \
             JSON on one node, and last on all, watched on all but the first"
        ),
        nodes,
        columns: COLUMNS,
        contestants: ours.into_iter().chain(theirs).collect(),
        absent,
        notes: vec![
            "Acknowledged means on the disk of the node that answers (basic-agent) or of a \
             majority (etcd)."
                .to_owned(),
            "CPU/write is the processor time of all nodes for a write of one of 64 writers."
                .to_owned(),
        ],
    })
}

/// What many writers came to.
struct ManyWriters {
    per_second: f64,
    processor_us: f64,
}

/// How much a round does.
#[derive(Clone, Copy)]
struct Effort {
    nodes: u64,
    warm_up: u64,
    single: u64,
    many: Duration,
}

impl Effort {
    fn of(arguments: &Arguments, nodes: u16) -> Effort {
        let nodes = u64::from(nodes);
        match arguments.quick {
            true => Effort {
                nodes,
                warm_up: 50,
                single: 300,
                many: Duration::from_secs(2),
            },
            false => Effort {
                nodes,
                warm_up: 200,
                single: 2000,
                many: Duration::from_secs(8),
            },
        }
    }

    /// One round on a new cluster; one number for each column.
    async fn spend(self, store: impl Store) -> anyhow::Result<Vec<f64>> {
        let mut others = Vec::new();
        for node in 1..usize::try_from(self.nodes)? {
            others.push(store.watch(node).await?);
        }
        let sightings = Sightings::start(others);
        write_one_by_one("w", self.warm_up, &store, &sightings).await?;
        let (acknowledged, visible) =
            write_one_by_one("s", self.single, &store, &sightings).await?;

        let store = Arc::new(store);
        let one = self.many_writers(&store, &[&sightings], "m", 1).await?;
        // What is written on another node is to be seen on the first one, too.
        let first = Sightings::start(vec![store.watch(0).await?]);
        let all = self
            .many_writers(&store, &[&sightings, &first], "a", self.nodes)
            .await?;
        Ok(vec![
            milliseconds(quantile(&acknowledged, 0.5)),
            milliseconds(quantile(&acknowledged, 0.99)),
            milliseconds(quantile(&visible, 0.5)),
            milliseconds(quantile(&visible, 0.99)),
            one.per_second,
            one.processor_us,
            all.per_second,
            all.processor_us,
        ])
    }

    /// Writes with many writers, each on one of the first `nodes` nodes, and waits until
    /// all of it is seen.
    async fn many_writers(
        &self,
        store: &Arc<impl Store>,
        sightings: &[&Sightings],
        prefix: &'static str,
        nodes: u64,
    ) -> anyhow::Result<ManyWriters> {
        let processor_before = store.processor_time()?;
        let start = Instant::now();
        let writes = write_at_once(store, prefix, nodes, self.many).await?;
        let elapsed = start.elapsed();
        for number in 0..writes {
            for sightings in sightings {
                sightings.wait_for(&key(prefix, number)).await?;
            }
        }
        let processor = store.processor_time()?.saturating_sub(processor_before);
        Ok(ManyWriters {
            per_second: writes as f64 / elapsed.as_secs_f64(),
            processor_us: microseconds(processor) / writes.max(1) as f64,
        })
    }
}

/// Writes one document after the other. Returns, in ascending order, the times
/// until the acknowledgement and until the last other node showed it.
async fn write_one_by_one(
    prefix: &str,
    count: u64,
    store: &impl Store,
    sightings: &Sightings,
) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let mut acknowledged = Vec::new();
    let mut visible = Vec::new();
    for number in 0..count {
        let key = key(prefix, number);
        let start = Instant::now();
        store.put(0, &key, value(number)).await?;
        acknowledged.push(start.elapsed());
        let seen = sightings.wait_for(&key).await?;
        visible.push(seen.saturating_duration_since(start));
    }
    acknowledged.sort_unstable();
    visible.sort_unstable();
    Ok((acknowledged, visible))
}

/// Writes with many writers until the time is up. Returns how many documents
/// were acknowledged: keys 0 to that number, each once.
async fn write_at_once(
    store: &Arc<impl Store>,
    prefix: &'static str,
    nodes: u64,
    duration: Duration,
) -> anyhow::Result<u64> {
    let start = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let node = usize::try_from(writer % nodes)?;
        let (store, next) = (store.clone(), next.clone());
        writers.spawn(async move {
            let mut written = 0_u64;
            while start.elapsed() < duration {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= WRITES_MAX {
                    break;
                }
                store.put(node, &key(prefix, number), value(number)).await?;
                written += 1;
            }
            anyhow::Ok(written)
        });
    }
    let mut written = 0;
    while let Some(finished) = writers.join_next().await {
        written += finished.context("a writer panicked")??;
    }
    Ok(written)
}

fn key(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:08}")
}

/// A JSON document of [`VALUE_BYTES`] bytes, different for each number.
fn value(number: u64) -> String {
    const FRAME_BYTES: usize = r#"{"number":"00000000","text":""}"#.len();
    let text = &[b'x'; VALUE_BYTES - FRAME_BYTES];
    let text = std::str::from_utf8(text).unwrap_or_default();
    format!(r#"{{"number":"{number:08}","text":"{text}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_size_that_is_claimed_and_differs_from_the_next() {
        for number in [0, WRITES_MAX] {
            assert_eq!(value(number).len(), VALUE_BYTES);
            serde_json::from_str::<serde_json::Value>(&value(number)).unwrap();
        }
        assert_ne!(value(1), value(2));
    }
}
