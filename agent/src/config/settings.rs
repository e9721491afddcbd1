//! The settings as the rest of the agent sees them: typed, checked, complete.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use basic_sync::model::document::Merge;
use bytesize::ByteSize;

use crate::peer_port::CertificateFiles;

use super::address::{HealthPath, HostPort, HttpUrl};
use super::hook::{CommandLine, EventKinds, HooksOn, WebhookUrl};
use super::log_filter::LogFilter;
use super::name::{ClusterName, NodeName};
use super::value::Choice;

/// Every setting of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// Where and with whom it talks to other agents.
    pub peer: PeerConfig,
    /// How it notices that another agent is gone.
    pub gossip: GossipConfig,
    /// The server beside it.
    pub app: AppConfig,
    /// Its HTTP API and page.
    pub api: ApiConfig,
    /// Its proxy for clients.
    pub proxy: ProxyConfig,
    /// How data reaches its peers.
    pub replication: ReplicationConfig,
    /// How it carries out tasks.
    pub sync: SyncConfig,
    /// Whom it tells of events.
    pub events: EventsConfig,
    /// What it says, and how.
    pub log: LogConfig,
    /// The collections of documents with a policy of their own, by name. For all others [`CollectionSettings::default`]
    /// holds.
    pub collections: BTreeMap<String, CollectionSettings>,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// The cluster it belongs to; agents of differently named clusters refuse each other.
    pub cluster: ClusterName,
    /// Its name in the cluster; without one, the name kept in the data directory, random at the first start.
    pub id: Option<NodeName>,
    /// Where identity, keys and data are kept. A relative path is relative to the working directory.
    pub data_dir: PathBuf,
    /// What operators want to tell nodes apart by; at most 16.
    pub labels: BTreeMap<String, String>,
}

/// Where and with whom the agent talks to other agents.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    /// UDP and TCP address of the peer port.
    pub listen: SocketAddr,
    /// The address that other agents are told; see [`PeerConfig::advertised`].
    pub advertise: Option<SocketAddr>,
    /// Agents to ask at the start, by address or name. Names are resolved again and again.
    pub seeds: Vec<HostPort>,
    /// File with the secret that all agents of the cluster share; see [`super::PeerSecretSource`].
    pub secret_file: Option<PathBuf>,
    /// File with this node's certificate; see [`PeerConfig::certificate_files`].
    pub tls_cert: Option<PathBuf>,
    /// File with its private key.
    pub tls_key: Option<PathBuf>,
    /// File with the authorities of all agents' certificates.
    pub tls_ca: Option<PathBuf>,
    /// Whether the operator took it upon herself to leave open what is refused by default.
    pub insecure: bool,
}

impl PeerConfig {
    /// The files of a certificate of the operator's own, if there are such; `check.rs` has seen to it that they are
    /// all three given or none.
    pub fn certificate_files(&self) -> Option<CertificateFiles> {
        Some(CertificateFiles {
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            authorities: self.tls_ca.clone()?,
        })
    }

    /// The address that other agents are told, where `bound` is what the peer port was bound to: the configured one,
    /// else `bound`. It is reachable, because an unspecified `listen` is refused without `advertise`.
    pub fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        self.advertise.unwrap_or(bound)
    }
}

/// How the agent notices that another agent is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct GossipConfig {
    /// Time between two rounds.
    pub interval: Duration,
    /// Suspicion at which a silent agent counts as dead (Hayashibara et al., "The φ accrual failure detector", 2004):
    /// 8 means that one such verdict in 10^8 is expected to be wrong.
    pub phi: f64,
}

/// The server beside the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AppConfig {
    /// Where the agent reaches it.
    pub url: HttpUrl,
    /// What is asked to learn whether it is healthy: any status from 200 to 299 is.
    pub health: HealthPath,
    /// Share of the requests relative to other nodes; 0 takes none.
    pub weight: u16,
    /// Where other nodes reach it; see [`AppConfig::advertised`].
    pub advertise: Option<HostPort>,
    /// Time between two probes.
    pub probe_interval: Duration,
    /// Time after which a probe without an answer has failed.
    pub probe_timeout: Duration,
}

impl AppConfig {
    /// Where other nodes reach the app: the configured address, else that of its URL.
    pub fn advertised(&self) -> &HostPort {
        self.advertise
            .as_ref()
            .unwrap_or_else(|| self.url.host_port())
    }
}

/// The agent's HTTP API and page.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiConfig {
    /// TCP address.
    pub listen: SocketAddr,
    /// Watches at once.
    pub watches_max: u16,
}

/// The agent's proxy for clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// TCP address.
    pub listen: SocketAddr,
    /// How the node for a request is chosen.
    pub strategy: Strategy,
    /// Worker threads; 0 stands for one per core.
    pub workers: u16,
    /// Time to connect to an app before another one is tried.
    pub connect_timeout: Duration,
    /// Time from the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// How much of a request body is kept so that the request can be sent again; 0 keeps none.
    pub retry_body_max: ByteSize,
}

/// How the node for a request is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Strategy {
    /// One after the other, by weight.
    RoundRobin,
}

impl Choice for Strategy {
    const EXPECTED: &'static str = "a strategy such as \"round-robin\"";
    const CHOICES: &'static [(&'static str, Self)] = &[("round-robin", Self::RoundRobin)];
}

/// How data reaches the agent's peers.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicationConfig {
    /// Time between two comparisons with a peer, which find what live pushing missed.
    pub pull_interval: Duration,
    /// Memory for changes on their way to peers. A peer further behind is served from disk.
    pub push_buffer: ByteSize,
    /// How long a deletion is remembered at least.
    pub tombstone_age: Duration,
    /// How long a node may be away, while most are here, before the others no longer remember deletions for it; more
    /// than `tombstone_age`.
    pub absent_max: Duration,
}

/// How the agent carries out the tasks that it is given (`POST /v1/sync/tasks`).
#[derive(Debug, Clone, PartialEq)]
pub struct SyncConfig {
    /// How many at once.
    pub workers: u16,
    /// How many may wait, but for those that overtake others.
    pub queue_max: u16,
    /// How often one is tried again before it counts as failed.
    pub retries: u16,
    /// Time before the first retry; each further one takes twice as long.
    pub retry_interval: Duration,
    /// How long one attempt waits for its targets.
    pub task_timeout: Duration,
}

/// Whom the agent tells of events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsConfig {
    /// What is run for each of them; empty for nothing.
    pub command: CommandLine,
    /// Where each of them is posted to.
    pub webhook: Option<WebhookUrl>,
    /// Of which kinds.
    pub on: EventKinds,
    /// On which nodes.
    pub hooks_on: HooksOn,
}

/// What the agent says about itself, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// What is said.
    pub level: LogFilter,
    /// How it is written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line, for machines.
    Json,
}

impl Choice for LogFormat {
    const EXPECTED: &'static str = "\"text\" or \"json\"";
    const CHOICES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// The policy of a collection of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionSettings {
    /// What becomes of two writes to one document at the same time.
    pub merge: Merge,
    /// Largest document that is taken.
    pub document_max: ByteSize,
    /// How long a document lives after a put that does not say so itself; without it, until it is deleted.
    pub ttl: Option<Duration>,
    /// Older versions of a document that each node keeps of those that it went through.
    pub history: u16,
    /// How long it keeps them; without it, until later ones take their place.
    pub history_age: Option<Duration>,
}
