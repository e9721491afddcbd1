//! What can be wrong with a configuration, and how it is told.

use std::fmt;

use super::check::Conflict;
use super::collection::CollectionFault;
use super::file::FileError;
use super::origin::Origin;
use super::printable::Printable;
use super::suggestion::Hint;
use super::value::ValueError;

/// How many problems are shown: a file that is something else altogether has thousands.
const SHOWN_MAX: usize = 50;

/// All that is wrong with a configuration. Nothing has been opened, bound or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// The key or table as it was written, such as `[peer] listen`, if it is about one.
    pub subject: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with one entry of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error(transparent)]
    File(FileError),
    /// The file is not TOML.
    #[error("not valid TOML: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// No such table.
    #[error("unknown table{hint}")]
    UnknownTable {
        /// What might have been meant.
        hint: Hint,
    },
    /// A key before the first table.
    #[error("a key outside of any table{hint}")]
    KeyOutsideTable {
        /// What might have been meant.
        hint: Hint,
    },
    /// Something other than a table where a table belongs.
    #[error("expected a table, found {found}")]
    NotATable {
        /// What was found, with its article.
        found: &'static str,
    },
    /// No such key in that table.
    #[error("unknown key{hint}")]
    UnknownKey {
        /// What might have been meant.
        hint: Hint,
    },
    /// A variable that begins like ours and is none.
    #[error("unknown variable{hint}")]
    UnknownVariable {
        /// What might have been meant.
        hint: Hint,
    },
    /// A variable that is not UTF-8.
    #[error("the value is not UTF-8")]
    NotUnicode,
    /// A `--set` without a key and a value.
    #[error("{} is not of the form table.key=value", Printable::quoted(.argument))]
    MalformedSet {
        /// What was given.
        argument: String,
    },
    /// A value that its key cannot have.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A collection that cannot be configured like that.
    #[error(transparent)]
    Collection(#[from] CollectionFault),
    /// A value that another value does not go with.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl ConfigErrors {
    /// All problems: those of the file by line, then those of the environment and of the flags by name.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// None if there are no problems.
    pub(super) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        // Stable, so that several problems of one place keep the order in which they were found.
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        (!problems.is_empty()).then_some(Self { problems })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(
                f,
                "the configuration has a problem, so nothing was started:"
            )?,
            count => write!(
                f,
                "the configuration has {count} problems, so nothing was started:"
            )?,
        }
        for problem in self.problems.iter().take(SHOWN_MAX) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => {}
            Origin::File { path, line, column } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
            }
            origin @ (Origin::Environment { .. } | Origin::Flag { .. }) => write!(f, "{origin}: ")?,
        }
        if let Some(subject) = &self.subject {
            write!(f, "{}: ", Printable::plain(subject))?;
        }
        write!(f, "{}", self.fault)
    }
}
