//! A small HTTP/1.1 client that keeps its connections.
//!
//! It speaks plain HTTP to loopback, limits time and size of every exchange,
//! and tells a refused connection from a broken one. A request goes out once:
//! only when a kept connection turns out closed before any byte was sent does
//! it go over a new one, as in any browser.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Largest body that is read, in bytes.
const BODY_MAX: usize = 64 << 20;
/// How long an exchange may take, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept per address.
const IDLE_MAX: usize = 256;

type Connection = SendRequest<Full<Bytes>>;

/// The client; share it by reference.
pub struct Client {
    timeout: Duration,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

/// An answer with all of its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The URL is not of the form `http://HOST:PORT/…`.
    #[error("{url} is not a URL of the form http://HOST:PORT/…")]
    Url {
        /// As it was given.
        url: String,
    },
    /// Nobody listens, or the connection was refused: nothing was sent.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what came back is not HTTP.
    #[error("the exchange with {authority} broke off")]
    Exchange {
        /// Host and port.
        authority: String,
        /// What broke.
        #[source]
        source: hyper::Error,
    },
    /// The body broke off, or is larger than the limit.
    #[error("the body of the answer from {authority} cannot be read")]
    Body {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long; whether the request had an effect is not known.
    #[error("no answer from {authority} within {}", humantime::format_duration(*.limit))]
    Timeout {
        /// Host and port.
        authority: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl Default for Client {
    fn default() -> Self {
        Self::with_timeout(TIMEOUT)
    }
}

impl Client {
    /// A client that gives each exchange so much time.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout,
            idle: Mutex::default(),
        }
    }

    /// GET.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn get(&self, url: &str) -> Result<Answer, RequestError> {
        self.call(Method::GET, url, Bytes::new()).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn delete(&self, url: &str) -> Result<Answer, RequestError> {
        self.call(Method::DELETE, url, Bytes::new()).await
    }

    /// PUT of a JSON value.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn put_json(&self, url: &str, value: &Value) -> Result<Answer, RequestError> {
        self.call(Method::PUT, url, Bytes::from(value.to_string()))
            .await
    }

    /// POST of a JSON value.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn post_json(&self, url: &str, value: &Value) -> Result<Answer, RequestError> {
        self.call(Method::POST, url, Bytes::from(value.to_string()))
            .await
    }

    /// Any method; a body that is not empty is labelled as JSON.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        let uri: Uri = url.parse().map_err(|_| RequestError::Url {
            url: url.to_owned(),
        })?;
        let labelled = !body.is_empty();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        if labelled {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        self.send(request).await
    }

    /// Sends a request whose URI is a full URL.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, RequestError> {
        let (authority, request) = origin_form(request)?;
        match tokio::time::timeout(self.timeout, self.exchange(&authority, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::Timeout {
                authority,
                limit: self.timeout,
            }),
        }
    }

    async fn exchange(
        &self,
        authority: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, RequestError> {
        let broken = |source| RequestError::Exchange {
            authority: authority.to_owned(),
            source,
        };
        loop {
            let kept = self.take(authority).await;
            let may_retry = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(authority).await?,
            };
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, BODY_MAX).collect().await;
                    let body = body.map_err(|source| RequestError::Body {
                        authority: authority.to_owned(),
                        source,
                    })?;
                    self.keep(authority, connection);
                    let body = body.to_bytes();
                    return Ok(Answer {
                        status: head.status,
                        headers: head.headers,
                        body,
                    });
                }
                Err(mut error) => match error.take_message() {
                    // Given back: nothing of it was sent.
                    Some(unsent) if may_retry => request = unsent,
                    _ => return Err(broken(error.into_error())),
                },
            }
        }
    }

    async fn take(&self, authority: &str) -> Option<Connection> {
        loop {
            let mut connection = self.pop(authority)?;
            // An error tells that the other side closed it meanwhile.
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn pop(&self, authority: &str) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(authority)?.pop()
    }

    fn keep(&self, authority: &str, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(authority.to_owned()).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(connection);
        }
    }
}

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header, if it is there and plain text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl RequestError {
    /// Whether nothing can have reached the other side.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Connect { .. })
    }
}

/// The authority to connect to, and the request as it goes over the wire.
fn origin_form(request: Request<Bytes>) -> Result<(String, Request<Full<Bytes>>), RequestError> {
    let (mut head, body) = request.into_parts();
    let invalid = || RequestError::Url {
        url: head.uri.to_string(),
    };
    if head.uri.scheme_str() != Some("http") || head.uri.port_u16().is_none() {
        return Err(invalid());
    }
    let authority = head
        .uri
        .authority()
        .ok_or_else(invalid)?
        .as_str()
        .to_owned();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let uri = target.parse().map_err(|_| invalid())?;
    let host = HeaderValue::from_str(&authority).map_err(|_| invalid())?;
    head.uri = uri;
    head.headers.entry(HOST).or_insert(host);
    Ok((authority, Request::from_parts(head, Full::new(body))))
}

async fn connect(authority: &str) -> Result<Connection, RequestError> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|source| RequestError::Connect {
            authority: authority.to_owned(),
            source,
        })?;
    // A small request should not wait for the answer to the one before.
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        handshake(TokioIo::new(stream))
            .await
            .map_err(|source| RequestError::Exchange {
                authority: authority.to_owned(),
                source,
            })?;
    // Ends with the connection; its errors come back through the sender.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::any;

    use super::*;

    async fn server() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let router = Router::new()
            .route("/peer", any(peer))
            .route("/never", any(std::future::pending::<String>));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async { axum::serve(listener, service).await });
        address
    }

    #[tokio::test]
    async fn a_second_request_uses_the_same_connection() {
        let url = format!("http://{}/peer", server().await);
        let client = Client::default();
        let first = client.get(&url).await.unwrap();
        let second = client.get(&url).await.unwrap();
        assert_eq!(first.status, StatusCode::OK);
        assert_eq!(first.text(), second.text());
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_given_up() {
        let url = format!("http://{}/never", server().await);
        let client = Client::with_timeout(Duration::from_millis(50));
        let error = client.get(&url).await.unwrap_err();
        assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
        assert!(!error.is_unsent());
    }

    #[tokio::test]
    async fn a_port_without_a_listener_is_told_from_a_broken_exchange() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = Client::default()
            .get(&format!("http://{free}/"))
            .await
            .unwrap_err();
        assert!(error.is_unsent(), "{error}");
    }

    #[tokio::test]
    async fn a_url_without_a_port_is_refused() {
        let error = Client::default()
            .get("http://localhost/")
            .await
            .unwrap_err();
        assert!(matches!(error, RequestError::Url { .. }), "{error}");
    }
}
