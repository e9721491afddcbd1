//! One thread of the proxy: a current-thread runtime with the connections given to it.
//!
//! In: accepted connections. Out: how many requests had to be cut when it stopped. Its pool of
//! connections to endpoints, its retry budget and its random numbers are its own, so that nothing
//! on the path of a request is locked but what the balancer counts. It ends when the acceptor has
//! ended and its last connection is closed.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

use super::Lifecycle;
use super::acceptor::Accepted;
use super::client_io::Scratch;
use super::connection::{self, Ended};
use super::forward::Forwarder;
use crate::balancer::Balancer;
use crate::config::ProxyConfig;
use crate::metrics::ProxyMetrics;

/// How often idle connections to endpoints are looked through for ones that are too old.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker shares with the others.
pub(super) struct Context {
    pub(super) balancer: Balancer,
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<ProxyMetrics>,
    pub(super) lifecycle: watch::Receiver<Lifecycle>,
}

/// What the connections of a worker share.
pub(super) struct Worker {
    pub(super) forwarder: Forwarder,
    pub(super) config: Arc<ProxyConfig>,
    pub(super) metrics: Arc<ProxyMetrics>,
    pub(super) lifecycle: watch::Receiver<Lifecycle>,
    /// Where bytes of clients are read into before they are looked at.
    pub(super) scratch: Scratch,
}

/// Serves connections until there are no more, and says how many requests it cut.
pub(super) fn run(
    runtime: &Runtime,
    context: Context,
    inbox: mpsc::Receiver<Accepted>,
    load: &Arc<AtomicUsize>,
) -> usize {
    let Context {
        balancer,
        config,
        metrics,
        lifecycle,
    } = context;
    let forwarder = Forwarder::new(
        balancer,
        Arc::clone(&config),
        Arc::clone(&metrics),
        lifecycle.clone(),
    );
    let scratch = Scratch::new();
    let worker = Rc::new(Worker {
        forwarder,
        config,
        metrics,
        lifecycle,
        scratch,
    });
    LocalSet::new().block_on(runtime, serve(worker, inbox, load))
}

async fn serve(
    worker: Rc<Worker>,
    mut inbox: mpsc::Receiver<Accepted>,
    load: &Arc<AtomicUsize>,
) -> usize {
    let mut connections: JoinSet<Ended> = JoinSet::new();
    let mut eviction = tokio::time::interval(EVICTION_INTERVAL);
    eviction.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cut = 0;
    let mut is_open = true;
    while is_open || !connections.is_empty() {
        tokio::select! {
            accepted = inbox.recv(), if is_open => match accepted {
                Some(accepted) => {
                    let open = Open::new(&worker.metrics, load);
                    let connection = connection::serve(Rc::clone(&worker), accepted);
                    connections.spawn_local(async move {
                        let _open = open;
                        connection.await
                    });
                }
                None => is_open = false,
            },
            Some(ended) = connections.join_next() => cut += cut_by(ended),
            _ = eviction.tick() => worker.forwarder.evict_idle(),
        }
    }
    cut
}

fn cut_by(ended: Result<Ended, JoinError>) -> usize {
    match ended {
        Ok(Ended { cut }) => usize::from(cut),
        Err(error) => {
            tracing::error!(%error, "serving a connection panicked");
            1
        }
    }
}

/// An open connection, counted until dropped.
struct Open {
    metrics: Arc<ProxyMetrics>,
    load: Arc<AtomicUsize>,
}

impl Open {
    fn new(metrics: &Arc<ProxyMetrics>, load: &Arc<AtomicUsize>) -> Self {
        metrics.connections.add_one();
        Self {
            metrics: Arc::clone(metrics),
            load: Arc::clone(load),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.subtract_one();
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}
