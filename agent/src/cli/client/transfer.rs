//! Bodies of any length, in both directions: there is no limit to the whole, only to a pause.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{ANSWER_MAX, Answer, Client, ClientError, Target};
use crate::config::HttpUrl;

/// How long the agent may be silent within an answer.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A long answer, read piece by piece.
#[derive(Debug)]
pub(in crate::cli) struct Download {
    url: HttpUrl,
    body: Incoming,
}

impl Download {
    /// The next bytes; none after the end.
    ///
    /// # Errors
    /// If the connection broke, or nothing came for a minute.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Ok(frame) = timeout(PAUSE_MAX, self.body.frame()).await else {
                return Err(ClientError::Silent {
                    url: self.url.clone(),
                    waited: PAUSE_MAX,
                    changes: false,
                });
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(source)) => {
                    let url = self.url.clone();
                    return Err(ClientError::Broken { url, source });
                }
            }
        }
    }
}

impl Client {
    /// Asks for something long.
    pub(in crate::cli) async fn download(&self, target: Target) -> Result<Download, ClientError> {
        let request = self.build(Method::GET, &target, None)?;
        let stream = self.connect().await?;
        let response = self.in_time(false, self.send(stream, request)).await?;
        Ok(Download {
            url: self.url.clone(),
            body: response.into_body(),
        })
    }

    /// Posts something long, whose bytes come out of `pieces`. How long it may take, the caller knows.
    pub(in crate::cli) async fn upload(
        &self,
        target: Target,
        kind: &str,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Answer, ClientError> {
        let pieces = stream::unfold(pieces, |mut pieces| async {
            let bytes = pieces.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), pieces))
        });
        let body = StreamBody::new(pieces);
        let request = self.build_with(Method::POST, &target, Some(kind), Box::pin(body))?;
        let stream = self.connect().await?;
        let response = self.send(stream, request).await?;
        let body = self.read(response.into_body(), ANSWER_MAX).await?;
        let version = None;
        Ok(Answer { version, body })
    }

    /// The agent took too long.
    pub(in crate::cli) fn gave_up(&self, waited: Duration) -> ClientError {
        self.silent(waited, true)
    }
}
