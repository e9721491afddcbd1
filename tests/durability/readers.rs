//! Readers that go on while something happens to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use basic_tests::harness::http::Client;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::world::World;

/// Readers beside the writers of a test.
pub(crate) const READERS: usize = 4;
/// How long a reader pauses between two reads.
const PAUSE: Duration = Duration::from_millis(1);

/// Readers at work. They end when they are told to, or with the test.
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Readers {
    /// Writes a document to a node and lets `count` readers read it, each one time after
    /// the other. Any answer but the document is a panic, when they are stopped.
    pub(crate) async fn start(world: &World, number: u16, count: usize) -> Self {
        let url = format!("{}/v1/data/read/all-the-time", world.api(number));
        let document = json!({"read": "all the time"});
        let written = Client::default().put_json(&url, &document).await.unwrap();
        assert!(written.status.is_success(), "{}", written.text());
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|_| tokio::spawn(read(url.clone(), stop.clone())));
        Self {
            tasks: tasks.collect(),
            stop,
        }
    }

    /// Lets each end; how often they have read.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let mut reads = 0;
        for task in self.tasks {
            reads += task.await.unwrap();
        }
        reads
    }
}

async fn read(url: String, stop: Arc<AtomicBool>) -> u64 {
    let client = Client::default();
    let mut reads = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = client.get(&url).await.unwrap();
        let text = answer.text();
        assert!(
            answer.status == 200 && text.contains("all the time"),
            "read {reads} was answered {}: {text}",
            answer.status
        );
        reads += 1;
        tokio::time::sleep(PAUSE).await;
    }
    reads
}
