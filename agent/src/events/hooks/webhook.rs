//! A webhook: a POST of each event's JSON.
//!
//! It has been told if it answers with a status from 200 to 299 within [`TIME_LIMIT`]. No answer, a 5xx, 408, 425 or
//! 429 may pass, and it is tried again after each of [`PAUSES`], five times in all over about a minute; any other
//! status is its last word. Redirects are not followed. `https` trusts what the system trusts.
//!
//! Its URL may hold a token, so no error and no log line has more of it than host and port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::payload::Payload;
use crate::config::WebhookUrl;

/// How long one try may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Pauses between tries.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(40),
];
/// Names the delivery, the same for every try.
const EVENT_ID: HeaderName = HeaderName::from_static("basic-event-id");

/// The webhook.
pub(super) struct Webhook {
    url: WebhookUrl,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pauses: [Duration; PAUSES.len()],
    time_limit: Duration,
}

/// Why a webhook cannot be called by https.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system has no certificates.
    #[error(
        "[events] webhook is an https URL, and this system has no certificates to trust{}; install ca-certificates, or use http", because(.reason)
    )]
    NoRoots {
        /// What went wrong, if something did.
        reason: String,
    },
    /// The host is no name that a certificate could have.
    #[error("[events] webhook: its host is no name that a certificate could have")]
    Name(#[from] InvalidDnsNameError),
    /// The TLS library.
    #[error("[events] webhook: TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Why a webhook has not been told of an event, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebhookError {
    #[error("{target} cannot be connected to")]
    Connect { target: String, source: io::Error },
    #[error("TLS with {target} failed")]
    Tls { target: String, source: io::Error },
    #[error("the request cannot be sent; correct [events] webhook")]
    Request(#[from] http::Error),
    #[error("the exchange with {target} broke off")]
    Broken {
        target: String,
        source: hyper::Error,
    },
    #[error("{target} did not answer within {}", humantime::format_duration(*.limit))]
    TimedOut { target: String, limit: Duration },
    #[error("{target} answered {status}")]
    Refused { target: String, status: StatusCode },
}

impl WebhookError {
    /// Whether another try may go better.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Broken { .. }
            | Self::TimedOut { .. } => true,
            Self::Request(_) => false,
            // 408 Request Timeout, 425 Too Early, 429 Too Many Requests (RFC 9110, RFC 8470, RFC 6585).
            Self::Refused { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
        }
    }
}

impl Webhook {
    /// A webhook at this URL. Nothing is connected yet.
    ///
    /// # Errors
    /// [`TlsError`], for an https URL.
    pub(super) fn new(url: &WebhookUrl) -> Result<Webhook, TlsError> {
        let roots = match url.is_https() {
            true => Some(system_roots()?),
            false => None,
        };
        Self::with_roots(url, roots)
    }

    /// A webhook at this URL; by https if there are certificates to trust.
    fn with_roots(url: &WebhookUrl, roots: Option<RootCertStore>) -> Result<Webhook, TlsError> {
        let tls = match roots {
            None => None,
            Some(roots) => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let host = url.host_port().host().to_owned();
                let name = ServerName::try_from(host)?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        Ok(Webhook {
            url: url.clone(),
            tls,
            pauses: PAUSES,
            time_limit: TIME_LIMIT,
        })
    }

    /// Host and port.
    pub(super) fn target(&self) -> String {
        self.url.host_port().to_string()
    }

    /// Tells it of an event. Before each further try, `retrying` is told why the one before failed.
    ///
    /// # Errors
    /// [`WebhookError`] of the last try.
    pub(super) async fn deliver(
        &self,
        payload: &Payload,
        retrying: impl Fn(&WebhookError),
    ) -> Result<(), WebhookError> {
        for pause in self.pauses {
            match self.attempt(payload).await {
                Err(error) if error.is_passing() => retrying(&error),
                done => return done,
            }
            sleep(pause).await;
        }
        self.attempt(payload).await
    }

    async fn attempt(&self, payload: &Payload) -> Result<(), WebhookError> {
        let limit = self.time_limit;
        let answered = timeout(limit, self.exchange(payload)).await;
        let target = self.target();
        let status = answered.map_err(|_| WebhookError::TimedOut { target, limit })??;
        if status.is_success() {
            return Ok(());
        }
        let target = self.target();
        Err(WebhookError::Refused { target, status })
    }

    async fn exchange(&self, payload: &Payload) -> Result<StatusCode, WebhookError> {
        let request = Request::post(self.url.path_and_query())
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("basic-agent/", env!("CARGO_PKG_VERSION")),
            )
            .header(EVENT_ID, &payload.event_id)
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(payload.body.clone())))?;
        let address = self.url.host_port();
        let stream = TcpStream::connect((address.host(), address.port()))
            .await
            .map_err(|source| WebhookError::Connect {
                target: self.target(),
                source,
            })?;
        match &self.tls {
            None => self.post(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(|source| WebhookError::Tls {
                    target: self.target(),
                    source,
                })?;
                self.post(stream, request).await
            }
        }
    }

    async fn post(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, WebhookError> {
        let broken = |source| WebhookError::Broken {
            target: self.target(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut answer = std::pin::pin!(sender.send_request(request));
        tokio::select! {
            answer = &mut answer => Ok(answer.map_err(broken)?.status()),
            // The connection does the reading and writing, and may end first; what it was told is in the answer.
            _ = connection => Ok(answer.await.map_err(broken)?.status()),
        }
    }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(ToString::to_string);
        return Err(TlsError::NoRoots {
            reason: reason.unwrap_or_default(),
        });
    }
    Ok(roots)
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

#[cfg(test)]
mod tests;
