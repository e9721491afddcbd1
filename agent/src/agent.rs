//! The agent's life: everything that it consists of, in the order in which it starts
//! and stops.
//!
//! Start: store, identity, all listeners, then the parts that run. Nothing is
//! announced to other nodes and nothing served before everything is open and bound; a
//! failure up to then leaves nothing behind. Then the node joins, catches up, and only
//! then takes traffic.
//!
//! Stop (a signal, or a request to leave): announce that it drains, so that no new
//! requests come; finish what is in flight; bring peers up to date; leave; close.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use basic_balancer::probe::{Probe, ProbeHandle};
use basic_balancer::{Balancer, Proxy, RunningProxy};
use basic_membership::{AnnouncedState, Cluster, Identity};
use basic_sync::net::Handle;
use basic_sync::storage::JournaledStorage;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::api::{self, Api};
use crate::config::{Config, Loaded, PeerSecret};
use crate::error::RunError;
use crate::events::{Events, StopReason};
use crate::keys::OpenedKeys;
use crate::operations::{self, ConflictLatch, Operations, Removed};
use crate::peer_port::{self, Connector, Credentials, Limits, PeerPort, Protocol, Routes};
use crate::records::Records;
use crate::servers::{self, Registry};
use crate::sync_tasks::SyncTasks;
use crate::tasks::Tasks;
use crate::wiring::clock::ClockGuard;
use crate::wiring::{health, peers, readiness, routing, settings};

/// Memory for pages of the store.
const STORE_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Peer connections that wait to be taken up by what they are for.
const INCOMING_WAITING: usize = 16;
/// How long requests in flight may take to end when the agent stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long peers may take to store this node's last writes when it stops.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// How long the announcement that this node drains travels before it leaves: gossip
/// reaches every node of a small cluster within three rounds.
const DRAIN_ROUNDS: u32 = 3;
/// How long gossip may take to take up an announcement, ...
const ANNOUNCE_MAX: Duration = Duration::from_secs(5);
/// ... and to leave.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// How long the store may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// The task that serves the API; it answers to the last.
const API_TASK: &str = "API";

/// Runs the agent until it is told to stop.
///
/// # Errors
/// [`RunError`]: it could not start, or a part of it failed.
pub async fn run(loaded: Loaded, secret: PeerSecret) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (stop, mut stopping) = watch::channel(false);
    let starting = async {
        let opened = Opened::open(&loaded.config, &secret).await?;
        Agent::start(opened, loaded.config, stop).await
    };
    let mut agent = tokio::select! {
        started = starting => started?,
        name = signals.next() => {
            info!(signal = name, "stopped before it had started");
            return Ok(());
        }
    };

    // Given up where it stands when the agent is told to stop.
    let mut removed = None;
    let outcome = {
        let mut activation = pin!(agent.activation());
        let mut removal = pin!(agent.removal());
        let mut active = false;
        loop {
            tokio::select! {
                () = &mut activation, if !active => active = true,
                name = signals.next() => {
                    info!(signal = name, "stopping");
                    agent.events.stopping(&StopReason::Signal(name));
                    break Ok(());
                }
                _ = stopping.wait_for(|stop| *stop) => {
                    info!("asked to leave; stopping");
                    agent.events.stopping(&StopReason::Asked);
                    break Ok(());
                }
                by = &mut removal => {
                    info!(by = by.order.by, why = by.order.why, "removed from the cluster; leaving in order");
                    agent.events.stopping(&StopReason::Removed);
                    removed = Some(by);
                    break Ok(());
                }
                ended = agent.tasks.ended() => break Err(ended),
            }
        }
    };
    if let Err(error) = &outcome {
        error!(%error, "stopping");
        agent
            .events
            .stopping(&StopReason::Defect(error.to_string()));
    }
    tokio::select! {
        () = agent.stop() => {}
        name = signals.next() => warn!(signal = name, "stopping at once: a second signal came"),
    }
    if let Some(removed) = removed {
        warn!("{removed}");
    }
    Ok(outcome?)
}

/// Everything that is opened and bound before anything runs.
struct Opened {
    store: JournaledStorage,
    identity: Identity,
    api: TcpListener,
    balancer: Balancer,
    proxy: Proxy,
    udp: std::net::UdpSocket,
    peers: peer_port::Listener,
    keys: OpenedKeys,
    app: SocketAddr,
}

impl Opened {
    async fn open(config: &Config, secret: &PeerSecret) -> Result<Self, RunError> {
        let data_dir = &config.node.data_dir;
        let data_dir_error = |source| RunError::DataDir {
            path: data_dir.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(data_dir_error)?;
        // The store first: it also keeps a second agent out of the directory.
        let store = JournaledStorage::open(data_dir, STORE_CACHE_BYTES)?;
        let configured = config
            .node
            .id
            .as_ref()
            .map(|id| id.as_str().parse())
            .transpose()?;
        let identity = Identity::load_or_create(data_dir, configured, SystemTime::now())?;

        let address = config.api.listen;
        let api = TcpListener::bind(address).await;
        let api = api.map_err(|source| RunError::BindApi { address, source })?;
        let balancer = Balancer::new(basic_balancer::Config::default());
        let proxy_config = settings::proxy(config, &identity);
        let proxy = Proxy::bind(config.proxy.listen, balancer.clone(), proxy_config)?;
        let (udp, peers) = PeerPort::bind(config.peer.listen)?.into_parts();

        let keys = OpenedKeys::open(config, identity.id.as_str(), secret)?;
        let app = settings::app_address(config).await?;
        Ok(Self {
            store,
            identity,
            api,
            balancer,
            proxy,
            udp,
            peers,
            keys,
            app,
        })
    }
}

/// Everything that runs.
struct Agent {
    config: Config,
    cluster: Cluster,
    replica: Handle,
    records: Records,
    events: Events,
    proxy: RunningProxy,
    probe: ProbeHandle,
    tasks: Tasks,
    /// Told to close: the peer port and the API.
    closing: watch::Sender<bool>,
    began: Instant,
}

impl Agent {
    async fn start(
        opened: Opened,
        config: Config,
        stop: watch::Sender<bool>,
    ) -> Result<Self, RunError> {
        let began = Instant::now();
        let mut tasks = Tasks::default();
        let (closing, closed) = watch::channel(false);
        let Opened {
            store,
            identity,
            api,
            balancer,
            proxy,
            udp,
            peers,
            keys,
            app,
        } = opened;
        let node = identity.id.clone();
        let advertised = config.peer.advertised(peers.address());
        let api_address = api.local_addr().unwrap_or(config.api.listen);

        let credentials = keys.credentials.clone();
        let connector = Connector::new(&credentials, Connector::TIMEOUT_DEFAULT);
        let mut routes = Routes::new();
        let incoming_sync = routes.serve(Protocol::Sync, INCOMING_WAITING);
        let incoming_gossip = routes.serve(Protocol::Gossip, INCOMING_WAITING);
        let peer_statistics = Arc::new(peer_port::Statistics::default());

        let replication_connector = Arc::new(peers::ReplicationConnector::new(connector.clone()));
        let replica = basic_sync::net::start(
            Arc::new(store),
            settings::replication(&config, node.as_str()),
            replication_connector,
        )?;
        let (records, signalling) = Records::new(replica.clone());
        if let Some(removed) = operations::apply::own_removal(&records, &identity)? {
            return Err(removed.into());
        }
        tasks.spawn("changes of records", signalling);
        let (events, events_background) = Events::open(
            &config.node.data_dir,
            &config.events,
            &identity,
            SystemTime::now(),
        )?;
        tasks.spawn_on(
            replica.connections(),
            "replication from peers",
            peers::serve_replication(incoming_sync, replica.clone()),
        );
        let (large_frames, large_frames_task) =
            peers::large_frames(connector, advertised, incoming_gossip);
        tasks.spawn("large gossip frames", large_frames_task);

        let serving = serve_peers(
            peers,
            credentials,
            routes,
            peer_statistics.clone(),
            closed.clone(),
        );
        tasks.spawn_on(replica.connections(), "peer port", serving);
        if let Some(files) = keys.certificate_files.clone() {
            let watching = peer_port::watch_files(keys.credentials.clone(), files);
            tasks.spawn("certificate files", watching);
        }
        let origin = replica.status().borrow().origin;
        let cluster = Cluster::join(
            settings::membership(&config, identity, advertised)?,
            keys.keyring.clone(),
            udp,
            settings::metadata(&config, &origin.to_string(), api_address),
            Some(large_frames),
        )
        .await?;
        tasks.spawn("gossip", {
            let cluster = cluster.clone();
            async move { cluster.stopped().await }
        });
        tasks.spawn("replication", {
            let replica = replica.clone();
            async move { replica.stopped().await }
        });
        operations::apply::apply(&cluster, &records)?;
        tasks.spawn(
            "decisions of operators",
            operations::apply::keep_applying(cluster.clone(), records.clone()),
        );
        tasks.spawn(
            "data of removed nodes",
            operations::apply::keep_giving_up(cluster.clone(), records.clone(), replica.clone()),
        );
        let latch = ConflictLatch::new(cluster.clone(), replica.clone());
        tasks.spawn("two nodes with one id", latch.clone().watch(advertised));
        let clock = ClockGuard::default();
        tasks.spawn(
            "clock",
            clock.clone().watch(cluster.clone(), replica.clone()),
        );
        let (writing, recording, telling) =
            events_background.into_tasks(&events, &cluster, records.clone());
        tasks.spawn("journal of events", writing);
        tasks.spawn("events", recording);
        tasks.spawn("hooks", telling);
        let (registry, following) = Registry::new(records.clone(), proxy.local_addr());
        tasks.spawn("servers without an agent", following);
        tasks.spawn(
            "probes of servers without an agent",
            servers::prober::run(registry.clone(), cluster.clone(), settings::pace(&config)),
        );
        tasks.spawn(
            "endpoints",
            routing::feed_balancer(
                cluster.clone(),
                registry.clone(),
                balancer.clone(),
                replica.clone(),
            ),
        );
        tasks.spawn(
            "replication peers",
            routing::feed_replication(cluster.clone(), replica.clone()),
        );

        let probe = Probe::spawn(settings::probe(&config, app));
        tasks.spawn(
            "app health",
            health::announce(cluster.clone(), probe.watch()),
        );
        // Before there is anybody to send requests to, clients wait in the kernel's queue.
        readiness::discover(&config, advertised, &cluster, &replica).await;
        let proxy = proxy.run()?;

        let operations = Operations::new(cluster.clone(), records.clone(), balancer.clone(), latch);
        let audit = operations.audit().clone();
        let keys = keys.run(cluster.clone(), records.clone(), audit);
        tasks.spawn("keys", keys.clone().follow());
        let (sync_tasks, carrying_out) =
            SyncTasks::open(&config, cluster.clone(), replica.clone(), records.clone())?;
        tasks.spawn("sync tasks", carrying_out);
        let api_state = Api::new(api::Parts {
            config: config.clone(),
            cluster: cluster.clone(),
            replica: replica.clone(),
            balancer,
            proxy: proxy.metrics().clone(),
            proxy_address: proxy.local_addr(),
            app_health: probe.watch(),
            peer_port: peer_statistics,
            events: events.clone(),
            records: records.clone(),
            operations,
            clock,
            keys,
            registry,
            sync_tasks,
            stop,
            began,
            transfers: api::transfers(),
        });
        tasks.spawn(API_TASK, api::serve(api, api_state, closed));
        info!(%node, cluster = %config.node.cluster, peer = %advertised, api = %api_address, proxy = %proxy.local_addr(), "started");
        Ok(Self {
            config,
            cluster,
            replica,
            records,
            events,
            proxy,
            probe,
            tasks,
            closing,
            began,
        })
    }

    /// Catches up, and then takes traffic.
    fn activation(&self) -> impl Future<Output = ()> + use<> {
        let cluster = self.cluster.clone();
        let replica = self.replica.clone();
        let began = self.began;
        async move {
            announce(&cluster, AnnouncedState::CatchingUp).await;
            readiness::caught_up(&cluster, &replica).await;
            announce(&cluster, AnnouncedState::Active).await;
            info!(took_ms = began.elapsed().as_millis(), "ready");
        }
    }

    /// Waits until an operator removes this node.
    fn removal(&self) -> impl Future<Output = Removed> + use<> {
        operations::apply::removed_meanwhile(self.cluster.clone(), self.records.clone())
    }

    /// Stops in order. Nothing that was acknowledged is lost, at whatever point it is
    /// cut off; every wait has an end.
    async fn stop(mut self) {
        // A node that is still catching up takes no traffic, and must not be listed as
        // one that can take some if need be.
        if self.cluster.metadata().announced == AnnouncedState::Active {
            announce(&self.cluster, AnnouncedState::Draining).await;
            sleep(self.config.gossip.interval * DRAIN_ROUNDS).await;
        }
        let drained = self.proxy.shutdown(DRAIN_MAX).await;
        if drained.cut > 0 {
            warn!(
                requests = drained.cut,
                "requests were cut off: they took too long to end"
            );
        }
        self.replica.end_writes();
        if !self.replica.flush(FLUSH_MAX).await {
            warn!(
                "this node's last writes are not on the disks of its peers; they get them when it returns"
            );
        }
        self.probe.stop().await;
        match timeout(LEAVE_MAX, self.cluster.leave()).await {
            Ok(Ok(report)) if !report.unconfirmed.is_empty() => {
                warn!(unconfirmed = ?report.unconfirmed, "not every member has confirmed that this node leaves");
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "could not leave the cluster in order"),
            Err(_) => warn!("could not leave the cluster in order: gossip does not answer"),
        }
        self.closing.send_replace(true);
        // The last answers of the API, the one to a request to leave among them.
        self.tasks.until_ended(API_TASK).await;
        if timeout(CLOSE_MAX, self.replica.shutdown()).await.is_err() {
            warn!("the store does not close: its disk does not answer");
        }
        self.events.close().await;
        self.tasks.stop().await;
        info!("stopped");
    }
}

/// Announces a state, and waits until gossip has taken it up, within reason.
async fn announce(cluster: &Cluster, state: AnnouncedState) {
    let announced = cluster.set_metadata(|metadata| metadata.announced = state);
    match timeout(ANNOUNCE_MAX, announced).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, ?state, "the new state could not be announced"),
        Err(_) => warn!(
            ?state,
            "the new state could not be announced: gossip does not answer"
        ),
    }
}

async fn serve_peers(
    listener: peer_port::Listener,
    credentials: Credentials,
    routes: Routes,
    statistics: Arc<peer_port::Statistics>,
    mut closed: watch::Receiver<bool>,
) {
    let closing = async move {
        // A sender that is gone closes it as well.
        let _ = closed.wait_for(|closed| *closed).await;
    };
    let served = listener
        .serve(&credentials, routes, Limits::default(), statistics, closing)
        .await;
    if let Err(error) = served {
        error!(%error, "the peer port failed");
    }
}

/// The signals that end the agent.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
