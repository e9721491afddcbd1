//! Configuration: one file, the environment and the flags become one checked [`Config`].
//!
//! Owns the schema of every key (`schema/`), from which parsing, flags, `config show` and `config default` follow, and
//! the one place where [secrets](PeerSecret) are resolved. In go the [`Sources`]: at most one TOML file, the variables
//! `BASIC_AGENT_*` and the flags, each overriding the one before. Out comes [`Loaded`]: typed settings that need no
//! second look, each with its [`Origin`].
//!
//! Everything that is wrong is found in one pass, before anything is opened or bound, and told together in
//! [`ConfigErrors`]: place, key, what is wrong and what would be right. Values that a later source overrides are held
//! to the same rules, because a wrong line is a wrong line even while it has no effect.

mod address;
mod check;
mod collection;
mod environment;
mod file;
mod flag;
mod hook;
mod label;
mod layer;
mod load;
mod log_filter;
mod name;
mod origin;
mod printable;
mod problem;
mod render;
mod schema;
mod secrets;
mod settings;
mod suggestion;
mod value;

#[cfg(test)]
mod tests;

pub use address::{HealthPath, HostPort, HttpUrl, UrlFault};
pub use check::Conflict;
pub use collection::CollectionFault;
pub use environment::Environment;
pub use file::FileError;
pub use flag::FlagValue;
pub(crate) use flag::SET;
pub use hook::{CommandLine, EventKinds, HooksOn, WebhookUrl};
pub(crate) use label::labels;
pub use load::{Loaded, Sources};
pub use log_filter::LogFilter;
pub use name::{ClusterName, NodeName};
pub use origin::{Origin, Origins};
pub(crate) use printable::Printable;
pub use problem::{ConfigErrors, Fault, Problem};
pub use render::default_file;
pub(crate) use schema::{FlagShape, Initial, KEYS};
pub use secrets::{PeerSecret, PeerSecretSource, SecretError};
pub(crate) use secrets::{SECRET_FILE_NAME, write_secret};
pub use settings::{
    ApiConfig, AppConfig, CollectionSettings, Config, EventsConfig, GossipConfig, LogConfig,
    LogFormat, NodeConfig, PeerConfig, ProxyConfig, ReplicationConfig, Strategy, SyncConfig,
};
pub use suggestion::Hint;
pub(crate) use suggestion::nearest;
pub use value::ValueError;
