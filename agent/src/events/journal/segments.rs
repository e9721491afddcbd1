//! The files of the journal.
//!
//! A directory of at most [`SEGMENTS_MAX`] segments of about [`SEGMENT_BYTES`], named by when they were begun. Each is
//! text in lines of JSON: first a head `{"journal":1,"after":N}`, then records, whose numbers grow and all of which
//! come after N; nothing is missing between N and the first. A segment continues the one before it if its N is the
//! last number there; otherwise records between the two were lost, and what is older is not given out any more.
//!
//! The last line may be cut off by a crash; it is dropped when the journal is opened. A write that fails half way is
//! taken back at once. Lines that cannot be read, and files without a head of this format, are passed over with a word
//! and no harm to the rest.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::events::record::{EventId, Record};

/// Segments kept.
pub(super) const SEGMENTS_MAX: usize = 3;
/// Size at which the next segment is begun, in bytes.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Most that is read of a file, in bytes: none of ours is larger.
const FILE_BYTES_MAX: u64 = 4 * SEGMENT_BYTES;
/// The format of the files.
const FORMAT: u32 = 1;
/// How the names of segments end.
const SUFFIX: &str = ".jsonl";

/// The files, being written.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    /// Every segment with the place that it follows, the one being written last.
    list: Vec<(PathBuf, EventId)>,
    /// The one being written, and its length.
    current: Option<(File, u64)>,
    /// The last record in them.
    last: EventId,
    /// The place of which everything after it, up to `last`, is there.
    floor: EventId,
    segment_bytes: u64,
}

/// What was found in a directory.
pub(super) struct Opened {
    pub(super) segments: Segments,
    pub(super) records: Vec<Arc<Record>>,
    /// The place of which everything after it is in `records`.
    pub(super) floor: EventId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    journal: u32,
    after: EventId,
}

/// One file, read.
struct Segment {
    path: PathBuf,
    after: EventId,
    records: Vec<Arc<Record>>,
    /// Bytes up to the end of the last complete line.
    complete: u64,
    /// Bytes after it.
    rest: u64,
    damaged_lines: usize,
}

impl Segments {
    /// Opens or makes the directory. `fresh` is the place that a journal without records begins after.
    ///
    /// # Errors
    /// If it cannot be made or read, or its last segment not written.
    pub(super) fn open(directory: &Path, fresh: EventId) -> io::Result<Opened> {
        Self::open_with(directory, fresh, SEGMENT_BYTES)
    }

    /// The same with another size of segments.
    pub(super) fn open_with(
        directory: &Path,
        fresh: EventId,
        segment_bytes: u64,
    ) -> io::Result<Opened> {
        fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for path in paths(directory)? {
            let Some(segment) = Segment::read(&path)? else {
                warn!(file = %path.display(), "a file among the events is none of this version's; it is passed over");
                continue;
            };
            if segment.damaged_lines > 0 || segment.rest > 0 {
                warn!(file = %path.display(), lines = segment.damaged_lines, cut_bytes = segment.rest, "events that were damaged or cut off are dropped");
            }
            found.push(segment);
        }
        let current = match found.last() {
            Some(last) if last.complete < segment_bytes => {
                let mut file = File::options().write(true).open(&last.path)?;
                file.set_len(last.complete)?;
                file.seek(SeekFrom::Start(last.complete))?;
                Some((file, last.complete))
            }
            _ => None,
        };
        let list = found
            .iter()
            .map(|segment| (segment.path.clone(), segment.after))
            .collect();
        let (floor, records) = join(found).unwrap_or((fresh, Vec::new()));
        let last = records.last().map_or(floor, |record| record.id);
        Ok(Opened {
            segments: Self {
                directory: directory.to_owned(),
                list,
                current,
                last,
                floor,
                segment_bytes,
            },
            records,
            floor,
        })
    }

    /// Writes records, which come without a gap after `after`. Not durable before [`Segments::sync`].
    ///
    /// # Errors
    /// If they could not be written; none of them is there then.
    pub(super) fn append(&mut self, after: EventId, records: &[Arc<Record>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        let continues = after == self.last;
        let fits = matches!(&self.current, Some((_, length)) if *length < self.segment_bytes);
        if !(continues && fits) {
            self.begin(after)?;
        }
        let Some((file, length)) = &mut self.current else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(&lines) {
            // Half a line would spoil the next one. If that fails too, the reader drops the line.
            let _ = file.set_len(*length);
            let _ = file.seek(SeekFrom::Start(*length));
            return Err(error);
        }
        *length += lines.len() as u64;
        self.last = records.last().map_or(self.last, |record| record.id);
        Ok(())
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &self.current {
            Some((file, _)) => file.sync_data(),
            None => Ok(()),
        }
    }

    /// The last record that was written.
    pub(super) fn last(&self) -> EventId {
        self.last
    }

    /// The place of which everything after it is there.
    pub(super) fn floor(&self) -> EventId {
        self.floor
    }

    fn begin(&mut self, after: EventId) -> io::Result<()> {
        self.current = None;
        // First of all, since the disk may be full.
        while self.list.len() >= SEGMENTS_MAX {
            let (oldest, _) = self.list.remove(0);
            match fs::remove_file(oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.floor = self
                .list
                .first()
                .map_or(after, |(_, next)| self.floor.max(*next));
        }
        // Two of one name would be two beginnings after one place: the first holds nothing then.
        let path = self.directory.join(format!("{:020}{SUFFIX}", after.0));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        let mut head = serde_json::to_vec(&Head {
            journal: FORMAT,
            after,
        })?;
        head.push(b'\n');
        file.write_all(&head)?;
        File::open(&self.directory)?.sync_all()?;
        if after != self.last {
            self.floor = after;
        }
        self.list.retain(|(known, _)| *known != path);
        self.list.push((path, after));
        self.current = Some((file, head.len() as u64));
        Ok(())
    }
}

/// Reads the records after a place, at most `limit`, and the place of which everything after it is there; nothing if
/// there are no segments.
///
/// # Errors
/// If the directory or a file cannot be read. A file that is deleted meanwhile is no error.
pub(super) fn read(
    directory: &Path,
    cursor: EventId,
    limit: usize,
) -> io::Result<Option<(EventId, Vec<Arc<Record>>)>> {
    let mut found = Vec::new();
    for path in paths(directory)? {
        match Segment::read(&path) {
            Ok(segment) => found.extend(segment),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let Some((floor, mut records)) = join(found) else {
        return Ok(None);
    };
    let begin = records.partition_point(|record| record.id <= cursor);
    records.drain(..begin);
    records.truncate(limit);
    Ok(Some((floor, records)))
}

impl Segment {
    /// None if it is no segment of this format.
    fn read(path: &Path) -> io::Result<Option<Segment>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let (complete, rest) = bytes.split_at(end);
        let mut lines = complete.split(|byte| *byte == b'\n');
        let head = lines
            .next()
            .and_then(|line| serde_json::from_slice::<Head>(line).ok());
        let Some(head) = head.filter(|head| head.journal == FORMAT) else {
            return Ok(None);
        };
        let mut last = head.after;
        let mut records = Vec::new();
        let mut damaged_lines = 0;
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if record.id > last => {
                    last = record.id;
                    records.push(Arc::new(record));
                }
                _ => damaged_lines += 1,
            }
        }
        Ok(Some(Segment {
            path: path.to_owned(),
            after: head.after,
            records,
            complete: complete.len() as u64,
            rest: rest.len() as u64,
            damaged_lines,
        }))
    }
}

/// The records of segments in their order, as far back as nothing is missing; and the place before the first.
fn join(segments: Vec<Segment>) -> Option<(EventId, Vec<Arc<Record>>)> {
    let mut joined: Option<(EventId, Vec<Arc<Record>>)> = None;
    for segment in segments {
        match &mut joined {
            Some((floor, records))
                if records.last().map_or(*floor, |record| record.id) == segment.after =>
            {
                records.extend(segment.records);
            }
            _ => joined = Some((segment.after, segment.records)),
        }
    }
    joined
}

/// The segments in the order in which they were begun.
fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
