//! Flags that several commands share: where the agent is, and how its answer is printed.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Environment, HostPort, HttpUrl, Sources};

use super::CliError;
use super::setup::FILE_DEFAULT;

/// How a command finds the agent.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// The agent's API, such as http://127.0.0.1:9401 or 127.0.0.1:9401 [env: BASIC_AGENT_API; default: as configured]
    #[arg(long, value_name = "URL")]
    pub(super) api: Option<String>,
    /// The agent's configuration file, which says where its API is [env: BASIC_AGENT_CONFIG; default: basic-agent.toml,
    /// if it is there]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// The configuration file that was named, by flag or variable; else the one that `init` and `join` write in the working
/// directory, if it is there.
pub(super) fn file_or_default(
    named: Option<PathBuf>,
    environment: &Environment,
) -> Option<PathBuf> {
    let named = named.or_else(|| environment.config_file());
    named.or_else(|| {
        let usual = PathBuf::from(FILE_DEFAULT);
        usual.is_file().then_some(usual)
    })
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct FormatArgs {
    /// Print JSON as the agent gave it.
    #[arg(long)]
    pub(super) json: bool,
}

impl ClientArgs {
    /// The agent's API: `--api`, else `BASIC_AGENT_API`, else where the configuration says that it listens.
    pub(super) fn api(&self, environment: &Environment) -> Result<HttpUrl, CliError> {
        let given = self
            .api
            .as_ref()
            .map(|api| api.as_ref())
            .or_else(|| environment.api());
        if let Some(value) = given {
            // A value that is not UTF-8 is no URL; what stands in for its bytes is none either.
            let text = value.to_string_lossy();
            // `members` shows addresses without a scheme, and there is one only.
            let url = match text.parse::<HostPort>() {
                Ok(address) => HttpUrl::parse(&format!("http://{address}")),
                Err(_) => HttpUrl::parse(&text),
            };
            return url.map_err(|fault| CliError::ApiUrl {
                value: value.to_owned(),
                fault,
            });
        }
        let environment = environment.clone();
        let sources = Sources {
            file: file_or_default(self.config.clone(), &environment),
            environment,
            flags: Vec::new(),
        };
        Ok(HttpUrl::of_listener(sources.api_listen()?))
    }
}
