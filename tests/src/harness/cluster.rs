//! A cluster that a test runs through `scripts/cluster`, as a user would.
//!
//! Each has its own ports and its own directory below `target/test-clusters/`.
//! When the test has passed, both are gone; when it failed, the processes are
//! stopped, but logs and data stay, and their place is printed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::binaries::{self, Binaries, BinariesError, DIRECTORY_VARIABLE};
use crate::harness::layout::{Layout, NodeLayout};
use crate::harness::ports::{self, NoFreePorts};

/// A cluster of a test; dropping it runs `scripts/cluster down`.
pub struct Cluster {
    layout: Layout,
    binaries: Binaries,
    /// Whether the start failed, so that the logs are wanted.
    failed: bool,
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

/// Why a test has no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Something is not built.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// There are no ports for it.
    #[error(transparent)]
    Ports(#[from] NoFreePorts),
    /// A file or a process could not be used.
    #[error("{attempt}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The command did not end with 0.
    #[error("scripts/cluster {arguments} ended with {:?}:\n{}{}", .output.code, .output.stdout, .output.stderr)]
    Command {
        /// Its arguments.
        arguments: String,
        /// All that it said.
        output: Output,
    },
}

impl Cluster {
    /// Finds ports and a directory for a cluster; nothing runs yet.
    ///
    /// # Errors
    /// When there are none, or something is not built.
    pub fn prepare(name: &str, nodes: u16) -> Result<Self, ClusterError> {
        let binaries = Binaries::locate()?;
        let directory = directory(&binaries, name).map_err(|source| ClusterError::Io {
            attempt: "cannot make a directory",
            source,
        })?;
        Ok(Self {
            layout: ports::free_layout(directory, nodes)?,
            binaries,
            failed: false,
        })
    }

    /// A cluster that is up: [`prepare`](Self::prepare), then `scripts/cluster up`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn up(name: &str, nodes: u16) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(name, nodes)?;
        let started = cluster.start().await;
        cluster.failed = started.is_err();
        started.map(|_| cluster)
    }

    /// `scripts/cluster up` with the size and ports that were prepared.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self) -> Result<Output, ClusterError> {
        let nodes = self.layout.len().to_string();
        let base_port = self.layout.base_port().to_string();
        self.command(&["up", "-n", &nodes, "--base-port", &base_port])
            .await
    }

    /// Runs a command of `scripts/cluster` that must succeed.
    ///
    /// # Errors
    /// When it cannot be run or does not end with 0.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output, ClusterError> {
        let output = self.attempt(arguments).await?;
        match output.code {
            Some(0) => Ok(output),
            _ => Err(ClusterError::Command {
                arguments: arguments.join(" "),
                output,
            }),
        }
    }

    /// Runs a command of `scripts/cluster` that may fail.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub async fn attempt(&self, arguments: &[&str]) -> Result<Output, ClusterError> {
        let mut command = tokio::process::Command::from(self.script(arguments));
        let output = command.output().await.map_err(|source| ClusterError::Io {
            attempt: "cannot run scripts/cluster",
            source,
        })?;
        Ok(output.into())
    }

    /// Where its ports and files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Node `number`, from 1.
    ///
    /// # Panics
    /// When the cluster has no such node, which is a mistake in the test.
    pub fn node(&self, number: u16) -> NodeLayout {
        self.layout
            .node(number)
            .unwrap_or_else(|| panic!("the cluster has no node {number}"))
    }

    /// `http://HOST:PORT` of a node's API, with this path.
    ///
    /// # Panics
    /// When the cluster has no such node.
    pub fn api(&self, node: u16, path: &str) -> String {
        format!("http://{}{path}", self.node(node).api())
    }

    /// `http://HOST:PORT` of a node's proxy, with this path.
    ///
    /// # Panics
    /// When the cluster has no such node.
    pub fn proxy(&self, node: u16, path: &str) -> String {
        format!("http://{}{path}", self.node(node).proxy())
    }

    /// `http://HOST:PORT` of a node's server, with this path.
    ///
    /// # Panics
    /// When the cluster has no such node.
    pub fn app(&self, node: u16, path: &str) -> String {
        format!("http://{}{path}", self.node(node).app())
    }

    /// The executables that it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    fn script(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(binaries::repository().join("scripts/cluster"));
        command
            .args(arguments)
            .arg("--dir")
            .arg(self.layout.directory())
            .env(DIRECTORY_VARIABLE, self.binaries.directory())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.script(&["down"]).output();
        if self.failed || std::thread::panicking() {
            eprintln!(
                "logs and data are kept in {}",
                self.layout.directory().display()
            );
        } else if stopped.is_ok_and(|output| matches!(output.status.code(), Some(0 | 3))) {
            // 3: nothing was running. A directory that stays costs only disk.
            let _ = fs::remove_dir_all(self.layout.directory());
        }
    }
}

impl Output {
    /// A line `NAME=value` of `scripts/cluster env`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let values = self.stdout.lines().filter_map(|line| line.split_once('='));
        values
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A new directory beside the executables' own.
fn directory(binaries: &Binaries, name: &str) -> io::Result<PathBuf> {
    let beside = binaries
        .directory()
        .parent()
        .unwrap_or(binaries.directory());
    let directory = beside
        .join("test-clusters")
        .join(format!("{name}-{}", std::process::id()));
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    directory.canonicalize()
}
