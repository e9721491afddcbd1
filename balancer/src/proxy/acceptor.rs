//! Accepts connections and hands each to the worker that has fewest.
//!
//! One acceptor for all workers, because listeners with SO_REUSEPORT deal connections out by hash
//! and load workers unevenly when there are few. Never more than the permitted number of
//! connections is open: without a permit nothing is accepted and newcomers wait in the kernel's
//! queue. On draining, that queue is emptied before the listener closes, since its clients have
//! been told that they are connected.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::Lifecycle;
use crate::metrics::ProxyMetrics;

/// How long to wait after accepting failed, so that a lack of file descriptors does not spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// A client's connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Held as long as the connection is open.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A worker as the acceptor sees it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) sender: mpsc::Sender<Accepted>,
    /// Connections handed to it that are still open.
    pub(super) load: Arc<AtomicUsize>,
}

/// Accepts until the proxy no longer serves.
pub(super) fn run(
    runtime: &Runtime,
    listener: TcpListener,
    workers: &[Worker],
    permits: &Arc<Semaphore>,
    mut lifecycle: watch::Receiver<Lifecycle>,
    metrics: &ProxyMetrics,
) {
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "proxy cannot accept connections");
                return;
            }
        };
        loop {
            // Nothing that was accepted is lost here: handing over is not cancelled.
            let next = tokio::select! {
                biased;
                _ = lifecycle.wait_for(|now| *now != Lifecycle::Serving) => break,
                next = accept_next(&listener, permits, metrics) => next,
            };
            match next {
                Ok(accepted) => hand_over(accepted, workers, metrics).await,
                Err(error) => {
                    metrics.accept_failures.add_one();
                    tracing::debug!(%error, "connection not accepted");
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
        if *lifecycle.borrow() == Lifecycle::Draining {
            accept_queued(listener, workers, permits, metrics).await;
        }
    });
}

async fn accept_next(
    listener: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
    metrics: &ProxyMetrics,
) -> io::Result<Accepted> {
    if permits.available_permits() == 0 {
        metrics.accept_pauses.add_one();
    }
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok(Accepted {
        stream: stream.into_std()?,
        peer,
        permit,
    })
}

async fn accept_queued(
    listener: tokio::net::TcpListener,
    workers: &[Worker],
    permits: &Arc<Semaphore>,
    metrics: &ProxyMetrics,
) {
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        if stream.set_nonblocking(true).is_ok() {
            hand_over(
                Accepted {
                    stream,
                    peer,
                    permit,
                },
                workers,
                metrics,
            )
            .await;
        }
    }
}

async fn hand_over(accepted: Accepted, workers: &[Worker], metrics: &ProxyMetrics) {
    let least_loaded = workers
        .iter()
        .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
    let Some(worker) = least_loaded else {
        return;
    };
    metrics.accepted.add_one();
    worker.load.fetch_add(1, Ordering::Relaxed);
    if worker.sender.send(accepted).await.is_err() {
        // The worker has ended, which it does only when everything stops.
        worker.load.fetch_sub(1, Ordering::Relaxed);
    }
}
