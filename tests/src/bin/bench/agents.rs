//! Our own contestant: agents, each beside a backend that costs next to nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::node::agent_command;
use basic_tests::harness::wait::wait_until;
use http::Method;
use serde_json::Value;

use crate::backend::Backend;
use crate::detection::Detector;
use crate::lines::Lines;
use crate::replication::Store;
use crate::service::Contestant;
use crate::sightings::Watch;
use crate::workspace::Workspace;

/// The size of what the proxied app answers.
pub(crate) const BODY_BYTES: usize = 1024;

const READY_MAX: Duration = Duration::from_secs(60);
const FAILED_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
const COLLECTION: &str = "bench";

/// A cluster of agents that is ready.
pub(crate) struct Agents {
    client: Client,
    binaries: Binaries,
    layout: Layout,
    agents: Vec<Contestant>,
    _backends: Vec<Backend>,
}

impl Agents {
    /// A new cluster, when every agent is ready and sees all as active.
    pub(crate) async fn start(
        workspace: &Workspace,
        name: &str,
        nodes: u16,
    ) -> anyhow::Result<Agents> {
        let binaries = Binaries::locate()?;
        let layout = workspace.layout(name, nodes)?;
        layout
            .write()
            .context("cannot write the agents' configuration")?;
        let mut backends = Vec::new();
        let mut agents = Vec::new();
        for node in layout.iter() {
            backends.push(Backend::start(node.app(), BODY_BYTES).await?);
            agents.push(start_agent(&binaries, &node)?);
        }
        let client = Client::default();
        let cluster = Agents {
            client,
            binaries,
            layout,
            agents,
            _backends: backends,
        };
        for observer in 0..cluster.agents.len() {
            for node in 0..cluster.agents.len() {
                cluster.wait_active(observer, node).await?;
            }
        }
        Ok(cluster)
    }

    /// What `basic-agent --version` says.
    pub(crate) fn version() -> anyhow::Result<String> {
        let agent = Binaries::locate()?.agent();
        let output = std::process::Command::new(&agent)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", agent.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .split_whitespace()
            .next_back()
            .unwrap_or_default()
            .to_owned())
    }

    /// Where the proxy of the first node listens.
    pub(crate) fn proxy(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.node(0)?.proxy())
    }

    /// Where the apps listen.
    pub(crate) fn apps(&self) -> Vec<SocketAddr> {
        self.layout.iter().map(|node| node.app()).collect()
    }

    /// Processor time of the first agent.
    pub(crate) fn first_processor_time(&self) -> anyhow::Result<Duration> {
        self.agents
            .first()
            .context("there is no agent")?
            .processor_time()
    }

    async fn wait_active(&self, observer: usize, node: usize) -> anyhow::Result<()> {
        let observed = self.node(node)?.id();
        let ready = format!("http://{}/readyz", self.node(observer)?.api());
        wait_until(
            format!("all agents to see {observed}"),
            READY_MAX,
            || async {
                self.agents[observer].check_alive("basic-agent")?;
                let answer = self.client.get(&ready).await?;
                anyhow::ensure!(answer.status == 200, "{ready} answers {}", answer.status);
                let state = self.state(observer, &observed).await?;
                anyhow::ensure!(state == "active", "{observed} is {state}");
                Ok(())
            },
        )
        .await?;
        Ok(())
    }

    /// The state of a member as one agent sees it; empty if it does not know it.
    async fn state(&self, observer: usize, member: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/v1/members", self.node(observer)?.api());
        let members = self.client.get(&url).await?.json();
        let members = members["members"]
            .as_array()
            .context("no list of members")?;
        let found = members.iter().find(|candidate| candidate["id"] == member);
        let state = found.and_then(|found| found["state"].as_str());
        Ok(state.unwrap_or_default().to_owned())
    }

    fn node(&self, index: usize) -> anyhow::Result<NodeLayout> {
        self.layout
            .iter()
            .nth(index)
            .context("there is no such node")
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.agents.len()).filter(move |other| *other != node)
    }
}

impl Store for Agents {
    async fn put(&self, key: &str, value: &Value) -> anyhow::Result<()> {
        let url = format!("http://{}/v1/data/{COLLECTION}/{key}", self.node(0)?.api());
        let answer = self.client.put_json(&url, value).await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "answered {}: {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }

    async fn watches(&self) -> anyhow::Result<Vec<Watch>> {
        let target = format!("/v1/watch?collection={COLLECTION}");
        let mut watches = Vec::new();
        for node in self.layout.iter().skip(1) {
            let lines = Lines::open(node.api(), Method::GET, &target, String::new()).await?;
            watches.push(Watch { lines, keys });
        }
        Ok(watches)
    }

    fn processor_time(&self) -> anyhow::Result<Duration> {
        self.agents.iter().map(Contestant::processor_time).sum()
    }
}

impl Detector for Agents {
    async fn detection_time(&mut self, node: usize) -> anyhow::Result<Duration> {
        let id = self.node(node)?.id();
        let killed = self.agents[node].kill()?;
        for observer in self.others(node) {
            while self.state(observer, &id).await? != "failed" {
                anyhow::ensure!(killed.elapsed() < FAILED_MAX, "nobody noticed a dead agent");
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        let took = Instant::now() - killed;

        self.agents[node] = start_agent(&self.binaries, &self.node(node)?)?;
        for observer in self.others(node) {
            self.wait_active(observer, node).await?;
            self.wait_active(node, observer).await?;
        }
        Ok(took)
    }
}

fn start_agent(binaries: &Binaries, node: &NodeLayout) -> anyhow::Result<Contestant> {
    Contestant::start(&mut agent_command(binaries, node), &node.agent_log())
}

/// The key in one line of a watch, if it is the line of an event's data.
fn keys(line: &[u8]) -> anyhow::Result<Vec<String>> {
    let Some(data) = line.strip_prefix(b"data:") else {
        return Ok(Vec::new());
    };
    let event: Value = serde_json::from_slice(data)?;
    let key = event["key"].as_str().context("an event without a key")?;
    Ok(vec![key.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_from_the_data_of_an_event_only() {
        let line = br#"data: {"collection":"bench","key":"k1","version":"v","op":"put"}"#;
        assert_eq!(keys(line).unwrap(), ["k1"]);
        for line in [&b"id: 17"[..], b": keep-alive", b"event: data", b""] {
            assert!(keys(line).unwrap().is_empty());
        }
        assert!(keys(b"data: {}").is_err());
    }
}
