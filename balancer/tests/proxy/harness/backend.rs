//! Servers that do what a test tells them, and keep what they received.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::loopback;
use super::message::Request;

/// A server on loopback. It ends when dropped.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    log: Log,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

type Log = Arc<Mutex<Vec<Request>>>;

impl Backend {
    /// A server that does `serve` with each connection.
    pub(crate) async fn start<F>(serve: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Log::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let (task_log, task_connections) = (Arc::clone(&log), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let index = task_connections.fetch_add(1, Ordering::SeqCst);
                let stream = BufStream::new(stream);
                serving.spawn(serve(Connection {
                    stream,
                    log: Arc::clone(&task_log),
                    index,
                }));
            }
        });
        Self {
            addr,
            log,
            connections,
            task,
        }
    }

    /// A server that answers every request with 200 and `body`, and keeps connections open.
    pub(crate) async fn answering(body: &'static str) -> Self {
        Self::start(move |mut connection| async move {
            while connection.request().await.is_some() {
                connection.answer(body).await;
            }
        })
        .await
    }

    /// A server that takes each request, and resets the connection instead of answering.
    pub(crate) async fn resetting() -> Self {
        Self::start(|mut connection| async move {
            connection.request().await;
            connection.reset();
        })
        .await
    }

    /// A server that answers every request with these bytes and keeps connections open.
    pub(crate) async fn sending(response: &'static str) -> Self {
        Self::start(move |mut connection| async move {
            while connection.request().await.is_some() {
                connection.send(response).await;
            }
        })
        .await
    }

    /// Ends at once, as a process that is killed does: every connection breaks, none is accepted.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    /// The requests received whole so far.
    pub(crate) fn received(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection of the proxy to a server.
pub(crate) struct Connection {
    pub(crate) stream: BufStream<TcpStream>,
    log: Log,
    /// How many connections came before this one.
    pub(crate) index: usize,
}

impl Connection {
    /// The next request, which is kept; `None` if the connection ends first.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let request = Request::read(&mut self.stream).await?;
        self.log.lock().unwrap().push(request.clone());
        Some(request)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A proxy that has gone takes nothing, which is what some tests are about.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Answers 200 with `body`.
    pub(crate) async fn answer(&mut self, body: &str) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(head + body).await;
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the proxy closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}
