//! A backup in a file, read to its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use basic_sync::backup::{BackupKey, Piece, Reader};

use super::ArchiveError;
use super::survey::Survey;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// A file as it is read.
pub(super) struct Source {
    path: PathBuf,
    file: File,
    length: u64,
    reader: Reader,
    buffer: Vec<u8>,
}

impl Source {
    pub(super) fn open(path: &Path, key: Option<&BackupKey>) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ArchiveError::Missing {
                path: path.to_owned(),
            },
            _ => unreadable(source),
        })?;
        let length = file.metadata().map_err(unreadable)?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            reader: Reader::new(key.cloned()),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of it that have been read.
    pub(super) fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The next piece; `None` after the end, which has been seen to be one.
    pub(super) fn next_piece(&mut self) -> Result<Option<Piece>, ArchiveError> {
        loop {
            let piece = self.reader.next_piece();
            if let Some(piece) = piece.map_err(|error| self.unsound(error))? {
                return Ok(Some(piece));
            }
            let read = self.file.read(&mut self.buffer);
            let read = read.map_err(|source| ArchiveError::Unreadable {
                path: self.path.clone(),
                source,
            })?;
            if read == 0 {
                let finished = self.reader.finish();
                return finished.map(|()| None).map_err(|error| self.unsound(error));
            }
            self.reader.push(&self.buffer[..read]);
        }
    }

    /// Reads the file to its end; `each` sees every piece.
    pub(super) fn survey(
        mut self,
        encrypted: bool,
        mut each: impl FnMut(&Piece, &Self) -> Result<(), ArchiveError>,
    ) -> Result<Survey, ArchiveError> {
        let mut survey = Survey::new(encrypted, self.length);
        while let Some(piece) = self.next_piece()? {
            survey.note(&piece);
            each(&piece, &self)?;
        }
        Ok(survey)
    }

    fn unsound(&self, source: basic_sync::backup::BackupError) -> ArchiveError {
        ArchiveError::Unsound {
            path: self.path.clone(),
            source,
        }
    }
}
