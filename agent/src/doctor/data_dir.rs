//! The data directory: whether it can be written, whose it is, and who has it open.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use basic_membership::{Identity, IdentityError, NodeId};
use basic_sync::storage::RedbStorage;
use rustix::fs::Access;

use super::holder::Holder;
use super::report::Check;
use super::{AtApi, Subject, blocking};
use crate::config::Config;

const NAME: &str = "data directory";
const IDENTITY: &str = "node id";

/// Whether a process has the store open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Nobody, or there is none.
    Free,
    /// Somebody; who, if that can be seen from here.
    Open(Option<Holder>),
    /// It cannot be told.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Store {
    pub(super) fn look(directory: &Path) -> Self {
        match RedbStorage::is_open_elsewhere(directory) {
            Ok(false) => Self::Free,
            Ok(true) => Self::Open(Holder::of_lock(&RedbStorage::file_in(directory))),
            Err(error) => Self::Unknown {
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Open(holder) => holder.as_ref(),
            Self::Free | Self::Unknown { .. } => None,
        }
    }
}

/// The id that the directory keeps, if it keeps one.
pub(super) fn identity(directory: &Path) -> Result<Option<NodeId>, IdentityError> {
    Identity::persisted(directory)
}

/// The node's name: the configured one, else the kept one.
pub(super) fn id(
    config: &Config,
    persisted: &Result<Option<NodeId>, IdentityError>,
) -> Option<String> {
    let kept = || Some(persisted.as_ref().ok()?.as_ref()?.to_string());
    let configured = config.node.id.as_ref().map(|id| id.as_str().to_owned());
    configured.or_else(kept)
}

/// The directory, the id in it, and who has its store open.
pub(super) async fn examine(
    subject: &Subject,
    persisted: &Result<Option<NodeId>, IdentityError>,
) -> Vec<Check> {
    let directory = subject.config.node.data_dir.clone();
    let access = blocking(move || Directory::look(&directory)).await;
    let mut checks = vec![judge_directory(&access, &subject.config.node.data_dir)];
    checks.extend(judge_identity(&subject.config, persisted));
    checks.extend(judge_store(subject));
    checks
}

/// The nearest directory that exists: the one named, or the one in which it would be made.
pub(super) fn existing(directory: &Path) -> PathBuf {
    let mut ancestors = directory.ancestors();
    let found = ancestors.find(|path| path.exists() && !path.as_os_str().is_empty());
    found.unwrap_or(Path::new(".")).to_owned()
}

/// What can be seen of the directory without touching it.
#[derive(Debug)]
enum Directory {
    /// It does not exist; this is where it would be made, and whether it can be.
    Missing {
        parent: PathBuf,
        writable: Result<(), io::Error>,
    },
    /// It exists.
    Present {
        is_directory: bool,
        mode: u32,
        writable: Result<(), io::Error>,
    },
}

impl Directory {
    fn look(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) => Self::Present {
                is_directory: metadata.is_dir(),
                mode: metadata.permissions().mode() & 0o7777,
                writable: writable(path),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = existing(path);
                let writable = writable(&parent);
                Self::Missing { parent, writable }
            }
            Err(error) => Self::Missing {
                parent: path.to_owned(),
                writable: Err(error),
            },
        }
    }
}

fn writable(directory: &Path) -> Result<(), io::Error> {
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(directory, wanted).map_err(io::Error::from)
}

fn judge_directory(directory: &Directory, path: &Path) -> Check {
    let shown = path.display();
    match directory {
        Directory::Missing {
            writable: Ok(()), ..
        } => Check::ok(
            NAME,
            format!("{shown} does not exist yet; it is made at the first start"),
        ),
        Directory::Missing {
            parent,
            writable: Err(error),
        } => Check::failure(
            NAME,
            format!("{shown} does not exist and cannot be made"),
            "make it and give it to the user that runs the agent, or name another by [node] data_dir",
        )
        .seen(format!("{}: {error}", parent.display())),
        Directory::Present {
            is_directory: false,
            ..
        } => Check::failure(
            NAME,
            format!("{shown} is no directory"),
            "name another by [node] data_dir",
        ),
        Directory::Present {
            writable: Err(error),
            mode,
            ..
        } => Check::failure(
            NAME,
            format!("{shown} cannot be written"),
            format!("chown it to the user that runs the agent and `chmod 700 {shown}`, or name another by [node] data_dir"),
        )
        .seen(format!("{error}; mode {mode:04o}")),
        Directory::Present { mode, .. } if mode & 0o022 != 0 => Check::warning(
            NAME,
            format!("others than its owner may write in {shown}"),
            format!("chmod 700 {shown}"),
        )
        .seen(format!("mode {mode:04o}")),
        Directory::Present { mode, .. } => {
            Check::ok(NAME, format!("{shown} can be written")).seen(format!("mode {mode:04o}"))
        }
    }
}

fn judge_identity(
    config: &Config,
    persisted: &Result<Option<NodeId>, IdentityError>,
) -> Option<Check> {
    let configured = config.node.id.as_ref().map(|id| id.as_str());
    Some(match (persisted, configured) {
        (Err(error), _) => Check::failure(
            IDENTITY,
            error.to_string(),
            "restore the file from a backup, or start with a new data directory",
        )
        .seen_if(std::error::Error::source(error).map(ToString::to_string)),
        (Ok(Some(kept)), Some(configured)) if kept.as_str() != configured => Check::failure(
            IDENTITY,
            format!(
                "the data directory is that of node {kept}, and [node] id says {configured}: each agent needs its own"
            ),
            "name this node's own directory by [node] data_dir, or take [node] id away",
        ),
        (Ok(Some(kept)), _) => Check::ok(IDENTITY, format!("{kept}, kept in the data directory")),
        (Ok(None), Some(configured)) => Check::ok(IDENTITY, format!("{configured}, as configured")),
        (Ok(None), None) => Check::ok(IDENTITY, "none yet: one is made at the first start"),
    })
}

fn judge_store(subject: &Subject) -> Option<Check> {
    const STORE: &str = "store";
    let own = subject.own_agent();
    Some(match (&subject.store, own) {
        (Store::Free, None) => return None,
        (Store::Free, Some(running)) => Check::failure(
            STORE,
            format!(
                "agent {} runs on this agent's API address, with another data directory than [node] data_dir",
                running.id
            ),
            "use the configuration that the running agent was started with",
        ),
        (Store::Open(_), Some(_)) => Check::ok(STORE, "open in this agent, as it should be"),
        (Store::Open(holder), None) => {
            let by = holder
                .as_ref()
                .map_or_else(|| "another process".to_owned(), ToString::to_string);
            let silent = matches!(subject.at_api, AtApi::Silent { .. });
            let cause = if silent {
                "; perhaps it is this agent, which does not answer"
            } else {
                ""
            };
            Check::failure(
                STORE,
                format!("the store in the data directory is open in {by}{cause}"),
                "two agents cannot share a data directory: stop the other one, or give this one its own by [node] data_dir",
            )
        }
        (Store::Unknown { reason }, _) => Check::unknown(
            STORE,
            format!("it cannot be told whether another process has the store open: {reason}"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_looked_for_where_it_would_be_made() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/c");
        assert_eq!(existing(&path), parent.path());
        let check = judge_directory(&Directory::look(&path), &path);
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        assert!(!parent.path().join("a").exists(), "nothing was made");
        assert_eq!(existing(Path::new("surely-not-there")), Path::new("."));
    }

    #[test]
    fn a_directory_that_all_may_write_or_that_is_a_file_is_told() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let check = judge_directory(&Directory::look(&open), &open);
        assert_eq!(check.verdict, Verdict::Warning, "{check:?}");
        assert_eq!(check.evidence, ["mode 0777"]);

        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("below")] {
            let check = judge_directory(&Directory::look(path), path);
            assert_eq!(check.verdict, Verdict::Failure, "{check:?}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_a_failure() {
        let denied = Directory::Present {
            is_directory: true,
            mode: 0o500,
            writable: Err(io::ErrorKind::PermissionDenied.into()),
        };
        let check = judge_directory(&denied, Path::new("data"));
        assert_eq!(check.verdict, Verdict::Failure);
        assert!(check.evidence[0].ends_with("mode 0500"), "{check:?}");
    }
}
