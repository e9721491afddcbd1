//! A file system of some megabytes, in memory, that can be filled to its last byte.
//!
//! What is mounted names the process that mounted it, so that what a run that died
//! has left is told from what is in use, and removed by the next.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DiskError, run};
use crate::harness::process::ProcessId;

/// What the names of mounts begin with; the process id follows.
const PREFIX: &str = "basic-tests-";
/// The file that takes what room is left.
const FILLER: &str = "filler";
/// The smallest piece that a file system gives out.
const BLOCK: usize = 4096;

/// A small disk; dropping it unmounts it, and what was on it is gone.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many bytes at a directory, which is made if need be.
    ///
    /// # Errors
    /// When this process may not mount anything, or there is no `mount`.
    pub fn mount(at: &Path, bytes: u64) -> Result<Self, DiskError> {
        remove_leftovers();
        fs::create_dir_all(at).map_err(|source| DiskError::Io {
            attempt: "cannot make the directory to mount at",
            source,
        })?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700")]);
        mount.arg(format!("{PREFIX}{}", std::process::id()));
        run("mount", "mount", mount.arg(at))?;
        Ok(Self {
            path: at.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left, and returns how much that was.
    ///
    /// # Errors
    /// What the operating system says, but for "no space left".
    pub fn fill(&self) -> io::Result<u64> {
        let path = self.path.join(FILLER);
        let mut filler = File::options().create(true).append(true).open(&path)?;
        loop {
            match filler.write_all(&[0; BLOCK]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filler.metadata()?.len())
    }

    /// Gives back what [`fill`](Self::fill) has taken.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(FILLER))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once also where a process still has files open there; a failure leaves it
        // to the next run.
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

/// Unmounts what processes that are gone have mounted.
fn remove_leftovers() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for (maker, path) in mounts.lines().filter_map(ours) {
        if !ProcessId::of(maker).is_some_and(ProcessId::is_alive) {
            // One that stays costs some megabytes of memory.
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
    }
}

/// The maker and the place of a mount of ours.
fn ours(line: &str) -> Option<(u32, &str)> {
    let (name, rest) = line.split_once(' ')?;
    let maker = name.strip_prefix(PREFIX)?.parse().ok()?;
    Some((maker, rest.split(' ').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_ours_tells_who_made_it() {
        let line = "basic-tests-12 /a/node-1/data tmpfs rw,relatime,size=4096k 0 0";
        assert_eq!(ours(line), Some((12, "/a/node-1/data")));
        assert_eq!(ours("tmpfs /tmp tmpfs rw 0 0"), None);
    }

    #[test]
    fn a_full_disk_has_room_again_when_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("disk");
        let disk = match SmallDisk::mount(&place, 1 << 20) {
            Ok(disk) => disk,
            Err(error) if std::env::var_os("CI").is_none() => {
                return eprintln!("skipped: no small disk: {error}");
            }
            Err(error) => panic!("no small disk, and in CI a skip is a failure: {error}"),
        };
        assert!((1..=1 << 20).contains(&disk.fill().unwrap()));
        let refused = fs::write(disk.path().join("more"), [1; BLOCK]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        disk.make_room().unwrap();
        fs::write(disk.path().join("more"), [1; BLOCK]).unwrap();
        drop(disk);
        assert!(!place.join("more").exists(), "it is unmounted");
    }
}
