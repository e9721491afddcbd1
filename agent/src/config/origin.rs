//! Where a value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml_edit::Value;

use super::schema::{AnyKey, KeyId};

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name with the dashes.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, .. } => write!(f, "file {}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// The value in force of every key that has one, with its origin, in the order of the schema.
#[derive(Debug, Clone)]
pub struct Origins {
    pub(super) keys: Vec<Effective>,
    /// Those of each collection that is configured, by its name.
    pub(super) collections: BTreeMap<String, Vec<Effective>>,
}

/// One key, the value in force, and where it came from.
#[derive(Clone)]
pub(super) struct Effective {
    pub(super) key: &'static dyn AnyKey,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Origins {
    /// Where the value of a key came from; none if the key is unset or there is no such key.
    pub fn of(&self, table: &str, name: &str) -> Option<&Origin> {
        let found = self.keys.iter().find(|effective| {
            let id = effective.key.id();
            id.table == table && id.name == name
        });
        found.map(|effective| &effective.origin)
    }

    /// Where the value of a key of a collection came from; none if the key is unset or there is no such key, or if the
    /// collection is not configured.
    pub fn of_collection(&self, collection: &str, name: &str) -> Option<&Origin> {
        let mut effective = self.collections.get(collection)?.iter();
        let found = effective.find(|effective| effective.key.id().name == name);
        found.map(|effective| &effective.origin)
    }

    pub(super) fn of_key(&self, id: KeyId) -> Option<&Origin> {
        self.of(id.table, id.name)
    }
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key.id(), self.value, self.origin)
    }
}
