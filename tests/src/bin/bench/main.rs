//! `scripts/bench`: our figures beside those of programs that people know.
//!
//! Each bench gives the same work to an agent cluster and, in the same run on
//! the same machine, to a peer: etcd for replication, serf for failure
//! detection and all else about membership, nginx and HAProxy for the proxy. A peer that is not installed is
//! named with the way to install it; nothing is left out in silence. Figures
//! are medians over rounds, and every load is bounded in number and in time.
//! Everything runs on loopback, as children of this process, in a directory
//! that goes away with them; when a bench fails, the directory stays.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage.

#![forbid(unsafe_code)]

mod agents;
mod arguments;
mod backend;
mod bootstrap;
mod detection;
mod documents;
mod exchange;
mod lines;
mod load;
mod peers;
mod processors;
mod proxy;
mod replication;
mod service;
mod sightings;
mod storage;
mod table;
mod views;
mod workspace;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Bench};
use crate::table::Table;
use crate::workspace::Workspace;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A child is ended when its handle is dropped, which a signal would skip.
    let result = tokio::select! {
        result = run(&arguments) => result,
        interrupted = interrupted() => interrupted,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut tables = Vec::new();
    for bench in arguments.benches() {
        for nodes in arguments.sizes(bench) {
            let workspace = Workspace::new(bench.name())?;
            let table = measure(bench, arguments, *nodes, &workspace)
                .await
                .with_context(|| format!("the {} bench failed", bench.name()));
            match table {
                Ok(table) => {
                    if !arguments.json {
                        print(&table.to_string())?;
                    }
                    tables.push(table);
                }
                Err(error) => {
                    let kept = workspace.keep();
                    let place = format!("logs and data are kept in {}", kept.display());
                    return Err(error.context(place));
                }
            }
        }
    }
    if arguments.json {
        let documents: Vec<_> = tables.iter().map(Table::to_json).collect();
        print(&format!("{:#}\n", serde_json::Value::from(documents)))?;
    }
    Ok(())
}

async fn measure(
    bench: Bench,
    arguments: &Arguments,
    nodes: u16,
    workspace: &Workspace,
) -> anyhow::Result<Table> {
    match bench {
        Bench::Replication => replication::run(arguments, nodes, workspace).await,
        Bench::Detection => detection::run(arguments, nodes, workspace).await,
        Bench::Bootstrap => bootstrap::run(arguments, workspace).await,
        Bench::Storage => storage::run(arguments, workspace).await,
        Bench::Proxy => proxy::run(arguments, workspace).await,
    }
}

async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    anyhow::bail!("interrupted; what was started is stopped")
}

/// A reader that has gone away, as `head` does, is no failure.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says what is going on, beside the output proper.
fn progress(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}
