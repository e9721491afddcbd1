//! Requests with more than one possible meaning reach no server.

use crate::harness::{Backend, TestProxy, get};

/// Malformed or ambiguous requests, and the one right answer to each.
const CASES: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.0\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ("GET /\r\n\r\n", 400),
    ("\u{16}\u{3}\u{1}\u{2}", 400),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \t4\r\n\r\nabc",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        400,
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
];

/// Bodies that break the chunked coding.
const CHUNKS: &[&str] = &[
    "zz\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "fffffffffffffffff\r\nabc",
    "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "0\r\nX: y\nZ: w\r\n\r\n",
];

#[tokio::test]
async fn a_request_without_one_meaning_is_answered_with_its_problem_and_reaches_no_server() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    for (bytes, status) in CASES {
        let mut client = proxy.client().await;
        // What follows must not be taken for a request either.
        client.send(format!("{bytes}{}", get("/smuggled"))).await;
        let response = client.response().await;
        assert_eq!(response.status, *status, "{bytes:?}: {}", response.text());
        assert_eq!(
            response.header("content-type"),
            Some("application/problem+json"),
            "{bytes:?}"
        );
        assert!(response.text().contains("\"detail\""), "{bytes:?}");
        assert!(client.sees_end().await, "{bytes:?}");
    }
    assert_eq!(backend.received().len(), 0);
    assert_eq!(proxy.running.metrics().refused.value(), CASES.len() as u64);
}

#[tokio::test]
async fn a_body_with_broken_chunks_is_never_received_whole() {
    for method in ["POST", "PUT"] {
        let backend = Backend::answering("ok").await;
        let proxy = TestProxy::over(&[backend.addr]);
        for chunks in CHUNKS {
            let mut client = proxy.client().await;
            let head =
                format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            client
                .send(format!("{head}{chunks}{}", get("/smuggled")))
                .await;
            let response = client.response().await;
            assert_eq!(
                response.status,
                400,
                "{method} {chunks:?}: {}",
                response.text()
            );
            assert!(client.sees_end().await, "{chunks:?}");
        }
        assert_eq!(backend.received().len(), 0, "{method}");
    }
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_does_not_harm_the_good_one() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    client
        .send(get("/good") + "GET /bad HTTP/1.1\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 400);
    assert!(client.sees_end().await);
}

#[tokio::test]
async fn requests_that_are_merely_unusual_are_served() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let unusual = [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/x HTTP/1.1\r\nHost: A\r\n\r\n",
        "PROPFIND / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a_b.example\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Tab:\ta\tb \r\nX-Empty:\r\n\r\n",
    ];
    for request in unusual {
        assert_eq!(proxy.ask(request).await.status, 200, "{request:?}");
    }
    assert_eq!(backend.received()[1].target, "*");
}
