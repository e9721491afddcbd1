//! Processes: started detached, known beyond their pid, signalled, measured.
//!
//! A pid alone may by now belong to a stranger. A [`ProcessId`] also holds when
//! the process started, and [`boot_id`] says of which run of the machine the
//! pair speaks; a signal is sent only while all of it still fits. A zombie, dead
//! but not yet collected by its parent, counts as gone.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number by which the operating system knows it.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

/// Whether a process that exists is being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs, or waits for something.
    Running,
    /// It was stopped by a signal and runs again at SIGCONT.
    Stopped,
}

/// What a process uses at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that are resident.
    pub resident: u64,
    /// Processor time of all its threads since its start.
    pub processor: Duration,
    /// File descriptors.
    pub open_files: usize,
}

impl ProcessId {
    /// The process that has this pid now; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            started: stat.started,
        })
    }

    /// What it does; `None` once it has ended.
    pub fn activity(self) -> Option<Activity> {
        let stat = Stat::read(self.pid)?;
        match stat.state {
            _ if stat.started != self.started => None,
            'Z' | 'X' => None,
            'T' | 't' => Some(Activity::Stopped),
            _ => Some(Activity::Running),
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(self) -> bool {
        self.activity().is_some()
    }

    /// Sends a signal. Returns whether there was a process to send it to.
    ///
    /// # Errors
    /// When the operating system does not permit it.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        match kill_process(pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What it uses now; `None` once it has ended.
    pub fn usage(self) -> Option<Usage> {
        let stat = Stat::read(self.pid).filter(|stat| stat.started == self.started)?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        let resident = stat.resident_pages * rustix::param::page_size() as u64;
        let processor = Duration::from_millis(stat.ticks * 1000 / ticks_per_second.max(1));
        let open_files = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count();
        Some(Usage {
            resident,
            processor,
            open_files,
        })
    }
}

/// Starts a process that outlives this one.
///
/// It gets a process group of its own, so that an interrupt typed at the
/// terminal does not reach it, no input, and appends all its output to `log`.
///
/// # Errors
/// When the log cannot be opened or the process cannot be started.
pub fn spawn_detached(command: &mut Command, log: &Path) -> io::Result<ProcessId> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    // It cannot be gone: as our child it stays, at least as a zombie.
    ProcessId::of(child.id()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// The command that runs `outer` with `inner` as its last arguments, in the environment
/// and the directory of `inner`: for programs that run another.
pub fn around(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(directory) = inner.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}

/// Names this run of the machine: after the next boot it is another.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// The fields of /proc/PID/stat that are used here.
struct Stat {
    state: char,
    ticks: u64,
    started: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Numbering as in proc_pid_stat(5): the state is field 3.
    fn parse(line: &str) -> Option<Self> {
        // Field 2 is the name in parentheses, and may itself contain any of
        // `) (` and spaces: everything is counted from its last parenthesis.
        let (_, after_name) = line.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            ticks: number(14)? + number(15)?,
            started: number(22)?,
            resident_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::wait::wait_until;

    const LIMIT: Duration = Duration::from_secs(30);

    fn sleeper(directory: &tempfile::TempDir) -> ProcessId {
        let log = directory.path().join("log");
        spawn_detached(Command::new("sleep").arg("600"), &log).unwrap()
    }

    #[tokio::test]
    async fn a_stopped_process_continues_and_a_killed_one_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(&directory);
        let becomes = |wanted| {
            wait_until(format!("{wanted:?}"), LIMIT, move || {
                let now = process.activity();
                std::future::ready(if now == wanted {
                    Ok(())
                } else {
                    Err(format!("{now:?}"))
                })
            })
        };
        assert!(process.signal(Signal::STOP).unwrap());
        becomes(Some(Activity::Stopped)).await.unwrap();
        assert!(process.signal(Signal::CONT).unwrap());
        becomes(Some(Activity::Running)).await.unwrap();
        assert!(process.signal(Signal::KILL).unwrap());
        becomes(None).await.unwrap();
        assert!(!process.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_recycled_pid_is_never_signalled() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(&directory);
        let earlier = ProcessId {
            started: process.started - 1,
            ..process
        };
        assert!(!earlier.signal(Signal::KILL).unwrap());
        assert!(process.is_alive());
        assert!(process.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b (c) T 1 2 3 4 5 6 7 8 9 10 40 2 13 14 15 16 17 18 99 20 33";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.state, stat.ticks, stat.started, stat.resident_pages),
            ('T', 42, 99, 33)
        );
    }

    #[test]
    fn this_process_uses_memory_and_files() {
        let usage = ProcessId::of(std::process::id()).unwrap().usage().unwrap();
        assert!(usage.resident > 0 && usage.open_files > 0);
    }
}
