//! `kill`, `stop`, `cont` and `leave`: what can happen to a node.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use basic_tests::harness::process::{ProcessId, Signal};

use crate::arguments::Target;
use crate::failure::Failure;
use crate::state::{self, State};
use crate::{down, output};

/// The kernel ends a killed process at once, unless the disk holds it up.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long an agent may take to leave and drain.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// `kill N`: SIGKILL, and wait until they are gone.
pub(crate) async fn kill(directory: &Path, target: &Target) -> Result<(), Failure> {
    let killed = signal(directory, target, Signal::KILL, "killed")?;
    if !down::gone(&killed, KILL_LIMIT).await {
        return Err(Failure::Failed(anyhow!("a killed process is still there")));
    }
    Ok(())
}

/// `stop N`: SIGSTOP.
pub(crate) async fn stop(directory: &Path, target: &Target) -> Result<(), Failure> {
    signal(directory, target, Signal::STOP, "paused").map(drop)
}

/// `cont N`: SIGCONT.
pub(crate) async fn cont(directory: &Path, target: &Target) -> Result<(), Failure> {
    signal(directory, target, Signal::CONT, "continued").map(drop)
}

/// `leave N`: the agent's own orderly leave, and wait until it has ended.
pub(crate) async fn leave(directory: &Path, number: u16) -> Result<(), Failure> {
    let state = State::load(directory)?;
    let _lock = state::lock(directory)?;
    let (node, processes) = state.node(number)?;
    let Some(agent) = processes.agent.filter(|agent| agent.is_alive()) else {
        return Err(Failure::NotRunning(format!(
            "the agent of node {number} does not run"
        )));
    };
    let status = tokio::process::Command::new(state.binaries.agent())
        .args(["leave", "--api", &format!("http://{}", node.api())])
        .status()
        .await
        .context("cannot run basic-agent leave")?;
    if !status.success() {
        return Err(Failure::Failed(anyhow!(
            "basic-agent leave ended with {status}"
        )));
    }
    if !down::gone(&[agent], LEAVE_LIMIT).await {
        return Err(Failure::Failed(anyhow!(
            "the agent of node {number} has left, but still runs after {} s",
            LEAVE_LIMIT.as_secs()
        )));
    }
    output::line(format!(
        "node {number}: left; `scripts/cluster restart {number}` brings it back"
    ));
    Ok(())
}

/// Signals what is meant and runs, and tells which. Returns those signalled.
fn signal(
    directory: &Path,
    target: &Target,
    signal: Signal,
    done: &str,
) -> Result<Vec<ProcessId>, Failure> {
    let state = State::load(directory)?;
    let _lock = state::lock(directory)?;
    let (node, processes) = state.node(target.node)?;
    let number = node.number();
    let mut reached = Vec::new();
    // The agent first: a server that dies before it looks like two failures.
    for (name, process, meant) in [
        ("agent", processes.agent, !target.app),
        ("server", processes.app, !target.agent),
    ] {
        let Some(process) = process.filter(|_| meant) else {
            continue;
        };
        let sent = process
            .signal(signal)
            .with_context(|| format!("cannot signal the {name} of node {number}"))?;
        if sent {
            output::line(format!(
                "node {number}: {name} (pid {}) {done}",
                process.pid
            ));
            reached.push(process);
        }
    }
    if reached.is_empty() {
        return Err(Failure::NotRunning(format!(
            "nothing of that runs on node {number}; `scripts/cluster restart {number}` starts it"
        )));
    }
    Ok(reached)
}
