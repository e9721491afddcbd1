//! Disks that do harm: [`SmallDisk`] gets full, [`SyncFault`] kills a process at a
//! sync, lets the sync fail, or lets it hang.
//!
//! Both need Linux and root, and a command each (`mount`, `strace`); without them they
//! say what is missing.

mod small;
mod syncs;

use std::io;
use std::process::Command;

pub use self::small::SmallDisk;
pub use self::syncs::{Calls, Fault, SyncFault, When};

/// There is no such disk here.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A command could not be run.
    #[error("cannot run {program} (on Debian: apt-get install {package})")]
    Run {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("{program} failed: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// A file or directory could not be used.
    #[error("{attempt}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Runs a command that must succeed.
fn run(
    program: &'static str,
    package: &'static str,
    command: &mut Command,
) -> Result<(), DiskError> {
    let output = command.output().map_err(|source| DiskError::Run {
        program,
        package,
        source,
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(DiskError::Failed {
            program,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
