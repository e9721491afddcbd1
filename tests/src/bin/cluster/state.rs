//! What is remembered of a cluster between two calls: `state.json`.
//!
//! It holds the parameters and the processes. It is written whole, by renaming,
//! under a lock that every command that changes something holds, so that two
//! calls at the same time follow each other. A file of an earlier boot of the
//! machine is read, but its processes are gone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::layout::{Layout, NodeLayout};
use basic_tests::harness::process::{ProcessId, boot_id};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Written into the file; another number means another format.
const FORMAT: u32 = 1;

/// A cluster that was started.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) layout: Layout,
    pub(crate) binaries: Binaries,
    nodes: Vec<Processes>,
}

/// The two processes of a node, as far as they were started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub(crate) agent: Option<ProcessId>,
    pub(crate) app: Option<ProcessId>,
}

impl Processes {
    /// Those that have not ended.
    pub(crate) fn alive(self) -> impl Iterator<Item = ProcessId> {
        [self.agent, self.app]
            .into_iter()
            .flatten()
            .filter(|process| process.is_alive())
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    boot: String,
    base_port: u16,
    binaries: PathBuf,
    nodes: Vec<Processes>,
}

impl State {
    /// A cluster of which nothing runs yet.
    pub(crate) fn new(layout: Layout, binaries: Binaries) -> Self {
        let nodes = vec![Processes::default(); usize::from(layout.len())];
        Self {
            layout,
            binaries,
            nodes,
        }
    }

    /// The cluster of this directory, if one was started and not taken down.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>, Failure> {
        let path = state_file(directory);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::Failed(
                    anyhow::Error::from(error).context(format!("cannot read {}", path.display())),
                ));
            }
        };
        let state = Self::parse(directory, &text).with_context(|| {
            format!(
                "{} is damaged; end the processes of the cluster by hand and delete the file",
                path.display()
            )
        })?;
        Ok(Some(state))
    }

    /// As [`find`](Self::find), where there has to be one.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        Self::find(directory)?.ok_or_else(|| {
            Failure::NotRunning(format!(
                "no cluster runs in {}; start one with `scripts/cluster up`",
                directory.display()
            ))
        })
    }

    fn parse(directory: &Path, text: &[u8]) -> anyhow::Result<Self> {
        let document: Document = serde_json::from_slice(text)?;
        anyhow::ensure!(
            document.format == FORMAT,
            "format {} is unknown",
            document.format
        );
        let count = u16::try_from(document.nodes.len()).context("too many nodes")?;
        let layout = Layout::new(directory.to_owned(), document.base_port, count)?;
        let mut nodes = document.nodes;
        if document.boot != boot_id()? {
            nodes.fill(Processes::default());
        }
        // Whether they still exist matters only to a command that starts them.
        let binaries = Binaries::assume(document.binaries);
        Ok(Self {
            layout,
            binaries,
            nodes,
        })
    }

    /// Writes it down.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let document = Document {
            format: FORMAT,
            boot: boot_id().context("cannot tell this boot of the machine from the next")?,
            base_port: self.layout.base_port(),
            binaries: self.binaries.directory().to_owned(),
            nodes: self.nodes.clone(),
        };
        let path = state_file(self.layout.directory());
        write_whole(&path, &serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    /// Forgets the cluster.
    pub(crate) fn delete(&self) -> Result<(), Failure> {
        let path = state_file(self.layout.directory());
        fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        Ok(())
    }

    /// Node `number`, which the user named.
    pub(crate) fn node(&self, number: u16) -> Result<(NodeLayout, Processes), Failure> {
        let node = self.layout.node(number).ok_or_else(|| {
            Failure::Usage(format!(
                "there is no node {number}: the cluster has nodes 1 to {}",
                self.layout.len()
            ))
        })?;
        let processes = self.processes(&node);
        Ok((node, processes))
    }

    /// The processes of a node.
    pub(crate) fn processes(&self, node: &NodeLayout) -> Processes {
        self.nodes.get(index(node)).copied().unwrap_or_default()
    }

    /// Changes the processes of a node.
    pub(crate) fn set_processes(&mut self, node: &NodeLayout, processes: Processes) {
        if let Some(known) = self.nodes.get_mut(index(node)) {
            *known = processes;
        }
    }

    /// Whether any process of it still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.nodes
            .iter()
            .any(|processes| processes.alive().next().is_some())
    }
}

/// Keeps other commands from changing this cluster until it is dropped.
///
/// Waits for one that is at work, and says so.
pub(crate) fn lock(directory: &Path) -> Result<File, Failure> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::output::note("waiting for another scripts/cluster to finish …");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn index(node: &NodeLayout) -> usize {
    usize::from(node.number()) - 1
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_state(directory: &Path) -> State {
        let layout = Layout::new(directory.to_owned(), 9400, 2).unwrap();
        State::new(layout, Binaries::assume(PathBuf::from("bin")))
    }

    #[test]
    fn what_was_saved_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = some_state(directory.path());
        let node = state.layout.node(2).unwrap();
        let app = ProcessId::of(std::process::id());
        state.set_processes(&node, Processes { agent: None, app });
        state.save().unwrap();

        let found = State::find(directory.path()).unwrap().unwrap();
        assert_eq!(found.layout, state.layout);
        assert_eq!(found.processes(&node), Processes { agent: None, app });
        assert!(found.is_running());
    }

    #[test]
    fn processes_of_an_earlier_boot_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = some_state(directory.path());
        let node = state.layout.node(1).unwrap();
        let agent = ProcessId::of(std::process::id());
        state.set_processes(&node, Processes { agent, app: None });
        state.save().unwrap();
        let path = state_file(directory.path());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot_id().unwrap(), "another boot")).unwrap();

        assert!(!State::find(directory.path()).unwrap().unwrap().is_running());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_cluster() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(state_file(directory.path()), "{\"format\":1").unwrap();
        let failure = State::find(directory.path()).unwrap_err();
        assert!(failure.to_string().contains("is damaged"), "{failure}");
    }

    #[test]
    fn a_directory_without_a_cluster_is_told_as_not_running() {
        let directory = tempfile::tempdir().unwrap();
        let failure = State::load(directory.path()).unwrap_err();
        assert!(matches!(failure, Failure::NotRunning(_)), "{failure}");
    }
}
