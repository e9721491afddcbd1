//! What the proxies stand in front of: a server that costs next to nothing.
//!
//! It answers every request with the same bytes, so that the proxy is what is
//! measured. It reads requests without a body only, which is all that the load
//! and the agents' health probes send.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Requests on a connection longer than this are nobody's of ours.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A running server; dropping it closes it with all its connections.
pub(crate) struct Backend {
    _connections: JoinSet<()>,
}

impl Backend {
    /// Listens on `address` and answers with `body_bytes` bytes.
    pub(crate) async fn start(address: SocketAddr, body_bytes: usize) -> anyhow::Result<Backend> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("a backend cannot listen on {address}"))?;
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body_bytes}\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + body_bytes, b'x');
        let mut server = JoinSet::new();
        server.spawn(accept(listener, answer.into()));
        Ok(Backend {
            _connections: server,
        })
    }
}

async fn accept(listener: TcpListener, answer: Arc<[u8]>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, answer.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers until the other side closes the connection or breaks it.
async fn serve(mut stream: TcpStream, answer: Arc<[u8]>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    loop {
        while let Some(end) = end_of_head(&buffer) {
            buffer.advance(end);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(1..) if buffer.len() <= HEAD_BYTES_MAX => {}
            _ => return,
        }
    }
}

/// Where the first head in `bytes` ends, if it does.
pub(crate) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|start| start + 4)
}
