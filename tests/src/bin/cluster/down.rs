//! `down`: agents leave in good order, then the servers stop.

use std::path::Path;
use std::time::{Duration, Instant};

use basic_tests::harness::process::{ProcessId, Signal};

use crate::failure::Failure;
use crate::output;
use crate::state::{self, State};

/// How long agents may take to leave and drain after SIGTERM.
const AGENT_GRACE: Duration = Duration::from_secs(15);
/// How long servers may take to finish their requests.
const APP_GRACE: Duration = Duration::from_secs(8);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stops everything and forgets the cluster; logs and data stay.
pub(crate) async fn down(directory: &Path) -> Result<(), Failure> {
    // Without a cluster there is nothing to lock, and no directory to make.
    State::load(directory)?;
    let _lock = state::lock(directory)?;
    let state = State::load(directory)?;
    stop_all(&state).await;
    state.delete()?;
    output::line(format!(
        "stopped {} nodes; logs and data stay in {}",
        state.layout.len(),
        directory.display()
    ));
    Ok(())
}

/// Ends all processes of the cluster, the agents first: a server that goes
/// before its agent would look like a failure to the others.
pub(crate) async fn stop_all(state: &State) {
    let processes: Vec<_> = state
        .layout
        .iter()
        .map(|node| state.processes(&node))
        .collect();
    let agents: Vec<_> = processes.iter().filter_map(|node| node.agent).collect();
    let apps: Vec<_> = processes.iter().filter_map(|node| node.app).collect();
    terminate("agent", &agents, AGENT_GRACE).await;
    terminate("server", &apps, APP_GRACE).await;
}

async fn terminate(kind: &str, processes: &[ProcessId], grace: Duration) {
    for process in processes {
        send(*process, Signal::TERM);
        // One that is paused would never see it.
        send(*process, Signal::CONT);
    }
    if gone(processes, grace).await {
        return;
    }
    for process in processes.iter().filter(|process| process.is_alive()) {
        let seconds = grace.as_secs();
        output::note(format!(
            "the {kind} with pid {} did not stop within {seconds} s and is killed",
            process.pid
        ));
        send(*process, Signal::KILL);
    }
    gone(processes, grace).await;
}

fn send(process: ProcessId, signal: Signal) {
    if let Err(error) = process.signal(signal) {
        output::note(format!(
            "cannot signal the process {}: {error}",
            process.pid
        ));
    }
}

/// Waits until none is alive; false if one still is after `limit`.
pub(crate) async fn gone(processes: &[ProcessId], limit: Duration) -> bool {
    let start = Instant::now();
    while processes.iter().any(|process| process.is_alive()) {
        if start.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    true
}
