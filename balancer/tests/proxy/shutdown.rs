//! A proxy that is told to stop loses nothing that ends in time, and says what it cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::harness::{Backend, Client, PATIENCE, TestProxy, eventually, get, soon, with_body};

#[tokio::test]
async fn steady_clients_lose_no_request_while_it_drains() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let address = proxy.addr();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients = join_all((0..16).map(|_| {
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            loop {
                // Not idempotent on purpose: nothing may be lost or repeated.
                let response = client.ask(&with_body("POST", "/", "", "x")).await;
                assert_eq!((response.status, response.is_whole), (200, true));
                answered.fetch_add(1, Ordering::Relaxed);
                if response.header("connection") == Some("close") {
                    return;
                }
            }
        })
    }));
    eventually("all clients are at it", || {
        answered.load(Ordering::Relaxed) > 200
    })
    .await;
    let drained = soon("shutdown", proxy.running.shutdown(PATIENCE)).await;
    assert_eq!(drained.cut, 0);
    for client in soon("the clients", clients).await {
        client.unwrap();
    }
    assert_eq!(backend.received().len(), answered.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_its_connection_closed() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let backend = Backend::start(move |mut connection| {
        let released = Arc::clone(&released);
        async move {
            connection.request().await;
            released.notified().await;
            connection.answer("late").await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    client.send(get("/")).await;
    eventually("the request arrives", || backend.received().len() == 1).await;
    let address = proxy.addr();
    let shutdown = tokio::spawn(proxy.running.shutdown(PATIENCE));
    eventually("new clients are refused", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    release.notify_one();
    let response = client.response().await;
    assert_eq!(
        (response.text().as_str(), response.header("connection")),
        ("late", Some("close"))
    );
    assert_eq!(soon("shutdown", shutdown).await.unwrap().cut, 0);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_counted() {
    let backend = Backend::start(|mut connection| async move {
        connection.request().await;
        connection.closed().await;
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut clients = [
        proxy.client().await,
        proxy.client().await,
        proxy.client().await,
    ];
    for client in &mut clients[..2] {
        client.send(get("/")).await;
    }
    eventually("the requests arrive", || backend.received().len() == 2).await;
    let drained = soon(
        "shutdown",
        proxy.running.shutdown(Duration::from_millis(200)),
    )
    .await;
    assert_eq!(drained.cut, 2);
    for mut client in clients {
        assert!(client.try_response().await.is_none());
    }
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut used = proxy.client().await;
    used.ask(&get("/")).await;
    let mut unused = proxy.client().await;
    eventually("both are open", || {
        proxy.running.metrics().connections.value() == 2
    })
    .await;
    let began = Instant::now();
    let drained = soon("shutdown", proxy.running.shutdown(PATIENCE)).await;
    assert_eq!(drained.cut, 0);
    assert!(
        began.elapsed() < PATIENCE,
        "it did not wait for the grace period"
    );
    assert!(used.sees_end().await && unused.sees_end().await);
}

#[tokio::test]
async fn a_request_that_comes_while_it_drains_is_still_answered() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| config.drain_idle = PATIENCE);
    let mut client = proxy.client().await;
    assert_eq!(client.ask(&get("/")).await.header("connection"), None);
    let address = proxy.addr();
    let shutdown = tokio::spawn(proxy.running.shutdown(PATIENCE));
    eventually("it drains", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let response = client.ask(&get("/")).await;
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(soon("shutdown", shutdown).await.unwrap().cut, 0);
}

#[tokio::test]
async fn dropping_it_stops_it() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let address = proxy.addr();
    let mut client = proxy.client().await;
    client.ask(&get("/")).await;
    drop(proxy);
    assert!(client.sees_end().await);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_restart_on_the_same_port_serves_again_at_once() {
    let backend = Backend::answering("ok").await;
    let first = TestProxy::over(&[backend.addr]);
    let address = first.addr();
    let mut client = first.client().await;
    client.ask(&get("/")).await;
    soon("shutdown", first.running.shutdown(PATIENCE)).await;
    let config = basic_balancer::ProxyConfig::new("again");
    let again = basic_balancer::Proxy::bind(address, first.balancer, config)
        .unwrap()
        .run()
        .unwrap();
    let mut client = Client::connect(again.local_addr()).await;
    assert_eq!(client.ask(&get("/")).await.status, 200);
    soon("shutdown", again.shutdown(PATIENCE)).await;
}
