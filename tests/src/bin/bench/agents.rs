//! Our own contestant: agents, each beside a backend that costs next to nothing.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::load::Load;
use basic_tests::harness::node::agent_command;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use http::Method;
use serde::Deserialize;

use crate::backend::Backend;
use crate::detection::{Group, Leave, Requests};
use crate::exchange::Connections;
use crate::lines::Lines;
use crate::replication::Store;
use crate::service::Contestant;
use crate::sightings::Watch;
use crate::views::Views;
use crate::workspace::Workspace;

/// The size of what the proxied app answers.
pub(crate) const BODY_BYTES: usize = 1024;

const READY_MAX: Duration = Duration::from_secs(60);
/// Requests a second through all proxies together while a node leaves.
const LEAVE_LOAD: u32 = 2000;
/// How long the load goes on before and after.
const LEAVE_MARGIN: Duration = Duration::from_secs(1);
const COLLECTION: &str = "bench";

/// A cluster of agents that is ready.
pub(crate) struct Agents {
    client: Arc<Client>,
    writes: Connections,
    /// Where the APIs listen.
    apis: Vec<SocketAddr>,
    binaries: Binaries,
    layout: Layout,
    agents: Vec<Contestant>,
    cold_start: Duration,
    _backends: Vec<Backend>,
}

impl Agents {
    /// A new cluster, when every agent is ready and sees all as active.
    pub(crate) async fn start(
        workspace: &Workspace,
        name: &str,
        nodes: u16,
    ) -> anyhow::Result<Agents> {
        Agents::start_with(workspace, name, nodes, "").await
    }

    /// The same, with these lines at the end of every agent's settings.
    pub(crate) async fn start_with(
        workspace: &Workspace,
        name: &str,
        nodes: u16,
        settings: &str,
    ) -> anyhow::Result<Agents> {
        let binaries = Binaries::locate()?;
        let layout = workspace.layout(name, nodes)?;
        layout
            .write()
            .context("cannot write the agents' configuration")?;
        let mut backends = Vec::new();
        for node in layout.iter() {
            let mut file = File::options().append(true).open(node.config_file())?;
            file.write_all(settings.as_bytes())?;
            backends.push(Backend::start(node.app(), BODY_BYTES).await?);
        }
        let began = Instant::now();
        let agents = layout.iter().map(|node| start_agent(&binaries, &node));
        let mut cluster = Agents {
            client: Arc::default(),
            writes: Connections::default(),
            apis: layout.iter().map(|node| node.api()).collect(),
            agents: agents.collect::<anyhow::Result<_>>()?,
            binaries,
            layout,
            cold_start: Duration::ZERO,
            _backends: backends,
        };
        cluster.wait_all_active().await?;
        cluster.cold_start = began.elapsed();
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

    /// Waits until every agent is ready and sees all as active.
    async fn wait_all_active(&self) -> anyhow::Result<()> {
        for (node, agent) in self.layout.iter().zip(&self.agents) {
            let (ready, members) = (
                format!("http://{}/readyz", node.api()),
                format!("http://{}/v1/members", node.api()),
            );
            let all_active = || async {
                agent.check_alive("basic-agent")?;
                let answer = self.client.get(&ready).await?;
                anyhow::ensure!(answer.status == 200, "{ready} answers {}", answer.status);
                let answer = self.client.get(&members).await?.json();
                let members = answer["members"].as_array();
                let members = members.into_iter().flatten();
                let active = members.filter(|member| member["state"] == "active").count();
                let all = self.agents.len();
                anyhow::ensure!(active == all, "{active} of {all} are active");
                anyhow::Ok(())
            };
            let awaited = format!("{} to see all active", node.id());
            wait_until(awaited, READY_MAX, all_active).await?;
        }
        Ok(())
    }

    /// Begins to look for a node in this state, by all other nodes.
    fn look(&self, node: usize, state: &'static str) -> anyhow::Result<Views> {
        let id = self.node(node)?.id();
        let others = self.layout.iter().filter(|other| other.id() != id);
        let urls = others.map(|other| format!("http://{}/v1/members/{id}", other.api()));
        Ok(Views::look(&self.client, urls.collect(), state))
    }

    /// Starts the agent of a node again, and waits until all is as before.
    async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.agents[node] = start_agent(&self.binaries, &self.node(node)?)?;
        self.wait_all_active().await
    }

    /// Ends the agent of a node, and waits until it is gone.
    pub(crate) async fn stop(&mut self, node: usize) -> anyhow::Result<()> {
        self.agents[node].signal(Signal::TERM)?;
        let gone = || async {
            let alive = self.agents[node].check_alive("basic-agent").is_ok();
            anyhow::ensure!(!alive, "it is still there");
            anyhow::Ok(())
        };
        wait_until("an agent to end", READY_MAX, gone).await?;
        Ok(())
    }

    /// Starts the agent of a node that has ended.
    pub(crate) fn start_again(&mut self, node: usize) -> anyhow::Result<()> {
        self.agents[node] = start_agent(&self.binaries, &self.node(node)?)?;
        Ok(())
    }

    /// Where the API of a node listens.
    pub(crate) fn api(&self, node: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.node(node)?.api())
    }

    /// Where a node keeps its data.
    pub(crate) fn data_directory(&self, node: usize) -> anyhow::Result<PathBuf> {
        Ok(self.node(node)?.data_directory())
    }

    /// Bytes of the memory of a node's agent that are resident.
    pub(crate) fn resident(&self, node: usize) -> anyhow::Result<u64> {
        self.agents[node].resident()
    }

    /// Processor time of a node's agent since its start.
    pub(crate) fn processor_time_of(&self, node: usize) -> anyhow::Result<Duration> {
        self.agents[node].processor_time()
    }

    fn node(&self, index: usize) -> anyhow::Result<NodeLayout> {
        self.layout
            .iter()
            .nth(index)
            .context("there is no such node")
    }
}

impl Store for Agents {
    async fn put(&self, node: usize, key: &str, document: String) -> anyhow::Result<()> {
        let address = *self.apis.get(node).context("there is no such node")?;
        let target = format!("/v1/data/{COLLECTION}/{key}");
        self.writes.send(address, "PUT", &target, &document).await
    }

    async fn watch(&self, node: usize) -> anyhow::Result<Watch> {
        let target = format!("/v1/watch?collection={COLLECTION}");
        let lines = Lines::open(self.api(node)?, Method::GET, &target, String::new()).await?;
        Ok(Watch { node, lines, keys })
    }

    fn processor_time(&self) -> anyhow::Result<Duration> {
        self.agents.iter().map(Contestant::processor_time).sum()
    }
}

impl Group for Agents {
    fn cold_start(&self) -> Duration {
        self.cold_start
    }

    fn processes(&self) -> &[Contestant] {
        &self.agents
    }

    async fn crash(&mut self, node: usize) -> anyhow::Result<Vec<Duration>> {
        let killed = self.agents[node].kill()?;
        let noticed = self.look(node, "failed")?.since(killed).await?;
        self.restart(node).await?;
        Ok(noticed)
    }

    async fn leave(&mut self, node: usize) -> anyhow::Result<Leave> {
        let others = self.layout.iter().enumerate();
        let others = others.filter(|(index, _)| *index != node);
        let proxies: Vec<SocketAddr> = others.map(|(_, other)| other.proxy()).collect();
        let rate = LEAVE_LOAD / u32::try_from(proxies.len())?.max(1);
        let loads = proxies.iter().map(|proxy| {
            let load = Load::get(&format!("http://{proxy}/"))?;
            anyhow::Ok(load.per_second(rate).start())
        });
        let loads = loads.collect::<anyhow::Result<Vec<_>>>()?;
        tokio::time::sleep(LEAVE_MARGIN).await;

        let id = self.node(node)?.id();
        let looking = self.look(node, "left")?;
        let url = format!("http://{}/v1/members/{id}", self.node(node)?.api());
        let asked = Instant::now();
        let answer = self.client.delete(&url).await?;
        anyhow::ensure!(
            answer.status.is_success(),
            "{id} does not leave: {}",
            answer.text()
        );
        let seen = looking.since(asked).await?;

        tokio::time::sleep(LEAVE_MARGIN).await;
        let mut requests = Requests::default();
        for load in loads {
            let report = load.stop().await;
            requests.sent += report.outcomes.len();
            requests.lost += report.failures().len();
        }
        self.restart(node).await?;
        Ok(Leave {
            seen,
            requests: Some(requests),
        })
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        // All at once: in order, each would wait for the others to know.
        for agent in &self.agents {
            let _ = agent.kill();
        }
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
    // The rest of it is passed over: what reads should not be what is measured.
    #[derive(Deserialize)]
    struct Event {
        key: String,
    }
    let event: Event = serde_json::from_slice(data)?;
    Ok(vec![event.key])
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
