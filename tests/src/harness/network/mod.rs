//! Hosts of our own: network namespaces on a bridge, and faults between them.
//!
//! ```text
//!   host 1 (eth0) ─ v1 ┐
//!   host 2 (eth0) ─ v2 ┼─ bridge, where a filter drops frames; a foot of this
//!   host 3 (eth0) ─ v3 ┘  machine is on it too, so that a test reaches every host
//! ```
//!
//! The filter sees what is forwarded from port to port, not what comes from this
//! machine or goes to it: a host that is cut off from all others still answers
//! the test. All names begin with [`PREFIX`] and the process id, so that runs do
//! not meet, and what a run that died has left is told from what is in use and
//! removed by the next. Neighbours are permanent: a cut would else poison them.
//! A host knows no names but those it is told ([`Network::point_name`]).
//!
//! Needs Linux, root, and the commands `ip` and `nft`; without them
//! [`Network::create`] fails with the reason.

mod command;
mod leftovers;
mod names;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use serde_json::Value;

pub use self::command::CommandError;
use self::command::{ip, ip_batch, nft, nft_json};
use crate::harness::process::around;

/// What all names begin with; the process id follows.
pub const PREFIX: &str = "chaos";
/// Hosts of one network at most.
pub const HOSTS_MAX: u16 = 9;
/// The last part of this machine's own address on the bridge.
const OWN_HOST: u16 = 254;

/// Hosts on a bridge; dropping it removes them all.
#[derive(Debug)]
pub struct Network {
    name: String,
    subnet: u8,
    hosts: u16,
}

/// Which protocol the addresses are of; every host has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.77.x.0/24.
    V4,
    /// fd77:x::/64.
    V6,
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Only root may make namespaces.
    #[error("network namespaces can be made by root only")]
    NotRoot,
    /// More than [`HOSTS_MAX`], or none.
    #[error("{0} hosts: a network has 1 to {HOSTS_MAX}")]
    Hosts(u16),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The names of a host cannot be kept apart from those of this machine.
    #[error("files in the place of /etc/hosts cannot be written")]
    Names(#[source] io::Error),
}

impl Network {
    /// Makes so many hosts, each reaching all others; removes what runs that died
    /// have left behind.
    ///
    /// # Errors
    /// When this process may not make them, or a command is missing.
    pub fn create(hosts: u16) -> Result<Self, NetworkError> {
        if !(1..=HOSTS_MAX).contains(&hosts) {
            return Err(NetworkError::Hosts(hosts));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(NetworkError::NotRoot);
        }
        leftovers::remove()?;
        let pid = std::process::id();
        let network = Self {
            name: format!("{PREFIX}{pid}"),
            subnet: pid.to_le_bytes()[0],
            hosts,
        };
        // From here on a failure drops, and so removes, what there is already.
        network.add_bridge()?;
        for host in network.iter() {
            network.add_host(host)?;
            names::add(&network.namespace(host)).map_err(NetworkError::Names)?;
        }
        network.add_filter()?;
        Ok(network)
    }

    /// The numbers of the hosts, from 1.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.hosts
    }

    /// The address of a host, counted from 1.
    pub fn address(&self, family: Family, host: u16) -> IpAddr {
        let subnet = self.subnet;
        match family {
            Family::V4 => Ipv4Addr::new(10, 77, subnet, host.to_le_bytes()[0]).into(),
            Family::V6 => Ipv6Addr::new(0xfd77, subnet.into(), 0, 0, 0, 0, 0, host).into(),
        }
    }

    /// The command that runs `command` on a host. The process that it becomes has
    /// the pid of the child that is started: `ip netns exec` replaces itself.
    pub fn on_host(&self, host: u16, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace(host)]);
        around(inside, command)
    }

    /// Makes `name` stand for these addresses on a host, for what runs there already
    /// too. It is the only name that the host knows; with no address it knows none.
    ///
    /// # Errors
    /// When the host's file cannot be written.
    pub fn point_name(&self, host: u16, name: &str, addresses: &[IpAddr]) -> io::Result<()> {
        names::point(&self.namespace(host), name, addresses)
    }

    /// Cuts a host off from all others.
    ///
    /// # Errors
    /// When the filter cannot be changed.
    pub fn isolate(&self, host: u16) -> Result<(), CommandError> {
        let (table, port) = (&self.name, self.port(host));
        nft(&format!(
            "add element bridge {table} cut {{ \"{port}\" }}\n"
        ))
    }

    /// Drops what goes from one host to another; the way back stays open.
    ///
    /// # Errors
    /// When the filter cannot be changed.
    pub fn cut_one_way(&self, from: u16, to: u16) -> Result<(), CommandError> {
        nft(&self.cut_pair(from, to))
    }

    /// Cuts every host of one side off from every host of the other.
    ///
    /// # Errors
    /// When the filter cannot be changed.
    pub fn split(&self, one: &[u16], other: &[u16]) -> Result<(), CommandError> {
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
        // One transaction: the two directions and all pairs fall at once.
        nft(&pairs
            .map(|(a, b)| self.cut_pair(a, b) + &self.cut_pair(b, a))
            .collect::<String>())
    }

    /// Loses so many of a thousand frames, drawn for each frame on its own.
    ///
    /// # Errors
    /// When the filter cannot be changed.
    pub fn lose(&self, permille: u16) -> Result<(), CommandError> {
        let table = &self.name;
        nft(&format!(
            "flush chain bridge {table} loss\n\
             add rule bridge {table} loss numgen random mod 1000 < {permille} counter name dropped drop\n"
        ))
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// When the filter cannot be changed.
    pub fn heal(&self) -> Result<(), CommandError> {
        let table = &self.name;
        nft(&format!(
            "flush set bridge {table} cut\n\
             flush set bridge {table} cutpair\n\
             flush chain bridge {table} loss\n"
        ))
    }

    /// How many frames were dropped so far: proof that a fault was one.
    ///
    /// # Errors
    /// When the filter cannot be asked.
    pub fn dropped(&self) -> Result<u64, CommandError> {
        let answer = nft_json(&["list", "counter", "bridge", &self.name, "dropped"])?;
        let packets = |item: &Value| item["counter"]["packets"].as_u64();
        let items = answer["nftables"].as_array();
        Ok(items
            .into_iter()
            .flatten()
            .find_map(packets)
            .unwrap_or_default())
    }

    fn add_bridge(&self) -> Result<(), CommandError> {
        let bridge = self.bridge();
        let [v4, v6] = [Family::V4, Family::V6].map(|family| self.address(family, OWN_HOST));
        ip_batch(
            None,
            &format!(
                "link add {bridge} type bridge\n\
                 addr add {v4}/24 dev {bridge}\n\
                 addr add {v6}/64 dev {bridge} nodad\n\
                 link set {bridge} up\n"
            ),
        )
    }

    fn add_host(&self, host: u16) -> Result<(), CommandError> {
        let (namespace, port, bridge) = (self.namespace(host), self.port(host), self.bridge());
        ip(&["netns", "add", &namespace])?;
        ip_batch(
            None,
            &format!(
                "link add {port} type veth peer name eth0 address {mac} netns {namespace}\n\
                 link set {port} master {bridge} up\n",
                mac = mac(host)
            ),
        )?;
        let families = [Family::V4, Family::V6];
        let [v4, v6] = families.map(|family| self.address(family, host));
        let mut inside = format!(
            "addr add {v4}/24 dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n\
             link set eth0 up\nlink set lo up\n"
        );
        for other in self.iter().filter(|other| *other != host) {
            for address in families.map(|family| self.address(family, other)) {
                let mac = mac(other);
                inside += &format!("neigh replace {address} lladdr {mac} nud permanent dev eth0\n");
            }
        }
        ip_batch(Some(&namespace), &inside)
    }

    /// The filter sees the frames of all bridges, and lets those of others pass.
    fn add_filter(&self) -> Result<(), CommandError> {
        let table = &self.name;
        nft(&format!(
            "table bridge {table} {{\n\
             counter dropped {{ }}\n\
             set cut {{ type ifname; }}\n\
             set cutpair {{ type ifname . ifname; }}\n\
             chain loss {{ }}\n\
             chain forwarded {{\n\
             type filter hook forward priority 0; policy accept;\n\
             iifname != \"{table}v*\" accept\n\
             iifname @cut counter name dropped drop\n\
             oifname @cut counter name dropped drop\n\
             iifname . oifname @cutpair counter name dropped drop\n\
             jump loss\n\
             }}\n}}\n"
        ))
    }

    fn cut_pair(&self, from: u16, to: u16) -> String {
        let (table, from, to) = (&self.name, self.port(from), self.port(to));
        format!("add element bridge {table} cutpair {{ \"{from}\" . \"{to}\" }}\n")
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    /// The bridge's port to a host; interface names have 15 characters at most.
    fn port(&self, host: u16) -> String {
        format!("{}v{host}", self.name)
    }

    fn namespace(&self, host: u16) -> String {
        format!("{}n{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // An error means that it was never made. A port goes before its host: with
        // the namespace it would only go some time later.
        let _ = nft(&format!("delete table bridge {}\n", self.name));
        for host in self.iter() {
            let _ = ip(&["link", "delete", &self.port(host)]);
            let _ = ip(&["netns", "delete", &self.namespace(host)]);
            let _ = names::remove(&self.namespace(host));
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }
}

fn mac(host: u16) -> String {
    format!("02:77:00:00:00:{host:02x}")
}
