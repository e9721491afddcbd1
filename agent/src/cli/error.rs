//! Why a command was not done, and with which exit code the process ends.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{ConfigErrors, Printable, SecretError, UrlFault};
use crate::telemetry::TelemetryError;

use super::backup::ArchiveError;
use super::client::ClientError;
use super::data::DocumentError;
use super::setup::SetupError;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There is no secret to start with.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The operating system gives no threads or no event queue.
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// The agent ended with an error.
    #[error(transparent)]
    Agent(Box<dyn Error + Send + Sync>),
    /// The address of the agent's API is not one.
    #[error("the agent's address {} {fault}", Printable::quoted(&.value.to_string_lossy()))]
    ApiUrl {
        /// What was given by `--api` or `BASIC_AGENT_API`.
        value: OsString,
        /// What is wrong with it.
        fault: UrlFault,
    },
    /// The agent did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A backup was not taken, cannot be used, or was not restored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The document to write cannot be used; nothing was sent.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The agent did not stop in time.
    #[error(
        "{node} accepted to leave and was still there after {}; `basic-agent status` says what it waits for", humantime::format_duration(*.waited)
    )]
    StillThere {
        /// The node.
        node: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A decision is stored, but what it is for has not come about in time.
    #[error(
        "the decision about {node} is stored, and after {} this was still awaited: {awaited}", humantime::format_duration(*.waited)
    )]
    StillAwaited {
        /// The node.
        node: String,
        /// What was waited for.
        awaited: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A running node would be removed, and nobody has confirmed it.
    #[error(
        "{node} is {state}: removing it stops its agent; repeat with --yes to do so. Nothing was changed"
    )]
    Unconfirmed {
        /// The node.
        node: String,
        /// Its state.
        state: String,
    },
    /// An agent was asked to remove its own node.
    #[error(
        "{node} is the node of the agent that was asked: take it out by `basic-agent leave`, or ask another agent (--api) to remove it"
    )]
    RemovesItself {
        /// The node.
        node: String,
    },
    /// The node was not set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A rotation goes on.
    #[error(
        "key {id} is made and recorded, and after {} not yet in use on {missing}; the rotation goes on by itself, and `basic-agent keys list` says how far it is", humantime::format_duration(*.waited)
    )]
    RotationUnderWay {
        /// The new key.
        id: String,
        /// The members that do not use it.
        missing: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It was done, and what it found needs attention. All about it has been printed.
    #[error("something needs attention")]
    Attention,
    /// The answer cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

impl CliError {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The error and its causes for a person, one line each; none where there is nobody left to read it, or nothing to
    /// add to what was printed.
    pub fn report(&self) -> Option<String> {
        if self.is_broken_pipe() || matches!(self, Self::Attention) {
            return None;
        }
        let mut report = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(report, "\n  because: {error}");
            cause = error.source();
        }
        if let Self::Client(ClientError::Refused { refusal, .. }) = self
            && let Some(next) = refusal.next_step()
        {
            let _ = write!(report, "\n  next: {next}");
        }
        Some(report)
    }

    /// The same as a number.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ApiUrl { .. } | Self::Document(_) => 2,
            Self::Unconfirmed { .. } | Self::RemovesItself { .. } => 2,
            Self::Secret(error) => match error {
                SecretError::TooShort { .. }
                | SecretError::TooLong { .. }
                | SecretError::NotUnicode { .. }
                | SecretError::FileMissing { .. }
                | SecretError::NotShared { .. }
                | SecretError::FileLost { .. }
                | SecretError::FileExposed { .. } => 2,
                SecretError::FileUnreadable { .. }
                | SecretError::FileUnwritable { .. }
                | SecretError::Random(_) => 1,
            },
            Self::Setup(error) => error.code(),
            Self::Archive(error) => error.code(),
            Self::Client(error) if error.is_unreachable() => 3,
            Self::Client(error) if error.is_wrong_usage() => 2,
            Self::Output(_) if self.is_broken_pipe() => 0,
            Self::Telemetry(_)
            | Self::Runtime(_)
            | Self::Agent(_)
            | Self::Client(_)
            | Self::StillThere { .. }
            | Self::RotationUnderWay { .. }
            | Self::Attention
            | Self::StillAwaited { .. }
            | Self::Output(_) => 1,
        }
    }

    /// Whether the reader of the output, such as `head`, has what it wanted.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
