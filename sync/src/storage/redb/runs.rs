//! A file that is written in runs of pages instead of page by page.
//!
//! redb writes the pages of a transaction one by one, in an order that has nothing to do with
//! where they lie, right before it syncs them. Most of what a write of 4 KiB costs is the way
//! into the kernel and a page of its cache; one of 64 KiB costs less than a third of sixteen
//! small ones. And pages that were made together lie together. So they wait here until they
//! are synced, or are too many, and are then written in the order of the file, those that
//! follow one another with one call.
//!
//! What waits is read as if it were in the file. A write that fails stays here, is told to
//! who asked for it to be written (a sync, or the write that was one too many), and is tried
//! again with the next; nothing counts as written before a sync has said so. Between syncs no
//! order of writes was ever promised.
//!
//! Locks: `writing` is held by who writes to the file; then, never for the length of a call to
//! the kernel, `waiting`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

/// Bytes of a run at most; it ends where a multiple of them does. Longer ones gain little, and
/// on some systems lose again.
const RUN_BYTES: usize = 64 * 1024;

/// Bytes that wait at most: the pages of what a checkpoint brings at once.
const WAITING_BYTES_MAX: usize = if cfg!(test) { 64_000 } else { 16 * 1024 * 1024 };

/// A file, and what is to be written to it. See the module's documentation.
#[derive(Debug)]
pub(super) struct Runs<F = FileBackend> {
    file: F,
    writing: Mutex<()>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By place in the file. They do not overlap.
    pages: BTreeMap<u64, Box<[u8]>>,
    /// Bytes of all of them.
    bytes: usize,
    /// Being written: where, and what. Older than `pages`.
    run: (u64, Arc<Vec<u8>>),
}

impl Runs {
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        FileBackend::new(file).map(Self::over)
    }
}

impl<F: StorageBackend> Runs<F> {
    pub(super) fn over(file: F) -> Self {
        Self {
            file,
            writing: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all that waits.
    fn write_out(&self) -> io::Result<()> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((at, run)) = self.waiting().take_run() else {
                return Ok(());
            };
            let written = self.file.write(at, &run);
            self.waiting().end_run(written.is_ok());
            if written.is_err() {
                drop(writing);
                return written;
            }
        }
    }
}

impl Waiting {
    /// The pages that overlap a range.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, &[u8])> {
        let before = self.pages.range(..range.start).next_back();
        let within = self.pages.range(range.clone());
        let (start, end) = (range.start, range.end);
        before
            .into_iter()
            .chain(within)
            .map(|(at, page)| (*at..*at + page.len() as u64, &**page))
            .filter(move |(of_page, _)| of_page.start < end && start < of_page.end)
    }

    /// Takes a page that is to be written, if it takes the place of whole ones only.
    fn put(&mut self, at: u64, page: &[u8]) -> bool {
        let range = at..at + page.len() as u64;
        let (mut covered, mut cuts) = (Vec::new(), false);
        for (other, _) in self.overlapping(&range) {
            cuts |= other.start < range.start || range.end < other.end;
            covered.push(other.start);
        }
        if cuts {
            return false;
        }
        for at in covered {
            self.bytes -= self.pages.remove(&at).map_or(0, |page| page.len());
        }
        self.bytes += page.len();
        self.pages.insert(at, page.into());
        true
    }

    /// Reads what waits; `None` where some of it is in the file, or in more than one place.
    fn read(&self, at: u64, out: &mut [u8]) -> Option<()> {
        let range = at..at + out.len() as u64;
        let (run_at, run) = &self.run;
        let run = (*run_at..*run_at + run.len() as u64, run.as_slice());
        let mut newest = self.overlapping(&range);
        let (of_page, page) = match newest.next() {
            Some(page) => page,
            None => Some(run).filter(|(of_run, _)| contains(of_run, &range))?,
        };
        if newest.next().is_some() || !contains(&of_page, &range) {
            return None;
        }
        let begin = usize::try_from(range.start - of_page.start).ok()?;
        out.copy_from_slice(page.get(begin..begin + out.len())?);
        Some(())
    }

    /// Whether a range is all in the file, and not being changed there.
    fn leaves_alone(&self, range: &Range<u64>) -> bool {
        let (at, run) = &self.run;
        let runs = *at < range.end && range.start < at + run.len() as u64;
        !runs && self.overlapping(range).next().is_none()
    }

    /// Takes the next pages that follow one another, which can be read meanwhile.
    fn take_run(&mut self) -> Option<(u64, Arc<Vec<u8>>)> {
        let (first, page) = self.pages.pop_first()?;
        let mut run = Vec::with_capacity(page.len().max(RUN_BYTES));
        run.extend_from_slice(&page);
        let end = (first + 1).next_multiple_of(RUN_BYTES as u64);
        while let Some(next) = self.pages.first_entry() {
            let follows = *next.key() == first + run.len() as u64;
            if !follows || *next.key() >= end {
                break;
            }
            run.extend_from_slice(&next.remove());
        }
        self.bytes -= run.len();
        self.run = (first, Arc::new(run));
        Some(self.run.clone())
    }

    /// The run is in the file, or is to be written again.
    fn end_run(&mut self, written: bool) {
        let (at, run) = std::mem::take(&mut self.run);
        if !written {
            // Where something newer waits, only what is around it; in pieces that nothing
            // else overlaps.
            let range = at..at + run.len() as u64;
            let newer: Vec<Range<u64>> = self.overlapping(&range).map(|(one, _)| one).collect();
            let mut begin = range.start;
            for gap in newer
                .into_iter()
                .chain(std::iter::once(range.end..range.end))
            {
                let part = begin.max(range.start)..gap.start.min(range.end);
                if let Some(page) = slice(&run, at, &part) {
                    self.bytes += page.len();
                    self.pages.insert(part.start, page.into());
                }
                begin = gap.end;
            }
        }
    }
}

fn contains(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A part of what lies at `at`, unless it is empty.
fn slice<'b>(bytes: &'b [u8], at: u64, part: &Range<u64>) -> Option<&'b [u8]> {
    let begin = usize::try_from(part.start.checked_sub(at)?).ok()?;
    let end = usize::try_from(part.end.checked_sub(at)?).ok()?;
    bytes.get(begin..end).filter(|part| !part.is_empty())
}

impl<F: StorageBackend> StorageBackend for Runs<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = offset..offset + out.len() as u64;
        let in_file = {
            let waiting = self.waiting();
            if waiting.read(offset, out).is_some() {
                return Ok(());
            }
            waiting.leaves_alone(&range)
        };
        if !in_file {
            self.write_out()?;
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_out()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        loop {
            let full = {
                let mut waiting = self.waiting();
                match waiting.put(offset, data) {
                    true if waiting.bytes <= WAITING_BYTES_MAX => return Ok(()),
                    put => put,
                }
            };
            self.write_out()?;
            if full {
                return Ok(());
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        // What was not synced is not expected to be there.
        let written = self.write_out();
        self.file.close().and(written)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests;
