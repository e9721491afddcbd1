//! `restore --as-new`: goes back to what a backup holds, by ordinary writes.
//!
//! The backup's writes are put together to documents in a store of their own, in a directory that nobody else can read
//! and that is removed at the end (TMPDIR says where). Then the documents of each collection are gone through beside
//! those that the agent has, both in the order of their keys, and what differs is written in batches: it is newer than
//! everything, replicates as any write does, and can be watched. The agents' own collections are not written.
//!
//! What others write meanwhile may be written over or not. A document that the agent refuses is left as it is and told
//! at the end; when the agent cannot be reached, what has been written stays, and the command may be repeated: it then
//! finds less to do.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use basic_sync::backup::{Item, Scratch, ScratchError};
use basic_sync::model::{Change, Collection};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::CliError;
use super::super::client::{Client, ClientError, Target};
use super::super::output::Output;
use super::ArchiveError;
use super::operation::{Operation, attempts};
use super::sides::{Now, Then, now_ms};
use super::source::Source;
use crate::records::RESERVED_PREFIX;

/// Operations and bytes of a batch; the agent takes 256 and 1.5 MiB, and a document alone may have 1 MiB.
const OPERATIONS_MAX: usize = 256;
const BATCH_BYTES: usize = 512 * 1024;
/// A document that lives no longer than this need not come back.
const TTL_MIN_MS: u64 = 1_000;

/// What was done.
#[derive(Debug, Default)]
struct Done {
    written: u64,
    deleted: u64,
    same: u64,
    /// Made since, and not deleted.
    kept: u64,
    refused: Vec<String>,
}

struct Rollback<'c> {
    client: &'c Client,
    delete_newer: bool,
    batch: Vec<Operation>,
    batch_bytes: usize,
    done: Done,
}

/// Reads the file, then writes what differs.
pub(super) async fn execute(
    source: Source,
    delete_newer: bool,
    client: &Client,
    json: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let directory = Directory::make()?;
    let at = |source| ArchiveError::Scratch {
        path: directory.0.clone(),
        source,
    };
    let mut scratch = Scratch::new(&directory.0).map_err(at)?;
    let unpacked = source.survey(false, |piece, source| {
        output.progress("unpacked", source.position(), Some(source.length()));
        match &piece.item {
            Item::Writes(writes) => scratch.take_in(writes).map_err(at),
            _ => Ok(()),
        }
    });
    output.end_progress();
    unpacked?;
    let mut rollback = Rollback {
        client,
        delete_newer,
        batch: Vec::new(),
        batch_bytes: 0,
        done: Done::default(),
    };
    let mut collection = scratch.collection_after(None).map_err(at)?;
    while let Some(name) = collection {
        if !name.as_str().starts_with(RESERVED_PREFIX) {
            let compared = rollback.collection(&scratch, &name, &at, output).await;
            output.end_progress();
            compared?;
        }
        collection = scratch.collection_after(Some(&name)).map_err(at)?;
    }
    rollback.done.print(json, output)
}

impl Rollback<'_> {
    /// Compares a collection with what the agent has of it.
    async fn collection(
        &mut self,
        scratch: &Scratch,
        name: &Collection,
        at: &impl Fn(ScratchError) -> ArchiveError,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let mut then = Then::new(scratch, name);
        let mut now = Now::new(self.client, name);
        let (mut before, mut after) = (then.next().map_err(at)?, now.next().await?);
        loop {
            output.count("compared", name.as_str(), self.done.total());
            let order = match (&before, &after) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(change), Some(now)) => change.key.name().cmp(&now.key),
            };
            if order.is_le()
                && let Some(change) = before.take()
            {
                let now = after.as_ref().filter(|_| order.is_eq());
                self.set_back(&change, now.map(|now| now.value.get()))
                    .await?;
                before = then.next().map_err(at)?;
            }
            if order.is_ge()
                && let Some(document) = after.take()
            {
                if order.is_gt() {
                    self.made_since(name, document.key).await?;
                }
                after = now.next().await?;
            }
        }
        self.send().await
    }

    async fn set_back(&mut self, change: &Change, now: Option<&str>) -> Result<(), CliError> {
        // A document that a page lists has a text, which was checked to be JSON.
        let text = change.entry.value.as_deref().map(<[u8]>::to_vec);
        let Some(Ok(text)) = text.map(String::from_utf8) else {
            return Ok(());
        };
        if now == Some(text.as_str()) {
            self.done.same += 1;
            return Ok(());
        }
        let left = change
            .entry
            .expires_at
            .map(|at| at.saturating_sub(now_ms()));
        if left.is_some_and(|left| left <= TTL_MIN_MS) {
            return Ok(());
        }
        let (key, bytes) = (&change.key, text.len());
        let put = Operation {
            op: "put",
            collection: key.collection().to_string(),
            key: key.name().to_owned(),
            value: RawValue::from_string(text).ok(),
            ttl: left.map(|left| format!("{left}ms")),
        };
        self.add(put, bytes).await
    }

    async fn made_since(&mut self, collection: &Collection, key: String) -> Result<(), CliError> {
        if !self.delete_newer {
            self.done.kept += 1;
            return Ok(());
        }
        let delete = Operation {
            op: "delete",
            collection: collection.to_string(),
            key,
            value: None,
            ttl: None,
        };
        self.add(delete, 0).await
    }

    async fn add(&mut self, operation: Operation, bytes: usize) -> Result<(), CliError> {
        if self.batch.len() >= OPERATIONS_MAX || self.batch_bytes + bytes > BATCH_BYTES {
            self.send().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push(operation);
        Ok(())
    }

    /// Writes the batch; where that is refused, one by one.
    async fn send(&mut self) -> Result<(), CliError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        match write(self.client, &batch).await {
            Ok(()) => batch.iter().for_each(|operation| self.done.note(operation)),
            Err(error) if is_about_documents(&error) => {
                for operation in batch {
                    self.send_alone(operation).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn send_alone(&mut self, operation: Operation) -> Result<(), CliError> {
        let mut refusal = None;
        for attempt in attempts(&operation) {
            let mut written = Ok(());
            for batch in &attempt {
                written = write(self.client, batch).await;
                if written.is_err() {
                    break;
                }
            }
            match written {
                Ok(()) => {
                    self.done.note(&operation);
                    return Ok(());
                }
                // Deleted by somebody else meanwhile.
                Err(_) if operation.op == "delete" && is_gone(&written) => return Ok(()),
                Err(error) if is_about_documents(&error) => {
                    refusal.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let reason = refusal.map_or_else(String::new, |error| error.to_string());
        let refused = format!("{}/{}: {reason}", operation.collection, operation.key);
        self.done.refused.push(refused);
        Ok(())
    }
}

async fn write(client: &Client, operations: &[Operation]) -> Result<(), ClientError> {
    let body = json!({ "operations": operations }).to_string();
    let answer = client.post(Target::new("/v1/data:batch"), body.into());
    answer.await.map(drop)
}

/// Whether the agent would take other documents.
fn is_about_documents(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { refusal } => refusal.status().is_client_error(),
        _ => false,
    }
}

fn is_gone(written: &Result<(), ClientError>) -> bool {
    matches!(written, Err(ClientError::Refused { refusal }) if refusal.status() == 404)
}

impl Done {
    fn total(&self) -> u64 {
        self.written + self.deleted + self.same + self.kept
    }

    fn note(&mut self, operation: &Operation) {
        match operation.op == "delete" {
            true => self.deleted += 1,
            false => self.written += 1,
        }
    }

    fn print(&self, json: bool, output: &mut Output) -> Result<(), CliError> {
        let Self {
            written,
            deleted,
            same,
            kept,
            refused,
        } = self;
        if json {
            let body = json!({
                "written": written, "deleted": deleted, "same": same, "kept": kept, "refused": refused,
            });
            output.document(body.to_string().as_bytes())?;
        } else {
            output.text(&format!(
                "{written} documents set back, {deleted} made since deleted, {same} were as they should be, {kept} made since kept\n"
            ))?;
        }
        match refused.first() {
            None => Ok(()),
            Some(first) => Err(ArchiveError::NotAll {
                count: refused.len(),
                first: first.clone(),
            }
            .into()),
        }
    }
}

/// A directory that is removed with all that is in it.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self, ArchiveError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(ArchiveError::Random)?;
        let name = format!("basic-agent-restore-{:016x}", u64::from_be_bytes(random));
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ArchiveError::Unwritable { path, source }),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    // What cannot be removed is where nobody else can read it.
    let _ = fs::remove_dir_all(path);
}
