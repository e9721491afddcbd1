//! What a cluster is started with.
//!
//! The four facts about this node come in through [`Config::new`]; everything
//! else has a default that was measured: with it, a crash is seen 1.2 s after the
//! last heartbeat or, where heartbeats are rare, a little later, and hours of
//! packet loss bring no false alarm. The fields are public, so that a test can
//! shorten a time; [`Cluster::join`](crate::Cluster::join) checks the whole.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::JoinError;
use crate::identity::Identity;
use crate::name::ClusterName;
use crate::seeds;

/// Settings of membership.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster to belong to.
    pub cluster: ClusterName,
    /// This node, in its current incarnation.
    pub identity: Identity,
    /// Where other nodes reach the peer port of this node. An IPv4 address may be
    /// written as IPv6; it is announced as IPv4.
    pub advertise: SocketAddr,
    /// Where to find others: `address:port` or `name:port`. Any one that answers
    /// is enough; the own address among them does no harm. Empty by default.
    pub seeds: Vec<String>,
    /// Time between two rounds of gossip. Default 200 ms. A node that was silent for
    /// less than six of them is doubted at most, whatever phi says.
    pub gossip_interval: Duration,
    /// A node counts as dead when nothing was heard of it for this many mean
    /// heartbeat intervals, and for six rounds of gossip. Default 8.
    pub phi_threshold: f64,
    /// The heartbeat interval assumed before any was measured. Default: the
    /// gossip interval.
    pub initial_interval: Duration,
    /// Longer pauses between heartbeats are not taken into the mean; also how
    /// long an unknown, silent node is watched before it is listed as failed. After
    /// three of them without a heartbeat another node may have its address.
    /// Default 2 s.
    pub max_interval: Duration,
    /// How long a failed or left node is remembered and gossiped about, twice
    /// as long as it is passed on. Default 15 minutes.
    pub dead_node_grace: Duration,
    /// How long a deleted key is remembered by the gossip library. This crate
    /// deletes none. Default 15 minutes.
    pub deletion_grace: Duration,
    /// A tick of our own that comes later than this, or than three rounds of gossip,
    /// counts as a stall of this process. Default 0.5 s.
    pub stall_threshold: Duration,
    /// After a stall, nobody is called failed for this long: the heartbeats that
    /// arrived meanwhile are read first. Default 2 s.
    pub stall_hold: Duration,
    /// Where to keep the roster, the file of all members ever seen; its
    /// addresses serve as seeds where the configured ones are silent. `None`, the
    /// default, remembers nobody over a restart.
    pub roster: Option<PathBuf>,
    /// How long [`Cluster::leave`](crate::Cluster::leave) waits, for each of the
    /// two states it announces, until every live peer has confirmed. Default 1 s.
    pub leave_timeout: Duration,
}

impl Config {
    /// The defaults of this crate for one node.
    pub fn new(cluster: ClusterName, identity: Identity, advertise: SocketAddr) -> Config {
        let gossip_interval = Duration::from_millis(200);
        Config {
            cluster,
            identity,
            advertise,
            seeds: Vec::new(),
            gossip_interval,
            phi_threshold: 8.0,
            initial_interval: gossip_interval,
            max_interval: Duration::from_secs(2),
            dead_node_grace: Duration::from_secs(15 * 60),
            deletion_grace: Duration::from_secs(15 * 60),
            stall_threshold: Duration::from_millis(500),
            stall_hold: Duration::from_secs(2),
            roster: None,
            leave_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn check(&self) -> Result<(), JoinError> {
        let advertise = |what| JoinError::Advertise {
            advertise: self.advertise,
            what,
        };
        if self.advertise.port() == 0 {
            return Err(advertise(
                "port 0 is a request for any port, not an address",
            ));
        }
        if self.advertise.ip().is_unspecified() {
            return Err(advertise(
                "it stands for every address of this host, not for one",
            ));
        }
        if self.advertise.ip().is_multicast() {
            return Err(advertise("it is a multicast address"));
        }
        if matches!(self.advertise.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            // Its scope is a number of this host, and means nothing on another.
            return Err(advertise("it is a link-local address"));
        }
        if self.seeds.len() > seeds::SEEDS_MAX {
            return Err(JoinError::TooManySeeds {
                count: self.seeds.len(),
                max: seeds::SEEDS_MAX,
            });
        }
        let setting = |setting, allowed| Err(JoinError::Setting { setting, allowed });
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.gossip_interval) {
            return setting("gossip_interval", "10 ms to 60 s");
        }
        if !(1.0..=64.0).contains(&self.phi_threshold) {
            return setting("phi_threshold", "1 to 64");
        }
        if self.initial_interval.is_zero() || self.initial_interval > self.max_interval {
            return setting("initial_interval", "more than 0 and at most max_interval");
        }
        Ok(())
    }
}
