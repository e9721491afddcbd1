//! The load on a proxy: connections that are kept and used again and again.
//!
//! Each connection has one request under way at a time. Either the next follows
//! at once, which finds how much the proxy can carry, or the next is due at a
//! fixed rate, which finds what the proxy adds while nobody waits in line. The
//! client reads no more of HTTP than the length of the body: what it spends is
//! spent on every contestant alike, and it should be little.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::load::quantile;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::end_of_head;

/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nhost: bench.example\r\n\r\n";

/// A load to come.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) target: SocketAddr,
    /// Connections at once.
    pub(crate) connections: u32,
    /// For how long.
    pub(crate) duration: Duration,
    /// Requests a second over all connections; `None` for as many as go.
    pub(crate) rate: Option<u32>,
    /// What the body of every answer has to be long.
    pub(crate) body_bytes: usize,
}

/// What became of a load.
pub(crate) struct Outcome {
    /// Of each request, in ascending order.
    latencies: Vec<Duration>,
    /// From the first request to the last answer.
    elapsed: Duration,
}

impl Load {
    /// Sends it. Fails at the first request that is not answered with 200.
    pub(crate) async fn run(self) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let mut connections = JoinSet::new();
        for index in 0..self.connections {
            connections.spawn(self.connection(index, start));
        }
        let mut latencies = Vec::new();
        while let Some(finished) = connections.join_next().await {
            let target = self.target;
            let connection = finished.context("a load task panicked")?;
            latencies.append(&mut connection.with_context(|| format!("the load on {target}"))?);
        }
        let elapsed = start.elapsed();
        latencies.sort_unstable();
        Ok(Outcome { latencies, elapsed })
    }

    async fn connection(self, index: u32, start: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let mut buffer = BytesMut::with_capacity(8 << 10);
        let mut latencies = Vec::new();
        let interval = self
            .rate
            .map(|rate| Duration::from_secs(1) * self.connections / rate.max(1));
        // Spread over the interval, so that the connections do not send in step.
        let mut due = start + interval.unwrap_or_default() * index / self.connections.max(1);
        while start.elapsed() < self.duration {
            if let Some(interval) = interval {
                tokio::time::sleep_until(due.into()).await;
                due += interval;
            }
            let sent = Instant::now();
            let exchange = self.exchange(&mut stream, &mut buffer);
            tokio::time::timeout(ANSWER_MAX, exchange)
                .await
                .context("no answer in time")??;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }

    async fn exchange(&self, stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<()> {
        stream.write_all(REQUEST).await?;
        let end = loop {
            if let Some(end) = end_of_head(buffer) {
                break end;
            }
            anyhow::ensure!(
                stream.read_buf(buffer).await? > 0,
                "the connection was closed"
            );
        };
        let head = buffer.split_to(end);
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 200 "),
            "answered with {:?}",
            String::from_utf8_lossy(&head)
        );
        let length = content_length(&head).context("an answer without Content-Length")?;
        anyhow::ensure!(length == self.body_bytes, "a body of {length} bytes");
        while buffer.len() < length {
            anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the body broke off");
        }
        buffer.advance(length);
        Ok(())
    }
}

impl Outcome {
    /// How many requests were answered.
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// Answers in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency that this share of all requests did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        quantile(&self.latencies, share)
    }
}

/// The length that the head of an answer states.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::backend::Backend;

    async fn backend(body_bytes: usize) -> (SocketAddr, Backend) {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        (address, Backend::start(address, body_bytes).await.unwrap())
    }

    #[tokio::test]
    async fn a_load_counts_what_the_backend_answers() {
        let (target, _backend) = backend(1000).await;
        let load = Load {
            target,
            connections: 3,
            duration: Duration::from_millis(50),
            rate: None,
            body_bytes: 1000,
        };
        let outcome = load.run().await.unwrap();
        assert!(outcome.requests() >= 3 && outcome.per_second() > 0.0);
        assert!(outcome.latency(0.5) <= outcome.latency(1.0));
    }

    #[tokio::test]
    async fn an_answer_of_another_length_fails_the_load() {
        let (target, _backend) = backend(999).await;
        let load = Load {
            target,
            connections: 1,
            duration: Duration::from_secs(1),
            rate: Some(10),
            body_bytes: 1000,
        };
        assert!(load.run().await.is_err());
    }

    #[test]
    fn the_length_is_found_in_any_spelling() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-length:  12 \r\n\r\n";
        assert_eq!(content_length(head), Some(12));
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
