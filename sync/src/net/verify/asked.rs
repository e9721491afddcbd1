//! A node that takes part in a comparison: this one, or a peer over a connection.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::incoming::{Greeting, invalid, read_body, read_hello, read_length};
use super::super::{Connector, Peer, Stream};
use super::desk::Desk;
use crate::codec::{self, FRAME_BYTES_MAX, Hello, Lane, PROTOCOL};
use crate::verify::{Answer, Request};

/// An answer that takes longer will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How a node is asked.
pub(super) enum Way {
    Own(Desk),
    Connection(Box<dyn Stream>),
}

/// Connects to a peer for a comparison.
pub(super) async fn connect(
    connector: &dyn Connector,
    greeting: &Greeting,
    peer: &Peer,
) -> Result<Way, String> {
    let connected = timeout(ANSWER_TIMEOUT, greet(connector, greeting, peer)).await;
    match connected {
        Ok(Ok(stream)) => Ok(Way::Connection(stream)),
        Ok(Err(error)) => Err(super::super::driver::chain(&error)),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

async fn greet(
    connector: &dyn Connector,
    greeting: &Greeting,
    peer: &Peer,
) -> io::Result<Box<dyn Stream>> {
    let mut stream = connector.connect(peer).await?;
    let Greeting { cluster, node } = greeting.clone();
    let hello = Hello {
        protocol: PROTOCOL,
        cluster,
        node,
        lane: Lane::Verify,
    };
    stream.write_all(&codec::encode_hello(&hello)).await?;
    stream.flush().await?;
    // A version that does not know the lane cannot decode the greeting, and parts.
    let theirs = read_hello(&mut stream).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => io::Error::other(
            "it hung up at the greeting: its agent runs an older version, which cannot be compared; bring it to this version",
        ),
        _ => error,
    })?;
    greeting.check(&theirs, &peer.id)?;
    Ok(stream)
}

impl Way {
    /// Asks, and waits for the answer; an error is a part of a sentence about the node.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        let answer = match self {
            Self::Own(desk) => desk.answer(request.clone()).await,
            Self::Connection(stream) => {
                match timeout(ANSWER_TIMEOUT, talk(stream, request)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) => return Err(super::super::driver::chain(&error)),
                    Err(_) => return Err("it does not answer".to_owned()),
                }
            }
        };
        match answer {
            Answer::Failed(reason) => Err(reason),
            Answer::Busy => Err(
                "it takes part in as many comparisons as it can; try again when they are done"
                    .to_owned(),
            ),
            answer => Ok(answer),
        }
    }
}

async fn talk(stream: &mut Box<dyn Stream>, request: &Request) -> io::Result<Answer> {
    stream.write_all(&codec::encode_request(request)).await?;
    stream.flush().await?;
    let length = read_length(stream, FRAME_BYTES_MAX).await?;
    let length = length.ok_or_else(|| io::Error::other("it hung up"))?;
    let frame = read_body(stream, length).await?;
    codec::decode_answer(&frame).map_err(invalid)
}
