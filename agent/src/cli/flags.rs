//! Flags that several commands share: where the agent is, and how its answer is printed.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Environment, HttpUrl, Sources};

use super::CliError;

/// How a command finds the agent.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// The agent's API, such as http://127.0.0.1:9401 [env: BASIC_AGENT_API; default: as configured]
    #[arg(long, value_name = "URL")]
    pub(super) api: Option<String>,
    /// The agent's configuration file, which says where its API is [env: BASIC_AGENT_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
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
            let url = HttpUrl::parse(&value.to_string_lossy());
            return url.map_err(|fault| CliError::ApiUrl {
                value: value.to_owned(),
                fault,
            });
        }
        let environment = environment.clone();
        let sources = Sources {
            file: self.config.clone(),
            environment,
            flags: Vec::new(),
        };
        Ok(HttpUrl::of_listener(sources.api_listen()?))
    }
}
