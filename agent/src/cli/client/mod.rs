//! A small HTTP client of an agent's API.
//!
//! One connection a request, to loopback as a rule, so a pool would gain nothing. In goes a method, a path made by
//! [`Target`], perhaps a document; out comes an [`Answer`] with a status below 400, or an [`EventStream`]. Everything
//! has a time limit and a size limit, because what answers at an address may be something else than an agent. Errors
//! tell apart an agent that cannot be reached, one that refused, and an answer that makes no sense.

mod answers;
mod error;
mod events;
mod replication;
mod sse;
mod sync_tasks;
mod target;
mod transfer;
mod verification;

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HttpUrl;

pub(super) use answers::{
    AuditRecord, AuditRecords, BatchReceipt, Change, DataPage, Decided, Endpoint, EventPage,
    Finding, HistoryPage, HistoryVersion, Member, Members, NodeEvent, Status, WriteReceipt, age,
};
pub use error::{ClientError, Refusal};
pub(super) use events::EventStream;
pub(super) use replication::{
    ExportedDecision, ExportedList, ExportedWrite, PeerProgress, ReplicaLine, SyncPeers,
};
pub(super) use sse::Event;
pub use sse::EventError;
pub(super) use sync_tasks::{SyncTask, SyncTaskList};
pub(super) use target::Target;
pub(super) use transfer::Download;
pub(super) use verification::{DifferingKey, Hold, KeyName, Verification, VerificationProgress};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time from there to the end of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time until the answer to a question begins, which an agent that is well gives at once. A decision or a write may have
/// to wait for a disk.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes. A page of documents is the largest: pages are asked for so that they stay well below.
const ANSWER_MAX: usize = 256 * 1024 * 1024;
/// Largest refusal that is read, in bytes.
const REFUSAL_MAX: usize = 64 * 1024;

/// A client of the agent at one address.
#[derive(Debug)]
pub(super) struct Client {
    url: HttpUrl,
    answer_timeout: Duration,
}

/// An answer with a status below 400.
#[derive(Debug)]
pub(super) struct Answer {
    /// The version of the document that was read or written, if the answer has one.
    pub(super) version: Option<String>,
    /// The body as it came.
    pub(super) body: Bytes,
}

impl Client {
    /// A client of the agent at `url`. Nothing is connected before the first request.
    pub(super) fn new(url: HttpUrl) -> Self {
        Self {
            url,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    /// The same with another time limit for an answer.
    pub(super) fn with_answer_timeout(&self, answer_timeout: Duration) -> Self {
        Self {
            url: self.url.clone(),
            answer_timeout,
        }
    }

    /// Asks for `target`.
    pub(super) async fn get(&self, target: Target) -> Result<Answer, ClientError> {
        self.request(Method::GET, target, None).await
    }

    /// Puts a JSON document at `target`.
    pub(super) async fn put(&self, target: Target, document: Bytes) -> Result<Answer, ClientError> {
        self.request(Method::PUT, target, Some(document)).await
    }

    /// `PATCH` with a JSON document.
    pub(super) async fn patch(
        &self,
        target: Target,
        document: Bytes,
    ) -> Result<Answer, ClientError> {
        self.request(Method::PATCH, target, Some(document)).await
    }

    /// Posts a JSON document to `target`.
    pub(super) async fn post(
        &self,
        target: Target,
        document: Bytes,
    ) -> Result<Answer, ClientError> {
        self.request(Method::POST, target, Some(document)).await
    }

    /// Deletes `target`, with a JSON document that says more about it.
    pub(super) async fn delete_with(
        &self,
        target: Target,
        document: Bytes,
    ) -> Result<Answer, ClientError> {
        self.request(Method::DELETE, target, Some(document)).await
    }

    /// Deletes `target`.
    pub(super) async fn delete(&self, target: Target) -> Result<Answer, ClientError> {
        self.request(Method::DELETE, target, None).await
    }

    /// Asks for a stream of events, to be continued after the event `last_id` where one is given.
    pub(super) async fn events(
        &self,
        target: Target,
        last_id: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let mut request = self.build(Method::GET, &target, None)?;
        request
            .headers_mut()
            .insert(ACCEPT, http::HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_id {
            // An id that no header can hold came with an event all the same; the target carries it too.
            if let Ok(id) = http::HeaderValue::from_str(id) {
                request.headers_mut().insert("last-event-id", id);
            }
        }
        let stream = self.connect().await?;
        let response = self.in_time(false, self.send(stream, request)).await?;
        Ok(EventStream::new(self.url.clone(), response.into_body()))
    }

    async fn request(
        &self,
        method: Method,
        target: Target,
        document: Option<Bytes>,
    ) -> Result<Answer, ClientError> {
        let changes = method != Method::GET;
        let request = self.build(method, &target, document)?;
        let stream = self.connect().await?;
        let answer = async {
            let (parts, body) = self.send(stream, request).await?.into_parts();
            let version = parts.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
            let version =
                version.map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
            let body = self.read(body, ANSWER_MAX).await?;
            Ok(Answer { version, body })
        };
        self.in_time(changes, answer).await
    }

    fn build(
        &self,
        method: Method,
        target: &Target,
        document: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let kind = document.is_some().then_some("application/json");
        let body = Full::new(document.unwrap_or_default());
        self.build_with(method, target, kind, body)
    }

    fn build_with<B>(
        &self,
        method: Method,
        target: &Target,
        kind: Option<&str>,
        body: B,
    ) -> Result<Request<B>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(target.as_str())
            .header(HOST, self.url.host_port().to_string())
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("basic-agent/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        request.body(body).map_err(ClientError::Request)
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let address = self.url.host_port();
        let connect = TcpStream::connect((address.host(), address.port()));
        timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|cause| ClientError::Unreachable {
                url: self.url.clone(),
                cause,
            })
    }

    /// Sends a request and waits for the head of the response; a refusal becomes an error.
    async fn send<B>(
        &self,
        stream: TcpStream,
        request: Request<B>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let broken = |source| ClientError::Broken {
            url: self.url.clone(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection does the reading and writing, and ends with the response. Its error, if it has one, comes out
        // of the response too.
        tokio::spawn(connection);
        let asks = request.method() == Method::GET;
        let responded = async { sender.send_request(request).await.map_err(broken) };
        let response = if asks {
            let waited = QUESTION_TIMEOUT.min(self.answer_timeout);
            let silent = |_| Err(self.silent(waited, false));
            timeout(waited, responded).await.unwrap_or_else(silent)?
        } else {
            responded.await?
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = match self.read(response.into_body(), REFUSAL_MAX).await {
            Ok(body) => body,
            // The status says enough.
            Err(ClientError::AnswerTooLarge { .. }) => Bytes::new(),
            Err(error) => return Err(error),
        };
        let refusal = Refusal::new(status, &body);
        if refusal.is_silent() && status.is_client_error() {
            let url = self.url.clone();
            return Err(ClientError::NoAgent { url, status });
        }
        Err(ClientError::Refused { refusal })
    }

    async fn read(&self, body: Incoming, max: usize) -> Result<Bytes, ClientError> {
        let collected = Limited::new(body, max)
            .collect()
            .await
            .map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(source) => ClientError::Broken {
                    url: self.url.clone(),
                    source: *source,
                },
                Err(error) => {
                    debug_assert!(error.is::<LengthLimitError>(), "{error}");
                    ClientError::AnswerTooLarge { max }
                }
            })?;
        Ok(collected.to_bytes())
    }

    async fn in_time<T>(
        &self,
        changes: bool,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let waited = self.answer_timeout;
        let silent = |_| Err(self.silent(waited, changes));
        timeout(waited, answer).await.unwrap_or_else(silent)
    }

    fn silent(&self, waited: Duration, changes: bool) -> ClientError {
        ClientError::Silent {
            url: self.url.clone(),
            waited,
            changes,
        }
    }
}

impl Answer {
    /// The body as one of the API's answers. Fields that are missing are no error.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(ClientError::Unintelligible)
    }
}
