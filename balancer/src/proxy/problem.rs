//! What a client is told when no endpoint's answer can be passed on.
//!
//! Every such answer is problem+json (RFC 9457) with a `detail` that says what the client may do.
//! An answer of an app is never replaced by one of these, whatever its status.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;

use crate::balancer::FailureKind;
use crate::endpoint::EndpointId;
use crate::http1::Refusal;
use crate::retry::Refused;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Seconds after which a client may try again, where trying again helps.
const RETRY_AFTER_SECONDS: u16 = 1;

/// Why a request got no answer from an endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request came round again.
    #[error("the request has passed this proxy before; an endpoint's address leads back to it")]
    Loop,
    /// There is nothing to send it to.
    #[error("no server is available: none is known, or all were taken out; try again shortly")]
    NoEndpoint,
    /// The client stopped sending.
    #[error("the body of the request stalled for {0:?}; send it again")]
    BodyStalled(Duration),
    /// The client sent something that is no body, or hung up.
    #[error("the body of the request could not be read: {0}")]
    BodyBroken(String),
    /// The last attempt failed, and there was none after it.
    #[error("{}", unanswered_detail(.0))]
    Unanswered(Unanswered),
}

/// The last failed attempt of a request.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) endpoint: EndpointId,
    pub(super) kind: FailureKind,
    pub(super) error: String,
    /// Why it was not repeated; `None` if it was to be, and no endpoint was left.
    pub(super) refused: Option<Refused>,
}

fn unanswered_detail(unanswered: &Unanswered) -> String {
    let Unanswered {
        endpoint,
        kind,
        error,
        refused,
    } = unanswered;
    let what = match kind {
        FailureKind::Connect => format!("no server could be connected to; the last was {endpoint}"),
        FailureKind::Reset => format!("{endpoint} closed the connection before it answered"),
        FailureKind::Timeout => format!("{endpoint} did not answer in time"),
        FailureKind::Malformed => {
            format!("{endpoint} answered with something that is not HTTP/1.1")
        }
        FailureKind::CutShort => format!("{endpoint} broke off its answer"),
    };
    let advice = match (kind, refused) {
        (FailureKind::Connect, _) => "Nothing was sent, so it is safe to try again.",
        (_, Some(Refused::NotIdempotent)) => {
            "The request may have been carried out and was not sent again. Repeat it only if that \
             does no harm, or send it with an Idempotency-Key header."
        }
        (_, Some(Refused::BodyNotKept)) => {
            "Its body was too long to be kept, so it was not sent again. It is safe to repeat."
        }
        (_, Some(Refused::OverBudget)) => {
            "Too many requests are failing, so it was not sent again. Try again shortly."
        }
        (_, Some(Refused::AttemptsSpent) | None) => "No other attempt was left. Try again shortly.",
    };
    format!("{what} ({error}). {advice}")
}

/// An answer of the proxy's own.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry: bool,
}

impl Problem {
    /// The head of a request took longer than `allowed`.
    pub(super) fn head_timeout(allowed: Duration) -> Self {
        let detail = format!("the head of the request did not arrive within {allowed:?}");
        Self {
            status: StatusCode::REQUEST_TIMEOUT,
            detail,
            retry: false,
        }
    }

    /// The answer, to be sent by hyper.
    pub(super) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.retry {
            response
                .headers_mut()
                .insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        response
    }

    /// The answer as bytes, to be sent before the connection closes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = self.body();
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            self.status,
            body.len(),
        );
        [head.as_bytes(), &body].concat()
    }

    fn body(&self) -> Bytes {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        Bytes::from(body.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Head(refusal) => refusal.status(),
            Refusal::Body(_) => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            detail: refusal.to_string(),
            retry: false,
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (status, retry) = match &failure {
            Failure::Loop => (StatusCode::LOOP_DETECTED, false),
            Failure::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, true),
            Failure::BodyStalled(_) => (StatusCode::REQUEST_TIMEOUT, false),
            Failure::BodyBroken(_) => (StatusCode::BAD_REQUEST, false),
            Failure::Unanswered(unanswered) => match unanswered.kind {
                FailureKind::Connect => (StatusCode::SERVICE_UNAVAILABLE, true),
                FailureKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, false),
                FailureKind::Reset | FailureKind::Malformed | FailureKind::CutShort => {
                    (StatusCode::BAD_GATEWAY, false)
                }
            },
        };
        Self {
            status,
            detail: failure.to_string(),
            retry,
        }
    }
}
