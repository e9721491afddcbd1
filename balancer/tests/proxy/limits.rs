//! Nobody can hold the proxy up: every phase has a timer, every size a bound.

use std::net::TcpListener;
use std::time::Duration;

use basic_balancer::{Balancer, BindError, Config, Proxy, ProxyConfig};

use crate::harness::{Backend, Request, TestProxy, eventually, get, loopback, soon};

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_answered_with_408() {
    let proxy = TestProxy::with(&[], |config| {
        config.timeouts.client_head = Duration::from_millis(100);
    });
    let mut client = proxy.client().await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!(client.response().await.status, 408);
    assert!(client.sees_end().await);
    assert_eq!(proxy.running.metrics().heads_timed_out.value(), 1);
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408_whether_kept_or_streamed() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| {
        config.timeouts.body_idle = Duration::from_millis(100);
    });
    for method in ["PUT", "POST"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
        assert_eq!(proxy.ask(&head).await.status, 408, "{method}");
    }
    assert_eq!(backend.received().len(), 0);
}

#[tokio::test]
async fn a_slow_upload_is_not_late_as_long_as_it_moves() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| {
        config.timeouts.response_head = Duration::from_millis(400);
    });
    let mut client = proxy.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        .await;
    for _ in 0..12 {
        client.send("x").await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| {
        config.timeouts.client_idle = Duration::from_millis(100);
    });
    let mut unused = proxy.client().await;
    let mut used = proxy.client().await;
    assert_eq!(used.ask(&get("/")).await.status, 200);
    assert!(unused.sees_end().await);
    assert!(used.sees_end().await);
    eventually("no connection is left", || {
        proxy.running.metrics().connections.value() == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let backend = Backend::start(|mut connection| async move {
        connection.request().await;
        connection
            .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            .await;
        let block = vec![0; 1 << 20];
        for _ in 0..200 {
            connection.send(&block).await;
        }
    })
    .await;
    let proxy = TestProxy::with(&[backend.addr], |config| {
        config.timeouts.body_idle = Duration::from_millis(200);
    });
    let mut client = proxy.client().await;
    client.send(get("/")).await;
    eventually("the request is given up", || {
        let metrics = proxy.running.metrics();
        metrics.requests.value() == 1 && metrics.connections.value() == 0
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_with_431() {
    let proxy = TestProxy::over(&[]);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    assert_eq!(proxy.ask(&long).await.status, 431);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: 1\r\n".repeat(100)
    );
    assert_eq!(proxy.ask(&many).await.status, 431);
}

#[tokio::test]
async fn the_largest_head_allowed_is_forwarded() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let fill = 64 * 1024 - "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    let largest = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(fill)
    );
    assert_eq!(proxy.ask(&largest).await.status, 200);
    assert_eq!(backend.received()[0].header("x").unwrap().len(), fill);
}

#[tokio::test]
async fn more_connections_than_allowed_wait_until_one_closes() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| config.connections_max = 2);
    let mut first = proxy.client().await;
    let mut second = proxy.client().await;
    assert_eq!(first.ask(&get("/")).await.status, 200);
    assert_eq!(second.ask(&get("/")).await.status, 200);
    let mut third = proxy.client().await;
    third.send(get("/")).await;
    eventually("accepting pauses", || {
        proxy.running.metrics().accept_pauses.value() > 0
    })
    .await;
    assert_eq!(proxy.running.metrics().connections.value(), 2);
    drop(first);
    assert_eq!(third.response().await.status, 200);
}

#[tokio::test]
async fn a_server_that_swallows_connections_costs_one_timeout_and_no_request() {
    // A listener whose queue is full takes part in no handshake.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&loopback().into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let full = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(Ok(queued)) = tokio::time::timeout(
        Duration::from_millis(200),
        tokio::net::TcpStream::connect(full),
    )
    .await
    {
        queue.push(queued);
    }
    let good = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[full, good.addr], |config| {
        config.timeouts.connect = Duration::from_millis(100);
    });
    let mut client = proxy.client().await;
    for _ in 0..10 {
        assert_eq!(client.ask(&get("/")).await.status, 200);
    }
    let swallowed = &proxy.balancer.snapshot(std::time::Instant::now())[0];
    assert!(
        swallowed
            .last_error
            .as_ref()
            .unwrap()
            .contains("no connection within")
    );
}

#[tokio::test]
async fn a_response_head_that_is_too_large_is_a_bad_gateway() {
    let backend = Backend::start(|mut connection| async move {
        Request::read(&mut connection.stream).await;
        let long = "x".repeat(100_000);
        connection
            .send(format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"))
            .await;
        connection.closed().await;
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    assert_eq!(proxy.ask(&get("/")).await.status, 502);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let bound = Proxy::bind(
        address,
        Balancer::new(Config::default()),
        ProxyConfig::new("x"),
    );
    let error = bound.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_bound_proxy_keeps_clients_waiting_until_it_runs() {
    let backend = Backend::answering("ok").await;
    let balancer = Balancer::new(Config::default());
    balancer.set_endpoints(crate::harness::endpoints(&[backend.addr]));
    let proxy = Proxy::bind(loopback(), balancer, ProxyConfig::new("x")).unwrap();
    let mut client = crate::harness::Client::connect(proxy.local_addr()).await;
    client.send(get("/")).await;
    let running = proxy.run().unwrap();
    assert_eq!(client.response().await.status, 200);
    soon("shutdown", running.shutdown(Duration::ZERO)).await;
}
