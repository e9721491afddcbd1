//! An answer that goes on: its lines, as they arrive.
//!
//! A watch answers in lines, whether server-sent events (ours) or a JSON
//! document a line (etcd's).

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time until the head of the answer.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// No line of a watch is longer.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The lines of an answer's body.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// Sends a request and returns when the head of a 200 is there.
    pub(crate) async fn open(
        address: SocketAddr,
        method: Method,
        target: &str,
        body: String,
    ) -> anyhow::Result<Lines> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = timeout(HEAD_MAX, async {
            let stream = TcpStream::connect(address).await?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
            // Ends with the connection; its errors come back through the body.
            tokio::spawn(connection);
            anyhow::Ok(sender.send_request(request).await?)
        });
        let answer = answer
            .await
            .with_context(|| format!("no answer to {target}"))??;
        anyhow::ensure!(
            answer.status() == 200,
            "{target} was answered with {}",
            answer.status()
        );
        Ok(Lines {
            body: answer.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// The next line without its end; `None` when the answer has ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            // Faster than a look at each byte.
            let end = searched + (&self.buffer[searched..]).skip_until(b'\n')?;
            if end > searched && self.buffer[end - 1] == b'\n' {
                let mut line = self.buffer.split_to(end);
                line.truncate(end - 1);
                return Ok(Some(line.freeze()));
            }
            searched = self.buffer.len();
            anyhow::ensure!(
                searched <= LINE_BYTES_MAX,
                "a line of more than {LINE_BYTES_MAX} bytes"
            );
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server whose one answer has these bytes as its body, in these pieces.
    pub(crate) async fn answering(status: &'static str, pieces: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .read_buf(&mut BytesMut::with_capacity(4096))
                .await
                .unwrap();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        address
    }

    async fn open(address: SocketAddr) -> anyhow::Result<Lines> {
        Lines::open(address, Method::GET, "/", String::new()).await
    }

    #[tokio::test]
    async fn lines_are_found_wherever_the_pieces_break() {
        let pieces = ["o", "ne\ntw", "o\n\nthr", "ee\nrest"].map(str::to_owned);
        let mut lines = open(answering("200 OK", pieces.to_vec()).await)
            .await
            .unwrap();
        for expected in ["one", "two", "", "three"] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        assert!(lines.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_given_up() {
        let piece = "x".repeat(LINE_BYTES_MAX + 1);
        let mut lines = open(answering("200 OK", vec![piece]).await).await.unwrap();
        assert!(lines.next().await.is_err());
    }

    #[tokio::test]
    async fn another_answer_than_200_is_an_error() {
        assert!(open(answering("410 Gone", Vec::new()).await).await.is_err());
    }
}
