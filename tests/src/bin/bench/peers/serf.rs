//! serf: gossip membership with SWIM failure detection.
//!
//! It comes with named timings; `lan` is the default, `local` the fastest. All
//! other settings are defaults. What it sees is read from its log, which has a
//! line for each event as it happens: asking it by its command line would cost
//! a process, and some ten milliseconds, for every question.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::wait::wait_until;

use crate::detection::Detector;
use crate::peers::Program;
use crate::service::Contestant;
use crate::workspace::Workspace;

const READY_MAX: Duration = Duration::from_secs(60);
const FAILED_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A cluster of serf agents.
pub(crate) struct Serf {
    layout: Layout,
    profile: &'static str,
    agents: Vec<Contestant>,
}

impl Serf {
    /// Agents that all know each other.
    pub(crate) async fn start(
        workspace: &Workspace,
        profile: &'static str,
        nodes: u16,
    ) -> anyhow::Result<Serf> {
        let layout = workspace.layout(&format!("serf-{profile}"), nodes)?;
        let mut serf = Serf {
            layout,
            profile,
            agents: Vec::new(),
        };
        for node in serf.layout.iter() {
            let agent = serf.spawn(&node)?;
            serf.agents.push(agent);
        }
        for observer in 0..serf.agents.len() {
            for node in 0..serf.agents.len() {
                serf.wait_joined(observer, node, 0).await?;
            }
        }
        Ok(serf)
    }

    fn spawn(&self, node: &NodeLayout) -> anyhow::Result<Contestant> {
        let program = Program::Serf.find().context("serf is not installed")?;
        let mut command = Command::new(program);
        command
            .arg("agent")
            .arg(format!("-node={}", node.id()))
            .arg(format!("-bind={}", node.peer()))
            .arg(format!("-rpc-addr={}", node.api()))
            .arg(format!("-profile={}", self.profile))
            .args(["-log-level=info", "-retry-interval=1s"]);
        let others = self
            .layout
            .iter()
            .filter(|other| other.number() != node.number());
        for other in others.take(2) {
            command.arg(format!("-retry-join={}", other.peer()));
        }
        let log = self.layout.directory().join(format!("{}.log", node.id()));
        // A restarted agent must not read the events of the one before.
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        Contestant::start(&mut command, &log)
    }

    /// Waits until `observer` has said after `from` bytes of its log that `node` is there.
    async fn wait_joined(&self, observer: usize, node: usize, from: usize) -> anyhow::Result<()> {
        let needle = event("EventMemberJoin", node);
        wait_until(
            format!("serf to see n{} join", node + 1),
            READY_MAX,
            || async {
                self.agents[observer].check_alive("serf")?;
                let output = self.agents[observer].output();
                anyhow::ensure!(
                    output.get(from..).unwrap_or("").contains(&needle),
                    "not seen yet"
                );
                Ok(())
            },
        )
        .await?;
        Ok(())
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.agents.len()).filter(move |other| *other != node)
    }
}

impl Detector for Serf {
    async fn detection_time(&mut self, node: usize) -> anyhow::Result<Duration> {
        let before: Vec<usize> = self
            .agents
            .iter()
            .map(|agent| agent.output().len())
            .collect();
        let needle = event("EventMemberFailed", node);
        let killed = self.agents[node].kill()?;
        for observer in self.others(node) {
            loop {
                let output = self.agents[observer].output();
                if output
                    .get(before[observer]..)
                    .unwrap_or("")
                    .contains(&needle)
                {
                    break;
                }
                anyhow::ensure!(
                    killed.elapsed() < FAILED_MAX,
                    "serf did not notice a dead agent"
                );
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        let took = Instant::now() - killed;

        let before: Vec<usize> = self
            .agents
            .iter()
            .map(|agent| agent.output().len())
            .collect();
        let layout = self
            .layout
            .iter()
            .nth(node)
            .context("there is no such node")?;
        self.agents[node] = self.spawn(&layout)?;
        for observer in self.others(node) {
            self.wait_joined(observer, node, before[observer]).await?;
            self.wait_joined(node, observer, 0).await?;
        }
        Ok(took)
    }
}

/// How the log tells of an event at a node, up to its address.
fn event(kind: &str, node: usize) -> String {
    format!("{kind}: n{} ", node + 1)
}
