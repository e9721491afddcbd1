//! Which keys the watches on the other nodes have told of, and when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lines::Lines;

/// How long a write may take until it is seen everywhere.
const VISIBLE_MAX: Duration = Duration::from_secs(30);

/// An open watch on one node.
pub(crate) struct Watch {
    /// What it says.
    /// On which node, counted from 0.
    pub(crate) node: usize,
    pub(crate) lines: Lines,
    /// Reads the keys that changed out of one line.
    pub(crate) keys: fn(&[u8]) -> anyhow::Result<Vec<String>>,
}

/// Reads watches to their end; dropping it closes them. It remembers every key,
/// so it holds as much as is written while it lives.
pub(crate) struct Sightings {
    watches: Vec<(usize, Arc<Seen>)>,
    _readers: JoinSet<()>,
}

/// What one watch has told.
#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    times: HashMap<String, Instant>,
    /// Why it tells no more.
    ended: Option<String>,
}

impl Sightings {
    pub(crate) fn start(watches: Vec<Watch>) -> Sightings {
        let mut readers = JoinSet::new();
        let start = |watch: Watch| {
            let (node, seen) = (watch.node, Arc::new(Seen::default()));
            readers.spawn(seen.clone().read(watch));
            (node, seen)
        };
        Sightings {
            watches: watches.into_iter().map(start).collect(),
            _readers: readers,
        }
    }

    /// Waits until every watch has told of this key; returns when the last did.
    pub(crate) async fn wait_for(&self, key: &str) -> anyhow::Result<Instant> {
        let mut last = None;
        for (node, seen) in &self.watches {
            let time = timeout(VISIBLE_MAX, seen.wait_for(key))
                .await
                .with_context(|| format!("{key} was not seen on all nodes in time"))?
                .with_context(|| format!("the watch on node {} has ended", node + 1))?;
            last = last.max(Some(time));
        }
        last.context("nobody watches")
    }
}

impl Seen {
    async fn read(self: Arc<Self>, mut watch: Watch) {
        let ended = loop {
            match watch.lines.next().await {
                Err(error) => break format!("{error:#}"),
                Ok(None) => break "by its server".to_owned(),
                Ok(Some(line)) => {
                    let now = Instant::now();
                    match (watch.keys)(line.trim_ascii()) {
                        Err(error) => break format!("{error:#}"),
                        Ok(keys) => {
                            let mut state = self.lock();
                            for key in keys {
                                state.times.entry(key).or_insert(now);
                            }
                        }
                    }
                    self.changed.notify_one();
                }
            }
        };
        self.lock().ended = Some(ended);
        self.changed.notify_one();
    }

    async fn wait_for(&self, key: &str) -> anyhow::Result<Instant> {
        loop {
            {
                let state = self.lock();
                if let Some(time) = state.times.get(key) {
                    return Ok(*time);
                }
                if let Some(ended) = &state.ended {
                    anyhow::bail!("{ended}");
                }
            }
            // There is one who waits, so a permit left behind is enough.
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::lines::tests::answering;

    /// A watch whose lines are keys.
    async fn watch(node: usize, keys: &[&str]) -> Watch {
        let lines = keys.iter().map(|key| format!("{key}\n")).collect();
        let address = answering("200 OK", lines).await;
        Watch {
            node,
            lines: Lines::open(address, Method::GET, "/", String::new())
                .await
                .unwrap(),
            keys: |line| Ok(vec![String::from_utf8(line.to_vec())?]),
        }
    }

    #[tokio::test]
    async fn a_key_is_visible_when_the_last_watch_has_told_of_it() {
        let sightings = Sightings::start(vec![
            watch(1, &["a", "b"]).await,
            watch(2, &["b", "a"]).await,
        ]);
        let start = Instant::now();
        for key in ["a", "b", "a"] {
            assert!(sightings.wait_for(key).await.unwrap() <= start + VISIBLE_MAX);
        }
    }

    #[tokio::test]
    async fn a_watch_that_ends_without_the_key_is_an_error_that_names_the_node() {
        let sightings = Sightings::start(vec![watch(1, &["a"]).await, watch(2, &["b"]).await]);
        let error = sightings.wait_for("a").await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "the watch on node 3 has ended: by its server"
        );
    }
}
