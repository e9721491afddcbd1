//! Bootstrap: a node with an empty disk joins one that has a million documents, while that
//! one is written to.
//!
//! The documents are written in batches while the second node is down. Then writers that
//! each wait for their answer show how many writes a second the node takes by itself, the
//! second node is started, and the writers go on until it is ready, which it is when it has
//! all that there is. Source and writers have one half of the processors, the new node has
//! the other. A round counts only if documents looked up at random are on the new node, each
//! with its value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use http::Method;
use tokio::task::JoinSet;

use crate::agents::Agents;
use crate::arguments::Arguments;
use crate::documents::{Documents, MEBIBYTE, bytes_in};
use crate::processors::Halves;
use crate::progress;
use crate::table::{Column, Figures, OURS, Summary, Table, Unit};
use crate::workspace::Workspace;

const DOCUMENTS: u64 = 1_000_000;
const DOCUMENTS_QUICK: u64 = 200_000;
const VALUE_BYTES: usize = 512;
/// Writers beside the bootstrap.
const WRITERS: u64 = 4;
/// How long they write before it.
const ALONE: Duration = Duration::from_secs(5);
/// Documents that are looked up at the end.
const LOOKED_UP: u64 = 1000;
const READY_MAX: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const DATA: Documents = Documents {
    collection: "bootstrap",
    value_bytes: VALUE_BYTES,
};

const COLUMNS: &[Column] = &[
    Column {
        key: "documents_per_second",
        heading: "documents",
        unit: Unit::PerSecond,
        summary: Summary::Median,
    },
    Column {
        key: "processor_us_per_document",
        heading: "CPU/document",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
    Column {
        key: "writes_per_second_alone",
        heading: "writes before",
        unit: Unit::PerSecond,
        summary: Summary::Median,
    },
    Column {
        key: "writes_percent_meanwhile",
        heading: "meanwhile",
        unit: Unit::Percent,
        summary: Summary::Median,
    },
    Column {
        key: "source_growth_mebibytes",
        heading: "source grows",
        unit: Unit::Mebibytes,
        summary: Summary::Median,
    },
    Column {
        key: "new_node_growth_mebibytes",
        heading: "new node grows",
        unit: Unit::Mebibytes,
        summary: Summary::Median,
    },
    Column {
        key: "disk_bytes_per_document",
        heading: "disk/document",
        unit: Unit::Count,
        summary: Summary::Median,
    },
];

/// Runs the bench.
pub(crate) async fn run(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Table> {
    let documents = match arguments.quick {
        true => DOCUMENTS_QUICK,
        false => DOCUMENTS,
    };
    let rounds = arguments.rounds(3, 1);
    let mut figures = Figures::new(OURS, Agents::version()?);
    for round in 1..=rounds {
        progress(format!("bootstrap: round {round} of {rounds}: {OURS}"));
        let halves = Halves::confine()?;
        let cluster = Agents::start(workspace, &format!("agents-{round}"), 2).await?;
        let round = measure(cluster, documents, halves.as_ref())
            .await
            .context(OURS)?;
        figures.add_round(COLUMNS, &round);
    }
    Ok(Table {
        bench: "bootstrap",
        work: format!(
            "a node with an empty disk beside one with {documents} documents of {VALUE_BYTES} \
             bytes, which {WRITERS} writers go on writing to"
        ),
        nodes: 2,
        columns: COLUMNS,
        contestants: vec![figures],
        absent: Vec::new(),
        notes: vec![
            "Documents a second from the start of the new node's process until it is ready."
                .to_owned(),
            "Meanwhile: writes a second beside the bootstrap, in hundredths of those before. \
             Source and writers share one half of this machine's processors, the new node has \
             the other; its disk they share."
                .to_owned(),
            "CPU/document is the processor time of the new node from its start, the kernel's for \
             it included."
                .to_owned(),
            "The new node grows over what it was resident with before, ready and empty.".to_owned(),
            "Where the host of a virtual machine takes back memory that is free, all that is \
             written is first written to memory that must be given again, and counts as \
             processor time: up to a third of it was seen. Compare where little memory is free."
                .to_owned(),
        ],
    })
}

/// One round on a new cluster; one number for each column.
async fn measure(
    mut cluster: Agents,
    documents: u64,
    halves: Option<&Halves>,
) -> anyhow::Result<Vec<f64>> {
    let new = cluster.data_directory(1)?;
    let target_before = cluster.resident(1)?;
    cluster.stop(1).await?;
    std::fs::remove_dir_all(&new).with_context(|| format!("cannot empty {}", new.display()))?;
    let api = format!("http://{}", cluster.api(0)?);
    progress(format!("bootstrap: writing {documents} documents"));
    DATA.put(&api, 0..documents).await?;
    let disk = bytes_in(&cluster.data_directory(0)?)? as f64 / documents as f64;

    let writers = Writers::start(&api);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alone = writers.rate_over(ALONE).await;
    let source_before = cluster.resident(0)?;
    let began = Instant::now();
    let written = writers.count();
    match halves {
        Some(halves) => halves.in_second(|| cluster.start_again(1))??,
        None => cluster.start_again(1)?,
    }
    let url = format!("http://{}", cluster.api(1)?);
    let client = Client::default();
    let answers = || async { client.get(&format!("{url}/healthz")).await };
    wait_until("the new node to answer", READY_MAX, answers).await?;
    let (mut source, mut target) = (source_before, target_before);
    loop {
        source = source.max(cluster.resident(0)?);
        target = target.max(cluster.resident(1)?);
        let ready = client.get(&format!("{url}/readyz")).await?;
        if ready.status == 200 {
            break;
        }
        anyhow::ensure!(began.elapsed() < READY_MAX, "not ready: {}", ready.text());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let elapsed = began.elapsed();
    let processor_us = cluster.processor_time_of(1)?.as_secs_f64() * 1e6;
    let meanwhile = (writers.count() - written) as f64 / elapsed.as_secs_f64();
    writers.stop().await?;
    let step = usize::try_from(documents / LOOKED_UP)?.max(1);
    for number in (0..documents).step_by(step) {
        let url = format!("{url}{}", DATA.path(number));
        let answer = client.get(&url).await?;
        anyhow::ensure!(
            answer.status == 200 && answer.text().contains(&DATA.value(number)),
            "document {number} is not on the new node: {} {}",
            answer.status,
            answer.text()
        );
    }
    Ok(vec![
        documents as f64 / elapsed.as_secs_f64(),
        processor_us / documents as f64,
        alone,
        100.0 * meanwhile / alone,
        (source - source_before) as f64 / MEBIBYTE,
        (target - target_before) as f64 / MEBIBYTE,
        disk,
    ])
}

/// Writers that each write one document after the other, until they are stopped.
struct Writers {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Writers {
    fn start(api: &str) -> Writers {
        let written = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (written, stop) = (written.clone(), stop.clone());
            let api = api.to_owned();
            tasks.spawn(async move {
                let client = Client::default();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let url = format!("{api}/v1/data/writers/{writer}-{}", number % 10_000);
                    let answer = client
                        .call(Method::PUT, &url, DATA.value(number).into())
                        .await?;
                    anyhow::ensure!(
                        answer.status.is_success(),
                        "a write was answered {}: {}",
                        answer.status,
                        answer.text()
                    );
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Writers {
            written,
            stop,
            tasks,
        }
    }

    fn count(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Writes a second from now on for so long.
    async fn rate_over(&self, time: Duration) -> f64 {
        let (before, start) = (self.count(), Instant::now());
        tokio::time::sleep(time).await;
        (self.count() - before) as f64 / start.elapsed().as_secs_f64()
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(writer) = self.tasks.join_next().await {
            writer.context("a writer panicked")??;
        }
        Ok(())
    }
}
