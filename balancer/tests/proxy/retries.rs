//! Which requests are sent again after which failure; above all, which never are.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::harness::{Backend, TestProxy, eventually, get, with_body};

/// A server that misbehaves beside one that answers. A request of `method` goes to each first.
async fn both_first(
    bad: &Backend,
    good: &Backend,
    request: &str,
    change: impl FnOnce(&mut basic_balancer::ProxyConfig),
) -> Vec<(u16, String)> {
    let proxy = TestProxy::with(&[bad.addr, good.addr], change);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let response = proxy.ask(request).await;
        answers.push((response.status, response.text()));
    }
    answers.sort();
    answers
}

#[tokio::test]
async fn idempotent_requests_go_elsewhere_after_a_reset() {
    for method in ["GET", "OPTIONS", "PUT", "DELETE"] {
        let (bad, good) = (Backend::resetting().await, Backend::answering("ok").await);
        let request = with_body(method, "/", "", "body");
        let answers = both_first(&bad, &good, &request, |_| {}).await;
        assert_eq!(
            answers,
            [(200, "ok".into()), (200, "ok".into())],
            "{method}"
        );
        assert!(
            !bad.received().is_empty(),
            "{method} was to meet the bad server"
        );
        assert_eq!(good.received().len(), 2, "{method}");
        assert!(
            good.received()
                .iter()
                .all(|request| request.body == b"body"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn requests_that_are_not_idempotent_are_not_sent_again_after_a_reset() {
    for method in ["POST", "PATCH"] {
        let (bad, good) = (Backend::resetting().await, Backend::answering("ok").await);
        let request = with_body(method, "/", "", "body");
        let answers = both_first(&bad, &good, &request, |_| {}).await;
        assert_eq!(answers[0], (200, "ok".into()), "{method}");
        assert_eq!(answers[1].0, 502, "{method}");
        assert!(
            answers[1].1.contains("may have been carried out"),
            "{}",
            answers[1].1
        );
        assert_eq!(
            (bad.received().len(), good.received().len()),
            (1, 1),
            "{method}"
        );
    }
}

#[tokio::test]
async fn an_idempotency_key_lets_a_post_be_sent_again() {
    let (bad, good) = (Backend::resetting().await, Backend::answering("ok").await);
    let request = with_body("POST", "/", "Idempotency-Key: 1\r\n", "body");
    let answers = both_first(&bad, &good, &request, |_| {}).await;
    assert_eq!(answers, [(200, "ok".into()), (200, "ok".into())]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_passed_over_for_idempotent_requests_only() {
    for (method, status) in [("GET", 200), ("POST", 504)] {
        let silent = Backend::start(|mut connection| async move {
            connection.request().await;
            connection.closed().await;
        })
        .await;
        let good = Backend::answering("ok").await;
        let request = with_body(method, "/", "", "body");
        let answers = both_first(&silent, &good, &request, |config| {
            config.timeouts.response_head = Duration::from_millis(200);
        })
        .await;
        assert_eq!(
            answers.iter().map(|answer| answer.0).collect::<Vec<_>>(),
            [200, status]
        );
    }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_passed_over_for_idempotent_requests_only() {
    let nonsense = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ];
    for response in nonsense {
        for (method, status) in [("GET", 200), ("POST", 502)] {
            let (bad, good) = (
                Backend::sending(response).await,
                Backend::answering("ok").await,
            );
            let answers = both_first(&bad, &good, &with_body(method, "/", "", "x"), |_| {}).await;
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.0).collect();
            assert_eq!(statuses, [200, status], "{method} {response:?}");
        }
    }
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_sent_once() {
    let (bad, good) = (Backend::resetting().await, Backend::answering("ok").await);
    let request = with_body("PUT", "/", "", &"x".repeat(100_000));
    let answers = both_first(&bad, &good, &request, |_| {}).await;
    assert_eq!(answers[0].0, 200);
    assert_eq!(answers[1].0, 502);
    assert!(
        answers[1].1.contains("too long to be kept"),
        "{}",
        answers[1].1
    );
    assert_eq!((bad.received().len(), good.received().len()), (1, 1));
}

#[tokio::test]
async fn a_spent_budget_stops_repeats() {
    let (bad, good) = (Backend::resetting().await, Backend::answering("ok").await);
    let answers = both_first(&bad, &good, &get("/"), |config| {
        config.retry.budget.share = 0.0;
        config.retry.budget.per_second_min = 0;
    })
    .await;
    assert_eq!(answers[1].0, 502);
    assert!(
        answers[1].1.contains("Too many requests are failing"),
        "{}",
        answers[1].1
    );
}

#[tokio::test]
async fn the_apps_own_errors_are_answers() {
    let failing = Backend::sending(
        "HTTP/1.1 503 Downstream Is Gone\r\nX-App: 1\r\nContent-Length: 4\r\n\r\ndead",
    )
    .await;
    let good = Backend::answering("ok").await;
    let proxy = TestProxy::over(&[failing.addr, good.addr]);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let response = proxy.ask(&get("/")).await;
        if response.status == 503 {
            assert_eq!(response.head.first, "HTTP/1.1 503 Downstream Is Gone");
            assert_eq!(
                (response.header("x-app"), &response.body[..]),
                (Some("1"), &b"dead"[..])
            );
        }
        statuses.push(response.status);
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 503).count(),
        10,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_without_saying_so_fails_no_get() {
    let closing = Backend::start(|mut connection| async move {
        if connection.request().await.is_some() {
            connection.answer("ok").await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[closing.addr]);
    let mut client = proxy.client().await;
    for _ in 0..200 {
        assert_eq!(client.ask(&get("/")).await.status, 200);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_fails_no_get_and_repeats_no_post() {
    let backends = [
        Backend::answering("1").await,
        Backend::answering("2").await,
        Backend::answering("3").await,
    ];
    let proxy = TestProxy::over(&backends.each_ref().map(|backend| backend.addr));
    let answered = AtomicUsize::new(0);
    let client = |index: usize| {
        let (proxy, answered) = (&proxy, &answered);
        async move {
            let mut connection = proxy.client().await;
            for round in 0..100 {
                assert_eq!(connection.ask(&get("/")).await.status, 200);
                let id = format!("X-Id: {index}-{round}\r\n");
                let status = connection
                    .ask(&with_body("POST", "/", &id, ""))
                    .await
                    .status;
                assert!([200, 502].contains(&status), "{status}");
                answered.fetch_add(2, Ordering::Relaxed);
            }
        }
    };
    let kill = async {
        eventually("they are at it", || answered.load(Ordering::Relaxed) > 300).await;
        backends[1].kill();
    };
    join(join_all((0..8).map(client)), kill).await;
    let received: Vec<_> = backends.iter().flat_map(Backend::received).collect();
    let posts: Vec<_> = received
        .iter()
        .filter_map(|request| request.header("x-id"))
        .collect();
    let distinct: HashSet<_> = posts.iter().collect();
    assert_eq!(posts.len(), distinct.len(), "no POST arrived twice");
}

/// TESTING, invariant 7, where it is hardest to keep: connections that have served before are
/// reset at any moment, before and after requests are read.
#[tokio::test]
async fn in_a_storm_of_resets_no_post_arrives_twice_and_every_success_arrived() {
    let mut backends = Vec::new();
    for salt in 0..3 {
        let serve = move |mut connection: crate::harness::Connection| async move {
            // Connections live for zero to six requests, and end in one of three ways.
            let (lives, end) = ((connection.index + salt) % 7, (connection.index + salt) % 3);
            for _ in 0..lives {
                if connection.request().await.is_none() {
                    return;
                }
                connection.answer("ok").await;
            }
            match end {
                0 => drop(connection),
                1 => connection.reset(),
                _ => {
                    connection.request().await;
                    connection.reset();
                }
            }
        };
        backends.push(Backend::start(serve).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
    let proxy = TestProxy::over(&addresses);
    let outcomes = join_all((0..8).map(|client| {
        let proxy = &proxy;
        async move {
            let mut connection = proxy.client().await;
            let mut outcomes = Vec::new();
            for index in 0..150 {
                let id = format!("{client}-{index}");
                // Half of them without a body, which could be repeated without keeping anything.
                let body = if index % 2 == 0 { "" } else { &id };
                let request = with_body("POST", "/", &format!("X-Id: {id}\r\n"), body);
                outcomes.push((id, connection.ask(&request).await.status));
            }
            outcomes
        }
    }))
    .await
    .concat();
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    for request in backends.iter().flat_map(Backend::received) {
        *arrivals
            .entry(request.header("x-id").unwrap().to_owned())
            .or_default() += 1;
    }
    for (id, status) in &outcomes {
        let arrived = arrivals.get(id).copied().unwrap_or(0);
        assert!(arrived <= 1, "{id} arrived {arrived} times");
        assert!(
            [200, 502, 503].contains(status),
            "{id} was answered {status}"
        );
        assert!(
            *status != 200 || arrived == 1,
            "{id} succeeded without arriving"
        );
    }
    let failed = outcomes.iter().filter(|(_, status)| *status != 200).count();
    assert!(
        failed > 0,
        "the storm must hit something, or this test shows nothing"
    );
    assert!(failed < outcomes.len(), "and must leave something");
}
