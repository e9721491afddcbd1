//! Where segments lie: a directory, or in tests a disk that loses and tears.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::segment::BLOCK_BYTES;

/// Room that is reserved ahead of what is written, so that a sync need not also write
/// how long the file has become.
const RESERVED_BYTES: u64 = 4 * 1024 * 1024;

/// A segment that has become longer than this is not used again.
const RECYCLED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A place for numbered segments.
pub(super) trait Medium: Send + Sync {
    /// The numbers of the segments that are there, in no order.
    fn segments(&self) -> io::Result<Vec<u64>>;

    /// Makes an empty segment, in the place of one that is there. Its name is durable
    /// when this returns.
    fn create(&self, id: u64) -> io::Result<Box<dyn Segment>>;

    /// Makes a segment of one that is no longer needed: its first [`BLOCK_BYTES`] are zeros,
    /// the others what they were. All of that is durable when this returns. After an error
    /// the old one must not be read.
    fn recycle(&self, old: u64, id: u64) -> io::Result<Box<dyn Segment>>;

    /// The whole of a segment, as it is durable when this returns: a process that ended may
    /// have written what it did not sync, and who reads it acts on it.
    fn read(&self, id: u64) -> io::Result<Vec<u8>>;

    /// Removes a segment.
    fn remove(&self, id: u64) -> io::Result<()>;

    /// What to call a segment in a message.
    fn name(&self, id: u64) -> PathBuf;
}

/// An open segment.
pub(super) trait Segment: Send {
    /// Writes all bytes at a place; after an error any part of them may be there.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// Segments as files of a directory.
pub(super) struct Directory {
    path: PathBuf,
}

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".log";

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl Medium for Directory {
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
                .and_then(|id| u64::from_str_radix(id, 16).ok());
            // Other files of the directory are not ours.
            ids.extend(id);
        }
        Ok(ids)
    }

    fn create(&self, id: u64) -> io::Result<Box<dyn Segment>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.name(id))?;
        let mut segment = SegmentFile { file, reserved: 0 };
        segment.reserve(0);
        segment.file.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        Ok(Box::new(segment))
    }

    fn recycle(&self, old: u64, id: u64) -> io::Result<Box<dyn Segment>> {
        let file = OpenOptions::new().write(true).open(self.name(old))?;
        let reserved = file.metadata()?.len();
        if reserved > RECYCLED_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.write_all_at(&[0; BLOCK_BYTES], 0)?;
        file.sync_all()?;
        // Before it is known by its new name: else what it says could be taken for new.
        fs::rename(self.name(old), self.name(id))?;
        File::open(&self.path)?.sync_all()?;
        Ok(Box::new(SegmentFile { file, reserved }))
    }

    fn read(&self, id: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.name(id))?;
        file.sync_data()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&self, id: u64) -> io::Result<()> {
        fs::remove_file(self.name(id))
    }

    fn name(&self, id: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{id:016x}{SUFFIX}"))
    }
}

struct SegmentFile {
    file: File,
    reserved: u64,
}

impl SegmentFile {
    /// Reserves room for what comes after `end`. It is a matter of speed alone: where it
    /// cannot be had, the file grows as it is written.
    fn reserve(&mut self, end: u64) {
        if end >= self.reserved {
            let until = end + RESERVED_BYTES;
            let _ = fallocate(
                &self.file,
                FallocateFlags::empty(),
                self.reserved,
                until - self.reserved,
            );
            self.reserved = until;
        }
    }
}

impl Segment for SegmentFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.reserve(at + bytes.len() as u64);
        self.file.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
