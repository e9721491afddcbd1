//! The journal as a chain of segments: appended to at its end, replayed at opening,
//! cut off at its beginning once the file has what it says.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::{OpenError, StoreError};
use super::layers::Batch;
use super::medium::{Medium, Segment};
use super::segment::{self, BLOCK_BYTES, HEADER_BYTES, Header};
use super::{Applied, lock};

/// A segment made ahead, with its number.
type Spare = Option<(u64, Box<dyn Segment>)>;

/// The journal.
pub(super) struct Log {
    medium: Arc<dyn Medium>,
    current: Current,
    /// So that a writer need not make it. Locked while it is being made, so that nobody
    /// else makes the same one; whoever has this lock never waits for the log's.
    spare: Arc<Mutex<Spare>>,
    /// A segment that the base has all of, kept for another use.
    retired: Option<u64>,
    /// The oldest segment that is still there.
    oldest: u64,
    next_seq: u64,
    record: Vec<u8>,
    /// What the record that was written last says, until it is durable.
    pub(super) staged: Option<Batch>,
    /// Why it is not, where somebody else tried to make it so.
    pub(super) failed: Option<StoreError>,
}

/// The segment that is written to.
struct Current {
    id: u64,
    segment: Box<dyn Segment>,
    key: [u8; 32],
    /// Up to where it holds good records.
    length: u64,
    /// A sync has failed: what lies on the disk is not known, nothing more is put here.
    doomed: bool,
}

impl Log {
    /// Opens the journal of a base that has come as far as `applied`, and returns what
    /// the base lacks. A base without a mark never had a journal.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        applied: Option<&Applied>,
    ) -> Result<(Self, Batch), OpenError> {
        let oldest = applied.map_or(0, |applied| applied.oldest);
        let whole = |source| OpenError::Io {
            path: medium.name(oldest),
            source,
        };
        let mut ids = medium.segments().map_err(whole)?;
        ids.sort_unstable();
        let mut changes = Batch::default();
        let mut seq = applied.map_or(0, |applied| applied.seq);
        let mut end = (oldest, 0);
        if applied.is_some() {
            let first = ids.partition_point(|id| *id < oldest);
            (seq, end) = replay(&*medium, &ids[first..], oldest, seq, &mut changes)?;
        }
        // A new segment for each life: what follows the last good record is left alone.
        let id = end.0 + 1;
        for old in ids.iter().filter(|old| **old < oldest) {
            let _ = medium.remove(*old);
        }
        let current = medium
            .create(id)
            .and_then(|segment| Current::begin(segment, id, end.1));
        let current = current.map_err(|error| OpenError::Io {
            path: medium.name(id),
            source: error,
        })?;
        let log = Self {
            medium: medium.into(),
            current,
            spare: Arc::default(),
            retired: None,
            oldest: if applied.is_some() { oldest } else { id },
            next_seq: seq + 1,
            record: Vec::new(),
            staged: None,
            failed: None,
        };
        Ok((log, changes))
    }

    /// The segment that is written to.
    pub(super) fn id(&self) -> u64 {
        self.current.id
    }

    /// The last record.
    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Writes a transaction's record, in the place of one that was not made durable.
    pub(super) fn write(&mut self, changes: &Batch) -> Result<(), StoreError> {
        if self.current.doomed {
            self.turn_over()?;
        }
        let current = &mut self.current;
        segment::encode_record(&current.key, self.next_seq, changes, &mut self.record)?;
        // A part of it may be there after a failure; the next record takes its place.
        current
            .segment
            .write_at(&self.record, current.length)
            .map_err(store_error)
    }

    /// Makes durable the record that was written last.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let current = &mut self.current;
        if let Err(error) = current.segment.sync() {
            current.doomed = true;
            // Also where it says that there is no room: the record may be there after a
            // crash, and what is refused for want of room must not be.
            return Err(StoreError::Io(error));
        }
        current.length += self.record.len() as u64;
        self.next_seq += 1;
        self.record.shrink_to(1024 * 1024);
        Ok(())
    }

    /// Goes on in a new segment, so that those before it can be removed once the base
    /// has what they say.
    pub(super) fn turn_over(&mut self) -> Result<(), StoreError> {
        let id = self.current.id + 1;
        let length = self.current.length;
        let spare = lock(&self.spare).take().filter(|(spare, _)| *spare == id);
        let made = spare.map(|(_, segment)| segment);
        let segment = match made {
            Some(segment) => segment,
            None => self.medium.create(id).map_err(store_error)?,
        };
        match Current::begin(segment, id, length) {
            Ok(current) => self.current = current,
            Err(error) => {
                // Its header may be there after a crash, and says that nothing counts of this
                // one that comes now.
                self.current.doomed = true;
                return Err(store_error(error));
            }
        }
        Ok(())
    }

    /// Makes the next segment ahead of time, while others write. Nothing depends on it.
    ///
    /// Where there is one that is no longer needed, it is that one, with what it holds: to
    /// make durable what is written over other bytes, the file system need not also find
    /// room for them and note that they count now (as PostgreSQL uses its log again).
    pub(super) fn prepare(mut log: MutexGuard<'_, Self>) {
        let (medium, spare) = (log.medium.clone(), log.spare.clone());
        let (id, retired) = (log.current.id + 1, log.retired.take());
        // Taken before the log is let go: else a writer might make and use this one.
        let mut spare = lock(&spare);
        drop(log);
        if spare.is_none() {
            let again = retired.and_then(|old| medium.recycle(old, id).ok());
            let made = again.map_or_else(|| medium.create(id), Ok);
            if made.is_err() {
                // Where there is no room for it, it must not take what is left.
                let _ = medium.remove(id);
            }
            *spare = made.ok().map(|segment| (id, segment));
        }
        // It has another name now, or cannot be used.
        if let Some(old) = retired {
            let _ = medium.remove(old);
        }
    }

    /// Removes the segments before `oldest`, but one for another use; the base has all that
    /// they say. What cannot be removed now is removed at the next opening.
    pub(super) fn forget_before(&mut self, oldest: u64) {
        for id in self.oldest..oldest {
            if let Some(other) = self.retired.replace(id) {
                let _ = self.medium.remove(other);
            }
        }
        self.oldest = self.oldest.max(oldest);
    }
}

impl Current {
    fn begin(mut segment: Box<dyn Segment>, id: u64, before_length: u64) -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let header = Header {
            id,
            before_length,
            key,
        };
        segment.write_at(&header.encode(), 0)?;
        segment.sync()?;
        Ok(Self {
            id,
            segment,
            key,
            length: HEADER_BYTES as u64,
            doomed: false,
        })
    }
}

/// Replays what comes after `applied` in the segments of `ids`, ascending. Returns the
/// last sequence number, and the last segment with the length of its good part.
fn replay(
    medium: &dyn Medium,
    ids: &[u64],
    oldest: u64,
    applied: u64,
    changes: &mut Batch,
) -> Result<(u64, (u64, u64)), OpenError> {
    let path = |id| medium.name(id);
    let damaged = |id, detail: &str| OpenError::Damaged {
        path: path(id),
        detail: detail.to_owned(),
    };
    if ids.first() != Some(&oldest) {
        return Err(OpenError::Missing { path: path(oldest) });
    }
    let mut seq = applied;
    let mut end = (oldest, 0);
    let mut next = None;
    for (at, id) in ids.iter().copied().enumerate() {
        let read = |id| {
            medium.read(id).map_err(|source| OpenError::Io {
                path: path(id),
                source,
            })
        };
        let bytes = match next.take() {
            Some(bytes) => bytes,
            None => read(id)?,
        };
        let Some(header) = Header::decode(&bytes) else {
            // Made ahead of time, or not yet begun when the process ended: no record was
            // ever written to it.
            let block = bytes.iter().take(BLOCK_BYTES).skip(HEADER_BYTES);
            let begun = block.copied().any(|byte| byte != 0);
            if at + 1 == ids.len() && at > 0 && !begun {
                break;
            }
            return Err(damaged(id, "a segment of the journal has no header"));
        };
        if header.id != id || (at > 0 && id != ids[at - 1] + 1) {
            return Err(damaged(id, "a segment of the journal is missing before it"));
        }
        // How much of it counts is said by the one after it.
        let mut good = None;
        if let Some(after) = ids.get(at + 1) {
            let bytes = read(*after)?;
            good = Header::decode(&bytes).map(|header| header.before_length);
            next = Some(bytes);
        }
        let length = replay_segment(&header, &bytes, good, &mut seq, changes)
            .map_err(|detail| damaged(id, detail))?;
        end = (id, length);
    }
    Ok((seq, end))
}

/// Replays one segment up to `good`, or as far as it is sound; returns how far that was.
fn replay_segment(
    header: &Header,
    bytes: &[u8],
    good: Option<u64>,
    seq: &mut u64,
    changes: &mut Batch,
) -> Result<u64, &'static str> {
    let good = good.map(|good| usize::try_from(good).unwrap_or(usize::MAX));
    let mut at = HEADER_BYTES;
    let mut expected = None;
    while good.is_none_or(|good| at < good) {
        let Some(record) = segment::record_at(&header.key, bytes, at) else {
            if good.is_some() || segment::has_record_after(&header.key, bytes, at + 1, *seq) {
                return Err("a record of the journal is damaged");
            }
            break;
        };
        if expected.is_some_and(|expected| record.seq != expected)
            || (expected.is_none() && record.seq > *seq + 1)
        {
            return Err("a record of the journal is missing");
        }
        expected = Some(record.seq + 1);
        // Those that the base already has come first.
        if record.seq > *seq {
            segment::replay(record.body, changes)
                .ok_or("a record of the journal makes no sense")?;
            *seq = record.seq;
        }
        at = record.end;
    }
    Ok(at as u64)
}

fn store_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(error),
        _ => StoreError::Io(error),
    }
}
