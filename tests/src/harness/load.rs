//! A constant stream of requests that records what became of each.
//!
//! The stream is open: a request is due at its time whether or not earlier ones
//! were answered, and its latency counts from that time, so that a pause of the
//! server shows in full. At most [`IN_FLIGHT_MAX`] are under way; one that is
//! due beyond that is recorded as failed, not left out. Every request carries an
//! `X-Request-Id` of its own, by which a server can tell a repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::http::Client;

/// Requests under way at the same time, at most.
pub const IN_FLIGHT_MAX: usize = 512;
/// Requests of one load at most, so that a forgotten one ends.
pub const REQUESTS_MAX: usize = 1_000_000;

/// What to send, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    interval: Duration,
    timeout: Duration,
}

/// The URL of a load cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{url} is not a URL")]
pub struct LoadUrlError {
    url: String,
    #[source]
    source: http::uri::InvalidUri,
}

/// A load that is being sent.
pub struct RunningLoad {
    answered_by: Arc<Mutex<BTreeSet<String>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Report>,
}

/// What became of all requests, in the order in which they were due.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One for each request.
    pub outcomes: Vec<Outcome>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its `X-Request-Id`.
    pub id: String,
    /// When it was due, from the start of the load.
    pub due: Duration,
    /// From then until the answer was complete, or there would be none.
    pub latency: Duration,
    /// The answer, or why there is none, with all causes.
    pub reply: Result<Reply, String>,
}

/// What an answer told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The node that answered, by the header `Basic-Node`.
    pub node: Option<String>,
}

impl Load {
    /// A hundred GETs a second, each with 10 s of patience.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn get(url: &str) -> Result<Self, LoadUrlError> {
        Self::new(Method::GET, url)
    }

    /// The same with POST, which nobody may repeat.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn post(url: &str) -> Result<Self, LoadUrlError> {
        Self::new(Method::POST, url)
    }

    fn new(method: Method, url: &str) -> Result<Self, LoadUrlError> {
        let uri = url.parse().map_err(|source| LoadUrlError {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self {
            method,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(10),
        })
    }

    /// So many requests a second; 0 counts as 1.
    #[must_use]
    pub fn per_second(mut self, rate: u32) -> Self {
        self.interval = Duration::from_secs(1) / rate.max(1);
        self
    }

    /// Gives each request so much time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Gives every request a JSON body.
    #[must_use]
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Bytes::from(value.to_string());
        self
    }

    /// Begins to send, until [`RunningLoad::stop`].
    pub fn start(self) -> RunningLoad {
        let (stop, stopped) = oneshot::channel();
        let answered_by = Arc::default();
        let task = tokio::spawn(send_until(self, Arc::clone(&answered_by), stopped));
        RunningLoad {
            answered_by,
            stop,
            task,
        }
    }

    /// Sends for so long, and waits for the last answer.
    pub async fn run_for(self, duration: Duration) -> Report {
        let running = self.start();
        tokio::time::sleep(duration).await;
        running.stop().await
    }

    fn request(&self, id: &str) -> Request<Bytes> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(id) {
            request.headers_mut().insert("x-request-id", id);
        }
        request
    }
}

impl RunningLoad {
    /// Whether an answer of this node has come already.
    pub fn is_answered_by(&self, node: &str) -> bool {
        let nodes = self.answered_by.lock();
        nodes.unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    /// Sends no more, and waits for the answers that are still due.
    pub async fn stop(self) -> Report {
        // A load that has reached its limit has stopped already.
        let _ = self.stop.send(());
        // A panic in the task is a bug of the harness; the suite must see it.
        self.task
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

async fn send_until(
    load: Load,
    answered_by: Arc<Mutex<BTreeSet<String>>>,
    mut stopped: oneshot::Receiver<()>,
) -> Report {
    let load = Arc::new(load);
    let client = Arc::new(Client::with_timeout(load.timeout));
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let name = load_name();
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for number in 0..REQUESTS_MAX {
        let due = load.interval * u32::try_from(number).unwrap_or(u32::MAX);
        tokio::select! {
            () = tokio::time::sleep_until((start + due).into()) => {}
            _ = &mut stopped => break,
        }
        let id = format!("{name}-{number}");
        let (load, client) = (load.clone(), client.clone());
        let answered_by = answered_by.clone();
        let slot = slots.clone().try_acquire_owned();
        requests.spawn(async move {
            let reply = match slot {
                Ok(_slot) => send(&client, load.request(&id)).await,
                Err(_) => Err(format!("not sent: {IN_FLIGHT_MAX} requests are under way")),
            };
            let latency = start.elapsed().saturating_sub(due);
            if let Ok(Reply {
                node: Some(node), ..
            }) = &reply
            {
                let nodes = answered_by.lock();
                let mut nodes = nodes.unwrap_or_else(PoisonError::into_inner);
                nodes.insert(node.clone());
            }
            Outcome {
                id,
                due,
                latency,
                reply,
            }
        });
    }
    let mut outcomes = requests.join_all().await;
    outcomes.sort_by_key(|outcome| outcome.due);
    Report { outcomes }
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Reply, String> {
    match client.send(request).await {
        Ok(answer) => Ok(Reply {
            status: answer.status.as_u16(),
            node: answer.header("basic-node").map(str::to_owned),
        }),
        Err(error) => Err(with_causes(&error)),
    }
}

/// Differs between loads, also of different processes.
fn load_name() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("load-{}-{:x}", std::process::id(), now.as_nanos())
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Outcome {
    /// Whether it was answered with a status of 200 to 299.
    pub fn is_success(&self) -> bool {
        matches!(&self.reply, Ok(reply) if (200..300).contains(&reply.status))
    }
}

impl Report {
    /// Those without a good answer.
    pub fn failures(&self) -> Vec<&Outcome> {
        self.outcomes
            .iter()
            .filter(|outcome| !outcome.is_success())
            .collect()
    }

    /// How many answers each node gave.
    pub fn answers_by_node(&self) -> BTreeMap<&str, usize> {
        let replies = self
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.reply.as_ref().ok());
        counted(replies.map(|reply| reply.node.as_deref().unwrap_or("unnamed")))
    }

    /// How many requests ended in which way: a status, or an error.
    pub fn endings(&self) -> BTreeMap<String, usize> {
        counted(self.outcomes.iter().map(|outcome| match &outcome.reply {
            Ok(reply) => reply.status.to_string(),
            Err(error) => error.clone(),
        }))
    }

    /// The latency that `share` (0 to 1) of the requests did not exceed.
    pub fn latency(&self, share: f64) -> Duration {
        let mut latencies: Vec<_> = self
            .outcomes
            .iter()
            .map(|outcome| outcome.latency)
            .collect();
        latencies.sort_unstable();
        quantile(&latencies, share)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |share| self.latency(share).as_secs_f64() * 1000.0;
        writeln!(
            f,
            "{} requests, {} failed; latency p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
            self.outcomes.len(),
            self.failures().len(),
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(1.0),
        )?;
        writeln!(f, "  by node: {:?}", self.answers_by_node())?;
        write!(f, "  by ending: {:?}", self.endings())
    }
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// The smallest element that at least `share` of all do not exceed.
///
/// This is the nearest-rank definition; `sorted` must be.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let wanted = share.clamp(0.0, 1.0) * sorted.len() as f64;
    let rank = (1..sorted.len())
        .find(|rank| *rank as f64 >= wanted)
        .unwrap_or(sorted.len());
    rank.checked_sub(1)
        .and_then(|index| sorted.get(index))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::routing::any;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn quantiles_are_elements_by_nearest_rank() {
        let sorted: Vec<_> = (1..=10).map(Duration::from_secs).collect();
        assert_eq!(quantile(&sorted, 0.0), Duration::from_secs(1));
        assert_eq!(quantile(&sorted, 0.5), Duration::from_secs(5));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_secs(10));
        assert_eq!(quantile(&sorted, 1.0), Duration::from_secs(10));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    async fn serve(router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn every_request_is_recorded_and_has_an_id_of_its_own() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = {
            let seen = seen.clone();
            move |headers: HeaderMap| {
                let id = headers["x-request-id"].to_str().unwrap().to_owned();
                seen.lock().unwrap().push(id);
                std::future::ready([("basic-node", "n1")])
            }
        };
        let address = serve(Router::new().route("/", any(record))).await;
        let load = Load::post(&format!("http://{address}/"))
            .unwrap()
            .per_second(200);
        let report = load.run_for(Duration::from_millis(200)).await;

        assert!(report.failures().is_empty(), "{report}");
        let mut recorded: Vec<_> = report.outcomes.iter().map(|o| o.id.clone()).collect();
        let mut arrived = seen.lock().unwrap().clone();
        recorded.sort();
        arrived.sort();
        assert!(!recorded.is_empty());
        assert_eq!(recorded, arrived);
        assert_eq!(report.answers_by_node()["n1"], recorded.len());
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_a_failure() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let load = Load::get(&format!("http://{free}/")).unwrap();
        let report = load.run_for(Duration::from_millis(50)).await;
        assert!(!report.outcomes.is_empty());
        assert_eq!(report.failures().len(), report.outcomes.len());
    }
}
