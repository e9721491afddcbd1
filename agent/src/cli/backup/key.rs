//! The key of a backup, from a file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use basic_sync::backup::BackupKey;

use super::ArchiveError;

/// Fewest characters, as for the secret of a cluster: as many hexadecimal digits hold 128 bits.
const CHARS_MIN: usize = 32;
/// Largest file, in bytes.
const FILE_MAX: u64 = 4096;

/// The key in a file: a line of 32 characters or more, of any kind, without the white space around it.
pub(super) fn read(path: &Path) -> Result<BackupKey, ArchiveError> {
    let unusable = |fault| ArchiveError::Key {
        path: path.to_owned(),
        fault,
    };
    let file = File::open(path);
    let file = file.map_err(|_| {
        unusable("cannot be read; `(umask 077; openssl rand -hex 32 > FILE)` makes one")
    })?;
    let metadata = file.metadata().map_err(|_| unusable("cannot be read"))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(unusable(
            "can be read by every user of this host; run `chmod 600` on it, and use another key from now on if others may have seen it",
        ));
    }
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    read.map_err(|_| unusable("is no text; `openssl rand -hex 32` makes a key that is"))?;
    if text.len() as u64 > FILE_MAX {
        return Err(unusable(
            "is larger than 4096 bytes, so that it is hardly a key",
        ));
    }
    let text = text.trim();
    if text.chars().count() < CHARS_MIN {
        return Err(unusable(
            "has fewer than 32 characters; `openssl rand -hex 32` makes a key",
        ));
    }
    Ok(BackupKey::derive(text))
}
