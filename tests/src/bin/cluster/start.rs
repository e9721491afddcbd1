//! Starting the processes of a node, and waiting until it is ready.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use basic_tests::harness::layout::NodeLayout;
use basic_tests::harness::node::{agent_command, app_command};
use basic_tests::harness::process::{Activity, spawn_detached};

use crate::failure::Failure;
use crate::output;
use crate::probe::Probe;
use crate::state::{self, State};

/// How long a node may take until it is ready. Far above what it needs, for
/// machines that are busy with something else.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often a slow start is explained.
const EXPLAIN_EVERY: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when its process has died.
const LAST_LINES: usize = 20;

/// `restart N`: starts whichever of agent and server is down.
pub(crate) async fn restart(directory: &Path, number: u16) -> Result<(), Failure> {
    let mut state = State::load(directory)?;
    let _lock = state::lock(directory)?;
    // Read again: it may have changed while another command held the lock.
    state = State::find(directory)?.unwrap_or(state);
    let (node, before) = state.node(number)?;
    for (name, process) in [("agent", before.agent), ("server", before.app)] {
        if process.and_then(|process| process.activity()) == Some(Activity::Stopped) {
            return Err(Failure::Failed(anyhow!(
                "the {name} of node {number} is paused; go on with `scripts/cluster cont {number}`"
            )));
        }
    }
    let start = Instant::now();
    let started = start_missing(&mut state, &node)?;
    if started.is_empty() {
        output::line(format!("node {number}: agent and server run already"));
        return Ok(());
    }
    let probe = Probe::new();
    let ready = || async {
        probe.ready(&node).await?;
        probe.answers(&node).await
    };
    wait(&state, std::slice::from_ref(&node), ready).await?;
    let took = start.elapsed().as_secs_f64();
    output::line(format!(
        "node {number}: {} started, ready in {took:.1} s",
        started.join(" and ")
    ));
    Ok(())
}

/// Starts what is down of a node, and remembers it. Returns what was started.
pub(crate) fn start_missing(
    state: &mut State,
    node: &NodeLayout,
) -> Result<Vec<&'static str>, Failure> {
    let mut processes = state.processes(node);
    let mut started = Vec::new();
    if !processes.app.is_some_and(|process| process.is_alive()) {
        let mut command = app_command(&state.binaries, node);
        let app = spawn_detached(&mut command, &node.app_log()).with_context(|| {
            format!("cannot start {}", state.binaries.sample_server().display())
        })?;
        processes.app = Some(app);
        started.push("server");
    }
    if !processes.agent.is_some_and(|process| process.is_alive()) {
        let mut command = agent_command(&state.binaries, node);
        let agent = spawn_detached(&mut command, &node.agent_log())
            .with_context(|| format!("cannot start {}", state.binaries.agent().display()))?;
        processes.agent = Some(agent);
        started.push("agent");
    }
    state.set_processes(node, processes);
    state.save()?;
    Ok(started)
}

/// Waits until `ready` succeeds. Fails at once when a process of `nodes` has
/// ended, and shows what it said last.
pub(crate) async fn wait<F>(
    state: &State,
    nodes: &[NodeLayout],
    mut ready: impl FnMut() -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), String>>,
{
    let start = Instant::now();
    let mut explain_at = EXPLAIN_EVERY;
    loop {
        let Err(not_yet) = ready().await else {
            return Ok(());
        };
        check_alive(state, nodes)?;
        if start.elapsed() >= READY_LIMIT {
            return Err(Failure::Failed(anyhow!(
                "not ready after {} s: {not_yet}; see `scripts/cluster logs N`",
                READY_LIMIT.as_secs()
            )));
        }
        if start.elapsed() >= explain_at {
            output::note(format!("still waiting: {not_yet}"));
            explain_at += EXPLAIN_EVERY;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn check_alive(state: &State, nodes: &[NodeLayout]) -> Result<(), Failure> {
    for node in nodes {
        let processes = state.processes(node);
        let watched = [
            ("agent", processes.agent, node.agent_log()),
            ("server", processes.app, node.app_log()),
        ];
        for (name, process, log) in watched {
            if process.is_some_and(|process| !process.is_alive()) {
                return Err(Failure::Failed(anyhow!(
                    "the {name} of node {} ended during its start. The last lines of {}:\n{}",
                    node.number(),
                    log.display(),
                    last_lines(&log)
                )));
            }
        }
    }
    Ok(())
}

fn last_lines(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LAST_LINES);
    lines
        .iter()
        .skip(first)
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
