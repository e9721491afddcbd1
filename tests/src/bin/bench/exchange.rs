//! Requests over connections that are kept, as cheap as can be.
//!
//! The writers share the machine with the clusters that they measure, so that what they
//! spend is missing there: a client that understood all of HTTP took a quarter of it. This
//! one knows what all contestants answer with, a head with `Content-Length` and a body, and
//! fails at anything else. A connection that is closed while it is kept fails the bench too.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::end_of_head;
use crate::load::content_length;

/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The connections that no request is under way on, by where they lead.
#[derive(Default)]
pub(crate) struct Connections {
    idle: Mutex<HashMap<SocketAddr, Vec<Connection>>>,
}

struct Connection {
    stream: TcpStream,
    /// What was read and is not used yet; the request before it is sent.
    buffer: BytesMut,
    request: Vec<u8>,
}

impl Connections {
    /// Sends a request with a JSON body; fails unless the answer is a success.
    pub(crate) async fn send(
        &self,
        address: SocketAddr,
        method: &str,
        target: &str,
        body: &str,
    ) -> anyhow::Result<()> {
        let kept = self.lock().get_mut(&address).and_then(Vec::pop);
        let exchange = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            connection.send(address, method, target, body).await?;
            anyhow::Ok(connection)
        };
        let exchange = timeout(ANSWER_MAX, exchange).await;
        let connection = exchange
            .context("no answer in time")?
            .with_context(|| format!("{method} {target} at {address}"))?;
        self.lock().entry(address).or_default().push(connection);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: BytesMut::with_capacity(4 << 10),
            request: Vec::with_capacity(4 << 10),
        })
    }

    async fn send(
        &mut self,
        address: SocketAddr,
        method: &str,
        target: &str,
        body: &str,
    ) -> anyhow::Result<()> {
        self.request.clear();
        write!(
            self.request,
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        self.stream.write_all(&self.request).await?;
        let end = loop {
            if let Some(end) = end_of_head(&self.buffer) {
                break end;
            }
            self.read().await?;
        };
        let head = self.buffer.split_to(end);
        let length = content_length(&head).context("an answer without Content-Length")?;
        while self.buffer.len() < length {
            self.read().await?;
        }
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 2"),
            "answered with {:?}",
            String::from_utf8_lossy(&[&head, &self.buffer[..length]].concat())
        );
        self.buffer.advance(length);
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(read > 0, "the connection was closed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::tests::answering;

    async fn send(status: &'static str, body: &str) -> anyhow::Result<()> {
        let length = body.len();
        let pieces = [
            format!("{status}\r\ncontent-length: {length}"),
            body.to_owned(),
        ];
        let [status, body] = pieces;
        let address = answering(status.leak(), vec![body]).await;
        let connections = Connections::default();
        let sent = connections.send(address, "PUT", "/x", "{}").await;
        let kept = connections.lock().get(&address).map_or(0, Vec::len);
        assert_eq!(kept, usize::from(sent.is_ok()));
        sent
    }

    #[tokio::test]
    async fn only_a_success_with_its_whole_body_counts() {
        send("201 Created", "done").await.unwrap();
        let error = send("503 Unavailable", "come back").await.unwrap_err();
        assert!(format!("{error:#}").contains("come back"), "{error:#}");
        let address = answering("200 OK\r\ncontent-length: 9", vec!["cut".to_owned()]).await;
        let cut = Connections::default()
            .send(address, "PUT", "/x", "{}")
            .await;
        assert!(cut.is_err());
    }
}
