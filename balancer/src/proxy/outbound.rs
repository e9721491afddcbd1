//! A request as it goes to endpoints: the same for each attempt.
//!
//! In: the head of a client's request, its headers already rewritten (`headers.rs`), and its body.
//! Out: a request for hyper, as often as the body allows. Here the message is framed anew: the
//! length is stated if it is known, and otherwise the body goes in chunks; the target loses scheme
//! and authority. Nothing here can fail.

use std::rc::Rc;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

use super::request_body::{Payload, Progress, RequestBody};
use crate::retry;

/// A request to an endpoint.
#[derive(Debug)]
pub(super) struct Outbound {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    payload: Payload,
    is_idempotent: bool,
}

impl Outbound {
    pub(super) fn new(head: Parts, payload: Payload, is_idempotent: bool) -> Self {
        let mut headers = head.headers;
        frame(&head.method, &mut headers, &payload);
        Self {
            method: head.method,
            uri: origin_form(head.uri),
            headers,
            payload,
            is_idempotent,
        }
    }

    /// What decides whether it may be sent again.
    pub(super) fn repeatability(&self) -> retry::Request {
        retry::Request {
            idempotent: self.is_idempotent,
            body_kept: self.payload.is_kept(),
        }
    }

    /// The request of one attempt, which tells `progress` how its body fares.
    pub(super) fn request(&mut self, progress: &Rc<Progress>) -> Request<RequestBody> {
        let mut request = Request::new(self.payload.hand_out(progress));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Takes back the request of an attempt of which no byte was sent.
    pub(super) fn take_back(&mut self, request: Request<RequestBody>) {
        self.payload.take_back(request.into_body());
    }
}

/// Says in the headers how the body is framed on the way to the endpoint.
fn frame(method: &Method, headers: &mut HeaderMap, payload: &Payload) {
    let had_length = headers.remove(CONTENT_LENGTH).is_some();
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    match payload.length() {
        Some(0) if !had_length && !expects_body => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// The target without scheme and authority, which were checked to be those of `Host`.
fn origin_form(uri: Uri) -> Uri {
    if uri.scheme().is_none() {
        return uri;
    }
    let parts = uri.into_parts();
    Uri::from(
        parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    )
}
