//! The active probe tells a live app from a dead, a sick and a hanging one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use basic_balancer::probe::{AppHealth, AppState, Probe, ProbeConfig};
use tokio::sync::watch;

use crate::harness::{Backend, dead_address, soon};

fn config(target: std::net::SocketAddr) -> ProbeConfig {
    let mut config = ProbeConfig::new(target, "/health".parse().unwrap());
    config.interval = Duration::from_millis(20);
    config.timeout = Duration::from_millis(300);
    config
}

async fn becomes(health: &mut watch::Receiver<AppHealth>, state: AppState) -> AppHealth {
    let reached = health.wait_for(|health| health.state == state);
    soon("the verdict", reached).await.unwrap().clone()
}

/// A server that answers with a status that can be changed.
async fn with_status(status: &Arc<AtomicU16>) -> Backend {
    let status = Arc::clone(status);
    Backend::start(move |mut connection| {
        let status = Arc::clone(&status);
        async move {
            connection.request().await;
            let status = status.load(Ordering::Relaxed);
            connection
                .send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn an_app_is_judged_by_its_status_and_forgiven_when_it_recovers() {
    let status = Arc::new(AtomicU16::new(200));
    let app = with_status(&status).await;
    let probe = Probe::spawn(config(app.addr));
    let mut health = probe.watch();
    let well = becomes(&mut health, AppState::Healthy).await;
    assert!(well.latency.is_some() && well.last_error.is_none());
    status.store(503, Ordering::Relaxed);
    let sick = becomes(&mut health, AppState::Unhealthy).await;
    assert!(sick.last_error.as_ref().unwrap().contains("503"));
    assert!(sick.consecutive_failures >= 2 && sick.since >= well.since);
    status.store(204, Ordering::Relaxed);
    let back = becomes(&mut health, AppState::Healthy).await;
    assert_eq!(back.consecutive_failures, 0);
    let seen = &app.received()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/health")
    );
    assert_eq!(seen.header("host"), Some(app.addr.to_string().as_str()));
}

#[tokio::test]
async fn an_app_that_is_not_there_is_unhealthy_and_the_error_says_where() {
    let target = dead_address();
    let probe = Probe::spawn(config(target));
    let health = becomes(&mut probe.watch(), AppState::Unhealthy).await;
    assert!(health.last_error.unwrap().contains(&target.to_string()));
}

#[tokio::test]
async fn an_app_that_hangs_is_unhealthy() {
    let app = Backend::start(|mut connection| async move {
        connection.request().await;
        connection.closed().await;
    })
    .await;
    let probe = Probe::spawn(config(app.addr));
    let health = becomes(&mut probe.watch(), AppState::Unhealthy).await;
    assert!(health.last_error.unwrap().contains("no answer within"));
}

#[tokio::test]
async fn something_that_is_not_http_is_unhealthy() {
    let app = Backend::sending("220 mail ready\r\n").await;
    let probe = Probe::spawn(config(app.addr));
    let health = becomes(&mut probe.watch(), AppState::Unhealthy).await;
    assert!(health.last_error.unwrap().contains("no HTTP response"));
}

#[tokio::test]
async fn a_stopped_probe_asks_no_more_and_closes_its_channel() {
    let app = with_status(&Arc::new(AtomicU16::new(200))).await;
    let probe = Probe::spawn(config(app.addr));
    let mut health = probe.watch();
    becomes(&mut health, AppState::Healthy).await;
    soon("the stop", probe.stop()).await;
    soon("the channel closes", async {
        while health.changed().await.is_ok() {}
    })
    .await;
    assert!(health.borrow().is_healthy());
}
