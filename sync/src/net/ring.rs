//! A ring of encoded frames with a cursor for each reader.
//!
//! The writer never waits. A frame stays until every reader has passed it, so that
//! the ring is empty while all keep up; a reader that is further behind than the ring
//! is deep loses frames, is told so, and gets what it lost by a pull.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Bytes of all frames before the first.
    passed: u64,
    /// By reader.
    cursors: BTreeMap<u64, Cursor>,
    next_reader: u64,
}

#[derive(Clone, Copy)]
struct Cursor {
    /// Number of the frame that is read next.
    next: u64,
    /// Bytes of all frames before it.
    passed: u64,
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

/// One reader's place. It reads what comes after it was made.
pub(super) struct Reader {
    ring: Arc<Ring>,
    id: u64,
    changes: watch::Receiver<u64>,
}

impl Ring {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let head = watch::Sender::new(0);
        Arc::new(Self {
            frames: Mutex::default(),
            head,
            bytes_max,
        })
    }

    /// Adds a frame. The newest one always stays as long as there is a reader, however
    /// large it is.
    pub(super) fn push(&self, frame: Bytes) {
        let mut ring = self.lock();
        ring.bytes += frame.len();
        ring.frames.push_back(frame);
        while ring.bytes > self.bytes_max && ring.frames.len() > 1 {
            ring.drop_first();
        }
        ring.drop_passed();
        let head = ring.end();
        drop(ring);
        self.head.send_replace(head);
    }

    pub(super) fn subscribe(self: &Arc<Self>) -> Reader {
        let changes = self.head.subscribe();
        let mut ring = self.lock();
        let id = ring.next_reader;
        let end = Cursor {
            next: ring.end(),
            passed: ring.end_bytes(),
        };
        ring.next_reader += 1;
        ring.cursors.insert(id, end);
        Reader {
            ring: self.clone(),
            id,
            changes,
        }
    }

    /// Bytes that wait for this reader; none where it is gone.
    pub(super) fn waiting_for(&self, reader: u64) -> u64 {
        let ring = self.lock();
        let cursor = ring.cursors.get(&reader);
        // What it lost does not wait for it.
        cursor.map_or(0, |cursor| {
            ring.end_bytes() - cursor.passed.max(ring.passed)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// The number of the next frame.
    fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Bytes of all frames there have been.
    fn end_bytes(&self) -> u64 {
        self.passed + self.bytes as u64
    }

    fn drop_first(&mut self) {
        if let Some(oldest) = self.frames.pop_front() {
            self.bytes -= oldest.len();
            self.passed += oldest.len() as u64;
            self.first += 1;
        }
    }

    /// Forgets what every reader has passed.
    fn drop_passed(&mut self) {
        let slowest = self.cursors.values().map(|cursor| cursor.next).min();
        let slowest = slowest.unwrap_or(u64::MAX);
        while self.first < slowest && !self.frames.is_empty() {
            self.drop_first();
        }
    }
}

impl Reader {
    /// By what [`Ring::waiting_for`] knows it.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits until there is something new since the last call; `false` if there will
    /// never be again.
    pub(super) async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// Whether [`Reader::changed`] would return at once.
    pub(super) fn has_changed(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Reads at the cursor and moves it.
    pub(super) fn next(&self) -> Next {
        let mut ring = self.ring.lock();
        let Some(cursor) = ring.cursors.get(&self.id).copied() else {
            return Next::Empty;
        };
        if cursor.next < ring.first {
            let first = Cursor {
                next: ring.first,
                passed: ring.passed,
            };
            ring.cursors.insert(self.id, first);
            return Next::Lost(first.next - cursor.next);
        }
        let offset = usize::try_from(cursor.next - ring.first).unwrap_or(usize::MAX);
        let Some(frame) = ring.frames.get(offset).cloned() else {
            return Next::Empty;
        };
        let after = Cursor {
            next: cursor.next + 1,
            passed: cursor.passed + frame.len() as u64,
        };
        ring.cursors.insert(self.id, after);
        ring.drop_passed();
        Next::Frame(frame)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.ring.lock();
        ring.cursors.remove(&self.id);
        ring.drop_passed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_lost_and_the_ring_stays_within_its_bound() {
        let ring = Ring::new(10);
        let reader = ring.subscribe();
        assert_eq!(reader.next(), Next::Empty);
        for _ in 0..5 {
            ring.push(Bytes::from_static(b"1234"));
        }
        assert!(reader.has_changed());
        assert_eq!(reader.next(), Next::Lost(3));
        assert!(matches!(reader.next(), Next::Frame(_)));
        assert!(matches!(reader.next(), Next::Frame(_)));
        assert_eq!(reader.next(), Next::Empty);
        ring.push(Bytes::from(vec![0; 100]));
        assert!(matches!(reader.next(), Next::Frame(frame) if frame.len() == 100));
    }

    #[test]
    fn the_bytes_that_wait_for_a_reader_are_those_that_it_will_read() {
        let ring = Ring::new(10);
        ring.push(Bytes::from_static(b"before"));
        let reader = ring.subscribe();
        let waiting = || ring.waiting_for(reader.id());
        assert_eq!(waiting(), 0);
        ring.push(Bytes::from_static(b"1234"));
        ring.push(Bytes::from_static(b"567"));
        assert_eq!(waiting(), 7);
        assert_eq!(reader.next(), Next::Frame(Bytes::from_static(b"1234")));
        assert_eq!(waiting(), 3);
        for _ in 0..5 {
            ring.push(Bytes::from_static(b"9876"));
        }
        assert_eq!(waiting(), 8, "the ring keeps no more than 10");
        assert_eq!(reader.next(), Next::Lost(4));
        assert_eq!(waiting(), 8);
        let (id, slow) = (reader.id(), ring.subscribe());
        drop(reader);
        assert_eq!((ring.waiting_for(id), ring.waiting_for(slow.id())), (0, 0));
    }

    #[test]
    fn a_frame_is_kept_until_the_slowest_reader_has_passed_it() {
        let ring = Ring::new(1000);
        ring.push(Bytes::from_static(b"for nobody"));
        assert_eq!(ring.lock().bytes, 0);
        let (fast, slow) = (ring.subscribe(), ring.subscribe());
        ring.push(Bytes::from_static(b"1234"));
        assert_eq!(fast.next(), Next::Frame(Bytes::from_static(b"1234")));
        assert_eq!(ring.lock().bytes, 4);
        assert_eq!(slow.next(), Next::Frame(Bytes::from_static(b"1234")));
        assert_eq!(ring.lock().bytes, 0);
        ring.push(Bytes::from_static(b"5678"));
        assert_eq!(fast.next(), Next::Frame(Bytes::from_static(b"5678")));
        drop(slow);
        assert_eq!(ring.lock().bytes, 0);
    }
}
