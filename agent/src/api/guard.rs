//! Turns away requests that a browser might be tricked into sending.
//!
//! The API listens on loopback and trusts whoever can reach it. A web page on some
//! other site can reach it too, through the visitor's browser: by a name that it lets
//! resolve to 127.0.0.1 (DNS rebinding), or by a form or script that posts to it. So
//! `Host` must be a name of this machine's loopback, a foreign `Origin` is refused,
//! and writes must say that they are JSON, which a form cannot. Where an operator has
//! opened the API to other hosts, `Host` may be any address, but still no name: a
//! rebinding attack needs one.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{Api, BACKUP_TYPE};

/// Lets a request through, or answers it.
pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let local_only = api.config.api.listen.ip().is_loopback();
    match refusal(&request, local_only) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request, local_only: bool) -> Option<Problem> {
    let headers = request.headers();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
    if !host.is_some_and(|host| is_own(host, local_only)) {
        return Some(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header must name localhost, 127.0.0.1 or [::1]: the API answers local requests only",
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origin
            .to_str()
            .is_ok_and(|origin| is_own_origin(origin, local_only))
    {
        return Some(Problem::new(
            StatusCode::FORBIDDEN,
            "requests from pages of other sites are refused",
        ));
    }
    let writes = matches!(
        *request.method(),
        Method::PUT | Method::POST | Method::PATCH
    );
    if writes && !is_ours(headers) {
        return Some(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "say `content-type: application/json`; documents are JSON",
        ));
    }
    None
}

fn is_own_origin(origin: &str, local_only: bool) -> bool {
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| is_own(rest, local_only))
}

fn is_own(authority: &str, local_only: bool) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || !local_only,
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// JSON, or a backup: kinds that a form cannot send.
fn is_ours(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
        || essence == BACKUP_TYPE
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(method: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri("/v1/data/users/u1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let problem = refusal(&request.body(Body::empty()).unwrap(), true)?;
        Some(problem.into_response().status().as_u16())
    }

    #[test]
    fn only_local_names_and_local_origins_pass() {
        for host in [
            "localhost",
            "LocalHost:9401",
            "127.0.0.1:9401",
            "127.8.8.8",
            "[::1]:9401",
        ] {
            assert_eq!(status("GET", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "169.254.169.254",
            "",
            "a b",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(status("GET", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(status("GET", &[]), Some(421));
        let local = ("host", "localhost");
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost.evil.example",
        ] {
            assert_eq!(
                status("GET", &[local, ("origin", origin)]),
                Some(403),
                "{origin}"
            );
        }
        assert_eq!(
            status("GET", &[local, ("origin", "http://localhost:9401")]),
            None
        );
    }

    #[test]
    fn an_api_open_to_other_hosts_takes_their_addresses_but_no_names() {
        for (host, passes) in [("10.0.0.1:9401", true), ("evil.example", false)] {
            let request = Request::builder()
                .header("host", host)
                .body(Body::empty())
                .unwrap();
            assert_eq!(refusal(&request, false).is_none(), passes, "{host}");
        }
    }

    #[test]
    fn writes_must_say_that_they_are_json() {
        let local = ("host", "localhost");
        assert_eq!(status("PUT", &[local]), Some(415));
        assert_eq!(
            status("PUT", &[local, ("content-type", "text/plain")]),
            Some(415)
        );
        assert_eq!(
            status(
                "PUT",
                &[local, ("content-type", "application/json; charset=utf-8")]
            ),
            None
        );
        let backup = ("content-type", BACKUP_TYPE);
        assert_eq!(status("POST", &[local, backup]), None);
        assert_eq!(status("DELETE", &[local]), None);
    }
}
