//! A cluster with a host for each node, and what tests ask of it.
//!
//! Node `i` of the cluster is on host `i` of the network. Nodes 1 and 2 are the
//! seeds of all, as in any cluster of the harness. Hosts without a node are kept
//! for nodes that come later.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::{Hosts, Layout, NodeLayout};
use basic_tests::harness::load::{Load, Report, RunningLoad};
use basic_tests::harness::network::{Family, Network};
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long any condition may take. A limit against hanging and no measure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Nobody else is on these hosts, so any will do.
const BASE_PORT: u16 = 9400;
/// What tests write goes here.
const COLLECTION: &str = "chaos";

/// The cluster. Dropping it ends the processes, then removes the hosts.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) client: Client,
    nodes: BTreeMap<u16, Node>,
    layout: Layout,
    binaries: Binaries,
    directory: Option<TempDir>,
}

/// Hosts of our own; `None`, said with its reason, where there can be none.
///
/// # Panics
/// Where there can be none and the variable `CI` is set: there a skip is a failure.
pub(crate) fn network(hosts: u16) -> Option<Network> {
    match Network::create(hosts) {
        Ok(network) => Some(network),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: no hosts of our own: {error}");
            None
        }
        Err(error) => panic!("no hosts of our own, and in CI a skip is a failure: {error}"),
    }
}

impl World {
    /// Hosts for `hosts` nodes, on which the first `nodes` run and are ready, if any;
    /// `None` as with [`network`].
    ///
    /// # Panics
    /// When the cluster does not come up.
    pub(crate) async fn up(family: Family, nodes: u16, hosts: u16) -> Option<Self> {
        let network = network(hosts)?;
        let directory = tempfile::tempdir().unwrap();
        let first = Hosts::Consecutive(network.address(family, 1));
        let layout = Layout::new(directory.path().to_owned(), BASE_PORT, hosts)
            .unwrap()
            .on(first);
        layout.write().unwrap();
        let mut world = Self {
            network,
            client: Client::with_timeout(Duration::from_secs(5)),
            nodes: BTreeMap::new(),
            layout,
            binaries: Binaries::locate().unwrap(),
            directory: Some(directory),
        };
        for number in 1..=nodes {
            world.start(number);
        }
        world.wait_all_active(&world.numbers()).await;
        Some(world)
    }

    /// Starts agent and server of a node; it need not be ready yet.
    pub(crate) fn start(&mut self, number: u16) {
        let node = Node::start_by(&self.binaries, self.layout(number), |command| {
            self.network.on_host(number, &command)
        });
        self.nodes.insert(number, node.unwrap());
    }

    /// Writes the settings of a node that is to begin at these seeds.
    pub(crate) fn configure<S: ToString>(&self, number: u16, seeds: &[S]) {
        let node = self.layout(number);
        let seeds: Vec<String> = seeds.iter().map(S::to_string).collect();
        let settings = node.settings(&self.layout.secret_file(), &seeds);
        fs::write(node.config_file(), settings).unwrap();
    }

    /// Kills agent and server of a node.
    pub(crate) fn kill(&mut self, number: u16) {
        drop(self.nodes.remove(&number));
    }

    /// Sends a signal to the agent and the server of a node.
    pub(crate) fn signal(&self, number: u16, signal: Signal) {
        let node = &self.nodes[&number];
        for service in [&node.agent, &node.app] {
            assert!(service.signal(signal).unwrap(), "{signal:?}: it has ended");
        }
    }

    /// The nodes that were started and not killed.
    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.nodes.keys().copied().collect()
    }

    /// Where ports and files of a node are.
    pub(crate) fn layout(&self, number: u16) -> NodeLayout {
        self.layout.node(number).unwrap()
    }

    /// The base URL of a node's API.
    pub(crate) fn api(&self, number: u16) -> String {
        format!("http://{}", self.layout(number).api())
    }

    /// A constant load of GETs through the proxy of a node, begun now.
    pub(crate) fn gets(&self, number: u16, per_second: u32) -> RunningLoad {
        self.get_load(number).per_second(per_second).start()
    }

    /// A load of GETs through the proxy of a node.
    pub(crate) fn get_load(&self, number: u16) -> Load {
        let url = format!("http://{}/whoami", self.layout(number).proxy());
        Load::get(&url).unwrap()
    }

    /// Waits until each of these nodes sees all of them `active`, and is ready.
    pub(crate) async fn wait_all_active(&self, numbers: &[u16]) -> Duration {
        let start = Instant::now();
        for observer in numbers {
            for member in numbers {
                self.wait_for_state(*observer, *member, "active").await;
            }
        }
        start.elapsed()
    }

    /// Waits until a node sees another in this state.
    pub(crate) async fn wait_for_state(&self, observer: u16, member: u16, state: &str) {
        let awaited = format!("node {observer} to see n{member} {state}");
        let seen = || async {
            match self.state(observer, member).await {
                Ok(seen) if seen == state => Ok(()),
                Ok(seen) => Err(format!("it sees it {seen}")),
                Err(error) => Err(error),
            }
        };
        if let Err(error) = wait_until(awaited, LIMIT, seen).await {
            self.fail(&error.to_string(), observer);
        }
    }

    /// The state in which a node sees another.
    pub(crate) async fn state(&self, observer: u16, member: u16) -> Result<String, String> {
        let url = format!("{}/v1/members/n{member}", self.api(observer));
        let answer = self
            .client
            .get(&url)
            .await
            .map_err(|error| error.to_string())?;
        match answer.json()["state"].as_str() {
            Some(state) => Ok(state.to_owned()),
            None => Err(format!("{}: {}", answer.status, answer.text())),
        }
    }

    /// Writes a document on a node, which must be acknowledged.
    pub(crate) async fn write(&self, number: u16, key: &str) {
        let (status, said) = self.try_write(number, key).await.unwrap();
        assert!(
            (200..300).contains(&status),
            "{key} on node {number}: {status}: {said}"
        );
    }

    /// Writes a document on a node, and returns the status and the text of the answer.
    pub(crate) async fn try_write(&self, number: u16, key: &str) -> Result<(u16, String), String> {
        let url = self.document(number, key);
        let document = json!({ "written_on": number });
        let answer = self.client.put_json(&url, &document).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok((answer.status.as_u16(), answer.text()))
    }

    /// Waits until all documents are on all of these nodes, and the nodes' stores
    /// are the same to the last byte. Returns how long that took.
    pub(crate) async fn wait_converged(&self, numbers: &[u16], keys: &[String]) -> Duration {
        let start = Instant::now();
        for number in numbers {
            for key in keys {
                self.wait_for_document(*number, key).await;
            }
        }
        let same = || async {
            let mut digests = Vec::new();
            for number in numbers {
                let status = self.status(*number).await?;
                digests.push(status["sync"]["digest"].to_string());
            }
            let first = digests.first().ok_or("no nodes")?;
            match digests
                .iter()
                .all(|digest| digest == first && digest.len() > 2)
            {
                true => Ok(()),
                false => Err(format!("the digests are {digests:?}")),
            }
        };
        wait_until("equal digests", LIMIT, same).await.unwrap();
        start.elapsed()
    }

    /// Waits until a node has a document.
    pub(crate) async fn wait_for_document(&self, number: u16, key: &str) {
        let url = self.document(number, key);
        let there = || async {
            let answer = self.client.get(&url).await.map_err(|e| e.to_string())?;
            match answer.status.is_success() {
                true => Ok(()),
                false => Err(format!("{}: {}", answer.status, answer.text())),
            }
        };
        if let Err(error) = wait_until(format!("{key} on node {number}"), LIMIT, there).await {
            self.fail(&error.to_string(), number);
        }
    }

    /// What a node says of itself.
    pub(crate) async fn status(&self, number: u16) -> Result<Value, String> {
        let url = format!("{}/v1/status", self.api(number));
        let answer = self.client.get(&url).await;
        Ok(answer.map_err(|error| error.to_string())?.json())
    }

    fn document(&self, number: u16, key: &str) -> String {
        format!("{}/v1/data/{COLLECTION}/{key}", self.api(number))
    }

    /// Fails the test with what the agent of a node said last.
    fn fail(&self, error: &str, number: u16) -> ! {
        let output = self
            .nodes
            .get(&number)
            .map(|node| node.agent.output())
            .unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        panic!("{error}\nthe agent of node {number} said last:\n{last}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(directory) = self.directory.take() {
            eprintln!("logs and data are kept in {}", directory.keep().display());
        }
    }
}

/// Fails unless every request had a good answer.
pub(crate) fn assert_none_lost(name: &str, report: &Report) {
    eprintln!("{name}: {report}");
    let failures = report.failures();
    assert!(!report.outcomes.is_empty(), "{name}: nothing was sent");
    assert!(
        failures.is_empty(),
        "{name}: {} of {} requests were lost, the first of them {:?}",
        failures.len(),
        report.outcomes.len(),
        failures.first()
    );
}
