//! A file that appears under its name when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::ArchiveError;

/// A file on its way. What is not finished is removed when this is dropped.
pub(super) struct Destination {
    path: PathBuf,
    draft: PathBuf,
    replace: bool,
    file: Option<BufWriter<File>>,
}

impl Destination {
    /// Begins a file beside `path` (mode 0600), which takes the place of one that is there only if it may `replace`.
    pub(super) fn create(path: PathBuf, replace: bool) -> Result<Self, ArchiveError> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(ArchiveError::Exists { path });
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let draft = path.with_file_name(name);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft);
        match opened {
            Ok(file) => Ok(Self {
                path,
                draft,
                replace,
                file: Some(BufWriter::with_capacity(1 << 20, file)),
            }),
            Err(source) => Err(ArchiveError::Unwritable { path, source }),
        }
    }

    /// The name that it will have.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        };
        written.map_err(|source| self.unwritable(source))
    }

    /// Makes it durable and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        match self.publish() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ArchiveError::Exists {
                    path: self.path.clone(),
                })
            }
            published => published.map_err(|source| self.unwritable(source)),
        }
    }

    fn publish(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.into_inner().map_err(io::Error::from)?.sync_all()?;
        }
        self.rename()?;
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn rename(&self) -> io::Result<()> {
        if self.replace {
            return fs::rename(&self.draft, &self.path);
        }
        match renameat_with(CWD, &self.draft, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Not every file system can do it in one step.
            Err(Errno::INVAL | Errno::NOSYS) if self.path.symlink_metadata().is_err() => {
                fs::rename(&self.draft, &self.path)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            renamed => Ok(renamed?),
        }
    }

    fn unwritable(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Unwritable {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // It has its name, or is of no use.
        let _ = fs::remove_file(&self.draft);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole_and_never_in_the_place_of_another_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.backup");
        let list = || fs::read_dir(directory.path()).unwrap().count();

        let mut given_up = Destination::create(path.clone(), false).unwrap();
        given_up.write(b"half").unwrap();
        assert!(!path.exists());
        drop(given_up);
        assert_eq!(list(), 0);

        let mut whole = Destination::create(path.clone(), false).unwrap();
        whole.write(b"whole").unwrap();
        whole.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let refused = Destination::create(path.clone(), false);
        assert!(matches!(refused, Err(ArchiveError::Exists { .. })));
        fs::remove_file(&path).unwrap();
        let mut late = Destination::create(path.clone(), false).unwrap();
        late.write(b"late").unwrap();
        fs::write(&path, b"first").unwrap();
        assert!(matches!(late.finish(), Err(ArchiveError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"first");

        let mut forced = Destination::create(path.clone(), true).unwrap();
        forced.write(b"forced").unwrap();
        forced.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"forced");
        assert_eq!(list(), 1);
    }
}
