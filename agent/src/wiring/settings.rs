//! The agent's configuration in the words of the crates that it configures.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use basic_balancer::probe::ProbeConfig;
use basic_membership::{Identity, Metadata};
use basic_sync::protocol::Policy;
use basic_sync::storage::history::Keep;
use http::uri::PathAndQuery;

use super::{clock, health};
use crate::config::{CollectionSettings, Config};
use crate::error::RunError;
use crate::servers::prober::Pace;

/// The newest protocol between agents that this version speaks.
const PROTOCOL: u16 = basic_sync::codec::PROTOCOL;

/// How the node takes part in gossip.
///
/// # Errors
/// [`RunError::Name`].
pub fn membership(
    config: &Config,
    identity: Identity,
    advertised: SocketAddr,
) -> Result<basic_membership::Config, RunError> {
    let cluster = config.node.cluster.as_str().parse()?;
    let mut settings = basic_membership::Config::new(cluster, identity, advertised);
    settings.roster = Some(config.node.data_dir.join("roster.json"));
    settings.seeds = config.peer.seeds.iter().map(ToString::to_string).collect();
    settings.gossip_interval = config.gossip.interval;
    settings.initial_interval = config.gossip.interval.min(settings.max_interval);
    settings.phi_threshold = config.gossip.phi;
    Ok(settings)
}

/// What the node announces when it starts; `origin` names its copy of the data, `api`
/// is what its API is bound to.
pub fn metadata(config: &Config, origin: &str, api: SocketAddr) -> Metadata {
    let mut metadata = Metadata::new(PROTOCOL);
    metadata.api = Some(api);
    metadata.app.address = Some(config.app.advertised().to_string());
    metadata.app.since_ms = health::millis(SystemTime::now());
    metadata.weight = u32::from(config.app.weight);
    metadata.labels.clone_from(&config.node.labels);
    metadata.replica = Some(origin.to_owned());
    metadata
}

/// How the node replicates.
pub fn replication(config: &Config, node: &str) -> basic_sync::net::Options {
    let mut options = basic_sync::net::Options::new(config.node.cluster.as_str(), node);
    options.protocol.vector_interval = config.replication.pull_interval;
    options.protocol.clock_ahead_max_ms = clock::AHEAD_MAX_MS.unsigned_abs();
    options.protocol.tombstone_age = config.replication.tombstone_age;
    options.protocol.absent_max = config.replication.absent_max;
    options.ring_bytes_max = bytes(config.replication.push_buffer);
    let named = config.collections.iter();
    options.protocol.policies.named = named
        .map(|(name, settings)| (name.clone(), policy(settings)))
        .collect();
    options
}

fn policy(settings: &CollectionSettings) -> Policy {
    Policy {
        merge: settings.merge,
        document_bytes_max: bytes(settings.document_max),
        ttl: settings.ttl,
        history: Keep {
            versions: settings.history.into(),
            age: settings.history_age,
        },
    }
}

/// How the proxy carries requests.
pub fn proxy(config: &Config, identity: &Identity) -> basic_balancer::ProxyConfig {
    let mut settings = basic_balancer::ProxyConfig::new(identity.id.as_str());
    settings.workers = NonZeroUsize::new(config.proxy.workers.into());
    settings.timeouts.connect = config.proxy.connect_timeout;
    settings.timeouts.response_head = config.proxy.response_timeout;
    settings.retry.body_bytes_max = bytes(config.proxy.retry_body_max);
    settings
}

/// How the app at `app` is probed.
pub fn probe(config: &Config, app: SocketAddr) -> ProbeConfig {
    // Checked by the configuration: it begins with a slash and has no spaces.
    let path = PathAndQuery::try_from(config.app.health.as_str())
        .unwrap_or_else(|_| PathAndQuery::from_static("/health"));
    let mut probe = ProbeConfig::new(app, path);
    probe.interval = config.app.probe_interval;
    probe.timeout = config.app.probe_timeout;
    probe
}

/// How servers without an agent are probed: as the app is.
pub fn pace(config: &Config) -> Pace {
    Pace {
        interval: config.app.probe_interval,
        timeout: config.app.probe_timeout,
    }
}

/// Where the app beside this agent listens.
///
/// # Errors
/// [`RunError::ResolveApp`].
pub async fn app_address(config: &Config) -> Result<SocketAddr, RunError> {
    let host = config.app.url.host_port();
    if let Some(address) = host.socket_address() {
        return Ok(address);
    }
    let error = |source| RunError::ResolveApp {
        host: host.host().to_owned(),
        source,
    };
    let found = tokio::net::lookup_host((host.host(), host.port()))
        .await
        .map_err(error)?;
    // IPv4 first where a name has both, as most servers listen there.
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| error(io::ErrorKind::NotFound.into()))
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
