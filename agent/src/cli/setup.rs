//! What `init` and `join` have in common: the configuration file of a new node, and the way to its first start.
//!
//! The flags are those of `run`; whatever is given is written into the file, and what follows from it too: where to
//! listen from what is advertised, and the secret's file in the data directory. Variables of the environment are left
//! out, because they hold for this shell and not for the node. The result is checked as `run` would check it before
//! anything is written.

use std::fs::DirBuilder;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf, absolute};

use basic_membership::IdentityError;

use super::CliError;
use crate::config::{
    Config, ConfigErrors, Environment, FlagValue, HttpUrl, Loaded, SECRET_FILE_NAME, SET, Sources,
};
use crate::keys::{KeyFileError, TokenError};
use crate::replace::replace;

/// Name of the configuration file where none is given.
pub(super) const FILE_DEFAULT: &str = "basic-agent.toml";
/// Name of the data directory where none is given.
const DATA_DIR_DEFAULT: &str = "basic-agent-data";

/// The configuration of a node that is being set up.
pub(super) struct NewNode {
    /// The file.
    pub(super) file: PathBuf,
    /// What it says.
    pub(super) loaded: Loaded,
}

/// Why a node was not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is a configuration already.
    #[error("{} exists already; --force replaces it (the data directory and its secret stay)", .path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The configuration that is there is of another cluster.
    #[error(
        "{} belongs to cluster {found:?} and the token to {expected:?}; name another file by --config and another directory by --data-dir, or replace it by --force", .path.display()
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Its cluster.
        found: String,
        /// The token's cluster.
        expected: String,
    },
    /// The secret of the configuration that is there is not ours to replace.
    #[error(
        "the peer secret comes from {place}, and the token has another one; put the token's secret there yourself, or let --force write a configuration with a file of its own"
    )]
    SecretElsewhere {
        /// Where it comes from.
        place: String,
    },
    /// A file cannot be written.
    #[error("{} cannot be written; check free space and permissions", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The working directory is gone, or a path is empty.
    #[error("{} is no path that can be used", .path.display())]
    Path {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No token was given.
    #[error(
        "no token was given: pass it as the argument, by standard input (`-`), or in BASIC_AGENT_JOIN_TOKEN; `basic-agent token` on a node of the cluster prints one"
    )]
    NoToken,
    /// The token cannot be read from standard input.
    #[error("the token cannot be read from standard input")]
    Input(#[source] io::Error),
    /// It is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no secret that a token could hold.
    #[error(
        "this node has no secret yet; start it once by `basic-agent run`, or set it up by `basic-agent init`"
    )]
    NoSecret,
    /// The node's id.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node's id, or the cluster's name.
    #[error(transparent)]
    Name(#[from] basic_membership::NameError),
    /// The node's keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The certificates for the attempt to reach the cluster.
    #[error(transparent)]
    Credentials(#[from] crate::peer_port::CredentialsError),
    /// The cluster answered, and will not have this node.
    #[error("the files are written, but the cluster does not let this node in: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl SetupError {
    /// What the process ends with.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::FileExists { .. }
            | Self::OtherCluster { .. }
            | Self::SecretElsewhere { .. }
            | Self::Path { .. }
            | Self::NoToken
            | Self::Token(_)
            | Self::Name(_) => 2,
            Self::Unwritable { .. }
            | Self::Input(_)
            | Self::NoSecret
            | Self::Identity(_)
            | Self::Keys(_)
            | Self::Credentials(_)
            | Self::Refused { .. } => 1,
        }
    }
}

/// The configuration file to write: as given, or the usual one in the working directory.
pub(super) fn file(given: Option<PathBuf>) -> Result<PathBuf, SetupError> {
    full(given.unwrap_or_else(|| FILE_DEFAULT.into()))
}

/// The configuration in a file that exists already, and nothing else.
pub(super) fn existing(file: &Path) -> Result<Loaded, ConfigErrors> {
    Config::load(&Sources {
        file: Some(file.to_owned()),
        environment: Environment::default(),
        flags: Vec::new(),
    })
}

impl NewNode {
    /// A node with these settings, and with what follows from them.
    pub(super) fn plan(file: PathBuf, given: Vec<FlagValue>) -> Result<Self, CliError> {
        let draft = Draft { given };
        let data_dir = draft.value("--data-dir").unwrap_or(DATA_DIR_DEFAULT);
        let data_dir = full(data_dir.into())?;
        let mut derived = Vec::new();
        let advertise: Option<SocketAddr> = draft
            .value("--advertise")
            .and_then(|text| text.parse().ok());
        if let Some(advertise) = advertise {
            derived.push(flag("--peer-listen", listen_for(advertise)));
            if let Some(app) = draft.app_beside(advertise) {
                derived.push(flag("--app-advertise", app));
            }
        }
        derived.push(flag(
            "--secret-file",
            data_dir.join(SECRET_FILE_NAME).display(),
        ));
        let full_data_dir = flag(SET, format_args!("node.data_dir={}", data_dir.display()));
        // The later wins: what was given before what follows from it, except for the path, which is made a full one.
        let flags = derived
            .into_iter()
            .chain(draft.given)
            .chain([full_data_dir]);
        let loaded = Config::load(&Sources {
            file: None,
            environment: Environment::default(),
            flags: flags.collect(),
        })?;
        Ok(Self { file, loaded })
    }

    /// Writes the file (mode 0600, its directory 0700), in the place of what was there. It holds the one or the other
    /// whole at any time.
    pub(super) fn write(&self) -> Result<(), SetupError> {
        self.replace().map_err(|source| SetupError::Unwritable {
            path: self.file.clone(),
            source,
        })
    }

    fn replace(&self) -> io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        replace(&self.file, self.loaded.to_file().as_bytes())
    }
}

/// The command that starts the node of a configuration file.
pub(super) fn run_command(file: &Path) -> String {
    format!("basic-agent run --config {}", quoted(file))
}

/// A path as one word for a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@');
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

struct Draft {
    given: Vec<FlagValue>,
}

impl Draft {
    fn value(&self, name: &str) -> Option<&str> {
        let given = self.given.iter().rev().find(|given| given.flag == name);
        given.map(|given| given.value.as_str())
    }

    /// Where others reach an app that is known by a loopback address only: on the host that the agent advertises.
    fn app_beside(&self, advertise: SocketAddr) -> Option<SocketAddr> {
        if advertise.ip().is_loopback() {
            return None;
        }
        let url = self.value("--app-url").unwrap_or("http://127.0.0.1:8080");
        let url = HttpUrl::parse(url).ok()?;
        let app = url.host_port();
        app.is_loopback()
            .then(|| SocketAddr::new(advertise.ip(), app.port()))
    }
}

/// Where to listen so that others reach `advertise`.
fn listen_for(advertise: SocketAddr) -> SocketAddr {
    let every: IpAddr = match advertise {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    if advertise.ip().is_loopback() {
        advertise
    } else {
        SocketAddr::new(every, advertise.port())
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> FlagValue {
    FlagValue {
        flag: name.to_owned(),
        value: value.to_string(),
    }
}

fn full(path: PathBuf) -> Result<PathBuf, SetupError> {
    absolute(&path).map_err(|source| SetupError::Path { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(flags: &[(&str, &str)]) -> Result<NewNode, CliError> {
        let flags = flags.iter().map(|(name, value)| flag(name, value));
        NewNode::plan("/x/basic-agent.toml".into(), flags.collect())
    }

    #[test]
    fn what_follows_from_an_advertised_address_is_filled_in() {
        let node = plan(&[("--advertise", "10.0.0.1:9400"), ("--data-dir", "/x/data")]);
        let config = node.map_err(|e| e.report()).unwrap().loaded.config;
        assert_eq!(config.peer.listen.to_string(), "0.0.0.0:9400");
        assert_eq!(config.app.advertised().to_string(), "10.0.0.1:8080");
        assert_eq!(config.peer.secret_file, Some("/x/data/peer.secret".into()));
        let node = plan(&[("--advertise", "127.0.0.1:9410")])
            .map_err(|e| e.report())
            .unwrap();
        assert_eq!(node.loaded.config.peer.listen.to_string(), "127.0.0.1:9410");
        assert!(node.loaded.config.node.data_dir.is_absolute());
    }

    #[test]
    fn what_was_given_goes_before_what_follows() {
        let flags = [
            ("--advertise", "10.0.0.1:9400"),
            ("--peer-listen", "10.0.0.1:9400"),
            ("--app-advertise", "10.0.0.9:80"),
            ("--secret-file", "/etc/s"),
        ];
        let config = plan(&flags).map_err(|e| e.report()).unwrap().loaded.config;
        assert_eq!(config.peer.listen.to_string(), "10.0.0.1:9400");
        assert_eq!(config.app.advertised().to_string(), "10.0.0.9:80");
        assert_eq!(config.peer.secret_file, Some("/etc/s".into()));
    }

    #[test]
    fn settings_that_run_would_refuse_are_refused_here() {
        for flags in [
            ("--advertise", "0.0.0.0:9400"),
            ("--advertise", "hello"),
            ("--id", "a b"),
        ] {
            let error = plan(&[flags]).err().expect("it is refused");
            assert_eq!(error.code(), 2, "{flags:?}: {:?}", error.report());
        }
    }

    #[test]
    fn the_file_that_is_written_says_what_was_planned() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/agent.toml");
        let flags = [
            ("--id", "n7"),
            ("--cluster", "c"),
            ("--label", "zone=a,rack=\"7\""),
        ];
        let flags = flags.map(|(name, value)| flag(name, value)).to_vec();
        let node = NewNode::plan(file.clone(), flags)
            .map_err(|e| e.report())
            .unwrap();
        node.write().unwrap();
        let read = existing(&file).unwrap();
        assert_eq!(read.config, node.loaded.config);
    }
}
