//! One task on the board, and what is told of it.

use std::time::Duration;

use basic_sync::model::{Dot, Key};

use super::super::queue::Queue;
use super::super::record::{Record, Status, TaskView};

/// A task.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) document: Key,
    /// The write that its data became.
    pub(super) write: Option<Dot>,
    pub(super) next_attempt_at: Option<String>,
    /// How often in a row it could not be written.
    pub(super) held_up: u32,
}

/// What has to be known to carry a task out.
#[derive(Debug, Clone)]
pub struct Job {
    /// What was recorded.
    pub record: Record,
    /// What its data becomes.
    pub document: Key,
    /// The write that it became.
    pub write: Option<Dot>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Tasks that wait for their turn.
    pub queued: usize,
    /// Tasks that are being carried out.
    pub running: usize,
    /// Tasks that wait for a retry.
    pub retrying: usize,
    /// Requests that were answered with 429 since the start.
    pub refused: u64,
}

impl Entry {
    pub(super) fn new(record: Record, document: Key, write: Option<Dot>) -> Self {
        Self {
            record,
            document,
            write,
            next_attempt_at: None,
            held_up: 0,
        }
    }

    /// Waits for its next attempt; returns what is to be recorded.
    pub(super) fn put_later(
        &mut self,
        queue: &mut Queue<Key>,
        error: &str,
        (due, due_at): (Duration, String),
    ) -> Record {
        let told = &mut self.record.told;
        told.status = Status::Retrying;
        told.error = Some(error.to_owned());
        self.next_attempt_at = Some(due_at);
        let unwritten = self.write.is_none().then(|| self.document.clone());
        queue.put_later(self.record.number, told.priority, unwritten, due);
        self.record.clone()
    }

    pub(super) fn view(&self, id: &str) -> TaskView {
        TaskView {
            task_id: id.to_owned(),
            told: self.record.told.clone(),
            next_attempt_at: self.next_attempt_at.clone(),
        }
    }
}
