//! Bodies to look at: an echo of a request, many bytes, a slow stream.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::routes::Server;

/// Largest body that can be asked for: 1 GiB.
pub(crate) const LENGTH_MAX: u64 = 1 << 30;
const CHUNK: usize = 64 * 1024;
/// Longest time between two events of `/stream`.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
const EVENTS_MAX: u64 = 100_000;

/// Answers what arrived: method, target, headers, and the length and BLAKE3
/// hash of the body, which is read to its end but not kept.
pub(crate) async fn echo(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut hasher = blake3::Hasher::new();
    let mut length: u64 = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            let error = json!({ "error": "the body broke off", "length": length });
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        };
        hasher.update(&chunk);
        length += chunk.len() as u64;
    }
    Json(json!({
        "port": server.address.port(),
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": headers_of(&head.headers),
        "body": { "length": length, "blake3": hasher.finalize().to_hex().as_str() },
    }))
    .into_response()
}

/// Answers so many bytes of a fixed pattern.
pub(crate) async fn bytes(Path(length): Path<u64>) -> Response {
    if length > LENGTH_MAX {
        let error = json!({ "error": format!("at most {LENGTH_MAX} bytes") });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, [(header::CONTENT_LENGTH, length)], pattern(length)).into_response()
}

/// A body of `length` bytes, where byte `i` is `i mod 251`, made as it is sent.
pub(crate) fn pattern(length: u64) -> Body {
    Body::from_stream(pattern_chunks(length))
}

fn pattern_chunks(length: u64) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    // 251 is prime, so a chunk lost or doubled on the way changes the bytes.
    stream::unfold(0_u64, move |sent| async move {
        let left = usize::try_from(length - sent)
            .unwrap_or(usize::MAX)
            .min(CHUNK);
        if left == 0 {
            return None;
        }
        let chunk: Vec<u8> = (sent..).take(left).map(|i| (i % 251) as u8).collect();
        Some((Ok(Bytes::from(chunk)), sent + left as u64))
    })
}

#[derive(Deserialize)]
pub(crate) struct StreamQuery {
    #[serde(default)]
    events: Option<u64>,
    #[serde(default)]
    interval: Option<String>,
}

/// Server-sent events: `/stream?events=10&interval=100ms`.
pub(crate) async fn stream(Query(query): Query<StreamQuery>) -> Response {
    let events = query.events.unwrap_or(10).min(EVENTS_MAX);
    let interval = match query.interval.as_deref().map(humantime::parse_duration) {
        None => Duration::from_millis(100),
        Some(Ok(interval)) => interval.min(INTERVAL_MAX),
        Some(Err(error)) => {
            let error: Value = json!({ "error": format!("interval: {error}") });
            return (StatusCode::BAD_REQUEST, Json(error)).into_response();
        }
    };
    let body = stream::iter(0..events).then(move |event| async move {
        if event > 0 {
            tokio::time::sleep(interval).await;
        }
        Ok::<_, Infallible>(Bytes::from(format!(
            "id: {event}\ndata: {{\"event\":{event}}}\n\n"
        )))
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(body),
    )
        .into_response()
}

fn headers_of(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        named
            .entry(name.as_str().to_owned())
            .or_default()
            .push(value);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pattern_has_the_asked_length_and_goes_on_across_chunks() {
        let length = CHUNK as u64 * 2 + 17;
        let body = axum::body::to_bytes(pattern(length), usize::MAX)
            .await
            .unwrap();
        assert_eq!(body.len() as u64, length);
        assert!(
            body.iter()
                .enumerate()
                .all(|(i, byte)| usize::from(*byte) == i % 251)
        );
    }
}
