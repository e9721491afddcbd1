//! What servers and clients see of each other's heads.

use crate::harness::{Backend, TestProxy, eventually, get};

#[tokio::test]
async fn a_server_sees_who_asked_for_what_and_nothing_of_the_hop_before() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let response = proxy
        .ask(
            "GET http://App.example/a?b=c HTTP/1.1\r\nHost: App.example\r\n\
             Connection: close, X-Secret, Host, X-Forwarded-For\r\nX-Secret: 1\r\n\
             Keep-Alive: 1\r\nTE: trailers\r\nUpgrade: websocket\r\nProxy-Connection: x\r\n\
             X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nVia: 1.0 front\r\n\
             X-Request-Id: client-7\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
             X-Kept: kept\r\n\r\n",
        )
        .await;
    assert_eq!(response.header("x-request-id"), Some("client-7"));
    let seen = &backend.received()[0];
    assert_eq!(seen.target, "/a?b=c");
    let expected = [
        ("host", Some("App.example")),
        ("x-kept", Some("kept")),
        ("x-forwarded-for", Some("192.0.2.1, 127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("App.example")),
        (
            "forwarded",
            Some("for=127.0.0.1;host=\"App.example\";proto=http"),
        ),
        ("via", Some("1.0 front, 1.1 basic-agent-test")),
        ("x-request-id", Some("client-7")),
        ("x-secret", None),
        ("connection", None),
        ("keep-alive", None),
        ("te", None),
        ("upgrade", None),
        ("proxy-connection", None),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let trace = seen.header("traceparent").unwrap();
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{trace}"
    );
    assert!(
        trace.ends_with("-01") && !trace.contains("b7ad6b7169203331"),
        "{trace}"
    );
}

#[tokio::test]
async fn a_request_without_ids_is_given_some_and_the_client_learns_its_id() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let first = proxy
        .ask(&get("/"))
        .await
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let second = proxy
        .ask(&get("/"))
        .await
        .header("x-request-id")
        .unwrap()
        .to_owned();
    assert_ne!(first, second);
    assert_eq!(first.len(), 32);
    let seen = backend.received();
    assert_eq!(seen[0].header("x-request-id"), Some(first.as_str()));
    assert_eq!(seen[1].header("traceparent").unwrap().len(), 55);
}

#[tokio::test]
async fn a_request_that_comes_round_again_is_refused() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let around = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 basic-agent-test, 1.1 other\r\n\r\n";
    assert_eq!(proxy.ask(around).await.status, 508);
    let other = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 basic-agent-other\r\n\r\n";
    assert_eq!(proxy.ask(other).await.status, 200);
    assert_eq!(backend.received().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_its_own_server_notices_the_loop() {
    let proxy = TestProxy::over(&[]);
    proxy
        .balancer
        .set_endpoints(crate::harness::endpoints(&[proxy.addr()]));
    assert_eq!(proxy.ask(&get("/")).await.status, 508);
    eventually("the loop is counted", || {
        proxy.running.metrics().loops.value() == 1
    })
    .await;
}

#[tokio::test]
async fn a_response_loses_the_headers_of_its_hop_and_keeps_all_others() {
    let backend = Backend::sending(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Content-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let response = proxy.ask(&get("/")).await;
    for name in ["connection", "x-hop", "keep-alive"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        response.header("date"),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[tokio::test]
async fn a_client_that_asks_to_close_is_closed() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    let response = client
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.sees_end().await);
}

#[tokio::test]
async fn an_old_client_is_served_in_its_own_version() {
    let backend = Backend::sending(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let response = proxy.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(response.head.first, "HTTP/1.0 200 OK");
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!((response.text().as_str(), response.is_whole), ("ok", true));
    assert_eq!(
        backend.received()[0].header("via"),
        Some("1.0 basic-agent-test")
    );
}
