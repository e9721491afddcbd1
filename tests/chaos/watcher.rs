//! Every state in which any node sees any other, as it changes.
//!
//! One task a node asks its API again and again. What lasts for less than
//! [`INTERVAL`] can be missed; a node that does not answer, as one that is
//! stopped, is asked again, and nothing is concluded from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use basic_tests::harness::http::Client;
use tokio::task::JoinSet;

use crate::world::World;

/// How often each node is asked.
const INTERVAL: Duration = Duration::from_millis(50);

/// Watches until it is dropped.
pub(crate) struct Watcher {
    changes: Arc<Mutex<Vec<Change>>>,
    _tasks: JoinSet<()>,
}

/// One node has come to see another in another state.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: Instant,
    pub(crate) observer: u16,
    pub(crate) member: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Watcher {
    /// Begins to watch what these nodes see.
    pub(crate) fn start(world: &World, observers: &[u16]) -> Self {
        let changes = Arc::default();
        let mut tasks = JoinSet::new();
        for observer in observers {
            let url = format!("{}/v1/members", world.api(*observer));
            tasks.spawn(watch(*observer, url, Arc::clone(&changes)));
        }
        Self {
            changes,
            _tasks: tasks,
        }
    }

    /// All changes so far, in the order in which they were seen.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let changes = self.changes.lock();
        changes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The changes to this state so far.
    pub(crate) fn changes_to(&self, state: &str) -> Vec<Change> {
        let mut changes = self.changes();
        changes.retain(|change| change.to == state);
        changes
    }

    /// Fails if any node has seen any other `failed`.
    pub(crate) fn assert_nobody_failed(&self) {
        let failed = self.changes_to("failed");
        assert!(failed.is_empty(), "falsely declared failed: {failed:?}");
    }
}

/// How often which state followed which, over all observers and members.
pub(crate) fn counted(changes: &[Change]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for change in changes {
        let step = format!("{} to {}", change.from, change.to);
        *counts.entry(step).or_default() += 1;
    }
    counts
}

/// When each observer first saw `member` in this state, counted from `since`.
pub(crate) fn sightings(changes: &[Change], member: &str, since: Instant) -> Vec<(u16, Duration)> {
    let mut first = BTreeMap::new();
    let of_member = changes.iter().filter(|change| change.member == member);
    for change in of_member.filter(|change| change.at >= since) {
        first
            .entry(change.observer)
            .or_insert_with(|| change.at - since);
    }
    first.into_iter().collect()
}

async fn watch(observer: u16, url: String, changes: Arc<Mutex<Vec<Change>>>) {
    let client = Client::with_timeout(Duration::from_secs(2));
    let mut known = BTreeMap::<String, String>::new();
    loop {
        if let Ok(answer) = client.get(&url).await {
            let at = Instant::now();
            let answer = answer.json();
            for member in answer["members"].as_array().into_iter().flatten() {
                let (Some(id), Some(state)) = (member["id"].as_str(), member["state"].as_str())
                else {
                    continue;
                };
                let before = known.insert(id.to_owned(), state.to_owned());
                if let Some(from) = before.filter(|before| before != state) {
                    let change = Change {
                        at,
                        observer,
                        member: id.to_owned(),
                        from,
                        to: state.to_owned(),
                    };
                    let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                    changes.push(change);
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
