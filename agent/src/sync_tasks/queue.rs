//! Which task is next, and which no longer fits in.
//!
//! A pure queue of numbers, which tasks bear in the order in which they were accepted. The highest priority is next,
//! and of those that are equal the lowest number; but
//! - every [`AGED_EVERY`]th time the oldest is, so that none starves under a steady stream of more urgent ones;
//! - tasks about the same document form a line, in which none overtakes those before it, until it says that it is
//!   [`written`](Queue::written): who is next by priority lets the head of its line go first.
//!
//! **Room.** A task is refused if as many tasks as there are places wait with its priority or a higher one: those with
//! a lower one are not in its way. So that more urgent ones find room in a queue that is full, there is a tenth more
//! than the places, and that is the bound. A place is held from before the task is stored until it is taken, and
//! again while it waits for a retry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Of so many tasks that are taken, one is the oldest that waits.
pub const AGED_EVERY: u64 = 8;

/// There is no room for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} tasks wait already, {before} of them with this priority or a higher one")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
    /// How many of them would go first.
    pub before: usize,
}

/// Tasks that wait. `D` names documents.
#[derive(Debug)]
pub struct Queue<D> {
    places: usize,
    /// Places that are held, by priority.
    held: BTreeMap<i64, usize>,
    /// What may be taken now, by age.
    ready: BTreeMap<u64, Waiting<D>>,
    /// The same by priority.
    order: BTreeSet<(Reverse<i64>, u64)>,
    /// What may be taken later, by when.
    later: BTreeMap<(Duration, u64), Waiting<D>>,
    /// Tasks that are not written yet, by document; also those that were taken.
    lines: HashMap<D, BTreeSet<u64>>,
    taken: u64,
}

#[derive(Debug, Clone)]
struct Waiting<D> {
    priority: i64,
    /// Unless it is written.
    document: Option<D>,
}

impl<D: Clone + Eq + Hash> Queue<D> {
    /// An empty one.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            held: BTreeMap::new(),
            ready: BTreeMap::new(),
            order: BTreeSet::new(),
            later: BTreeMap::new(),
            lines: HashMap::new(),
            taken: 0,
        }
    }

    /// How many wait, or are about to.
    pub fn waiting(&self) -> usize {
        self.held.values().sum()
    }

    /// Holds a place for a task.
    ///
    /// # Errors
    /// [`Full`].
    pub fn hold(&mut self, priority: i64) -> Result<(), Full> {
        let waiting = self.waiting();
        let before = self.held.range(priority..).map(|(_, held)| held).sum();
        if before >= self.places || waiting >= self.places + self.places.div_ceil(10) {
            return Err(Full { waiting, before });
        }
        self.hold_anyway(priority);
        Ok(())
    }

    /// The same where it must be had.
    pub fn hold_anyway(&mut self, priority: i64) {
        *self.held.entry(priority).or_default() += 1;
    }

    /// Gives a place back.
    pub fn let_go(&mut self, priority: i64) {
        if let Some(held) = self.held.get_mut(&priority) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&priority);
            }
        }
    }

    /// Puts a task in its place, to be taken from now on; `document` is what it will write.
    pub fn put(&mut self, number: u64, priority: i64, document: Option<D>) {
        if let Some(document) = &document {
            self.lines
                .entry(document.clone())
                .or_default()
                .insert(number);
        }
        self.order.insert((Reverse(priority), number));
        self.ready.insert(number, Waiting { priority, document });
    }

    /// Puts a task that was taken in a place again, to be taken at `due`; `document` is what it has still to write.
    pub fn put_later(&mut self, number: u64, priority: i64, document: Option<D>, due: Duration) {
        self.hold_anyway(priority);
        self.later
            .insert((due, number), Waiting { priority, document });
    }

    /// A task that was taken has written its document, or never will.
    pub fn written(&mut self, number: u64, document: &D) {
        if let Some(line) = self.lines.get_mut(document) {
            line.remove(&number);
            if line.is_empty() {
                self.lines.remove(document);
            }
        }
    }

    /// When the next of those that wait for a moment may be taken.
    pub fn next_due(&self) -> Option<Duration> {
        self.later.keys().next().map(|(due, _)| *due)
    }

    /// Takes the next task out of its place.
    pub fn take(&mut self, now: Duration) -> Option<u64> {
        self.wake(now);
        let aged = self.taken % AGED_EVERY == AGED_EVERY - 1;
        let mut by_age = self.ready.keys().copied();
        let mut by_priority = self.order.iter().map(|(_, number)| *number);
        let next = match aged {
            true => by_age.find_map(|number| self.head(number)),
            false => by_priority.find_map(|number| self.head(number)),
        }?;
        let Waiting { priority, .. } = self.ready.remove(&next)?;
        self.order.remove(&(Reverse(priority), next));
        self.let_go(priority);
        self.taken += 1;
        Some(next)
    }

    fn wake(&mut self, now: Duration) {
        while let Some(first) = self
            .later
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            let ((_, number), waiting) = first.remove_entry();
            self.order.insert((Reverse(waiting.priority), number));
            self.ready.insert(number, waiting);
        }
    }

    /// Who goes first where this one is next; nobody, while the head of its line is being written or waits for a moment.
    fn head(&self, number: u64) -> Option<u64> {
        let Some(document) = self.ready.get(&number)?.document.as_ref() else {
            return Some(number);
        };
        let head = self.lines.get(document)?.first()?;
        self.ready.contains_key(head).then_some(*head)
    }
}

#[cfg(test)]
mod tests;
