//! A client that sends bytes and sees bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::message::Response;
use super::soon;

/// One connection to the proxy.
pub(crate) struct Client {
    pub(crate) stream: BufStream<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufStream::new(stream),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to a proxy that may have closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// The next response, which must come.
    pub(crate) async fn response(&mut self) -> Response {
        self.try_response()
            .await
            .expect("a response before the connection ends")
    }

    /// The next response; `None` if the connection ends without one.
    pub(crate) async fn try_response(&mut self) -> Option<Response> {
        soon("a response", Response::read(&mut self.stream, false)).await
    }

    /// The next response, to a HEAD request.
    pub(crate) async fn response_to_head(&mut self) -> Response {
        soon("a response", Response::read(&mut self.stream, true))
            .await
            .expect("a response")
    }

    /// Sends a request and awaits its response.
    pub(crate) async fn ask(&mut self, request: &str) -> Response {
        self.send(request).await;
        self.response().await
    }

    /// Whether the proxy closes the connection without sending anything more.
    pub(crate) async fn sees_end(&mut self) -> bool {
        matches!(
            soon("the end", self.stream.read(&mut [0; 16])).await,
            Ok(0) | Err(_)
        )
    }
}
