//! A look at what answers at an address before it is registered.
//!
//! Where the proxies of other agents listen is not known; one that was registered would send requests round in a
//! circle. A proxy of ours names a node in every response ([`NODE_HEADER`]), which no server does. A server that does
//! not answer yet is none of this module's business: its probe will tell.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HealthPath;

/// How long the look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// What a proxy of an agent adds to responses.
const NODE_HEADER: HeaderName = HeaderName::from_static("basic-node");

/// Whether a proxy of an agent answers at `target`, as far as that shows in time.
pub(super) async fn is_proxy(target: SocketAddr, health: &HealthPath) -> bool {
    let looked = timeout(LOOK_MAX, look(target, health)).await;
    // That nobody answers, or not in HTTP, does not make it a proxy.
    matches!(looked, Ok(Ok(true)))
}

async fn look(
    target: SocketAddr,
    health: &HealthPath,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(health.as_str())
        .header(header::HOST, target.to_string())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, "basic-agent-preflight")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request);
    tokio::select! {
        response = response => Ok(response?.headers().contains_key(NODE_HEADER)),
        // It can end before the response is seen; then the response says how.
        ended = drive(connection) => match ended {},
    }
}

/// Drives a connection, and never returns: what comes of it is told to whoever waits for it.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> std::convert::Infallible {
    // An error here has been handed to the waiting request.
    let _ = connection.await;
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(response: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(response).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_proxy_is_known_by_the_node_that_it_names() {
        let health: HealthPath = "/health".parse().unwrap();
        let proxy = answering(b"HTTP/1.1 200 OK\r\nbasic-node: n1\r\ncontent-length: 0\r\n\r\n");
        assert!(is_proxy(proxy.await, &health).await);
        let server = answering(b"HTTP/1.1 503 Ill\r\ncontent-length: 0\r\n\r\n");
        assert!(!is_proxy(server.await, &health).await);
        let other = answering(b"220 mail.example.org ESMTP\r\n");
        assert!(!is_proxy(other.await, &health).await);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr();
        assert!(!is_proxy(closed.unwrap(), &health).await);
    }
}
