//! Many documents, written and deleted in batches.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use basic_tests::harness::http::Client;
use http::Method;
use tokio::task::JoinSet;

pub(crate) const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Documents in a batch, and batches under way at once.
const BATCH: u64 = 250;
const LOADERS: u64 = 4;

/// Documents of one collection, each known by a number.
#[derive(Clone, Copy)]
pub(crate) struct Documents {
    /// Where they are.
    pub(crate) collection: &'static str,
    /// The size of the JSON of each; at least 31.
    pub(crate) value_bytes: usize,
}

impl Documents {
    /// Writes those with these numbers.
    pub(crate) async fn put(self, api: &str, numbers: Range<u64>) -> anyhow::Result<()> {
        let operation = move |number| {
            format!(
                r#"{{"op":"put","collection":"{}","key":"{}","value":{}}}"#,
                self.collection,
                key(number),
                self.value(number)
            )
        };
        in_batches(api, numbers, operation).await
    }

    /// Deletes those with these numbers.
    pub(crate) async fn delete(self, api: &str, numbers: Range<u64>) -> anyhow::Result<()> {
        let operation = move |number| {
            let (collection, key) = (self.collection, key(number));
            format!(r#"{{"op":"delete","collection":"{collection}","key":"{key}"}}"#)
        };
        in_batches(api, numbers, operation).await
    }

    /// Where one of them is.
    pub(crate) fn path(self, number: u64) -> String {
        format!("/v1/data/{}/{}", self.collection, key(number))
    }

    /// What it says.
    pub(crate) fn value(self, number: u64) -> String {
        const FRAME_BYTES: usize = r#"{"number":"00000000","text":""}"#.len();
        let text = "y".repeat(self.value_bytes - FRAME_BYTES);
        format!(r#"{{"number":"{number:08}","text":"{text}"}}"#)
    }
}

/// Keys are not in the order in which they are written.
fn key(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

async fn in_batches<O>(api: &str, numbers: Range<u64>, operation: O) -> anyhow::Result<()>
where
    O: Fn(u64) -> String + Copy + Send + 'static,
{
    let url = format!("{api}/v1/data:batch");
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut loaders = JoinSet::new();
    for _ in 0..LOADERS {
        let (url, next) = (url.clone(), next.clone());
        loaders.spawn(async move {
            let client = Client::default();
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= numbers.end {
                    return anyhow::Ok(());
                }
                let operations = (first..numbers.end.min(first + BATCH)).map(operation);
                let operations: Vec<String> = operations.collect();
                let body = format!(r#"{{"operations":[{}]}}"#, operations.join(","));
                let answer = client.call(Method::POST, &url, body.into()).await?;
                anyhow::ensure!(
                    answer.status.is_success(),
                    "a batch was answered {}: {}",
                    answer.status,
                    answer.text()
                );
            }
        });
    }
    while let Some(loader) = loaders.join_next().await {
        loader.context("a loader panicked")??;
    }
    Ok(())
}

/// Bytes on disk of all files in a directory.
pub(crate) fn bytes_in(directory: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // Files come and go while the agent runs.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += match metadata.is_dir() {
            true => bytes_in(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_size_that_is_claimed_and_every_key_is_another() {
        for value_bytes in [31, 512, 1024] {
            let documents = Documents {
                collection: "c",
                value_bytes,
            };
            for number in [0, 1_000_000] {
                assert_eq!(documents.value(number).len(), value_bytes);
            }
        }
        let keys: std::collections::BTreeSet<String> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
    }
}
