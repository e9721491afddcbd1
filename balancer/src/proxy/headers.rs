//! What is changed in the headers on the way, in both directions.
//!
//! Removed are the headers that speak of one hop only (RFC 9110, 7.6.1), and those that
//! `Connection` names, except a few that no client may have removed (`PROTECTED`): with them gone
//! the server would believe something else about who asks, for what, or how often. Added is what
//! says whence a request came (`X-Forwarded-*`, `Forwarded` of RFC 7239, `Via`), and what names it
//! (`trace.rs`). Time and random numbers come in as arguments. Nothing here can fail.

use std::net::IpAddr;

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::trace;

/// Name of the endpoint that answered, for people and tests.
pub(super) const BASIC_NODE: HeaderName = HeaderName::from_static("basic-node");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers of one hop, whatever `Connection` says.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that stay even if `Connection` names them.
static PROTECTED: [HeaderName; 15] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::VIA,
    HeaderName::from_static("idempotency-key"),
    BASIC_NODE,
    X_REQUEST_ID,
    FORWARDED,
    TRACEPARENT,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
];

/// This proxy, as the headers name it.
#[derive(Debug)]
pub(super) struct Hop {
    /// Its name in `Via`.
    pseudonym: String,
    trust_forwarded: bool,
}

/// The random numbers that one request takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Randoms {
    pub(super) request: u128,
    pub(super) trace: u128,
    pub(super) span: u64,
}

impl Hop {
    /// The proxy of this instance name. What is not fit for a `Via` pseudonym becomes a dash.
    pub(super) fn new(instance: &str, trust_forwarded: bool) -> Self {
        let fit = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let pseudonym = format!(
            "basic-agent-{}",
            instance.chars().map(fit).collect::<String>()
        );
        Self {
            pseudonym,
            trust_forwarded,
        }
    }

    /// Whether a request with these headers has passed this proxy before.
    pub(super) fn has_seen(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::VIA).iter().any(|via| {
            let mut passed = via.as_bytes().split(|byte| *byte == b',');
            passed.any(|hop| {
                let mut words = hop
                    .split(u8::is_ascii_whitespace)
                    .filter(|word| !word.is_empty());
                words.nth(1) == Some(self.pseudonym.as_bytes())
            })
        })
    }

    /// Makes the headers of a client's request those of ours to an endpoint.
    pub(super) fn prepare_request(
        &self,
        headers: &mut HeaderMap,
        version: Version,
        peer: IpAddr,
        randoms: Randoms,
    ) {
        strip_hop_by_hop(headers);
        // Answered here, when the body is first read.
        headers.remove(header::EXPECT);
        self.set_forwarded(headers, peer);
        let protocol = if version == Version::HTTP_10 {
            "1.0"
        } else {
            "1.1"
        };
        append(
            headers,
            header::VIA,
            &format!("{protocol} {}", self.pseudonym),
        );
        let request_id = trace::request_id(headers.get(X_REQUEST_ID), randoms.request);
        headers.insert(X_REQUEST_ID, request_id);
        let sent = headers.get(TRACEPARENT);
        let (traceparent, continues) = trace::traceparent(sent, randoms.trace, randoms.span);
        headers.insert(TRACEPARENT, traceparent);
        if !continues {
            headers.remove(TRACESTATE);
        }
    }

    fn set_forwarded(&self, headers: &mut HeaderMap, peer: IpAddr) {
        let peer = peer.to_canonical();
        let node = match peer {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        append(headers, X_FORWARDED_FOR, &peer.to_string());
        let host = headers.get(header::HOST).cloned();
        // Host was checked to have no quote and no backslash.
        let host_text = host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        append(
            headers,
            FORWARDED,
            &format!("for={node};host=\"{host_text}\";proto=http"),
        );
        self.set_unless_trusted(headers, X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = host {
            self.set_unless_trusted(headers, X_FORWARDED_HOST, host);
        }
    }

    fn set_unless_trusted(&self, headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
        if !(self.trust_forwarded && headers.contains_key(&name)) {
            headers.insert(name, value);
        }
    }
}

/// Makes the headers of an endpoint's response those of ours to a client. `node` is the endpoint.
pub(super) fn prepare_response(headers: &mut HeaderMap, node: &str) {
    // The length of a body that came in chunks is told by the chunks alone (RFC 9112, 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    // Equal ones are allowed to stand twice; only one is passed on.
    if let Some(length) = headers.get(header::CONTENT_LENGTH).cloned() {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    let node = node
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' });
    if let Ok(node) = HeaderValue::from_str(&node.collect::<String>()) {
        headers.insert(BASIC_NODE, node);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Appends to a header that is a list, on one line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let before = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let list = before
        .chain([element.as_bytes()])
        .collect::<Vec<_>>()
        .join(&b", "[..]);
    // What came as headers and is joined by a comma is fit for a header.
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        headers.insert(name, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOMS: Randoms = Randoms {
        request: 1,
        trace: 2,
        span: 3,
    };

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(parse).collect()
    }

    fn prepared(trust: bool, lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(lines);
        headers.insert(header::HOST, HeaderValue::from_static("a.example:8080"));
        let peer = "192.0.2.7".parse().unwrap();
        Hop::new("n1", trust).prepare_request(&mut headers, Version::HTTP_11, peer, RANDOMS);
        headers
    }

    #[test]
    fn headers_of_one_hop_are_removed() {
        let headers = prepared(
            false,
            &[
                ("connection", "close, X-Mine ,bad name,"),
                ("connection", "x-yours"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("expect", "100-continue"),
                ("x-mine", "1"),
                ("x-yours", "1"),
                ("x-kept", "1"),
            ],
        );
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "upgrade",
            "expect",
            "x-mine",
            "x-yours",
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert_eq!(headers["x-kept"], "1");
    }

    #[test]
    fn connection_cannot_name_away_what_servers_rely_on() {
        let headers = prepared(
            false,
            &[
                (
                    "connection",
                    "host, content-length, authorization, idempotency-key, x-forwarded-for, via",
                ),
                ("content-length", "5"),
                ("authorization", "Bearer x"),
                ("idempotency-key", "k"),
            ],
        );
        for name in [
            "host",
            "content-length",
            "authorization",
            "idempotency-key",
            "x-forwarded-for",
            "via",
        ] {
            assert!(headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_chain_of_proxies_is_continued() {
        let headers = prepared(
            false,
            &[
                ("x-forwarded-for", "198.51.100.1"),
                ("x-forwarded-for", "198.51.100.2"),
                ("via", "1.1 front"),
            ],
        );
        assert_eq!(
            headers["x-forwarded-for"],
            "198.51.100.1, 198.51.100.2, 192.0.2.7"
        );
        assert_eq!(headers["via"], "1.1 front, 1.1 basic-agent-n1");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;host=\"a.example:8080\";proto=http"
        );
    }

    #[test]
    fn only_trusted_clients_say_what_was_asked_of_them() {
        let sent = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b.example"),
        ];
        let untrusted = prepared(false, &sent);
        assert_eq!(untrusted["x-forwarded-proto"], "http");
        assert_eq!(untrusted["x-forwarded-host"], "a.example:8080");
        let trusted = prepared(true, &sent);
        assert_eq!(trusted["x-forwarded-proto"], "https");
        assert_eq!(trusted["x-forwarded-host"], "b.example");
        assert_eq!(prepared(true, &[])["x-forwarded-proto"], "http");
    }

    #[test]
    fn the_state_of_a_broken_trace_is_not_passed_on() {
        let broken = prepared(false, &[("traceparent", "x"), ("tracestate", "a=b")]);
        assert!(!broken.contains_key("tracestate"));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let sound = prepared(false, &[("traceparent", trace), ("tracestate", "a=b")]);
        assert_eq!(sound["tracestate"], "a=b");
    }

    #[test]
    fn a_request_that_comes_back_is_recognised_by_its_instance_only() {
        let hop = Hop::new("n1", false);
        assert!(hop.has_seen(&headers(&[("via", "1.0 x, 1.1  basic-agent-n1 (comment)")])));
        assert!(!hop.has_seen(&headers(&[(
            "via",
            "1.1 basic-agent-n10, 1.1 basic-agent-n2"
        )])));
        assert!(!hop.has_seen(&headers(&[("via", ",, basic-agent-n1")])));
    }

    #[test]
    fn a_response_is_framed_once() {
        let mut both = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        prepare_response(&mut both, "n1");
        assert!(!both.contains_key("transfer-encoding") && !both.contains_key("content-length"));
        let mut twice = headers(&[("content-length", "5"), ("content-length", "5")]);
        prepare_response(&mut twice, "n 1");
        assert_eq!(twice.get_all("content-length").iter().count(), 1);
        assert_eq!(twice["basic-node"], "n?1");
    }
}
