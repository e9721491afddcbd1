//! Faults that a single request asks for, by its headers.
//!
//! | header | effect on the answer |
//! |---|---|
//! | `X-Sample-Delay: 200ms` | sent after that time |
//! | `X-Sample-Status: 503` | has this status |
//! | `X-Sample-Body-Bytes: 1048576` | has a body of so many bytes |
//! | `X-Sample-Abort: before-head` | none: the connection closes |
//! | `X-Sample-Abort: mid-body` | breaks off in the body |
//!
//! The handler runs first, so a request whose answer is spoilt has had its
//! effect all the same, as with a real server that dies at the wrong moment.
//! A header that cannot be understood answers 400 and names itself.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::bodies;
use crate::connection::ConnectionHandle;

/// What one request asked for.
#[derive(Debug, Default, PartialEq)]
struct Switches {
    delay: Option<Duration>,
    status: Option<StatusCode>,
    body_bytes: Option<u64>,
    abort: Option<Abort>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Abort {
    BeforeHead,
    MidBody,
}

impl FromStr for Abort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "before-head" => Ok(Self::BeforeHead),
            "mid-body" => Ok(Self::MidBody),
            _ => Err("write before-head or mid-body"),
        }
    }
}

/// The layer around all routes.
pub(crate) async fn apply(
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request,
    next: Next,
) -> Response {
    let switches = match Switches::read(request.headers()) {
        Ok(switches) => switches,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
        }
    };
    let response = next.run(request).await;
    if let Some(delay) = switches.delay {
        tokio::time::sleep(delay).await;
    }
    if switches.abort == Some(Abort::BeforeHead) {
        connection.cut();
    }
    switches.shape(response)
}

impl Switches {
    fn read(headers: &HeaderMap) -> Result<Self, String> {
        let body_bytes: Option<u64> = parsed(headers, "x-sample-body-bytes", str::parse)?;
        if body_bytes.is_some_and(|bytes| bytes > bodies::LENGTH_MAX) {
            return Err(format!(
                "x-sample-body-bytes: at most {}",
                bodies::LENGTH_MAX
            ));
        }
        Ok(Self {
            delay: parsed(headers, "x-sample-delay", humantime::parse_duration)?,
            status: parsed(headers, "x-sample-status", str::parse)?,
            body_bytes,
            abort: parsed(headers, "x-sample-abort", str::parse)?,
        })
    }

    fn shape(&self, mut response: Response) -> Response {
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        if let Some(length) = self.body_bytes {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
            *response.body_mut() = bodies::pattern(length);
        }
        if self.abort == Some(Abort::MidBody) {
            response = response.map(broken_off);
        }
        response
    }
}

fn parsed<T, E: std::fmt::Display>(
    headers: &HeaderMap,
    name: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| format!("{name}: not plain text"))?;
    parse(text)
        .map(Some)
        .map_err(|error| format!("{name}: {error}"))
}

/// The first half of the first chunk, and then an error, at which the
/// connection is dropped without the end that the client was promised.
fn broken_off(body: Body) -> Body {
    let first = stream::once(async move {
        let chunk = body.into_data_stream().next().await;
        let chunk = chunk.and_then(Result::ok).unwrap_or_default();
        Ok::<Bytes, io::Error>(chunk.slice(..chunk.len() / 2))
    });
    let end = stream::once(async {
        // The error must not overtake the bytes before it, which would make
        // this an answer broken off before its head.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(first.chain(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("x-sample-delay", "200ms".parse().unwrap());
        headers.insert("x-sample-status", "503".parse().unwrap());
        headers.insert("x-sample-body-bytes", "7".parse().unwrap());
        headers.insert("x-sample-abort", "mid-body".parse().unwrap());
        let expected = Switches {
            delay: Some(Duration::from_millis(200)),
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            body_bytes: Some(7),
            abort: Some(Abort::MidBody),
        };
        assert_eq!(Switches::read(&headers), Ok(expected));
    }

    #[test]
    fn a_switch_that_cannot_be_understood_names_itself() {
        for (name, value) in [
            ("x-sample-delay", "soon"),
            ("x-sample-status", "9"),
            ("x-sample-body-bytes", "99999999999"),
            ("x-sample-abort", "now"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let error = Switches::read(&headers).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
