//! `up`: from nothing to a cluster that answers, or back to nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::ports;

use crate::arguments::UpOptions;
use crate::failure::Failure;
use crate::probe::Probe;
use crate::state::{self, State};
use crate::{down, output, start, status};

/// Starts all nodes and waits until each is ready, sees all, and forwards.
pub(crate) async fn up(directory: PathBuf, options: &UpOptions) -> Result<(), Failure> {
    let layout = Layout::new(directory.clone(), options.base_port, options.nodes)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let _lock = state::lock(&directory)?;
    if let Some(running) = State::find(&directory)?.filter(State::is_running) {
        return already_running(&running, &layout).await;
    }
    let binaries = options.binaries()?;
    ports::check(&layout).map_err(|taken| {
        Failure::Failed(anyhow!(
            "{taken}; free it, or take other ports with --base-port"
        ))
    })?;
    if options.fresh {
        delete_nodes(&directory)?;
    }
    layout
        .write()
        .with_context(|| format!("cannot write to {}", directory.display()))?;

    let started = Instant::now();
    let mut state = State::new(layout, binaries);
    if let Err(failure) = bring_up(&mut state).await {
        down::stop_all(&state).await;
        state.delete()?;
        return Err(failure);
    }
    announce(&state, started.elapsed()).await
}

/// Until all are ready, or an interrupt asks to give it up.
async fn bring_up(state: &mut State) -> Result<(), Failure> {
    let nodes: Vec<NodeLayout> = state.layout.iter().collect();
    // Saved before the first process runs: whatever happens, `down` knows all.
    state.save()?;
    for node in &nodes {
        start::start_missing(state, node)?;
    }
    let probe = Probe::new();
    let all_up = || async {
        for node in &nodes {
            let not_yet = |reason| format!("node {}: {reason}", node.number());
            probe.up(node, state.layout.len()).await.map_err(not_yet)?;
        }
        Ok(())
    };
    tokio::select! {
        waited = start::wait(state, &nodes, all_up) => waited,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed(anyhow!("interrupted"))),
    }
}

async fn already_running(running: &State, wanted: &Layout) -> Result<(), Failure> {
    if running.layout != *wanted {
        return Err(Failure::Failed(anyhow!(
            "a cluster of {} nodes at base port {} runs already; \
             `scripts/cluster down` first, or give the new one another --dir",
            running.layout.len(),
            running.layout.base_port()
        )));
    }
    let nodes = status::observe(running).await;
    output::line(status::table(&nodes).trim_end());
    match nodes.iter().find(|node| !node.is_up()) {
        None => {
            output::line("\nThe cluster runs already.");
            Ok(())
        }
        Some(node) => Err(Failure::Failed(anyhow!(
            "the cluster runs already, but node {number} does not: \
             `scripts/cluster restart {number}` or `cont {number}`, or `down` and then `up`",
            number = node.number()
        ))),
    }
}

async fn announce(state: &State, took: Duration) -> Result<(), Failure> {
    let nodes = status::observe(state).await;
    output::line(status::table(&nodes).trim_end());
    let Some(first) = state.layout.node(1) else {
        return Ok(());
    };
    output::line(format!(
        "\n{} nodes ready in {:.1} s.",
        nodes.len(),
        took.as_secs_f64()
    ));
    output::line(format!("API: http://{}/v1/status", first.api()));
    output::line(format!(
        "Logs and data: {}",
        state.layout.directory().display()
    ));
    output::line(format!(
        "\nTry:\n  curl http://{proxy}/whoami\n  curl -X PUT http://{api}/v1/data/users/u1 \
         -H 'content-type: application/json' -d '{{\"name\":\"梁鑫\"}}'\n  scripts/cluster kill 2",
        proxy = first.proxy(),
        api = first.api(),
    ));
    Ok(())
}

/// Deletes the directories of all nodes, also of a larger cluster before.
fn delete_nodes(directory: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).context("cannot list the old cluster")? {
        let path = entry.context("cannot list the old cluster")?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("node-") && path.is_dir() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}
