//! Where cargo put the executables.
//!
//! A suite runs from `target/PROFILE/deps/`, a command from `target/PROFILE/`;
//! both find what was built in the same run beside or above themselves. The
//! variable [`DIRECTORY_VARIABLE`] names another directory. Nothing is built
//! here: a missing executable is an error that says how to build it.

use std::io;
use std::path::{Path, PathBuf};

/// Names the directory that holds the executables.
pub const DIRECTORY_VARIABLE: &str = "BASIC_CLUSTER_BINARIES";

/// The executables of one build.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

/// Why the executables could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// The operating system does not tell where this executable is.
    #[error("cannot tell where this executable lies")]
    CurrentExecutable(#[source] io::Error),
    /// One of them is not there.
    #[error(
        "{} is missing: run `cargo build --workspace --bins` first, or let {DIRECTORY_VARIABLE} \
         name the directory that has it",
        path.display()
    )]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
}

impl Binaries {
    /// Finds the build that this executable belongs to.
    ///
    /// # Errors
    /// When one of the executables is not there.
    pub fn locate() -> Result<Self, BinariesError> {
        match std::env::var_os(DIRECTORY_VARIABLE) {
            Some(directory) => Self::in_directory(PathBuf::from(directory)),
            None => Self::in_directory(directory_of_this_build()?),
        }
    }

    /// The build in this directory.
    ///
    /// # Errors
    /// When one of the executables is not there.
    pub fn in_directory(directory: PathBuf) -> Result<Self, BinariesError> {
        let found = Self { directory };
        for path in [found.agent(), found.sample_server(), found.cluster()] {
            if !path.is_file() {
                return Err(BinariesError::Missing { path });
            }
        }
        Ok(found)
    }

    /// The build in this directory, which was checked at another time.
    pub fn assume(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory that holds all of them.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `basic-agent`.
    pub fn agent(&self) -> PathBuf {
        self.directory.join("basic-agent")
    }

    /// `sample-server`.
    pub fn sample_server(&self) -> PathBuf {
        self.directory.join("sample-server")
    }

    /// `cluster`, which `scripts/cluster` runs.
    pub fn cluster(&self) -> PathBuf {
        self.directory.join("cluster")
    }
}

/// The directory into which cargo put this executable, or the suite that it is.
///
/// # Errors
/// When the operating system does not tell where this executable is.
pub fn directory_of_this_build() -> Result<PathBuf, BinariesError> {
    let executable = std::env::current_exe().map_err(BinariesError::CurrentExecutable)?;
    let directory = executable.parent().unwrap_or(Path::new("."));
    let directory = match directory.ends_with("deps") {
        true => directory.parent().unwrap_or(directory),
        false => directory,
    };
    Ok(directory.to_owned())
}

/// The root of the checkout that this package was built from.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
