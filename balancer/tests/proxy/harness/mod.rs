//! A proxy over test servers, and what the tests wait with.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod message;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use basic_balancer::{Admission, Balancer, Config, Endpoint, Proxy, ProxyConfig, RunningProxy};

pub(crate) use backend::{Backend, Connection};
pub(crate) use client::Client;
pub(crate) use message::{Request, Response};

/// How long anything that ought to happen may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that serves, with the balancer that it asks.
pub(crate) struct TestProxy {
    pub(crate) running: RunningProxy,
    pub(crate) balancer: Balancer,
}

impl TestProxy {
    /// A proxy with default settings over `backends`, whose ids are n1, n2 and so on.
    pub(crate) fn over(backends: &[SocketAddr]) -> Self {
        Self::with(backends, |_| {})
    }

    /// The same with settings changed.
    pub(crate) fn with(backends: &[SocketAddr], change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let balancer = Balancer::new(Config::default());
        balancer.set_endpoints(endpoints(backends));
        let mut config = ProxyConfig::new("test");
        config.drain_idle = Duration::from_millis(100);
        change(&mut config);
        let proxy = Proxy::bind(loopback(), balancer.clone(), config).unwrap();
        Self {
            running: proxy.run().unwrap(),
            balancer,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.local_addr()
    }

    /// A new connection to the proxy.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr()).await
    }

    /// What the proxy answers to these bytes on a connection of their own.
    pub(crate) async fn ask(&self, request: &str) -> Response {
        let mut client = self.client().await;
        client.send(request).await;
        client.response().await
    }
}

/// Accepting endpoints n1, n2 and so on.
pub(crate) fn endpoints(targets: &[SocketAddr]) -> Vec<Endpoint> {
    let endpoint = |(index, target): (usize, &SocketAddr)| Endpoint {
        id: format!("n{}", index + 1).as_str().into(),
        target: *target,
        weight: 100,
        local: index == 0,
        admission: Admission::Accepting,
    };
    targets.iter().enumerate().map(endpoint).collect()
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// An address at which nobody listens.
pub(crate) fn dead_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    listener.local_addr().unwrap()
}

/// A GET of `path` on a connection that stays open.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n")
}

/// A request with a body of known length on a connection that stays open.
pub(crate) fn with_body(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: app.example\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not come: {what}"),
    }
}
