//! The command line.

use std::path::PathBuf;

use anyhow::Context;
use basic_tests::harness::binaries::{self, Binaries};
use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

/// Names the directory of the cluster; the script sets it to `target/cluster`.
const DIRECTORY_VARIABLE: &str = "BASIC_CLUSTER_DIR";

/// Runs a cluster of agents and sample servers on this machine.
///
/// Node N, counted from 1, has ten ports from base + 10·N on: the first is the
/// peer port, then API, proxy and the server itself. So node 1 has 9410 to 9413.
/// Its logs and data are in target/cluster/node-N/.
#[derive(Parser)]
#[command(name = "scripts/cluster", bin_name = "scripts/cluster", version, verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Directory of logs, data and state [default: $BASIC_CLUSTER_DIR, else target/cluster]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) task: Task,
}

const EXAMPLES: &str = "\
Examples:
  scripts/cluster up                     three nodes, ready for requests
  eval \"$(scripts/cluster env)\"          $API_1, $PROXY_1, $PID_1 …
  curl $PROXY_1/whoami                   one of the three servers answers
  scripts/cluster kill 2                 its agent and its server are gone
  scripts/cluster restart 2              and back
  scripts/cluster down

BASIC_CLUSTER_BINARIES=DIR runs the executables in DIR and builds nothing.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running.";

/// What can be done.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Start all nodes, and wait until they are ready
    Up(UpOptions),
    /// Stop everything; logs and data stay
    Down,
    /// Start whichever of agent and server of a node is down
    Restart {
        /// Number of the node, from 1
        node: u16,
    },
    /// Show every node: processes, ports, state
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what a node's agent has logged
    Logs {
        /// Number of the node, from 1
        node: u16,
        /// Go on as more is logged, until interrupted
        #[arg(short, long)]
        follow: bool,
        /// The server's log instead of the agent's
        #[arg(long)]
        app: bool,
    },
    /// Kill agent and server of a node (SIGKILL)
    Kill(Target),
    /// Pause agent and server of a node (SIGSTOP)
    Stop(Target),
    /// Continue what was paused (SIGCONT)
    Cont(Target),
    /// Let a node's agent leave in good order; its server goes on
    Leave {
        /// Number of the node, from 1
        node: u16,
    },
    /// Print shell variables: eval "$(scripts/cluster env)"
    Env,
}

/// The cluster to start.
#[derive(Args)]
pub(crate) struct UpOptions {
    /// Number of nodes
    #[arg(short, long, value_name = "N", default_value_t = 3)]
    pub(crate) nodes: u16,
    /// Port from which all others are counted
    #[arg(long, value_name = "PORT", default_value_t = 9400)]
    pub(crate) base_port: u16,
    /// Run what is built for release
    #[arg(long)]
    release: bool,
    /// Delete logs and data of an earlier cluster first
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// A node, or one of its two processes.
#[derive(Args)]
pub(crate) struct Target {
    /// Number of the node, from 1
    pub(crate) node: u16,
    /// Only its server
    #[arg(long, conflicts_with = "agent")]
    pub(crate) app: bool,
    /// Only its agent
    #[arg(long)]
    pub(crate) agent: bool,
}

impl Arguments {
    /// The directory of the cluster, absolute: its processes are started with it.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        let given = self
            .dir
            .clone()
            .or_else(|| std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from));
        let directory = given.unwrap_or_else(|| PathBuf::from("target/cluster"));
        let absolute = std::path::absolute(&directory)
            .with_context(|| format!("{} cannot be used as --dir", directory.display()))?;
        Ok(absolute)
    }
}

impl UpOptions {
    /// The executables to run: those beside this one, or of the release build.
    pub(crate) fn binaries(&self) -> Result<Binaries, Failure> {
        let found = match self.release && std::env::var_os(binaries::DIRECTORY_VARIABLE).is_none() {
            // Cargo keeps target/debug and target/release side by side.
            true => {
                let development = binaries::directory_of_this_build().context(MISSING)?;
                Binaries::in_directory(development.with_file_name("release"))
            }
            false => Binaries::locate(),
        };
        Ok(found.context(MISSING)?)
    }
}

const MISSING: &str = "cannot find what to run";
