//! The directory of one bench, beside the executables, on the same disk as
//! everybody's data, so that all pay the same for a sync.

use std::path::{Path, PathBuf};

use anyhow::Context;
use basic_tests::harness::binaries::directory_of_this_build;
use basic_tests::harness::layout::Layout;
use basic_tests::harness::ports;
use tempfile::TempDir;

/// A directory that is deleted when this is dropped.
pub(crate) struct Workspace {
    directory: TempDir,
}

impl Workspace {
    pub(crate) fn new(bench: &str) -> anyhow::Result<Workspace> {
        let build = directory_of_this_build()?;
        let parent = build.parent().unwrap_or(&build).join("bench");
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new()
            .prefix(&format!("{bench}-"))
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        Ok(Workspace { directory })
    }

    /// A new directory in it, with that many nodes' free ports.
    pub(crate) fn layout(&self, name: &str, nodes: u16) -> anyhow::Result<Layout> {
        let directory = self.path().join(name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(ports::free_layout(directory, nodes)?)
    }

    /// Leaves the directory where it is, and says where.
    pub(crate) fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}
