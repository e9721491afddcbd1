//! A bounded queue that makes room by dropping its oldest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Items in order, for one reader.
pub(super) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    max: usize,
    filled: Notify,
}

impl<T> Queue<T> {
    /// A queue for at most `max` items, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self {
            items: Mutex::default(),
            max: max.max(1),
            filled: Notify::new(),
        }
    }

    /// Adds an item at the end; returns the oldest, if that had to make room.
    pub(super) fn push(&self, item: T) -> Option<T> {
        let mut items = self.items();
        let full = items.len() >= self.max;
        let dropped = full.then(|| items.pop_front()).flatten();
        items.push_back(item);
        drop(items);
        self.filled.notify_one();
        dropped
    }

    /// Takes the oldest item, waiting for one if need be. Safe to cancel.
    pub(super) async fn next(&self) -> T {
        loop {
            let filled = self.filled.notified();
            if let Some(item) = self.items().pop_front() {
                return item;
            }
            filled.await;
        }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.items().len()
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_its_oldest() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), None);
        assert_eq!(queue.push(2), None);
        assert_eq!(queue.push(3), Some(1));
        assert_eq!((queue.next().await, queue.next().await), (2, 3));
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let queue = Queue::new(2);
        let (item, ()) = tokio::join!(queue.next(), async {
            tokio::task::yield_now().await;
            queue.push(7);
        });
        assert_eq!(item, 7);
    }
}
