//! `status`, `env` and `logs`: looking without touching.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::process::{Activity, ProcessId};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;
use crate::probe::Probe;
use crate::state::{Processes, State};

/// A node as it is at this moment.
pub(crate) struct NodeStatus {
    layout: NodeLayout,
    processes: Processes,
    /// Its state as its agent sees it, and how many members that sees active.
    view: Result<(String, usize), String>,
    ready: Result<(), String>,
}

impl NodeStatus {
    pub(crate) fn number(&self) -> u16 {
        self.layout.number()
    }

    /// Whether both processes run and the agent takes traffic.
    pub(crate) fn is_up(&self) -> bool {
        let runs = |process| activity(process) == Some(Activity::Running);
        runs(self.processes.agent) && runs(self.processes.app) && self.ready.is_ok()
    }

    fn state(&self) -> String {
        match (activity(self.processes.agent), &self.view) {
            (None, _) => "down".to_owned(),
            (Some(Activity::Stopped), _) => "paused".to_owned(),
            (_, Err(_)) => "no answer".to_owned(),
            (_, Ok((state, active))) => format!("{state}, sees {active} active"),
        }
    }

    fn json(&self) -> Value {
        let url = |address| format!("http://{address}");
        let process = |process: Option<ProcessId>| json!({ "pid": alive(process).map(|process| process.pid), "state": described(process) });
        json!({
            "node": self.number(),
            "id": self.layout.id(),
            "agent": process(self.processes.agent),
            "app": process(self.processes.app),
            "peer_address": self.layout.peer(),
            "api_url": url(self.layout.api()),
            "proxy_url": url(self.layout.proxy()),
            "app_url": url(self.layout.app()),
            "directory": self.layout.directory(),
            "ready": self.ready.is_ok(),
            "not_ready_because": self.ready.as_ref().err(),
            "state": self.view.as_ref().ok().map(|(state, _)| state),
            "members_active": self.view.as_ref().ok().map(|(_, active)| active),
        })
    }
}

/// `status`: exit code 0 if every node is up, 1 if one is not.
pub(crate) async fn status(directory: &Path, as_json: bool) -> Result<(), Failure> {
    let state = State::load(directory)?;
    let nodes = observe(&state).await;
    match as_json {
        true => {
            let nodes: Vec<Value> = nodes.iter().map(NodeStatus::json).collect();
            let report = json!({ "directory": directory, "nodes": nodes });
            output::line(serde_json::to_string_pretty(&report)?);
        }
        false => output::line(table(&nodes).trim_end()),
    }
    match nodes.iter().find(|node| !node.is_up()) {
        None => Ok(()),
        Some(node) => Err(Failure::Failed(anyhow!("node {} is not up", node.number()))),
    }
}

/// Asks every node.
pub(crate) async fn observe(state: &State) -> Vec<NodeStatus> {
    let probe = Probe::new();
    let ask = |layout: NodeLayout| {
        let probe = &probe;
        let processes = state.processes(&layout);
        async move {
            let (ready, view) = tokio::join!(probe.ready(&layout), probe.view(&layout));
            let view = view.map(|view| (view.own_state, view.active));
            NodeStatus {
                layout,
                processes,
                view,
                ready,
            }
        }
    };
    futures_util::future::join_all(state.layout.iter().map(ask)).await
}

/// All nodes as a table.
pub(crate) fn table(nodes: &[NodeStatus]) -> String {
    let heading = [
        "NODE", "AGENT", "SERVER", "PEER", "API", "PROXY", "APP", "STATE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(nodes.iter().map(|node| {
        let state = node.state();
        vec![
            node.layout.id(),
            described(node.processes.agent),
            described(node.processes.app),
            node.layout.peer().to_string(),
            format!("http://{}", node.layout.api()),
            format!("http://{}", node.layout.proxy()),
            format!("http://{}", node.layout.app()),
            if node.is_up() {
                output::good(&state)
            } else {
                output::bad(&state)
            },
        ]
    }));
    output::table(&rows)
}

/// `env`: lines that a shell can evaluate.
pub(crate) fn environment(directory: &Path) -> Result<(), Failure> {
    let state = State::load(directory)?;
    output::line(format!(
        "BASIC_AGENT={}",
        shell_word(&state.binaries.agent())
    ));
    for node in state.layout.iter() {
        let number = node.number();
        let processes = state.processes(&node);
        let pid = |process| alive(process).map_or(String::new(), |process| process.pid.to_string());
        output::line(format!("API_{number}=http://{}", node.api()));
        output::line(format!("PROXY_{number}=http://{}", node.proxy()));
        output::line(format!("APP_{number}=http://{}", node.app()));
        output::line(format!("PEER_{number}={}", node.peer()));
        output::line(format!(
            "DATA_{number}={}",
            shell_word(&node.data_directory())
        ));
        output::line(format!("PID_{number}={}", pid(processes.agent)));
        output::line(format!("APP_PID_{number}={}", pid(processes.app)));
    }
    Ok(())
}

/// `logs N`: also of a cluster that was taken down.
pub(crate) fn logs(directory: &Path, number: u16, follow: bool, app: bool) -> Result<(), Failure> {
    let layout = match State::find(directory)? {
        Some(state) => state.layout,
        None => Layout::new(directory.to_owned(), 1, number)
            .map_err(|error| Failure::Usage(error.to_string()))?,
    };
    let node = layout.node(number).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no node {number}: the cluster has {}",
            layout.len()
        ))
    })?;
    let log = if app {
        node.app_log()
    } else {
        node.agent_log()
    };
    let mut file = File::open(&log).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NotRunning(format!("there is no {}", log.display())),
        _ => anyhow::Error::from(error)
            .context(format!("cannot read {}", log.display()))
            .into(),
    })?;
    if follow {
        // `exec` returns only if it failed.
        let error = Command::new("tail")
            .args(["-n", "100", "-F"])
            .arg(&log)
            .exec();
        return Err(Failure::Failed(
            anyhow::Error::from(error).context("cannot run tail"),
        ));
    }
    match io::copy(&mut file, &mut io::stdout()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error)
            .context("cannot print the log")
            .map_err(Failure::Failed),
        _ => Ok(()),
    }
}

fn activity(process: Option<ProcessId>) -> Option<Activity> {
    process?.activity()
}

fn alive(process: Option<ProcessId>) -> Option<ProcessId> {
    process.filter(|process| process.is_alive())
}

fn described(process: Option<ProcessId>) -> String {
    match (process, activity(process)) {
        (Some(process), Some(Activity::Running)) => process.pid.to_string(),
        (Some(process), Some(Activity::Stopped)) => format!("{} paused", process.pid),
        _ => "down".to_owned(),
    }
}

/// A path as one word of a POSIX shell.
fn shell_word(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_stays_one_shell_word() {
        assert_eq!(shell_word(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
