//! One run of chitchat: started, spoken to, read.
//!
//! Everything this crate asks of a chitchat instance is here. A run lasts until
//! it is shut down or its task panics; the driver then starts another. The keys
//! of each incarnation are decoded once for each version of them, and a value
//! that is not understood leaves the last good metadata in force.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, KeyChangeEvent,
    NodeState, spawn_chitchat,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::Config;
use crate::diagnostics::journal::Journal;
use crate::error::MetadataError;
use crate::identity::Incarnation;
use crate::metadata::{Metadata, codec};
use crate::name::NodeId;
use crate::transport::endpoint::Endpoint;
use crate::transport::socket::GossipTransport;
use crate::view::Observation;

/// See the module.
pub(crate) struct Protocol {
    handle: ChitchatHandle,
    endpoint: Arc<Endpoint>,
    journal: Arc<Journal>,
    news: Arc<Notify>,
    ended: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
    decoded: HashMap<ChitchatId, Decoded>,
}

/// What was made of an incarnation's keys at one version of them.
struct Decoded {
    version: u64,
    metadata: Option<Arc<Metadata>>,
}

/// Heartbeat intervals that chitchat averages over.
const SAMPLES: usize = 100;

impl Protocol {
    /// Starts chitchat as the current incarnation of this node.
    pub(crate) async fn start(
        config: &Config,
        seeds: BTreeSet<SocketAddr>,
        metadata: &Metadata,
        endpoint: Arc<Endpoint>,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Protocol> {
        let values = codec::encode(metadata)?;
        let values = values
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let settings = ChitchatConfig {
            chitchat_id: config.identity.chitchat_id(config.advertise),
            cluster_id: config.cluster.as_str().to_owned(),
            gossip_interval: config.gossip_interval,
            listen_addr: config.advertise,
            seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: config.phi_threshold,
                sampling_window_size: SAMPLES,
                max_interval: config.max_interval,
                initial_interval: config.initial_interval,
                dead_node_grace_period: config.dead_node_grace,
            },
            marked_for_deletion_grace_period: config.deletion_grace,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let transport = GossipTransport(Arc::clone(&endpoint));
        let handle = spawn_chitchat(settings, values, &transport).await?;
        let news = Arc::new(Notify::new());
        let notify = |chitchat: &mut Chitchat| {
            let news = Arc::clone(&news);
            let every_key = move |_: KeyChangeEvent<'_>| news.notify_one();
            chitchat.subscribe_event("", every_key).forever();
        };
        handle.with_chitchat(notify).await;
        let ended = Box::pin(handle.termination_watcher());
        Ok(Protocol {
            handle,
            endpoint,
            journal,
            news,
            ended,
            decoded: HashMap::new(),
        })
    }

    /// Notified at each change of a key, by any node.
    pub(crate) fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Waits until the run ends by itself. Must not be called again after that.
    pub(crate) async fn ended(&mut self) {
        // What it ended with is told by `shut_down`.
        let _ = (&mut self.ended).await;
    }

    /// Starts an exchange with the agent at that address.
    pub(crate) fn greet(&self, address: SocketAddr) {
        if self.handle.gossip(address).is_err() {
            debug!(%address, "gossip has ended and will be started again");
        }
    }

    /// Writes this node's keys, those that differ; returns their version.
    pub(crate) async fn announce(&mut self, metadata: &Metadata) -> Result<u64, MetadataError> {
        let values = codec::encode(metadata)?;
        let write = |chitchat: &mut Chitchat| {
            let state = chitchat.self_node_state();
            for (key, value) in &values {
                state.set(key, value);
            }
            state.max_version()
        };
        let version = self.handle.with_chitchat(write).await;
        self.endpoint.screen().note_own_version(version);
        Ok(version)
    }

    /// The version of this node's own keys.
    pub(crate) async fn own_version(&mut self) -> u64 {
        self.handle
            .with_chitchat(|chitchat| chitchat.self_node_state().max_version())
            .await
    }

    /// All incarnations whose metadata is complete, as chitchat knows them now.
    pub(crate) async fn observe(&mut self, now: Instant) -> Vec<Observation> {
        let chitchat = self.handle.chitchat();
        let chitchat = chitchat.lock().await;
        let own = chitchat.self_chitchat_id();
        let live: HashSet<&ChitchatId> = chitchat.live_nodes().collect();
        let states = chitchat.node_states();
        self.decoded.retain(|member, _| states.contains_key(member));
        let mut screen = self.endpoint.screen();
        screen.retain_members(|member| states.contains_key(member), now);
        let mut observations = Vec::with_capacity(states.len());
        for (member, state) in states {
            if member == own {
                screen.note_own_version(state.max_version());
            }
            // The transport lets no other id through.
            let Ok(id) = member.node_id.parse::<NodeId>() else {
                continue;
            };
            let decoded = self.decoded.entry(member.clone()).or_insert(Decoded {
                version: 0,
                metadata: None,
            });
            decoded.update(&id, state, &self.journal);
            let Some(metadata) = decoded.metadata.clone() else {
                continue;
            };
            observations.push(Observation {
                incarnation: Incarnation(member.generation_id),
                peer: member.gossip_advertise_addr,
                metadata,
                live: live.contains(member),
                silence: screen.heartbeats().silence(member, now),
                clock_offset: screen.clock_offset(&id),
                is_self: member == own,
                id,
            });
        }
        observations
    }

    /// Ends the run and waits for it.
    pub(crate) async fn end(&mut self) {
        if self.handle.initiate_shutdown().is_ok() {
            self.ended().await;
        }
    }

    /// Ends the run, if it has not ended, and tells why it ended otherwise. The
    /// socket is silent when this returns.
    pub(crate) async fn shut_down(self) -> anyhow::Result<()> {
        self.handle.shutdown().await
    }
}

impl Decoded {
    fn update(&mut self, id: &NodeId, state: &NodeState, journal: &Journal) {
        if self.version == state.max_version() {
            return;
        }
        self.version = state.max_version();
        match codec::decode(|key| state.get(key)) {
            Ok(None) => {}
            Ok(Some(metadata)) => self.metadata = Some(Arc::new(metadata)),
            Err(error) => {
                journal.count(|counters| counters.metadata_refused += 1);
                warn!(
                    member = %id, %error,
                    "a member's metadata was not understood; the last good one stays"
                );
            }
        }
    }
}
