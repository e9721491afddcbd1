//! Asks one app over HTTP whether it is well, again and again, and publishes the answer.
//!
//! In: where to ask and how often ([`ProbeConfig`]). Out: [`AppHealth`] in a watch channel, whose
//! receivers wake on transitions and can read the latest figures at any time. Each check has its
//! own connection and its own time-out, because a server can hang while it accepts. An app is
//! judged by the status alone (2xx and 3xx are well): bodies of health pages agree on nothing.
//! Counting is pure (`tally.rs`); here is the asking. A check that fails is a result, not an error.

mod tally;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use tally::Tally;

/// Whom to ask, how often, and what to make of the answers.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Where the app listens.
    pub target: SocketAddr,
    /// What to ask for.
    pub path: PathAndQuery,
    /// Time from one check to the next; a tenth more or less at random, so that the checks of many
    /// agents do not fall together. Default 1 s.
    pub interval: Duration,
    /// How long a check may take until the response head is there. Default 1 s.
    pub timeout: Duration,
    /// Good checks in a row that make it healthy. Default 1.
    pub healthy_threshold: u32,
    /// Bad checks in a row that make a healthy one unhealthy. Default 2.
    pub unhealthy_threshold: u32,
}

impl ProbeConfig {
    /// The defaults, asking `target` for `path`.
    pub fn new(target: SocketAddr, path: PathAndQuery) -> Self {
        Self {
            target,
            path,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 2,
        }
    }
}

/// What the checks have found so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHealth {
    /// The verdict.
    pub state: AppState,
    /// Since when the verdict stands; for [`AppState::Unknown`], since probing began.
    pub since: SystemTime,
    /// Bad checks since the last good one.
    pub consecutive_failures: u32,
    /// What the latest bad check said, if there ever was one.
    pub last_error: Option<String>,
    /// How long the latest good check took.
    pub latency: Option<Duration>,
}

/// Whether an app is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppState {
    /// Too few checks have been made.
    Unknown,
    /// It answers.
    Healthy,
    /// It does not answer, or says that it is not well.
    Unhealthy,
}

impl AppHealth {
    /// Whether it is known to be well.
    pub fn is_healthy(&self) -> bool {
        self.state == AppState::Healthy
    }
}

/// Why a check was bad.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("cannot connect to {target}: {source}")]
    Connect {
        target: SocketAddr,
        source: std::io::Error,
    },
    #[error("no HTTP response: {0}")]
    Http(#[from] hyper::Error),
    #[error("answered with status {0}")]
    Status(StatusCode),
}

/// Probing, as a constructor.
#[derive(Debug)]
pub struct Probe;

impl Probe {
    /// Begins to check. Must be called on a tokio runtime.
    pub fn spawn(config: ProbeConfig) -> ProbeHandle {
        let tally = Tally::new(config.healthy_threshold, config.unhealthy_threshold);
        let (publisher, health) = watch::channel(tally.health(SystemTime::now()));
        let task = tokio::spawn(probe(config, tally, publisher));
        ProbeHandle { health, task }
    }
}

/// A running probe. It stops when this is dropped.
#[derive(Debug)]
pub struct ProbeHandle {
    health: watch::Receiver<AppHealth>,
    task: JoinHandle<()>,
}

impl ProbeHandle {
    /// A view on the health: it wakes on transitions, and always shows the latest check.
    pub fn watch(&self) -> watch::Receiver<AppHealth> {
        self.health.clone()
    }

    /// Stops checking. Views keep the last value and are told that the channel is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends cancelled, or with the panic that the runtime has reported.
        let _ = (&mut self.task).await;
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn probe(config: ProbeConfig, mut tally: Tally, publisher: watch::Sender<AppHealth>) {
    loop {
        let began = Instant::now();
        let result = match timeout(config.timeout, check(&config)).await {
            Ok(Ok(())) => Ok(began.elapsed()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(CheckError::TimedOut(config.timeout).to_string()),
        };
        let now = SystemTime::now();
        let is_transition = tally.record(now, result);
        publisher.send_if_modified(|health| {
            *health = tally.health(health.since);
            is_transition
        });
        if is_transition {
            let health = publisher.borrow();
            tracing::info!(
                app = %config.target,
                state = ?health.state,
                error = health.last_error.as_deref().filter(|_| !health.is_healthy()),
                "app health changed"
            );
        }
        let pause = jittered(config.interval, rand::random());
        sleep(pause.saturating_sub(began.elapsed())).await;
    }
}

async fn check(config: &ProbeConfig) -> Result<(), CheckError> {
    let target = config.target;
    let stream = TcpStream::connect(target)
        .await
        .map_err(|source| CheckError::Connect { target, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from(config.path.clone());
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&target.to_string()) {
        headers.insert(HOST, host);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(USER_AGENT, HeaderValue::from_static("basic-agent-probe"));
    let response = sender.send_request(request);
    let response = tokio::select! {
        response = response => response?,
        // The connection is driven here, so that it ends with the check. It can end before the
        // response is seen; then the response says how.
        ended = drive(connection) => match ended {},
    };
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(CheckError::Status(status))
    }
}

/// Drives a connection, and never returns: what comes of it is told to whoever waits for it.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> std::convert::Infallible {
    // An error here has been handed to the waiting request.
    let _ = connection.await;
    std::future::pending().await
}

/// `interval`, up to a tenth shorter or longer; `random` is uniform.
fn jittered(interval: Duration, random: u32) -> Duration {
    let shortest = interval - interval / 10;
    shortest + (interval / 5).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn jitter_is_at_most_a_tenth(millis in 0u64..100_000, random: u32) {
            let interval = Duration::from_millis(millis);
            let jittered = jittered(interval, random);
            prop_assert!(jittered >= interval.mul_f64(0.899) && jittered <= interval.mul_f64(1.101));
        }
    }
}
