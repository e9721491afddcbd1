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
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;

use crate::detection::{Group, Leave};
use crate::peers::Program;
use crate::service::Contestant;
use crate::workspace::Workspace;

const READY_MAX: Duration = Duration::from_secs(60);
/// By when an event has to be seen by all.
const SEEN_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A cluster of serf agents.
pub(crate) struct Serf {
    layout: Layout,
    profile: &'static str,
    agents: Vec<Contestant>,
    cold_start: Duration,
}

impl Serf {
    /// Agents that all know each other.
    pub(crate) async fn start(
        workspace: &Workspace,
        name: &str,
        profile: &'static str,
        nodes: u16,
    ) -> anyhow::Result<Serf> {
        let layout = workspace.layout(name, nodes)?;
        let mut serf = Serf {
            layout,
            profile,
            agents: Vec::new(),
            cold_start: Duration::ZERO,
        };
        let began = Instant::now();
        for node in serf.layout.iter() {
            let agent = serf.spawn(&node)?;
            serf.agents.push(agent);
        }
        for observer in 0..serf.agents.len() {
            for node in 0..serf.agents.len() {
                serf.wait_joined(observer, node, 0).await?;
            }
        }
        serf.cold_start = began.elapsed();
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
    async fn wait_joined(&self, observer: usize, node: usize, from: u64) -> anyhow::Result<()> {
        let needle = event("EventMemberJoin", node);
        wait_until(
            format!("serf to see n{} join", node + 1),
            READY_MAX,
            || async {
                self.agents[observer].check_alive("serf")?;
                let output = self.agents[observer].output_from(from);
                anyhow::ensure!(output.contains(&needle), "not seen yet");
                Ok(())
            },
        )
        .await?;
        Ok(())
    }

    /// How long after `since` each other node had said this, beyond what it had
    /// said before.
    async fn seen_by_others(
        &self,
        node: usize,
        event: &str,
        before: &[u64],
        since: Instant,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut waiting: Vec<usize> = self.others(node).collect();
        let mut seen = Vec::new();
        while !waiting.is_empty() {
            waiting.retain(|observer| {
                let said = self.agents[*observer].output_from(before[*observer]);
                let has_seen = said.contains(event);
                if has_seen {
                    seen.push(since.elapsed());
                }
                !has_seen
            });
            anyhow::ensure!(since.elapsed() < SEEN_MAX, "serf does not tell of {event}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(seen)
    }

    /// Starts a node again, and waits until all is as before.
    async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        let before = self.log_lengths();
        let layout = self.layout.iter().nth(node);
        self.agents[node] = self.spawn(&layout.context("there is no such node")?)?;
        for observer in self.others(node) {
            self.wait_joined(observer, node, before[observer]).await?;
            self.wait_joined(node, observer, 0).await?;
        }
        Ok(())
    }

    fn log_lengths(&self) -> Vec<u64> {
        self.agents.iter().map(Contestant::output_length).collect()
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.agents.len()).filter(move |other| *other != node)
    }
}

impl Group for Serf {
    fn cold_start(&self) -> Duration {
        self.cold_start
    }

    fn processes(&self) -> &[Contestant] {
        &self.agents
    }

    async fn crash(&mut self, node: usize) -> anyhow::Result<Vec<Duration>> {
        let before = self.log_lengths();
        let killed = self.agents[node].kill()?;
        let event = event("EventMemberFailed", node);
        let noticed = self.seen_by_others(node, &event, &before, killed).await?;
        self.restart(node).await?;
        Ok(noticed)
    }

    async fn leave(&mut self, node: usize) -> anyhow::Result<Leave> {
        let before = self.log_lengths();
        // An interrupt means an orderly leave.
        let asked = self.agents[node].signal(Signal::INT)?;
        let event = event("EventMemberLeave", node);
        let seen = self.seen_by_others(node, &event, &before, asked).await?;
        self.restart(node).await?;
        Ok(Leave {
            seen,
            requests: None,
        })
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        for agent in &self.agents {
            let _ = agent.kill();
        }
    }
}

/// How the log tells of an event at a node, up to its address.
fn event(kind: &str, node: usize) -> String {
    format!("{kind}: n{} ", node + 1)
}
