//! The machine that the agent runs on, as far as it limits the agent.
//!
//! Facts, each read afresh when asked: how much room there is where the data lies
//! ([`DiskSpace`]), and how many files and connections the process may have open
//! ([`OpenFiles`]). `status` and `doctor` judge them by the same limits, which are here
//! too. What the process uses ([`Usage`]) is for graphs. Reading one is a system call or two and changes nothing; what can fail is only
//! that the system does not tell.

mod usage;

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit};

pub use usage::Usage;

/// Room on the file system that holds a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still write.
    pub free: u64,
    /// The whole file system.
    pub total: u64,
}

/// What the process may have open, connections among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force; `None` where there is none.
    pub soft: Option<u64>,
    /// Up to where the process may raise it; `None` where there is no end.
    pub hard: Option<u64>,
    /// How many are open; `None` where the system does not tell.
    pub open: Option<u64>,
}

impl DiskSpace {
    /// Less than this is nearly full, however large the disk is.
    pub const FREE_MIN: u64 = 256 << 20;
    /// Less than one part in so many is nearly full, however many bytes it is.
    pub const FREE_PART: u64 = 20;
    /// Less than this, and writes may be refused at any moment.
    pub const FREE_CRITICAL: u64 = 32 << 20;

    /// The room at `path`, which must exist.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Whether it is time to make room.
    pub fn is_nearly_full(self) -> bool {
        self.free < Self::FREE_MIN || self.free < self.total / Self::FREE_PART
    }

    /// Whether there is next to nothing left.
    pub fn is_critical(self) -> bool {
        self.free < Self::FREE_CRITICAL
    }
}

impl OpenFiles {
    /// A lower limit is too low for any use: peers, clients, their servers and the store share it.
    pub const SOFT_MIN: u64 = 1024;
    /// A limit that carries some thousand clients, each of which takes two: its own connection and one to a server.
    pub const SOFT_AMPLE: u64 = 8192;

    /// A process asks for no more than this: it is what some programs have room for in
    /// tables of their own.
    const RAISED_MAX: u64 = 1 << 20;

    /// Raises the limit in force as far as the process may, so that thousands of watchers
    /// and clients find room without anybody's doing; the limit after it. Programs that
    /// this one starts inherit it.
    ///
    /// # Errors
    /// What the operating system says; the limit stays what it was.
    pub fn raise() -> io::Result<Self> {
        let here = Self::of_this_process();
        let raised = here.raised();
        if raised.soft != here.soft {
            let limit = Rlimit {
                current: raised.soft,
                maximum: raised.hard,
            };
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        Ok(raised)
    }

    /// What [`OpenFiles::raise`] makes of it.
    pub fn raised(self) -> Self {
        let most = self
            .hard
            .map_or(Self::RAISED_MAX, |hard| hard.min(Self::RAISED_MAX));
        Self {
            soft: self.soft.map(|soft| soft.max(most)),
            ..self
        }
    }

    /// The limits of this process, and how much of them it uses.
    pub fn of_this_process() -> Self {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let open = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64);
        Self {
            soft: limit.current,
            hard: limit.maximum,
            open: open.ok(),
        }
    }

    /// Whether new connections are about to be refused: four fifths are in use.
    pub fn is_nearly_exhausted(self) -> bool {
        match (self.soft, self.open) {
            (Some(soft), Some(open)) => open >= soft - soft / 5,
            _ => false,
        }
    }

    /// How many clients of the proxy there can be at once, about.
    pub fn clients(soft: u64) -> u64 {
        soft / 2
    }
}

/// Bytes for people, such as `1.4 GiB`.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_disk_is_nearly_full_by_its_part_or_by_its_bytes() {
        let space = |free, total| DiskSpace { free, total };
        assert!(!space(6 * GIB, 100 * GIB).is_nearly_full());
        assert!(space(4 * GIB, 100 * GIB).is_nearly_full(), "4 %");
        assert!(space(GIB / 8, GIB).is_nearly_full(), "128 MiB");
        assert!(!space(GIB / 8, GIB).is_critical());
        assert!(space(GIB / 64, GIB).is_critical(), "16 MiB");
        assert!(space(0, 0).is_nearly_full());
    }

    #[test]
    fn files_are_nearly_exhausted_at_four_fifths_of_the_limit() {
        let files = |soft, open| OpenFiles {
            soft,
            hard: soft,
            open,
        };
        assert!(!files(Some(1000), Some(799)).is_nearly_exhausted());
        assert!(files(Some(1000), Some(800)).is_nearly_exhausted());
        assert!(!files(None, Some(1_000_000)).is_nearly_exhausted());
        assert!(!files(Some(1000), None).is_nearly_exhausted());
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be_and_never_lowered() {
        let raised = |soft, hard| {
            let open = None;
            OpenFiles { soft, hard, open }.raised().soft
        };
        assert_eq!(raised(Some(1024), Some(524_288)), Some(524_288));
        assert_eq!(raised(Some(1024), Some(1 << 30)), Some(1 << 20));
        assert_eq!(raised(Some(1024), None), Some(1 << 20));
        assert_eq!(raised(Some(1 << 21), Some(1 << 30)), Some(1 << 21));
        assert_eq!(raised(None, None), None);
        let now = OpenFiles::raise().unwrap();
        assert_eq!(OpenFiles::of_this_process().soft, now.soft);
    }

    #[test]
    fn the_facts_of_this_machine_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let space = DiskSpace::at(directory.path()).unwrap();
        assert!(space.total > 0 && space.free <= space.total);
        assert!(DiskSpace::at(&directory.path().join("nowhere")).is_err());
        let before = OpenFiles::of_this_process().open.unwrap();
        let _file = tempfile::tempfile().unwrap();
        assert!(OpenFiles::of_this_process().open.unwrap() > before);
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }
}
