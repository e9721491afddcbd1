//! Faults at the system calls that make data durable, by strace.
//!
//! The process that is started is the traced one itself (`-D`), with the pid of the
//! child, so that it can be signalled and waited for as any other; the tracer ends with
//! it. strace counts by thread and by system call: the N-th is the N-th of its kind in a
//! thread, and every thread that comes so far meets the fault.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{DiskError, run};
use crate::harness::process::around;

/// A fault at some syncs of a process.
#[derive(Clone, Debug)]
pub struct SyncFault {
    /// Which calls count, and can be hit.
    pub calls: Calls,
    /// What happens at those that are hit.
    pub fault: Fault,
    /// Which of them are hit.
    pub when: When,
    /// Only those on this file count; without it, all.
    pub file: Option<PathBuf>,
}

/// System calls that make data durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// fsync(2) and fdatasync(2).
    All,
    /// fdatasync(2), by which logs and databases sync what they have appended.
    Data,
}

/// What happens at a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before it.
    Kill,
    /// It does nothing and fails with EIO.
    Fail,
    /// It takes so much longer.
    Delay(Duration),
}

/// Which calls of a kind and a thread are hit, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This one.
    Nth(u32),
    /// This one, and every so many after it.
    Every {
        /// The first.
        first: u32,
        /// From one to the next.
        step: u32,
    },
}

impl SyncFault {
    /// Whether faults can be made here.
    ///
    /// # Errors
    /// When there is no strace, or this process may not trace another.
    pub fn check() -> Result<(), DiskError> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "true"]);
        run("strace", "strace", &mut strace)
    }

    /// The command that runs `command` and does it harm.
    pub fn around(&self, command: &Command) -> Command {
        let calls = match self.calls {
            Calls::All => "fsync,fdatasync",
            Calls::Data => "fdatasync",
        };
        let fault = match self.fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Fail => "error=EIO".to_owned(),
            Fault::Delay(delay) => format!("delay_enter={}", delay.as_micros()),
        };
        let when = match self.when {
            When::Nth(number) => number.to_string(),
            When::Every { first, step } => format!("{first}+{step}"),
        };
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
        if self.fault != Fault::Kill {
            // Stops at these calls only, and costs next to nothing at all others; but a
            // signal cannot be sent from such a stop.
            strace.arg("--seccomp-bpf");
        }
        strace.args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{fault}:when={when}")]);
        if let Some(file) = &self.file {
            strace.arg("-P").arg(file);
        }
        strace.arg("--");
        around(strace, command)
    }
}
