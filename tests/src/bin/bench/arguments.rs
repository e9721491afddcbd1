//! The command line.

use clap::{Parser, ValueEnum};

use crate::peers::Program;

/// Measures a cluster of agents, and programs that people know on the same work.
#[derive(Parser)]
#[command(name = "scripts/bench", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to measure [default: all]
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// Rounds of each bench; figures are medians over them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Nodes of each cluster; several sizes with commas between, each measured by itself
    #[arg(short, long, value_name = "N,...", default_value = "3", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(2..=50))]
    nodes: Vec<u16>,
    /// Fewer and shorter rounds: a look, not a result
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print JSON, with every measurement
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure only these
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Name>,
    /// Install the peers that are missing first (done by the script, from Debian packages)
    #[arg(long)]
    install_peers: bool,
}

const EXAMPLES: &str = "\
Examples:
  scripts/bench --install-peers            everything, with all peers
  scripts/bench replication --rounds 9
  scripts/bench detection -n 3,10,30
  scripts/bench proxy --only basic-agent --only nginx --json

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Writes on one node until they are visible on the others, beside etcd
    Replication,
    /// A new node with an empty disk beside one with a million documents
    Bootstrap,
    /// Disk and memory of a document and of a deletion
    Storage,
    /// A killed node, a leaving one, a cold start and idleness, beside serf
    Detection,
    /// Requests through the proxy, beside nginx and HAProxy
    Proxy,
}

/// Who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Ours
    BasicAgent,
    /// For replication
    Etcd,
    /// For failure detection
    Serf,
    /// For the proxy
    Nginx,
    /// For the proxy
    Haproxy,
}

impl Arguments {
    /// The benches asked for, each once, in a fixed order.
    pub(crate) fn benches(&self) -> impl Iterator<Item = Bench> {
        let all = Bench::value_variants().iter().copied();
        all.filter(|bench| self.benches.is_empty() || self.benches.contains(bench))
    }

    /// The sizes of the clusters that a bench measures. The proxy, bootstrap and storage benches
    /// have one: their work does not depend on it.
    pub(crate) fn sizes(&self, bench: Bench) -> &[u16] {
        match bench {
            Bench::Proxy | Bench::Bootstrap | Bench::Storage => {
                self.nodes.get(..1).unwrap_or_default()
            }
            Bench::Replication | Bench::Detection => &self.nodes,
        }
    }

    /// How many rounds: as asked for, else `usual`, else as few as a look needs.
    pub(crate) fn rounds(&self, usual: u16, quick: u16) -> u16 {
        self.rounds
            .unwrap_or(if self.quick { quick } else { usual })
    }

    /// Whether ours is to be measured.
    pub(crate) fn wants_ours(&self) -> bool {
        self.wants(Name::BasicAgent)
    }

    /// Whether this peer is to be measured, if it is installed.
    pub(crate) fn wants_peer(&self, program: Program) -> bool {
        self.wants(match program {
            Program::Etcd => Name::Etcd,
            Program::Serf => Name::Serf,
            Program::Nginx => Name::Nginx,
            Program::Haproxy => Name::Haproxy,
        })
    }

    fn wants(&self, name: Name) -> bool {
        self.only.is_empty() || self.only.contains(&name)
    }
}

impl Bench {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bench::Replication => "replication",
            Bench::Bootstrap => "bootstrap",
            Bench::Storage => "storage",
            Bench::Detection => "detection",
            Bench::Proxy => "proxy",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_size_is_measured_but_the_proxy_once() {
        let arguments = Arguments::parse_from(["bench", "-n", "3,10,30"]);
        assert_eq!(arguments.sizes(Bench::Detection), [3, 10, 30]);
        assert_eq!(arguments.sizes(Bench::Proxy).len(), 1);
        assert!(Arguments::try_parse_from(["bench", "-n", "3,1"]).is_err());
    }

    #[test]
    fn no_bench_named_means_all_and_each_runs_once() {
        let names = |line: &[&str]| {
            let arguments = Arguments::parse_from(line);
            arguments.benches().map(Bench::name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&["bench"]),
            ["replication", "bootstrap", "storage", "detection", "proxy"]
        );
        assert_eq!(
            names(&["bench", "proxy", "detection", "proxy"]),
            ["detection", "proxy"]
        );
    }
}
