//! Why a command was not done, and with which exit code the process ends.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{ConfigErrors, Printable, SecretError, UrlFault};
use crate::telemetry::TelemetryError;

use super::client::ClientError;
use super::data::DocumentError;

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
    /// The answer cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

impl CliError {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The error and its causes for a person, one line each; none where there is nobody left to read it.
    pub fn report(&self) -> Option<String> {
        if self.is_broken_pipe() {
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
            Self::Secret(error) => match error {
                SecretError::TooShort { .. }
                | SecretError::TooLong { .. }
                | SecretError::NotUnicode { .. }
                | SecretError::FileMissing { .. }
                | SecretError::NotShared { .. }
                | SecretError::FileExposed { .. } => 2,
                SecretError::FileUnreadable { .. }
                | SecretError::FileUnwritable { .. }
                | SecretError::Random(_) => 1,
            },
            Self::Client(error) if error.is_unreachable() => 3,
            Self::Output(_) if self.is_broken_pipe() => 0,
            Self::Telemetry(_)
            | Self::Runtime(_)
            | Self::Agent(_)
            | Self::Client(_)
            | Self::StillThere { .. }
            | Self::Output(_) => 1,
        }
    }

    /// Whether the reader of the output, such as `head`, has what it wanted.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
