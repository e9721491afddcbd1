//! A ring of encoded frames with a cursor for each reader.
//!
//! The writer never waits. A reader that is slower than the writer for longer than
//! the ring is deep loses frames, is told so, and gets what it lost by a pull.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// Frames for all peers. Shared by the driver and the links.
pub(super) struct Ring {
    frames: Mutex<Frames>,
    /// Number of the next frame; readers wait on it.
    head: watch::Sender<u64>,
    bytes_max: usize,
}

#[derive(Default)]
struct Frames {
    frames: VecDeque<Bytes>,
    /// Number of the first frame that is still there.
    first: u64,
    bytes: usize,
}

/// What a reader finds at its cursor.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// This frame; the cursor has moved past it.
    Frame(Bytes),
    /// So many frames were lost; the cursor has moved to the first that is there.
    Lost(u64),
    /// Nothing yet.
    Empty,
}

impl Ring {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            frames: Mutex::default(),
            head: watch::Sender::new(0),
            bytes_max,
        }
    }

    /// Adds a frame, and forgets the oldest ones as far as room demands. The newest
    /// frame always stays.
    pub(super) fn push(&self, frame: Bytes) {
        let mut ring = self.lock();
        ring.bytes += frame.len();
        ring.frames.push_back(frame);
        while ring.bytes > self.bytes_max && ring.frames.len() > 1 {
            if let Some(oldest) = ring.frames.pop_front() {
                ring.bytes -= oldest.len();
                ring.first += 1;
            }
        }
        let head = ring.first + ring.frames.len() as u64;
        drop(ring);
        self.head.send_replace(head);
    }

    /// A cursor at the end, and a receiver that changes with each frame.
    pub(super) fn subscribe(&self) -> (u64, watch::Receiver<u64>) {
        let changes = self.head.subscribe();
        let ring = self.lock();
        (ring.first + ring.frames.len() as u64, changes)
    }

    /// Reads at a cursor and moves it.
    pub(super) fn next(&self, cursor: &mut u64) -> Next {
        let ring = self.lock();
        if *cursor < ring.first {
            let lost = ring.first - *cursor;
            *cursor = ring.first;
            return Next::Lost(lost);
        }
        let offset = usize::try_from(*cursor - ring.first).unwrap_or(usize::MAX);
        match ring.frames.get(offset) {
            Some(frame) => {
                *cursor += 1;
                Next::Frame(frame.clone())
            }
            None => Next::Empty,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_lost_and_the_ring_stays_within_its_bound() {
        let ring = Ring::new(10);
        let (mut cursor, changes) = ring.subscribe();
        assert_eq!(ring.next(&mut cursor), Next::Empty);
        for _ in 0..5 {
            ring.push(Bytes::from_static(b"1234"));
        }
        assert!(changes.has_changed().unwrap());
        assert_eq!(ring.next(&mut cursor), Next::Lost(3));
        assert!(matches!(ring.next(&mut cursor), Next::Frame(_)));
        assert!(matches!(ring.next(&mut cursor), Next::Frame(_)));
        assert_eq!(ring.next(&mut cursor), Next::Empty);
        ring.push(Bytes::from(vec![0; 100]));
        assert!(matches!(ring.next(&mut cursor), Next::Frame(frame) if frame.len() == 100));
    }
}
