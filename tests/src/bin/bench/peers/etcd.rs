//! etcd: a key-value store replicated by Raft.
//!
//! A write is acknowledged when a majority has it on disk, and goes through the
//! leader, so that node comes first here: the writes then take the shortest way
//! that etcd has. It is spoken to in JSON over HTTP (its gRPC gateway), as ours
//! is. All settings are its defaults.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::exchange::Connections;
use crate::lines::Lines;
use crate::peers::Program;
use crate::replication::Store;
use crate::service::Contestant;
use crate::sightings::Watch;
use crate::workspace::Workspace;

const READY_MAX: Duration = Duration::from_secs(30);

/// A cluster of etcd.
pub(crate) struct Etcd {
    client: Client,
    writes: Connections,
    members: Vec<Contestant>,
    /// The leader's first.
    addresses: Vec<SocketAddr>,
}

impl Etcd {
    /// A new cluster that has a leader.
    pub(crate) async fn start(
        workspace: &Workspace,
        name: &str,
        nodes: u16,
    ) -> anyhow::Result<Etcd> {
        let program = Program::Etcd.find().context("etcd is not installed")?;
        let layout = workspace.layout(name, nodes)?;
        let url = |address: SocketAddr| format!("http://{address}");
        let members = layout
            .iter()
            .map(|node| format!("{}={}", node.id(), url(node.peer())));
        let initial_cluster = members.collect::<Vec<_>>().join(",");
        let mut members = Vec::new();
        for node in layout.iter() {
            let mut command = Command::new(&program);
            command
                .args(["--name", &node.id()])
                .arg("--data-dir")
                .arg(node.directory())
                .args(["--listen-peer-urls", &url(node.peer())])
                .args(["--initial-advertise-peer-urls", &url(node.peer())])
                .args(["--listen-client-urls", &url(node.api())])
                .args(["--advertise-client-urls", &url(node.api())])
                .args(["--initial-cluster", &initial_cluster])
                .args(["--initial-cluster-token", name])
                .args(["--logger", "zap", "--log-level", "warn"]);
            let log = layout.directory().join(format!("{}.log", node.id()));
            members.push(Contestant::start(&mut command, &log)?);
        }
        let addresses = layout.iter().map(|node| node.api()).collect();
        let mut etcd = Etcd {
            client: Client::default(),
            writes: Connections::default(),
            members,
            addresses,
        };
        etcd.leader_first().await?;
        Ok(etcd)
    }

    async fn leader_first(&mut self) -> anyhow::Result<()> {
        let leader = wait_until("etcd to elect a leader", READY_MAX, || async {
            for member in &self.members {
                member.check_alive("etcd")?;
            }
            let mut leader = None;
            for (index, address) in self.addresses.iter().enumerate() {
                let url = format!("http://{address}/v3/maintenance/status");
                let status = self.client.post_json(&url, &json!({})).await?.json();
                let elected = status["leader"].as_str().context("no leader yet")?;
                if status["header"]["member_id"].as_str() == Some(elected) {
                    leader = Some(index);
                }
            }
            leader.context("no leader yet")
        });
        let leader = leader.await?;
        self.addresses.swap(0, leader);
        Ok(())
    }
}

impl Store for Etcd {
    async fn put(&self, node: usize, key: &str, document: String) -> anyhow::Result<()> {
        let address = *self.addresses.get(node).context("there is no such node")?;
        let put = format!(
            r#"{{"key":"{}","value":"{}"}}"#,
            BASE64_STANDARD.encode(key),
            BASE64_STANDARD.encode(document),
        );
        self.writes.send(address, "POST", "/v3/kv/put", &put).await
    }

    async fn watch(&self, node: usize) -> anyhow::Result<Watch> {
        let address = *self
            .addresses
            .get(node)
            .context("there is no such member")?;
        // Every key: from the zero byte on, without an end.
        let all = BASE64_STANDARD.encode([0]);
        let create = json!({"create_request": {"key": all, "range_end": all}});
        let mut lines = Lines::open(address, Method::POST, "/v3/watch", create.to_string()).await?;
        let created = lines.next().await?.context("etcd ended the watch")?;
        let created: Value = serde_json::from_slice(&created)?;
        anyhow::ensure!(
            created["result"]["created"] == true,
            "etcd answered {created}"
        );
        Ok(Watch { node, lines, keys })
    }

    fn processor_time(&self) -> anyhow::Result<Duration> {
        self.members.iter().map(Contestant::processor_time).sum()
    }
}

/// The keys in one line of a watch.
fn keys(line: &[u8]) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Line {
        result: Answer,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        events: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        kv: Pair,
    }
    #[derive(Deserialize)]
    struct Pair {
        key: String,
    }
    let line: Line = serde_json::from_slice(line)?;
    let key = |event: &Event| Ok(String::from_utf8(BASE64_STANDARD.decode(&event.kv.key)?)?);
    line.result.events.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_a_line_of_several_events() {
        let line = br#"{"result":{"events":[{"kv":{"key":"azE="}},{"kv":{"key":"azI="}}]}}"#;
        assert_eq!(keys(line).unwrap(), ["k1", "k2"]);
        assert!(keys(br#"{"result":{"created":true}}"#).unwrap().is_empty());
        assert!(keys(b"not JSON").is_err());
    }
}
