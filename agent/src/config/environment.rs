//! The environment: the variables that begin with `BASIC_AGENT_`, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::collection::CollectionFault;
use super::layer::Layer;
use super::origin::Origin;
use super::problem::Fault;
use super::schema;
use super::suggestion::{self, Hint};
use super::value::Raw;

const PREFIX: &str = "BASIC_AGENT_";

/// The secret that all agents of the cluster share.
pub(super) const PEER_SECRET: &str = "BASIC_AGENT_PEER_SECRET";
/// The configuration file, where no `--config` names one.
const CONFIG: &str = "BASIC_AGENT_CONFIG";
/// The agent that client commands talk to, where no `--api` names one.
const API: &str = "BASIC_AGENT_API";
/// The token that `join` takes where none is given as an argument.
pub(crate) const JOIN_TOKEN: &str = "BASIC_AGENT_JOIN_TOKEN";

/// The variables that concern the agent, as they were when the program started.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The file named by `BASIC_AGENT_CONFIG`.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.variables.get(CONFIG).map(PathBuf::from)
    }

    /// The URL in `BASIC_AGENT_API`.
    pub fn api(&self) -> Option<&OsStr> {
        self.variables.get(API).map(OsString::as_os_str)
    }

    /// The token in `BASIC_AGENT_JOIN_TOKEN`.
    pub(crate) fn join_token(&self) -> Option<&OsStr> {
        self.variables.get(JOIN_TOKEN).map(OsString::as_os_str)
    }

    /// The secret in `BASIC_AGENT_PEER_SECRET`.
    pub(super) fn peer_secret(&self) -> Option<&OsStr> {
        self.variables.get(PEER_SECRET).map(OsString::as_os_str)
    }

    /// The variables that set keys.
    pub(super) fn read(&self) -> Layer {
        let mut layer = Layer::default();
        for (variable, value) in &self.variables {
            if [PEER_SECRET, CONFIG, API, JOIN_TOKEN].contains(&variable.as_str())
                || is_service_link(variable)
            {
                continue;
            }
            let origin = Origin::Environment {
                variable: variable.clone(),
            };
            if is_of_collections(variable) {
                layer.refuse(origin, None, CollectionFault::FileOnly.into());
                continue;
            }
            let key = schema::KEYS
                .iter()
                .map(|key| key.id())
                .find(|id| id.variable() == *variable);
            match (key, value.to_str()) {
                (Some(id), Some(text)) => {
                    layer.assign(id.table, id.name, Raw::Text(text.to_owned()), origin);
                }
                (Some(id), None) => layer.refuse(origin, Some(id.to_string()), Fault::NotUnicode),
                (None, _) => {
                    let hint = variable_hint(variable);
                    layer.refuse(origin, None, Fault::UnknownVariable { hint });
                }
            }
        }
        layer
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    /// Keeps the variables that begin with `BASIC_AGENT_`.
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            // A name that is not UTF-8 cannot be one of ours; it is shown as such if it begins like one.
            let name = name.to_string_lossy().into_owned();
            name.starts_with(PREFIX).then_some((name, value))
        });
        Self {
            variables: ours.collect(),
        }
    }
}

impl fmt::Debug for Environment {
    /// Names only: one of the values is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Whether Kubernetes made this variable for a Service called `basic-agent`: `BASIC_AGENT_SERVICE_HOST`,
/// `BASIC_AGENT_PORT_9401_TCP_ADDR` and so on. Nobody wrote it, so nobody can be asked to take it away. No table is
/// called `service` or `port`.
fn is_service_link(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return false;
    };
    let is_port = |rest: &str| {
        rest.is_empty()
            || rest
                .strip_prefix('_')
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest.strip_prefix("PORT").is_some_and(is_port)
}

/// Whether someone means to set a key of a collection. Of which one cannot be told: names hold `.`, `-` and `_`, and the
/// name of a variable has only `_` for them all.
fn is_of_collections(variable: &str) -> bool {
    let rest = variable
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix("COLLECTIONS"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

fn variable_hint(variable: &str) -> Hint {
    let keys: Vec<_> = schema::KEYS.iter().map(|key| key.id().variable()).collect();
    let names = keys
        .iter()
        .map(String::as_str)
        .chain([PEER_SECRET, CONFIG, API, JOIN_TOKEN]);
    // The prefix is common to all, so only the rest says how near they are.
    let rests = names.map(|name| name.trim_start_matches(PREFIX));
    match suggestion::nearest(variable.trim_start_matches(PREFIX), rests) {
        Some(rest) => Hint::Nearest(format!("{PREFIX}{rest}")),
        None => Hint::OneOf {
            whose: "a variable is named".to_owned(),
            names: vec![format!(
                "{PREFIX}TABLE_KEY, and `basic-agent config default` lists the keys"
            )],
        },
    }
}
