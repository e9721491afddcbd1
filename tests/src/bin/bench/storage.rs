//! What documents and deletions cost: disk and memory of each, and that deletions which
//! are older than they are remembered cost nothing.
//!
//! First, with settings as they come: many documents are written to one cluster, and as
//! many are written to another and deleted; the first node is looked at when its store has
//! taken all of it in. Then a cluster that remembers deletions for some seconds only makes
//! and deletes documents at a steady rate for several times as long; what it remembers and
//! what its disk holds must not grow any more. A round counts only if both nodes of a
//! cluster hold the same at the end.

use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::agents::Agents;
use crate::arguments::Arguments;
use crate::documents::{Documents, MEBIBYTE, bytes_in};
use crate::progress;
use crate::table::{Column, Figures, OURS, Summary, Table, Unit};
use crate::workspace::Workspace;

const DOCUMENTS: u64 = 500_000;
const DOCUMENTS_QUICK: u64 = 100_000;
const VALUE_BYTES: usize = 1024;
/// For so long the second cluster remembers deletions, and so many times as long it runs.
const HORIZON: Duration = Duration::from_secs(10);
const HORIZONS: u32 = 8;
/// Documents that are made and deleted in each tick.
const CHURN: u64 = 500;
const TICKS_PER_SECOND: u64 = 4;
const DELETIONS_PER_SECOND: u64 = CHURN * TICKS_PER_SECOND;
/// By then all is in the store's file.
const SETTLE: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(120);

const KEPT: Documents = Documents {
    collection: "kept",
    value_bytes: VALUE_BYTES,
};
const DELETED: Documents = Documents {
    collection: "deleted",
    value_bytes: 31,
};

const COLUMNS: &[Column] = &[
    Column {
        key: "disk_bytes_per_document",
        heading: "disk/document",
        unit: Unit::Count,
        summary: Summary::Median,
    },
    Column {
        key: "memory_bytes_per_document",
        heading: "memory/document",
        unit: Unit::Count,
        summary: Summary::Median,
    },
    Column {
        key: "resident_mebibytes",
        heading: "memory in all",
        unit: Unit::Mebibytes,
        summary: Summary::Median,
    },
    Column {
        key: "disk_bytes_per_deletion",
        heading: "disk/deletion",
        unit: Unit::Count,
        summary: Summary::Median,
    },
    Column {
        key: "memory_bytes_per_deletion",
        heading: "memory/deletion",
        unit: Unit::Count,
        summary: Summary::Median,
    },
    Column {
        key: "resident_mebibytes_of_deletions",
        heading: "memory in all",
        unit: Unit::Mebibytes,
        summary: Summary::Median,
    },
    Column {
        key: "remembered_percent_of_horizon",
        heading: "remembered",
        unit: Unit::Percent,
        summary: Summary::Median,
    },
    Column {
        key: "disk_growth_percent",
        heading: "disk grows",
        unit: Unit::Percent,
        summary: Summary::Median,
    },
];

/// Runs the bench.
pub(crate) async fn run(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Table> {
    let documents = match arguments.quick {
        true => DOCUMENTS_QUICK,
        false => DOCUMENTS,
    };
    let rounds = arguments.rounds(1, 1);
    let mut figures = Figures::new(OURS, Agents::version()?);
    for round in 1..=rounds {
        progress(format!("storage: round {round} of {rounds}: {OURS}"));
        let sizes = |name: &'static str, deleted| async move {
            let name = format!("{name}-{round}");
            sizes(workspace, &name, documents, deleted)
                .await
                .context(OURS)
        };
        let mut row = Vec::new();
        row.extend(sizes("written", false).await?);
        row.extend(sizes("written-and-deleted", true).await?);
        row.extend(horizon(workspace, round).await.context(OURS)?);
        figures.add_round(COLUMNS, &row);
    }
    Ok(Table {
        bench: "storage",
        work: format!(
            "{documents} documents of {VALUE_BYTES} bytes, and as many small ones that are written and \
             deleted, each on 2 nodes; then {} deletions a second that are remembered for {} s",
            DELETIONS_PER_SECOND,
            HORIZON.as_secs()
        ),
        nodes: 2,
        columns: COLUMNS,
        contestants: vec![figures],
        absent: Vec::new(),
        notes: vec![
            "Of the first node, when all is in its store's file; keys came in random order. \
             Memory is what the agent has more than before."
                .to_owned(),
            format!(
                "Remembered: deletions that both nodes still hold after {HORIZONS} times as \
                 long, in hundredths of those of one such time. Disk grows: from the third quarter \
                 of that to the last, the most seen in each."
            ),
            "A day of as many deletions a second as you have takes 86,400 times disk/deletion."
                .to_owned(),
        ],
    })
}

/// Disk and memory that each of so many documents takes on the first node of a new cluster,
/// written or deleted again; and memory in all.
async fn sizes(
    workspace: &Workspace,
    name: &str,
    documents: u64,
    deleted: bool,
) -> anyhow::Result<[f64; 3]> {
    progress(format!("storage: {documents} documents are {name}"));
    let cluster = Agents::start(workspace, name, 2).await?;
    let api = format!("http://{}", cluster.api(0)?);
    let directory = cluster.data_directory(0)?;
    let before = (bytes_in(&directory)?, cluster.resident(0)?);
    match deleted {
        false => KEPT.put(&api, 0..documents).await?,
        true => {
            DELETED.put(&api, 0..documents).await?;
            DELETED.delete(&api, 0..documents).await?;
        }
    }
    wait_until_equal(&cluster).await?;
    sleep(SETTLE).await;
    let after = (bytes_in(&directory)?, cluster.resident(0)?);
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / documents as f64;
    Ok([
        each(after.0, before.0),
        each(after.1, before.1),
        after.1 as f64 / MEBIBYTE,
    ])
}

/// How much of a horizon's deletions is remembered, and how much the disk grows, both in
/// hundredths.
async fn horizon(workspace: &Workspace, round: u16) -> anyhow::Result<Vec<f64>> {
    progress(format!(
        "storage: {} deletions a second for {} s",
        DELETIONS_PER_SECOND,
        HORIZON.as_secs() * u64::from(HORIZONS)
    ));
    let settings = format!(
        "\n[replication]\ntombstone_age = \"{}s\"\nabsent_max = \"{}s\"\n",
        HORIZON.as_secs(),
        2 * HORIZON.as_secs()
    );
    let name = format!("horizon-{round}");
    let cluster = Agents::start_with(workspace, &name, 2, &settings).await?;
    let api = format!("http://{}", cluster.api(0)?);
    let directory = cluster.data_directory(0)?;
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(1000 / TICKS_PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The most that was seen in the third and in the last quarter.
    let (mut made, mut third, mut last) = (0, 0, 0);
    while began.elapsed() < HORIZON * HORIZONS {
        ticks.tick().await;
        DELETED.put(&api, made..made + CHURN).await?;
        DELETED.delete(&api, made..made + CHURN).await?;
        made += CHURN;
        let bytes = bytes_in(&directory)?;
        match began.elapsed().div_duration_f64(HORIZON * HORIZONS) {
            part if part >= 0.75 => last = bytes.max(last),
            part if part >= 0.5 => third = bytes.max(third),
            _ => {}
        }
    }
    let rate = made as f64 / began.elapsed().as_secs_f64();
    let mut remembered: f64 = 0.0;
    for node in 0..2 {
        let stats = format!("http://{}/v1/sync/stats", cluster.api(node)?);
        let stats = Client::default().get(&stats).await?.json();
        let collected = stats["counters"]["collected"].as_u64();
        let collected = collected.with_context(|| format!("no count in {stats}"))?;
        remembered = remembered.max(made.saturating_sub(collected) as f64);
    }
    anyhow::ensure!(third > 0 && last > 0, "too slow");
    wait_until_equal(&cluster).await?;
    Ok(vec![
        100.0 * remembered / (rate * HORIZON.as_secs_f64()),
        100.0 * (last as f64 - third as f64) / third as f64,
    ])
}

/// Waits until both nodes hold the same, deletions let go of left out.
async fn wait_until_equal(cluster: &Agents) -> anyhow::Result<()> {
    let url = format!("http://{}/v1/sync/verify", cluster.api(0)?);
    let client = Client::default();
    let equal = || async {
        let answer = client.post_json(&url, &serde_json::json!({})).await?;
        let report = answer.json();
        let is_equal = report["equal"] == true && report["in_flight"] == 0;
        anyhow::ensure!(is_equal, "{}", answer.text());
        anyhow::Ok(())
    };
    wait_until("both nodes to hold the same", LIMIT, equal).await?;
    Ok(())
}
