//! One attempt at a task: its data becomes a document, unless it has already; then its targets are waited for.
//!
//! **Exactly once.** Document, record and the end of the kept data are one commit, under the condition that the record
//! is as it was read just before. So a write of which nobody knows whether it was done is found by the next attempt,
//! and not made again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use basic_sync::model::document::{Action, Revision};
use basic_sync::model::{Dot, Key};
use basic_sync::net::WriteError;
use basic_sync::protocol::{Condition, Operation, WriteRefused};
use tracing::{info, warn};

use super::board::{Id, Job};
use super::confirm;
use super::front::Shared;
use super::record::{Record, Status, moment};
use super::retry::{Delivery, Failure, Next, RetryPolicy};
use crate::records::{Batch, RecordError, System};

/// Longest time before a retry, but for what is added at random.
const DELAY_MAX: Duration = Duration::from_secs(300);
/// How long the record of a task is kept that is done, if it is not displaced before.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// A task that may have been stored, and is not found so often, was not.
const LOOKS_MAX: u32 = 5;

/// How an attempt ended.
enum Outcome {
    /// All targets have it, or why not.
    Ended(Result<(), (Failure, String)>),
    /// It could not be written here for the time being.
    HeldUp(String),
    /// There is no such record.
    Missing,
    /// The record is another node's, or of a task that is done.
    NotOurs,
}

/// Makes an attempt, and sees to what follows from how it ended.
pub(super) async fn carry_out(shared: Arc<Shared>, id: Id, job: Job) {
    let outcome = attempt(&shared, &id, &job).await;
    match outcome {
        Outcome::Ended(result) => ended(&shared, &id, &job, result).await,
        Outcome::HeldUp(reason) => held_up(&shared, &id, &reason),
        Outcome::Missing if was_not_stored(&shared, &id) => {
            info!(
                task = &*id,
                "a task that may have been stored was not, and is dropped"
            );
            shared.board().drop_task(&id);
        }
        Outcome::Missing => held_up(&shared, &id, "it is not known yet whether it was stored"),
        Outcome::NotOurs => shared.board().drop_task(&id),
    }
    shared.wake.notify_one();
}

async fn attempt(shared: &Shared, id: &Id, job: &Job) -> Outcome {
    let write = match job.write {
        Some(write) => write,
        None => match write(shared, id, job).await {
            Ok((write, version)) => {
                let at = moment(SystemTime::now());
                shared.board().written(id, write, version, &at);
                // Others may wait for that.
                shared.wake.notify_one();
                write
            }
            Err(outcome) => return outcome,
        },
    };
    Outcome::Ended(confirm::confirmed(shared, id, &job.record, write).await)
}

/// Turns the data into a document; returns the write that it is, and the version.
async fn write(shared: &Shared, id: &Id, job: &Job) -> Result<(Dot, Option<String>), Outcome> {
    let found = shared.records.find::<Record>(System::Tasks, id);
    let (record, revision) = found
        .map_err(|error| failed(&error))?
        .ok_or(Outcome::Missing)?;
    if record.told.node != shared.own.as_str() || record.told.status.is_final() {
        return Err(Outcome::NotOurs);
    }
    if let Some(write) = write_of(&record, &revision) {
        return Ok((write, record.told.version));
    }
    let data = shared.records.text(System::TaskData, id);
    let lost = || lasting("its data is not in the store of this node".to_owned());
    let data = data.map_err(|error| failed(&error))?.ok_or_else(lost)?;
    let mut written = record;
    written.told.status = Status::Running;
    written.told.written_at = Some(moment(SystemTime::now()));
    let batch = batch(id, &job.document, data, &written, revision);
    let batch = batch.map_err(|error| failed(&error))?;
    let revisions = shared.records.commit(batch).await;
    let revisions = revisions.map_err(|error| failed(&error))?;
    let revision = revisions
        .first()
        .ok_or_else(|| Outcome::HeldUp("the store says no version".to_owned()))?;
    Ok((revision.version.dot, Some(revision.to_string())))
}

/// The document comes first: see [`write_of`].
fn batch(
    id: &str,
    document: &Key,
    data: bytes::Bytes,
    record: &Record,
    revision: Revision,
) -> Result<Batch, RecordError> {
    let batch = Batch::default().document(Operation::new(document.clone(), Action::Put(data)));
    let batch = batch.put_if(System::Tasks, id, record, Condition::Is(revision))?;
    Ok(batch.delete(System::TaskData, id)?)
}

/// The write that a task's data became, by its record at a revision. Until the record is written again it does not
/// name the version; but the operations of one commit are numbered in their order, and the document's is the one
/// before the record's.
pub(super) fn write_of(record: &Record, revision: &Revision) -> Option<Dot> {
    record.told.written_at.as_ref()?;
    let named = record
        .told
        .version
        .as_ref()
        .and_then(|version| version.parse::<Revision>().ok());
    Some(match named {
        Some(named) => named.version.dot,
        None => Dot {
            seq: revision.version.dot.seq.saturating_sub(1),
            ..revision.version.dot
        },
    })
}

async fn ended(shared: &Shared, id: &Id, job: &Job, result: Result<(), (Failure, String)>) {
    let mut delivery = Delivery::new(policy(shared), job.record.told.attempts);
    let (outcome, reason) = match result {
        Ok(()) => (Ok(()), None),
        Err((failure, reason)) => (Err(failure), Some(reason)),
    };
    let next = delivery.ended(outcome, random());
    let attempts = delivery.attempts();
    match next {
        Next::RetryAfter(delay) => {
            let reason = reason.unwrap_or_default();
            let kept = shared
                .board()
                .retry(id, attempts, &reason, due(shared, delay));
            if let Some(record) = kept {
                keep(shared, Batch::default().put(System::Tasks, id, &record)).await;
            }
        }
        Next::Done | Next::GiveUp => {
            let error = reason.map(|reason| explained(shared, id, reason));
            finish(shared, id, attempts, error.as_deref()).await;
        }
    }
}

/// What a task that failed says about its data.
fn explained(shared: &Shared, id: &str, reason: String) -> String {
    let board = shared.board();
    let written = board
        .record(id)
        .is_some_and(|record| record.told.written_at.is_some());
    match written {
        true => {
            format!("{reason}. The data is written, and reaches all nodes when they can be reached")
        }
        false => format!(
            "{reason}. The data is not written; it stays in agent.task-data for as long as this record"
        ),
    }
}

async fn finish(shared: &Shared, id: &Id, attempts: u32, error: Option<&str>) {
    let at = moment(SystemTime::now());
    let finished = shared.board().finish(id, attempts, error, &at);
    let Some((record, over)) = finished else {
        return;
    };
    if let Some(error) = error {
        warn!(task = &**id, attempts, error, "a task failed");
    }
    keep(
        shared,
        Batch::default().put_for(System::Tasks, id, &record, KEPT_FOR),
    )
    .await;
    forget(shared, over).await;
}

fn held_up(shared: &Shared, id: &Id, reason: &str) {
    let times = shared.board().held_up(id);
    let delay = policy(shared).delay(times + 1, random());
    shared.board().hold_up(id, reason, due(shared, delay));
}

/// Writes the record of what is so already. If it cannot be, the task is found as it was before after a restart, which
/// costs a repetition and nothing else.
async fn keep(shared: &Shared, batch: Result<Batch, RecordError>) {
    let kept = match batch {
        Ok(batch) => shared.records.write(batch).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        warn!(%error, "what has become of a task could not be recorded");
    }
}

/// Deletes the records of tasks that are done.
pub(super) async fn forget(shared: &Shared, over: Vec<Id>) {
    for id in over {
        let mut deleted = shared.records.delete(System::Tasks, &id).await;
        if matches!(shared.records.text(System::TaskData, &id), Ok(Some(_))) {
            deleted = deleted.and(shared.records.delete(System::TaskData, &id).await);
        }
        if let Err(error) = deleted {
            warn!(%error, "the record of an old task could not be deleted");
        }
    }
}

/// Whether a write that failed may be done all the same.
pub(super) fn may_be_done(error: &RecordError) -> bool {
    matches!(
        error,
        RecordError::Write(
            WriteError::Unanswered(_)
                | WriteError::Unknown
                | WriteError::Refused(WriteRefused::Storage(_))
        )
    )
}

fn was_not_stored(shared: &Shared, id: &str) -> bool {
    let disk = shared.replica.disk();
    let works = disk.stuck.is_none() && disk.failure.is_none();
    works && shared.board().held_up(id) >= LOOKS_MAX
}

/// What it means that the data could not be written.
fn failed(error: &RecordError) -> Outcome {
    match error {
        RecordError::Write(WriteError::Refused(
            WriteRefused::Unfit(_)
            | WriteRefused::Conflict(_)
            | WriteRefused::DocumentTooLarge { .. }
            | WriteRefused::TooLarge { .. },
        ))
        | RecordError::Key(_)
        | RecordError::Encode { .. }
        | RecordError::Unintelligible { .. } => lasting(error.to_string()),
        RecordError::Write(_) | RecordError::Read(_) => Outcome::HeldUp(error.to_string()),
    }
}

fn lasting(reason: String) -> Outcome {
    Outcome::Ended(Err((Failure::Lasting, reason)))
}

fn policy(shared: &Shared) -> RetryPolicy {
    RetryPolicy {
        retries: shared.config.retries.into(),
        interval: shared.config.retry_interval,
        longest: DELAY_MAX,
    }
}

fn due(shared: &Shared, delay: Duration) -> (Duration, String) {
    let at = moment(SystemTime::now() + delay);
    (shared.began.elapsed() + delay, at)
}

/// Without random numbers delays are merely not spread.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests;
