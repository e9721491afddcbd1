//! Secrets: where the secret that all agents of a cluster share comes from, and what makes a good one.
//!
//! This is the only place that reads one. There is no flag for it and no key with the secret itself, so that it shows
//! neither in a list of processes nor in `config show`; [`PeerSecret`] does not show it in logs either.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::keys;

use super::environment::{self, Environment};
use super::settings::Config;

/// Fewest characters. As many hexadecimal digits hold 128 bits.
const CHARS_MIN: usize = 32;
/// Largest file of a secret, in bytes.
const FILE_MAX: u64 = 4096;
/// Random bytes of a secret that the agent makes.
const RANDOM_BYTES: usize = 32;
/// Name, in the data directory, of the secret that the agent makes.
pub(crate) const SECRET_FILE_NAME: &str = "peer.secret";

/// The secret that all agents of a cluster share: 32 characters or more. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecret(String);

/// Where the peer secret is to be found: the variable `BASIC_AGENT_PEER_SECRET`, else the file `[peer] secret_file`,
/// else the file `peer.secret` in the data directory. Where that is missing it is made, unless there are agents to join:
/// a secret of this node's own would keep it apart from them.
#[derive(Debug, Clone)]
pub struct PeerSecretSource(Source);

#[derive(Clone)]
enum Source {
    Environment {
        value: OsString,
        /// The file that would count without the variable.
        file: PathBuf,
    },
    File(PathBuf),
    DataDir {
        path: PathBuf,
        /// There are agents to join, which have a secret already.
        has_seeds: bool,
    },
}

/// Why there is no peer secret to start with. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Too easy to guess.
    #[error(
        "the peer secret in {place} has {chars} characters; it needs {CHARS_MIN} or more (`openssl rand -hex 32` makes one)"
    )]
    TooShort {
        /// Variable or file.
        place: String,
        /// How many it has, without white space around it.
        chars: usize,
    },
    /// Too large for a secret.
    #[error(
        "{place} holds more than {FILE_MAX} bytes, so it is hardly a secret; name another file"
    )]
    TooLong {
        /// Variable or file.
        place: String,
    },
    /// Not text.
    #[error("the peer secret in {place} is not UTF-8 (`openssl rand -hex 32` makes one that is)")]
    NotUnicode {
        /// Variable or file.
        place: String,
    },
    /// The file that was named does not exist.
    #[error(
        "the peer secret's file {} does not exist; where there is a cluster, `basic-agent token` on a node of it and `basic-agent join` here bring the secret that it uses now. For a first node make one: `(umask 077; openssl rand -hex 32 > {0})`", .path.display()
    )]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// There are agents to join, and nothing that they and this one have in common.
    #[error(
        "[peer] seeds names other agents, whose secret this node does not have: there is no {}. Run `basic-agent token` on one of them and `basic-agent join` with it here, or give every node the same by BASIC_AGENT_PEER_SECRET or [peer] secret_file", .path.display()
    )]
    NotShared {
        /// Where this node's own secret would be.
        path: PathBuf,
    },
    /// The agent's own file is gone, though it has keys of a cluster. A new secret would keep it apart from the others.
    #[error(
        "the peer secret's file {} is gone, and this node has keys of a cluster already; put the file back, or run `basic-agent join` with a token from `basic-agent token` on another node", .path.display()
    )]
    FileLost {
        /// The file.
        path: PathBuf,
    },
    /// Everyone on the host can read the file.
    #[error(
        "the peer secret's file {} can be read by every user of this host (mode {mode:04o}); run `chmod 600 {0}`, and make a new secret if others may have seen it", .path.display()
    )]
    FileExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("the peer secret's file {} cannot be read", .path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(
        "the peer secret cannot be kept in {}; make the directory writable, or name another by [node] data_dir", .path.display()
    )]
    FileUnwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system has no random numbers.
    #[error("no random numbers for a new peer secret")]
    Random(#[source] getrandom::Error),
}

impl PeerSecret {
    /// The secret itself, to derive keys from and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes a text without the white space around it, such as the line break at the end of a file. `place` says where
    /// it was found.
    ///
    /// # Errors
    /// [`SecretError::TooShort`].
    pub(crate) fn parse(text: &str, place: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars < CHARS_MIN {
            return Err(SecretError::TooShort {
                place: place.to_owned(),
                chars,
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// A new secret that nobody can guess.
    ///
    /// # Errors
    /// [`SecretError::Random`].
    pub(crate) fn random() -> Result<Self, SecretError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(redacted)")
    }
}

impl PeerSecretSource {
    pub(super) fn of(environment: &Environment, config: &Config) -> Self {
        Self(
            match (environment.peer_secret(), &config.peer.secret_file) {
                (Some(value), file) => Source::Environment {
                    value: value.to_owned(),
                    file: file
                        .clone()
                        .unwrap_or_else(|| config.node.data_dir.join(SECRET_FILE_NAME)),
                },
                (None, Some(path)) => Source::File(path.clone()),
                (None, None) => Source::DataDir {
                    path: config.node.data_dir.join(SECRET_FILE_NAME),
                    has_seeds: !config.peer.seeds.is_empty(),
                },
            },
        )
    }

    /// Whether an operator gave it. One that the agent made for itself is shared with nobody yet.
    pub fn is_given(&self) -> bool {
        !matches!(self.0, Source::DataDir { .. })
    }

    /// The file that holds the secret, or will; none if the environment does.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Source::Environment { .. } => None,
            Source::File(path) | Source::DataDir { path, .. } => Some(path),
        }
    }

    /// The file with another secret than the variable, which goes before it; none where they do not differ, or where
    /// the file is not there or cannot be read, since it does not count.
    pub(crate) fn overridden(&self) -> Option<&Path> {
        let Source::Environment { value, file } = &self.0 else {
            return None;
        };
        let given = read_variable(value).ok()?;
        let written = read_file(file).ok()??;
        (written != given).then_some(file)
    }

    /// Reads the secret; none if it is the agent's to make and has not been made.
    ///
    /// # Errors
    /// If there is one and it cannot be used.
    pub fn read(&self) -> Result<Option<PeerSecret>, SecretError> {
        match &self.0 {
            Source::Environment { value, .. } => read_variable(value).map(Some),
            Source::File(path) => match read_file(path)? {
                Some(secret) => Ok(Some(secret)),
                None => Err(SecretError::FileMissing { path: path.clone() }),
            },
            Source::DataDir { path, has_seeds } => match read_file(path)? {
                None if *has_seeds => Err(SecretError::NotShared { path: path.clone() }),
                secret => Ok(secret),
            },
        }
    }

    /// Reads the secret, and makes it first where it is the agent's to make: the data directory (mode 0700) with the
    /// file `peer.secret` (mode 0600).
    ///
    /// # Errors
    /// If there is one and it cannot be used, or it cannot be made.
    pub fn read_or_create(&self) -> Result<PeerSecret, SecretError> {
        match (self.read()?, &self.0) {
            (Some(secret), _) => Ok(secret),
            (None, Source::DataDir { path, .. }) => {
                if path.with_file_name(keys::FILE_NAME).exists() {
                    return Err(SecretError::FileLost { path: path.clone() });
                }
                create_file(path)
            }
            (None, Source::Environment { .. } | Source::File(_)) => {
                unreachable!("a secret that was given is read or refused")
            }
        }
    }
}

impl fmt::Display for PeerSecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Environment { .. } => write!(f, "environment {}", environment::PEER_SECRET),
            Source::File(path) | Source::DataDir { path, .. } => {
                write!(f, "file {}", path.display())
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { .. } => f.write_str("Environment(redacted)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::DataDir { path, .. } => f.debug_tuple("DataDir").field(path).finish(),
        }
    }
}

fn read_variable(value: &OsStr) -> Result<PeerSecret, SecretError> {
    let place = environment::PEER_SECRET;
    match value.to_str() {
        Some(text) if text.len() as u64 > FILE_MAX => Err(SecretError::TooLong {
            place: place.to_owned(),
        }),
        Some(text) => PeerSecret::parse(text, place),
        None => Err(SecretError::NotUnicode {
            place: place.to_owned(),
        }),
    }
}

/// Reads the secret in a file; none if the file does not exist.
fn read_file(path: &Path) -> Result<Option<PeerSecret>, SecretError> {
    let unreadable = |source| SecretError::FileUnreadable {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // The group may read it: that is how a service account is given a secret it does not own.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(SecretError::FileExposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let place = path.display().to_string();
    if bytes.len() as u64 > FILE_MAX {
        return Err(SecretError::TooLong { place });
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => PeerSecret::parse(text, &place).map(Some),
        Err(_) => Err(SecretError::NotUnicode { place }),
    }
}

/// Keeps a secret at `path` (mode 0600, its directory 0700), in the place of what was there. The file holds the one or
/// the other whole at any time.
///
/// # Errors
/// [`SecretError::FileUnwritable`], [`SecretError::Random`]; what was there is unchanged.
pub(crate) fn write_secret(path: &Path, secret: &PeerSecret) -> Result<(), SecretError> {
    let draft = write_draft(path, secret)?;
    let unwritable = |source| SecretError::FileUnwritable {
        path: path.to_owned(),
        source,
    };
    fs::rename(&draft, path).map_err(unwritable)?;
    sync_directory(path).map_err(unwritable)
}

/// Makes a secret and keeps it at `path`. The file appears there whole or not at all; if another process was quicker,
/// its secret counts.
fn create_file(path: &Path) -> Result<PeerSecret, SecretError> {
    let secret = PeerSecret::random()?;
    let unwritable = |source| SecretError::FileUnwritable {
        path: path.to_owned(),
        source,
    };
    let draft = write_draft(path, &secret)?;
    let outcome = fs::hard_link(&draft, path);
    // Whatever happened, the draft is of no more use; one that cannot be removed is as private as the secret.
    let _ = fs::remove_file(&draft);
    match outcome {
        Ok(()) => {
            sync_directory(path).map_err(unwritable)?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_file(path)?.ok_or_else(|| unwritable(error))
        }
        Err(error) => Err(unwritable(error)),
    }
}

/// Writes a secret to a new file beside `path`, whose directory is made if need be.
fn write_draft(path: &Path, secret: &PeerSecret) -> Result<PathBuf, SecretError> {
    let unwritable = |source| SecretError::FileUnwritable {
        path: path.to_owned(),
        source,
    };
    let dir = directory_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(unwritable)?;
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(SecretError::Random)?;
    let draft = dir.join(format!("{SECRET_FILE_NAME}.{}", hexadecimal(&suffix)));
    write_new(&draft, secret).map_err(|error| {
        // What was written of it is of no use.
        let _ = fs::remove_file(&draft);
        unwritable(error)
    })?;
    Ok(draft)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path)).and_then(|dir| dir.sync_all())
}

/// The directory of a file; the working directory for a bare name.
fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn write_new(path: &Path, secret: &PeerSecret) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", secret.0)?;
    file.sync_all()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
