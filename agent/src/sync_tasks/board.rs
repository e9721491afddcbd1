//! All tasks of this node: those that wait, run, and are done.
//!
//! Pure: moments come in as text for people and as time since the start for the queue. Memory is bounded: the
//! [`Queue`] bounds what is not done, [`FINISHED_MAX`] what is; the data itself is not here. Each change is told what
//! the store says already, or what is to be written to it next.

mod entry;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use basic_sync::model::{Dot, Key};

use super::queue::{Full, Queue};
use super::record::{Record, Status, Target, TargetStatus, TaskView};
use super::statistics::Statistics;

pub use entry::{Counts, Job};

use entry::Entry;

/// Tasks that are done and remembered.
pub const FINISHED_MAX: usize = 1000;

/// The id of a task.
pub type Id = Arc<str>;

/// The tasks.
#[derive(Debug)]
pub struct Board {
    queue: Queue<Key>,
    entries: HashMap<Id, Entry>,
    /// The ids of those that are not done, by number.
    numbers: HashMap<u64, Id>,
    /// In the order in which they were done.
    finished: VecDeque<Id>,
    finished_max: usize,
    last: u64,
    refused: u64,
    statistics: Statistics,
}

impl Board {
    /// An empty one with so many places for tasks that wait, which remembers so many that are done.
    pub fn new(places: usize, finished_max: usize) -> Self {
        Self {
            queue: Queue::new(places),
            entries: HashMap::new(),
            numbers: HashMap::new(),
            finished: VecDeque::new(),
            finished_max,
            last: 0,
            refused: 0,
            statistics: Statistics::default(),
        }
    }

    /// Holds a place for a task that is about to be stored, under this number.
    ///
    /// # Errors
    /// [`Full`].
    pub fn hold(&mut self, priority: i64) -> Result<u64, Full> {
        self.queue
            .hold(priority)
            .inspect_err(|_| self.refused += 1)?;
        self.last += 1;
        Ok(self.last)
    }

    /// Gives the place back: it was not stored.
    pub fn let_go(&mut self, priority: i64) {
        self.queue.let_go(priority);
    }

    /// A task for which a place is held is stored.
    pub fn accept(&mut self, id: Id, record: Record, document: Key) {
        self.statistics.total_sync_tasks += 1;
        self.queue
            .put(record.number, record.told.priority, Some(document.clone()));
        self.numbers.insert(record.number, id.clone());
        self.entries.insert(id, Entry::new(record, document, None));
    }

    /// A task is found in the store at the start; those that are done come in the order in which they were.
    pub fn resume(&mut self, id: Id, mut record: Record, document: Key, write: Option<Dot>) {
        self.last = self.last.max(record.number);
        if record.told.status.is_final() {
            self.finished.push_back(id.clone());
            self.entries.insert(id, Entry::new(record, document, write));
            return;
        }
        self.statistics.total_sync_tasks += 1;
        record.told.status = Status::Queued;
        let unwritten = write.is_none().then(|| document.clone());
        self.queue.hold_anyway(record.told.priority);
        self.queue
            .put(record.number, record.told.priority, unwritten);
        self.numbers.insert(record.number, id.clone());
        self.entries.insert(id, Entry::new(record, document, write));
    }

    /// Takes the next task to be carried out.
    pub fn take(&mut self, now: Duration) -> Option<(Id, Job)> {
        let id = self.numbers.get(&self.queue.take(now)?)?.clone();
        let entry = self.entries.get_mut(&id)?;
        entry.record.told.status = Status::Running;
        entry.next_attempt_at = None;
        let Entry {
            record,
            document,
            write,
            ..
        } = entry.clone();
        Some((
            id,
            Job {
                record,
                document,
                write,
            },
        ))
    }

    /// When the next retry is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.next_due()
    }

    /// The data of a task has become a document; its targets are waited for from now on.
    pub fn written(&mut self, id: &str, write: Dot, version: Option<String>, at: &str) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.write = Some(write);
        entry.held_up = 0;
        let told = &mut entry.record.told;
        told.version = version.or(told.version.take());
        told.written_at.get_or_insert_with(|| at.to_owned());
        self.queue.written(entry.record.number, &entry.document);
    }

    /// A target of a task has confirmed.
    pub fn confirmed(&mut self, id: &str, target: &str, at: &str) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let told = entry.record.told.targets.get_mut(target);
        if let Some(told) = told.filter(|told| told.status != TargetStatus::Confirmed) {
            *told = Target {
                status: TargetStatus::Confirmed,
                at: Some(at.to_owned()),
                reason: None,
            };
            self.statistics.target(target).success += 1;
        }
    }

    /// What keeps a target of a task from confirming.
    pub fn explain(&mut self, id: &str, target: &str, reason: Option<&str>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        if let Some(told) = entry.record.told.targets.get_mut(target) {
            told.reason = reason.map(str::to_owned);
        }
    }

    /// An attempt has failed; the next is due at a moment. Returns what is to be recorded.
    pub fn retry(
        &mut self,
        id: &str,
        attempts: u32,
        error: &str,
        due: (Duration, String),
    ) -> Option<Record> {
        let entry = self.entries.get_mut(id)?;
        self.statistics.retry_sync_tasks += 1;
        entry.record.told.attempts = attempts;
        Some(entry.put_later(&mut self.queue, error, due))
    }

    /// A task could not even be written, which is no fault of its targets: it waits, and no retry is used up. Returns
    /// how often that happened in a row.
    pub fn hold_up(&mut self, id: &str, error: &str, due: (Duration, String)) -> u32 {
        let Some(entry) = self.entries.get_mut(id) else {
            return 0;
        };
        entry.held_up = entry.held_up.saturating_add(1);
        entry.put_later(&mut self.queue, error, due);
        entry.held_up
    }

    /// How often in a row a task could not be written.
    pub fn held_up(&self, id: &str) -> u32 {
        self.entries.get(id).map_or(0, |entry| entry.held_up)
    }

    /// A task is done, with an error or without. Returns what is to be recorded, and what is to be forgotten.
    pub fn finish(
        &mut self,
        id: &Id,
        attempts: u32,
        error: Option<&str>,
        at: &str,
    ) -> Option<(Record, Vec<Id>)> {
        let entry = self.entries.get_mut(id)?;
        self.numbers.remove(&entry.record.number);
        self.queue.written(entry.record.number, &entry.document);
        let told = &mut entry.record.told;
        told.attempts = attempts;
        told.error = error.map(str::to_owned);
        told.finished_at = Some(at.to_owned());
        told.status = match error {
            None => Status::Completed,
            Some(_) => Status::Failed,
        };
        match error {
            None => self.statistics.completed_sync_tasks += 1,
            Some(_) => self.statistics.failed_sync_tasks += 1,
        }
        let late = told.targets.iter_mut();
        for (name, target) in late.filter(|(_, target)| target.status != TargetStatus::Confirmed) {
            target.status = TargetStatus::Failed;
            self.statistics.target(name).failed += 1;
        }
        let record = entry.record.clone();
        self.finished.push_back(id.clone());
        Some((record, self.forget()))
    }

    /// What is remembered of tasks that are done is bounded; returns what no longer is.
    pub fn forget(&mut self) -> Vec<Id> {
        let over = self.finished.len().saturating_sub(self.finished_max);
        let forgotten: Vec<Id> = self.finished.drain(..over).collect();
        for id in &forgotten {
            self.entries.remove(id);
        }
        forgotten
    }

    /// A task turns out to be none of this node's: it was never stored, or another node has it.
    pub fn drop_task(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            self.numbers.remove(&entry.record.number);
            self.queue.written(entry.record.number, &entry.document);
        }
    }

    /// A task as it is kept.
    pub fn record(&self, id: &str) -> Option<&Record> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// A task as it is shown.
    pub fn view(&self, id: &str) -> Option<TaskView> {
        self.entries.get(id).map(|entry| entry.view(id))
    }

    /// The newest tasks first, at most so many, of one status or of all.
    pub fn list(&self, status: Option<Status>, limit: usize) -> Vec<TaskView> {
        let wanted = self
            .entries
            .iter()
            .filter(|(_, entry)| status.is_none_or(|status| entry.record.told.status == status));
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.record.number));
        wanted.truncate(limit);
        wanted
            .into_iter()
            .map(|(id, entry)| entry.view(id))
            .collect()
    }

    /// What has become of all since the start.
    pub fn statistics(&self) -> Statistics {
        self.statistics.clone()
    }

    /// How many there are of which sort.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            refused: self.refused,
            ..Counts::default()
        };
        for id in self.numbers.values() {
            match self.record(id).map(|record| record.told.status) {
                Some(Status::Running) => counts.running += 1,
                Some(Status::Retrying) => counts.retrying += 1,
                _ => counts.queued += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
pub(crate) mod tests;
