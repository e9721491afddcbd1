//! The data plane: client connections in, requests out to the endpoints that the balancer picks.
//!
//! [`Proxy::bind`] takes the address, [`Proxy::run`] starts the threads: one accepts
//! (`acceptor.rs`) and hands each connection to the least loaded of several workers (`worker.rs`),
//! which are current-thread runtimes that share nothing but the balancer and the counters.
//! A connection (`connection.rs`) reads through a guard (`client_io.rs`). Each of its requests is
//! carried to the endpoint picked (`forward.rs`), in one attempt or several (`attempt.rs`), over a
//! connection from the pool or a new one (`pool.rs`, `upstream.rs`). What is changed on the way is
//! in `headers.rs`, `trace.rs` and `outbound.rs`; bodies are in `request_body.rs` and
//! `response_body.rs`; what a client is told when nothing comes back, in `problem.rs`.
//!
//! Today hyper speaks HTTP/1 on both sides. Requests of clients for an upgrade are forwarded as
//! plain requests; trailers are dropped in both directions.

mod acceptor;
mod attempt;
mod client_io;
mod connection;
mod forward;
mod headers;
mod outbound;
mod pool;
mod problem;
mod request_body;
mod response_body;
mod trace;
mod upstream;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc as blocking};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::balancer::Balancer;
use crate::config::ProxyConfig;
use crate::error::{BindError, StartError};
use crate::metrics::ProxyMetrics;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Connections that wait to be taken over by a worker. When so many wait, accepting waits.
const HANDOVERS_MAX: usize = 64;

/// What the proxy is about to do with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifecycle {
    Serving,
    /// Finish what is there, begin nothing that was not on its way.
    Draining,
    /// Leave everything.
    Stopped,
}

/// A proxy that has its address and serves nobody yet.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    local_addr: SocketAddr,
    balancer: Balancer,
    config: ProxyConfig,
}

impl Proxy {
    /// Takes `address` at once. Clients that connect from now on wait until [`Proxy::run`].
    ///
    /// # Errors
    /// The address is in use, or the system refuses it; either names the address.
    pub fn bind(
        address: SocketAddr,
        balancer: Balancer,
        config: ProxyConfig,
    ) -> Result<Self, BindError> {
        let (listener, local_addr) =
            listen(address).map_err(|source| BindError::new(address, source))?;
        Ok(Self {
            listener,
            local_addr,
            balancer,
            config,
        })
    }

    /// Where it listens; with the port that was given out if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts the threads. When this returns, requests are served.
    ///
    /// # Errors
    /// A thread or its runtime cannot be started; then none is left running.
    pub fn run(self) -> Result<RunningProxy, StartError> {
        let (lifecycle, observer) = watch::channel(Lifecycle::Serving);
        let mut running = RunningProxy {
            local_addr: self.local_addr,
            metrics: Arc::new(ProxyMetrics::default()),
            lifecycle,
            threads: Vec::new(),
            finished: Vec::new(),
        };
        let count = self.config.workers.map_or_else(cores, NonZeroUsize::get);
        let permits = Arc::new(Semaphore::new(
            self.config.connections_max.clamp(1, Semaphore::MAX_PERMITS),
        ));
        let config = Arc::new(self.config);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, inbox) = mpsc::channel(HANDOVERS_MAX);
            let load = Arc::new(AtomicUsize::new(0));
            workers.push(acceptor::Worker {
                sender,
                load: Arc::clone(&load),
            });
            let context = worker::Context {
                balancer: self.balancer.clone(),
                config: Arc::clone(&config),
                metrics: Arc::clone(&running.metrics),
                lifecycle: observer.clone(),
            };
            running.start(format!("proxy-{index}"), move |runtime| {
                worker::run(runtime, context, inbox, &load)
            })?;
        }
        let listener = self.listener;
        let metrics = Arc::clone(&running.metrics);
        running.start("proxy-accept".to_owned(), move |runtime| {
            acceptor::run(runtime, listener, &workers, &permits, observer, &metrics);
            0
        })?;
        tracing::info!(address = %self.local_addr, workers = count, "proxy serves");
        Ok(running)
    }
}

/// A proxy that serves. Dropping it stops it at once, and cuts what is in flight.
#[derive(Debug)]
pub struct RunningProxy {
    local_addr: SocketAddr,
    metrics: Arc<ProxyMetrics>,
    lifecycle: watch::Sender<Lifecycle>,
    threads: Vec<JoinHandle<()>>,
    /// How many requests each thread cut, sent when it ends.
    finished: Vec<oneshot::Receiver<usize>>,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were still in flight when the grace period was over, and were cut.
    pub cut: usize,
}

impl RunningProxy {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it has counted.
    pub fn metrics(&self) -> &Arc<ProxyMetrics> {
        &self.metrics
    }

    /// Stops, and loses nothing that ends within `grace`.
    ///
    /// Clients already connected, in the kernel's queue too, are served; new ones are refused.
    /// Every response now says `Connection: close`. A connection without a request is closed
    /// after [`ProxyConfig::drain_idle`], so that a request that is on its way is still answered.
    /// Returns as soon as no connection is left, at the latest when `grace` is over and what is
    /// then in flight is cut.
    pub async fn shutdown(mut self, grace: Duration) -> Drained {
        self.lifecycle.send_replace(Lifecycle::Draining);
        let deadline = tokio::time::Instant::now() + grace;
        let mut cut = 0;
        for finished in std::mem::take(&mut self.finished) {
            cut += self.await_finish(finished, deadline).await;
        }
        tracing::info!(address = %self.local_addr, cut, "proxy stopped");
        Drained { cut }
    }

    async fn await_finish(
        &self,
        mut finished: oneshot::Receiver<usize>,
        deadline: tokio::time::Instant,
    ) -> usize {
        let cut = match tokio::time::timeout_at(deadline, &mut finished).await {
            Ok(cut) => cut,
            Err(_) => {
                self.lifecycle.send_replace(Lifecycle::Stopped);
                finished.await
            }
        };
        // A thread that died said so in the log and took its connections with it.
        cut.unwrap_or(0)
    }

    fn start(
        &mut self,
        name: String,
        work: impl FnOnce(&Runtime) -> usize + Send + 'static,
    ) -> Result<(), StartError> {
        let (started, is_started) = blocking::sync_channel::<io::Result<()>>(1);
        let (finish, finished) = oneshot::channel();
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let (runtime, outcome) = match runtime {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let is_awaited = started.send(outcome).is_ok();
            if let (Some(runtime), true) = (runtime, is_awaited) {
                // Nobody waits for the number if the proxy was dropped.
                let _ = finish.send(work(&runtime));
            }
        });
        let thread = thread.map_err(|source| StartError::Thread { name, source })?;
        self.threads.push(thread);
        self.finished.push(finished);
        let outcome = is_started
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        outcome.map_err(|source| StartError::Runtime { source })
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        self.lifecycle.send_replace(Lifecycle::Stopped);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the proxy panicked");
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the process before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
