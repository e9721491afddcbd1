//! One GET, for checks: everything bounded, every way to fail told apart.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest body that is read, in bytes; the members of the largest cluster take less.
const BODY_MAX: usize = 8 << 20;

/// An answer, of whatever status.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    /// Nothing listens.
    #[error("nothing listens on {address}")]
    Refused {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// Any other answer of the kernel.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where it was tried.
        address: SocketAddr,
        /// What it says.
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// What came is no HTTP, or ended too soon.
    #[error("what answers does not speak HTTP: {0}")]
    NotHttp(#[from] hyper::Error),
    /// More than is read.
    #[error("the answer is longer than {} MiB", BODY_MAX >> 20)]
    TooLarge,
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
}

impl Answer {
    /// A field of the head, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Asks `address` for `path`, saying that `host` is meant.
pub(super) async fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> Result<Answer, GetError> {
    let asked = timeout(limit, ask(address, host, path)).await;
    asked.unwrap_or(Err(GetError::TimedOut(limit)))
}

async fn ask(address: SocketAddr, host: &str, path: &str) -> Result<Answer, GetError> {
    let request = Request::get(path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .header(USER_AGENT, "basic-agent-doctor")
        .body(Empty::<Bytes>::new())?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused => GetError::Refused { address },
            _ => GetError::Connect { address, source },
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer; its error, if it has one, comes out of the answer too.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => GetError::NotHttp(*error),
        Err(_) => GetError::TooLarge,
    })?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}
