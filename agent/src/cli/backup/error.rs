//! Why a backup was not taken, cannot be used, or was not restored.

use std::io;
use std::path::PathBuf;

use basic_sync::backup::{BackupError, ScratchError};

/// Why a backup was not taken, cannot be used, or was not restored.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file is no whole, undamaged backup, or needs another key.
    #[error("{}: {source}; nothing was changed", .path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// What the agent sent is no whole backup.
    #[error("the agent's backup is not whole: {0}; no file was written. The agent's log says why")]
    Stream(BackupError),
    /// The file to write is there already.
    #[error("{} exists; name another file, or give --force to put the backup in its place", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("there is no file {}; nothing was changed", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} cannot be read; nothing was changed", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{} cannot be written", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The key's file cannot be used.
    #[error("the key's file {} {fault}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The operating system has no random numbers.
    #[error("no random numbers to encrypt with")]
    Random(#[source] getrandom::Error),
    /// The documents of the backup cannot be put together in a directory for a while.
    #[error("the backup cannot be unpacked in {}; nothing was changed. TMPDIR names another directory", .path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: ScratchError,
    },
    /// The agent took some of the documents and refused others.
    #[error("{count} documents could not be set back; the first is {first}")]
    NotAll {
        /// How many.
        count: usize,
        /// Which is the first, and why.
        first: String,
    },
}

impl ArchiveError {
    /// The exit code: 2 where another command line would do it, 1 where it would not.
    pub(in crate::cli) fn code(&self) -> u8 {
        match self {
            Self::Unsound { source, .. } => match source {
                BackupError::NotABackup
                | BackupError::TooNew { .. }
                | BackupError::KeyNeeded
                | BackupError::KeyNotNeeded
                | BackupError::WrongKey => 2,
                BackupError::Header
                | BackupError::Damaged { .. }
                | BackupError::Order { .. }
                | BackupError::Cut { .. }
                | BackupError::Trailing { .. }
                | BackupError::Forged { .. }
                | BackupError::Content { .. }
                | BackupError::TooLong => 1,
            },
            Self::Exists { .. } | Self::Missing { .. } | Self::Key { .. } => 2,
            Self::Stream(_)
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Random(_)
            | Self::Scratch { .. }
            | Self::NotAll { .. } => 1,
        }
    }
}
