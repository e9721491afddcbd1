//! Requests are spread exactly, and go where something answers.

use std::collections::HashMap;
use std::time::Instant;

use basic_balancer::{Admission, Refusal};
use futures_util::future::join_all;

use crate::harness::{Backend, TestProxy, dead_address, endpoints, eventually, get, with_body};

#[tokio::test]
async fn concurrent_clients_are_spread_exactly_over_three_servers() {
    let backends = [
        Backend::answering("1").await,
        Backend::answering("2").await,
        Backend::answering("3").await,
    ];
    let proxy = TestProxy::over(&backends.each_ref().map(|backend| backend.addr));
    join_all((0..6).map(|_| async {
        let mut client = proxy.client().await;
        for _ in 0..50 {
            assert_eq!(client.ask(&get("/")).await.status, 200);
        }
    }))
    .await;
    assert_eq!(
        backends.map(|backend| backend.received().len()),
        [100, 100, 100]
    );
}

#[tokio::test]
async fn the_response_names_the_server_that_answered() {
    let backends = [Backend::answering("1").await, Backend::answering("2").await];
    let proxy = TestProxy::over(&backends.each_ref().map(|backend| backend.addr));
    let mut client = proxy.client().await;
    let mut nodes = HashMap::new();
    for _ in 0..4 {
        let response = client.ask(&get("/")).await;
        nodes.insert(
            response.header("basic-node").unwrap().to_owned(),
            response.text(),
        );
    }
    assert_eq!(nodes["n1"], "1");
    assert_eq!(nodes["n2"], "2");
}

#[tokio::test]
async fn a_dead_server_costs_no_request_of_any_method_and_is_ejected() {
    let alive = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[dead_address(), alive.addr]);
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.ask(&get("/")).await.status, 200);
        assert_eq!(
            client.ask(&with_body("POST", "/", "", "x")).await.status,
            200
        );
    }
    let dead = &proxy.balancer.snapshot(Instant::now())[0];
    assert!(!dead.in_rotation());
    assert!(
        dead.connect_failures < 10,
        "it is left alone after a few: {dead:?}"
    );
    assert_eq!(alive.received().len(), 40);
}

#[tokio::test]
async fn servers_that_are_all_thought_dead_are_asked_all_the_same() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[]);
    let mut unhealthy = endpoints(&[backend.addr, dead_address()]);
    for endpoint in &mut unhealthy {
        endpoint.admission = Admission::Refusing(Refusal::Unhealthy);
    }
    proxy.balancer.set_endpoints(unhealthy);
    let mut client = proxy.client().await;
    for _ in 0..10 {
        assert_eq!(client.ask(&get("/")).await.status, 200);
    }
}

#[tokio::test]
async fn without_servers_the_answer_is_503_with_advice() {
    let proxy = TestProxy::over(&[]);
    let response = proxy.ask(&get("/")).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json")
    );
    assert!(
        response.text().contains("no server is available"),
        "{}",
        response.text()
    );
}

#[tokio::test]
async fn when_every_server_is_dead_the_answer_says_that_nothing_was_sent() {
    let proxy = TestProxy::over(&[dead_address(), dead_address()]);
    let response = proxy.ask(&with_body("POST", "/", "", "x")).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(
        response.text().contains("Nothing was sent"),
        "{}",
        response.text()
    );
}

#[tokio::test]
async fn a_new_table_takes_effect_with_the_next_request() {
    let (before, after) = (
        Backend::answering("before").await,
        Backend::answering("after").await,
    );
    let proxy = TestProxy::over(&[before.addr]);
    let mut client = proxy.client().await;
    assert_eq!(client.ask(&get("/")).await.text(), "before");
    proxy.balancer.set_endpoints(endpoints(&[after.addr]));
    assert_eq!(client.ask(&get("/")).await.text(), "after");
}

#[tokio::test]
async fn nothing_stays_in_flight_after_the_last_answer() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    for _ in 0..5 {
        client.ask(&get("/")).await;
    }
    eventually("no request in flight", || {
        proxy.balancer.snapshot(Instant::now())[0].in_flight == 0
            && proxy.running.metrics().in_flight.value() == 0
    })
    .await;
    assert_eq!(proxy.running.metrics().requests.value(), 5);
}

#[tokio::test]
async fn connections_to_servers_are_used_again() {
    let backend = Backend::answering("ok").await;
    let proxy = TestProxy::with(&[backend.addr], |config| {
        config.workers = std::num::NonZeroUsize::new(1);
    });
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.ask(&get("/")).await.status, 200);
        assert_eq!(
            client.ask(&with_body("POST", "/", "", "x")).await.status,
            200
        );
    }
    assert_eq!(backend.connections(), 1);
}
