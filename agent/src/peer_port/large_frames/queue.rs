//! The frames that wait for one peer.
//!
//! Gossip says the newest state again every round, so when a peer is slow the
//! oldest frame is the one worth least: a full queue drops it for the new one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// A bounded queue with many writers and one reader.
#[derive(Debug)]
pub(super) struct FrameQueue {
    frames: Mutex<VecDeque<Bytes>>,
    waiting_max: usize,
    filled: Notify,
}

impl FrameQueue {
    pub(super) fn new(waiting_max: usize) -> FrameQueue {
        FrameQueue {
            frames: Mutex::default(),
            waiting_max,
            filled: Notify::new(),
        }
    }

    /// Appends a frame and returns how many had to be dropped for it.
    pub(super) fn push(&self, frame: Bytes) -> u64 {
        let mut frames = self.lock();
        let mut dropped = 0;
        while frames.len() >= self.waiting_max && frames.pop_front().is_some() {
            dropped += 1;
        }
        frames.push_back(frame);
        self.filled.notify_one();
        dropped
    }

    /// The oldest frame, as soon as there is one. Cancelling it loses nothing.
    pub(super) async fn pop(&self) -> Bytes {
        loop {
            let filled = self.filled.notified();
            if let Some(frame) = self.lock().pop_front() {
                return frame;
            }
            filled.await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Empties the queue and returns how many frames that were.
    pub(super) fn clear(&self) -> u64 {
        let count = std::mem::take(&mut *self.lock()).len();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_frame_and_says_so() {
        let queue = FrameQueue::new(2);
        let dropped: Vec<u64> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|frame| queue.push(frame.into()))
            .collect();
        assert_eq!(dropped, [0, 0, 1, 1]);
        assert_eq!(queue.pop().await, "c");
        assert_eq!(queue.pop().await, "d");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_a_frame() {
        let queue = FrameQueue::new(2);
        let (frame, ()) = tokio::join!(queue.pop(), async {
            tokio::task::yield_now().await;
            queue.push("late".into());
        });
        assert_eq!(frame, "late");
    }
}
