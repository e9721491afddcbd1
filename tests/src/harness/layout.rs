//! Where the ports and files of a local cluster are.
//!
//! Node `i`, counted from 1, has the ports `base + 10·i` (peer), `+1` (API),
//! `+2` (proxy) and `+3` (its server), and the directory `node-i/` with
//! `agent.toml`, `agent.log`, `app.log` and `data/`. One file beside them holds
//! the secret of the cluster. All nodes are on 127.0.0.1 unless [`Hosts`] says
//! otherwise; with a host each, all have the ports of the first, as agents behind
//! one name must.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Nodes of one cluster at most.
pub const NODES_MAX: u16 = 100;
/// Ports that one node may use.
const PORTS_PER_NODE: u16 = 10;

/// A cluster on this machine: its directory, its ports, its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
    base_port: u16,
    nodes: u16,
    hosts: Hosts,
}

/// Which addresses the nodes of a cluster have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All of them this one.
    Shared(IpAddr),
    /// Node 1 this one, and every other the one after that of the node before.
    Consecutive(IpAddr),
}

/// Why there can be no such cluster.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many nodes.
    #[error("{0} nodes: a local cluster has 1 to {NODES_MAX}")]
    Nodes(u16),
    /// The ports of the last node do not exist.
    #[error("base port {base_port} with {nodes} nodes needs ports beyond 65535; take a lower one")]
    Ports {
        /// The port from which all are counted.
        base_port: u16,
        /// How many nodes were asked for.
        nodes: u16,
    },
}

impl Layout {
    /// A cluster of `nodes` nodes.
    ///
    /// # Errors
    /// When that many nodes or their ports cannot be.
    pub fn new(directory: PathBuf, base_port: u16, nodes: u16) -> Result<Self, LayoutError> {
        if !(1..=NODES_MAX).contains(&nodes) {
            return Err(LayoutError::Nodes(nodes));
        }
        if base_port
            .checked_add(PORTS_PER_NODE * (nodes + 1) - 1)
            .is_none()
        {
            return Err(LayoutError::Ports { base_port, nodes });
        }
        Ok(Self {
            directory,
            base_port,
            nodes,
            hosts: Hosts::Shared(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        })
    }

    /// The same cluster on other addresses.
    #[must_use]
    pub fn on(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    /// The directory of everything.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The port from which all are counted.
    pub fn base_port(&self) -> u16 {
        self.base_port
    }

    /// How many nodes there are.
    pub fn len(&self) -> u16 {
        self.nodes
    }

    /// Never: a cluster has a node.
    pub fn is_empty(&self) -> bool {
        self.nodes == 0
    }

    /// Node `number`, counted from 1; `None` beyond the last.
    pub fn node(&self, number: u16) -> Option<NodeLayout> {
        (1..=self.nodes).contains(&number).then(|| NodeLayout {
            number,
            directory: self.directory.join(format!("node-{number}")),
            host: self.hosts.of(number),
            port: match self.hosts {
                Hosts::Shared(_) => self.base_port + PORTS_PER_NODE * number,
                Hosts::Consecutive(_) => self.base_port + PORTS_PER_NODE,
            },
        })
    }

    /// All nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeLayout> {
        (1..=self.nodes).filter_map(|number| self.node(number))
    }

    /// The file with the secret that all agents share.
    pub fn secret_file(&self) -> PathBuf {
        self.directory.join("peer.secret")
    }

    /// The nodes at which the others begin. Two of them, so that the first also
    /// finds the cluster again when it was away.
    pub fn seeds(&self) -> Vec<String> {
        let first = self.iter().take(2);
        first.map(|node| node.peer().to_string()).collect()
    }

    /// Makes the directories, the secret unless there is one, and every
    /// `agent.toml`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        write_secret(&self.secret_file())?;
        for node in self.iter() {
            fs::create_dir_all(node.directory())?;
            let settings = node.settings(&self.secret_file(), &self.seeds());
            fs::write(node.config_file(), settings)?;
        }
        Ok(())
    }
}

impl Hosts {
    /// The address of a node, counted from 1.
    fn of(self, number: u16) -> IpAddr {
        let offset = number.saturating_sub(1);
        match self {
            Hosts::Shared(host) => host,
            Hosts::Consecutive(IpAddr::V4(first)) => {
                IpAddr::V4(u32::from(first).wrapping_add(offset.into()).into())
            }
            Hosts::Consecutive(IpAddr::V6(first)) => {
                IpAddr::V6(u128::from(first).wrapping_add(offset.into()).into())
            }
        }
    }
}

/// One node of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLayout {
    number: u16,
    directory: PathBuf,
    host: IpAddr,
    port: u16,
}

impl NodeLayout {
    /// Its number, from 1.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The id under which the others know it.
    pub fn id(&self) -> String {
        format!("n{}", self.number)
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its agent's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    /// What its agent says.
    pub fn agent_log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// What its server says.
    pub fn app_log(&self) -> PathBuf {
        self.directory.join("app.log")
    }

    /// Its agent's data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Gossip by UDP, replication by TCP.
    pub fn peer(&self) -> SocketAddr {
        self.address(0)
    }

    /// The agent's API.
    pub fn api(&self) -> SocketAddr {
        self.address(1)
    }

    /// The agent's proxy for clients.
    pub fn proxy(&self) -> SocketAddr {
        self.address(2)
    }

    /// The server that the agent stands beside.
    pub fn app(&self) -> SocketAddr {
        self.address(3)
    }

    /// Its ports, each with what it is for and the setting that names it.
    pub fn ports(&self) -> [(SocketAddr, &'static str, &'static str); 4] {
        [
            (self.peer(), "peer port", "[peer] listen"),
            (self.api(), "API", "[api] listen"),
            (self.proxy(), "proxy", "[proxy] listen"),
            (self.app(), "sample server", "[app] url"),
        ]
    }

    /// The text of its `agent.toml`. On an address beyond loopback the API, too,
    /// is open to whoever reaches that address: only a test does. Seeds are addresses
    /// or names, each with a port.
    pub fn settings(&self, secret_file: &Path, seeds: &[String]) -> String {
        let open = if self.host.is_loopback() {
            ""
        } else {
            "insecure = true\n"
        };
        let seeds: Vec<_> = seeds.iter().map(quoted).collect();
        format!(
            "[node]\ncluster = \"jobfirst-cluster-1\"\nid = {id}\ndata_dir = {data}\n\n\
             [peer]\nlisten = {peer}\nadvertise = {peer}\nseeds = [{seeds}]\n\
             secret_file = {secret}\n{open}\n\
             [app]\nurl = {app}\n\n[api]\nlisten = {api}\n\n[proxy]\nlisten = {proxy}\n\n\
             # One for each way of merging; in all others the last write wins.\n\
             [collections.profiles]\nmerge = \"fields\"\n\n\
             [collections.counters]\nmerge = \"counter\"\n\n\
             [collections.sets]\nmerge = \"set\"\n",
            id = quoted(self.id()),
            data = quoted(self.data_directory().to_string_lossy()),
            peer = quoted(self.peer().to_string()),
            seeds = seeds.join(", "),
            secret = quoted(secret_file.to_string_lossy()),
            app = quoted(format!("http://{}", self.app())),
            api = quoted(self.api().to_string()),
            proxy = quoted(self.proxy().to_string()),
        )
    }

    fn address(&self, offset: u16) -> SocketAddr {
        SocketAddr::new(self.host, self.port + offset)
    }
}

/// Writes a fresh secret of 32 random bytes, in hexadecimal, readable by its
/// owner only, unless there is one already.
fn write_secret(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let secret = blake3::Hash::from_bytes(bytes).to_hex();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{secret}")
}

/// A TOML string. Every JSON string is a basic string of TOML as well.
fn quoted(text: impl AsRef<str>) -> String {
    serde_json::Value::from(text.as_ref()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn node_one_of_the_default_cluster_has_ports_9410_to_9413() {
        let layout = Layout::new(PathBuf::from("cluster"), 9400, 3).unwrap();
        let ports = layout
            .node(1)
            .unwrap()
            .ports()
            .map(|(address, ..)| address.port());
        assert_eq!(ports, [9410, 9411, 9412, 9413]);
        assert_eq!(layout.node(4), None);
        assert_eq!(layout.node(0), None);
    }

    #[test]
    fn hosts_of_their_own_have_consecutive_addresses_and_the_same_ports() {
        for (first, third) in [("10.77.1.1", "10.77.1.3"), ("fd77::1", "fd77::3")] {
            let hosts = Hosts::Consecutive(first.parse().unwrap());
            let layout = Layout::new(PathBuf::new(), 9400, 3).unwrap().on(hosts);
            let node = layout.node(3).unwrap();
            assert_eq!(node.peer().ip().to_string(), third);
            assert_eq!(
                Some(node.peer().port()),
                layout.node(1).map(|one| one.peer().port())
            );
            assert!(node.settings(Path::new("s"), &[]).contains("insecure"));
        }
    }

    #[test]
    fn a_cluster_whose_ports_do_not_exist_is_refused() {
        assert!(Layout::new(PathBuf::new(), 65_496, 3).is_ok());
        let refused = Layout::new(PathBuf::new(), 65_497, 3);
        assert_eq!(
            refused,
            Err(LayoutError::Ports {
                base_port: 65_497,
                nodes: 3
            })
        );
        assert_eq!(
            Layout::new(PathBuf::new(), 9400, 0),
            Err(LayoutError::Nodes(0))
        );
    }

    #[test]
    fn the_secret_is_kept_and_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("c"), 9400, 1).unwrap();
        layout.write().unwrap();
        let secret = fs::read_to_string(layout.secret_file()).unwrap();
        assert_eq!(secret.trim().len(), 64);
        let mode = fs::metadata(layout.secret_file())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        layout.write().unwrap();
        assert_eq!(fs::read_to_string(layout.secret_file()).unwrap(), secret);
    }

    #[test]
    fn a_path_with_quotes_stays_one_string() {
        assert_eq!(quoted("a \"b\" \\ c"), r#""a \"b\" \\ c""#);
    }
}
