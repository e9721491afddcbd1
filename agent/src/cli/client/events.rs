//! A stream of events from the agent, read one by one.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::config::HttpUrl;

use super::ClientError;
use super::sse::{Event, Parser};

/// A stream of events.
#[derive(Debug)]
pub(in crate::cli) struct EventStream {
    url: HttpUrl,
    body: Incoming,
    parser: Parser,
}

impl EventStream {
    pub(super) fn new(url: HttpUrl, body: Incoming) -> Self {
        Self {
            url,
            body,
            parser: Parser::default(),
        }
    }

    /// The next event; none if the agent ended the stream.
    ///
    /// # Errors
    /// If the connection broke, or the stream cannot be read.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        while !self.parser.has_event() {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.parser.push(&bytes)?;
                    }
                }
                Some(Err(source)) => {
                    return Err(ClientError::Broken {
                        url: self.url.clone(),
                        source,
                    });
                }
                None => return Ok(None),
            }
        }
        Ok(self.parser.next_event())
    }

    /// Where to continue after what has been read: the last id that the agent sent.
    pub(in crate::cli) fn last_id(&self) -> Option<&str> {
        self.parser.last_id()
    }
}
