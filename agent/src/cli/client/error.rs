//! Why an agent did not do what it was asked, or could not be asked.

use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::config::{HttpUrl, Printable};

use super::sse::EventError;

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing could be connected to, so nothing was changed.
    #[error(
        "no agent answers at {url}: {}. Is it running? Start it with `basic-agent run`, or name its API by --api", plain_cause(.cause)
    )]
    Unreachable {
        /// Where an agent should be.
        url: HttpUrl,
        /// What the operating system says.
        cause: io::Error,
    },
    /// Something accepted the connection and said nothing. What was asked for may have been done all the same.
    #[error(
        "the agent at {url} did not answer within {}{}; it may be stopped or overloaded", humantime::format_duration(*.waited), doubt(*.changes)
    )]
    Silent {
        /// The agent.
        url: HttpUrl,
        /// How long was waited.
        waited: Duration,
        /// Whether something was to be changed.
        changes: bool,
    },
    /// Something refused, and not in the way of an agent.
    #[error(
        "what answers at {url} is no agent's API: it answered {status}. Name the API by --api; `basic-agent doctor` tells what has the port"
    )]
    NoAgent {
        /// Where an agent should be.
        url: HttpUrl,
        /// What came instead.
        status: StatusCode,
    },
    /// The connection ended before the answer did. What was asked for may have been done all the same.
    #[error(
        "the answer of {url} broke off, so it is not known whether the agent did what was asked, if it is an agent"
    )]
    Broken {
        /// The agent.
        url: HttpUrl,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The request cannot be written as HTTP; nothing was sent.
    #[error("the request cannot be sent")]
    Request(#[source] http::Error),
    /// More than any answer of ours.
    #[error("the answer is larger than {} MiB; ask for less, by --prefix or --limit", .max >> 20)]
    AnswerTooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// Not what the API answers.
    #[error(
        "the answer is not what an agent of this version says; is something else listening there?"
    )]
    Unintelligible(#[source] serde_json::Error),
    /// An answer without what is needed to go on.
    #[error("the answer does not have the field \"{field}\"; is the agent of another version?")]
    Incomplete {
        /// The field.
        field: &'static str,
    },
    /// The agent said no.
    #[error("{refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// Not a stream of events.
    #[error("the agent's stream of changes cannot be read")]
    Events(#[from] EventError),
}

/// A refusal, told as problem+json (RFC 9457) or by its status alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    problem: ProblemDetails,
}

/// The members of problem+json that are shown; each may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ProblemDetails {
    title: Option<String>,
    detail: Option<String>,
    next: Option<String>,
}

impl ClientError {
    /// Whether no agent is there, as far as can be told.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::NoAgent { .. } => true,
            Self::Request(_)
            | Self::Broken { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Unintelligible(_)
            | Self::Incomplete { .. }
            | Self::Refused { .. }
            | Self::Events(_) => false,
        }
    }

    /// Whether the command was wrong: the agent understood it, and it makes no sense.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::Refused { refusal } if refusal.status == StatusCode::BAD_REQUEST)
    }

    /// Whether asking again later, unchanged, may go better.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Refused { refusal } => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Request(_)
            | Self::NoAgent { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Unintelligible(_)
            | Self::Incomplete { .. }
            | Self::Events(_) => false,
        }
    }
}

impl Refusal {
    /// A refusal with the body that came with it, whatever that is.
    pub(super) fn new(status: StatusCode, body: &[u8]) -> Self {
        Self {
            status,
            problem: serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    /// Whether it says nothing of itself, as every refusal of an agent does.
    pub(super) fn is_silent(&self) -> bool {
        self.problem == ProblemDetails::default()
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What to do about it: the agent's own words, else what the status suggests.
    pub fn next_step(&self) -> Option<String> {
        if let Some(next) = &self.problem.next {
            return Some(Printable::plain(next).to_string());
        }
        let step = match self.status.as_u16() {
            401 | 403 => "ask an administrator of the cluster for a token that allows it",
            409 | 412 => "read the document again, and write what follows from it",
            410 => "watch again with --from snapshot, and forget what does not come with it",
            413 => "split the document into several",
            429 | 503 => "try again in a moment; `basic-agent status` says why",
            500..=599 => "`basic-agent status` and the agent's log say more",
            _ => return None,
        };
        Some(step.to_owned())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem.detail.as_ref().or(self.problem.title.as_ref()) {
            Some(text) => write!(f, "{}", Printable::plain(text)),
            None => write!(f, "the agent answered {}", self.status),
        }
    }
}

fn doubt(changes: bool) -> &'static str {
    if changes {
        ", so it is not known whether it did what was asked"
    } else {
        ""
    }
}

/// "connection refused" rather than "Connection refused (os error 111)"; errors that are not the system's own, such as
/// those of name resolution, say what they say.
fn plain_cause(cause: &io::Error) -> String {
    let is_plain = cause.raw_os_error().is_some() || cause.get_ref().is_none();
    if is_plain {
        cause.kind().to_string()
    } else {
        cause.to_string()
    }
}
