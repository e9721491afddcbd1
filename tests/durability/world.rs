//! Agents whose processes and disks a test does harm to.
//!
//! Only agents run, no servers beside them: data needs none, and half as many processes
//! start twice as fast. Their files are beside the executables, on a disk that syncs.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::disk::{SmallDisk, SyncFault};
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::node::{Service, agent_command};
use basic_tests::harness::ports::free_layout;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use serde_json::Value;
use tempfile::TempDir;

/// How long any condition may take. A limit against hanging and no measure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The agents. Dropping it ends them.
pub(crate) struct World {
    pub(crate) client: Client,
    agents: BTreeMap<u16, Service>,
    layout: Layout,
    binaries: Binaries,
    directory: Option<TempDir>,
}

/// Whether faults at syncs can be made here; if not, it is said why.
///
/// # Panics
/// Where they cannot and the variable `CI` is set: there a skip is a failure.
pub(crate) fn sync_faults() -> bool {
    or_skipped("faults at syncs", SyncFault::check()).is_some()
}

/// A small disk in the place of a node's data directory; `None` as above.
pub(crate) fn small_disk(world: &World, number: u16, bytes: u64) -> Option<SmallDisk> {
    let place = world.layout(number).data_directory();
    or_skipped("a small disk", SmallDisk::mount(&place, bytes))
}

fn or_skipped<T, E: std::fmt::Display>(what: &str, outcome: Result<T, E>) -> Option<T> {
    match outcome {
        Ok(there) => Some(there),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: no {what}: {error}");
            None
        }
        Err(error) => panic!("no {what}, and in CI a skip is a failure: {error}"),
    }
}

impl World {
    /// The files of so many agents, none of which runs yet.
    pub(crate) fn new(name: &str, agents: u16) -> Self {
        let binaries = Binaries::locate().unwrap();
        let beside = binaries.directory().join("../test-clusters");
        fs::create_dir_all(&beside).unwrap();
        let directory = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(beside.canonicalize().unwrap())
            .unwrap();
        let layout = free_layout(directory.path().to_owned(), agents).unwrap();
        layout.write().unwrap();
        Self {
            client: Client::default(),
            agents: BTreeMap::new(),
            layout,
            binaries,
            directory: Some(directory),
        }
    }

    /// Starts an agent; it need not answer yet.
    pub(crate) fn start(&mut self, number: u16) {
        self.start_by(number, |command| command);
    }

    /// The same, with the command as `run_as` makes it of the plain one.
    pub(crate) fn start_by(&mut self, number: u16, run_as: impl FnOnce(Command) -> Command) {
        let layout = self.layout(number);
        let mut command = run_as(agent_command(&self.binaries, &layout));
        let agent = Service::start(&mut command, layout.agent_log()).unwrap();
        self.agents.insert(number, agent);
    }

    /// Kills an agent that runs, and waits until it is gone.
    pub(crate) async fn kill(&mut self, number: u16) {
        self.end(number, Signal::KILL).await;
    }

    /// Tells an agent to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, number: u16) {
        let status = self.end(number, Signal::TERM).await;
        assert!(status.success(), "it stopped with {status}");
    }

    async fn end(&mut self, number: u16, signal: Signal) -> ExitStatus {
        let mut agent = self.agents.remove(&number).unwrap();
        assert!(agent.signal(signal).unwrap(), "it has ended by itself");
        agent.exit(LIMIT).await.unwrap()
    }

    /// Waits until an agent has ended by itself.
    pub(crate) async fn ended(&mut self, number: u16) -> ExitStatus {
        let mut agent = self.agents.remove(&number).unwrap();
        match agent.exit(LIMIT).await {
            Ok(status) => status,
            Err(error) => {
                self.agents.insert(number, agent);
                self.fail(&error.to_string(), number)
            }
        }
    }

    /// Whether an agent runs.
    pub(crate) fn runs(&self, number: u16) -> bool {
        let agent = self.agents.get(&number);
        agent.is_some_and(|agent| agent.id().is_alive())
    }

    /// Forgets all that an agent, which does not run, has kept.
    pub(crate) fn erase(&self, number: u16) {
        let data = self.layout(number).data_directory();
        if data.exists() {
            fs::remove_dir_all(data).unwrap();
        }
    }

    /// Waits until an agent has answered a read, and returns how long that took.
    pub(crate) async fn wait_answering(&self, number: u16) -> Duration {
        let start = Instant::now();
        let url = format!("{}/v1/data/any?limit=1", self.api(number));
        self.wait(number, "an answer", || async {
            let answer = self.client.get(&url).await.map_err(|e| e.to_string())?;
            match answer.status.as_u16() {
                200 => Ok(()),
                status => Err(format!("{status}: {}", answer.text())),
            }
        })
        .await;
        start.elapsed()
    }

    /// Waits until all of these agents hold the same, to the last byte.
    pub(crate) async fn wait_converged(&self, numbers: &[u16]) -> Duration {
        let start = Instant::now();
        let first = numbers.first().copied().unwrap_or(1);
        self.wait(first, "equal digests", || async {
            let mut digests = Vec::new();
            for number in numbers {
                let status = self.status(*number).await?;
                digests.push(status["sync"]["digest"].to_string());
            }
            digests.dedup();
            match digests.as_slice() {
                [one] if one.len() > 2 => Ok(()),
                differ => Err(format!("the digests are {differ:?}")),
            }
        })
        .await;
        start.elapsed()
    }

    /// Waits until an agent has, or no longer has, a finding with this code; returns the
    /// finding, if it is there.
    pub(crate) async fn wait_for_finding(&self, number: u16, code: &str, wanted: bool) -> Value {
        let awaited = format!("the finding {code} (there: {wanted})");
        self.wait(number, &awaited, || async {
            let status = self.status(number).await?;
            let findings = status["findings"].as_array();
            let mut findings = findings.into_iter().flatten();
            let found = findings.find(|finding| finding["code"] == code).cloned();
            match found.is_some() == wanted {
                true => Ok(found.unwrap_or_default()),
                false => Err(format!("the findings are {}", status["findings"])),
            }
        })
        .await
    }

    /// What an agent says of itself.
    pub(crate) async fn status(&self, number: u16) -> Result<Value, String> {
        let url = format!("{}/v1/status", self.api(number));
        let answer = self.client.get(&url).await;
        Ok(answer.map_err(|error| error.to_string())?.json())
    }

    /// Waits for something of an agent, and fails with what it said last.
    pub(crate) async fn wait<T, F: Future<Output = Result<T, String>>>(
        &self,
        number: u16,
        awaited: &str,
        condition: impl FnMut() -> F,
    ) -> T {
        match wait_until(awaited, LIMIT, condition).await {
            Ok(found) => found,
            Err(error) => self.fail(&error.to_string(), number),
        }
    }

    /// Where ports and files of an agent are.
    pub(crate) fn layout(&self, number: u16) -> NodeLayout {
        self.layout.node(number).unwrap()
    }

    /// The base URL of an agent's API.
    pub(crate) fn api(&self, number: u16) -> String {
        format!("http://{}", self.layout(number).api())
    }

    fn fail(&self, error: &str, number: u16) -> ! {
        let log = self.layout(number).agent_log();
        let output = fs::read_to_string(log).unwrap_or_default();
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
