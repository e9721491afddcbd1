//! When each agent sees a member in a state, by asking all of them at once.
//!
//! Each agent is asked again as soon as it may be: at most [`QUESTIONS`] questions
//! a second go to all agents together, so that looking costs a large cluster no
//! more than a small one. The time between two questions to one agent is how
//! inexact a figure is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::http::Client;
use tokio::task::JoinSet;

/// Questions a second, to all agents together.
const QUESTIONS: u32 = 2000;
/// By when all have to see it.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// Those who are looking; dropping it ends them.
pub(crate) struct Views {
    looking: JoinSet<anyhow::Result<Instant>>,
}

impl Views {
    /// Asks at each of these URLs, which lead to a member as one agent sees it,
    /// until that agent sees the member in this state.
    pub(crate) fn look(client: &Arc<Client>, urls: Vec<String>, state: &'static str) -> Views {
        let agents = u32::try_from(urls.len()).unwrap_or(u32::MAX);
        let interval = Duration::from_secs(1) * agents / QUESTIONS;
        let mut looking = JoinSet::new();
        for url in urls {
            looking.spawn(look(Arc::clone(client), url, state, interval));
        }
        Views { looking }
    }

    /// How long after `moment` each agent saw it, when all have.
    pub(crate) async fn since(mut self, moment: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut seen = Vec::new();
        while let Some(finished) = self.looking.join_next().await {
            let at = finished.context("a task that looks panicked")??;
            seen.push(at.saturating_duration_since(moment));
        }
        Ok(seen)
    }
}

async fn look(
    client: Arc<Client>,
    url: String,
    state: &'static str,
    interval: Duration,
) -> anyhow::Result<Instant> {
    let start = Instant::now();
    loop {
        let member = client.get(&url).await?.json();
        if member["state"] == state {
            return Ok(Instant::now());
        }
        anyhow::ensure!(
            start.elapsed() < SEEN_MAX,
            "{url} is never {state}, it tells {member}"
        );
        tokio::time::sleep(interval).await;
    }
}
