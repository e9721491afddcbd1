//! `config check|show|default`: the agent's own configuration.

use clap::{Args, Subcommand};

use crate::config::{Config, Environment, Loaded, default_file};

use super::CliError;
use super::output::Output;
use super::settings::SettingsArgs;

/// Flags of `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check file, environment and flags as `run` would, and start nothing.
    Check {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Print the settings in force.
    Show {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Tell where each value came from.
        #[arg(long)]
        origin: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every key at its default, explained.
    Default,
}

impl ConfigCommand {
    pub(super) fn execute(
        self,
        environment: Environment,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.action {
            Action::Check { settings } => {
                let loaded = Config::load(&settings.sources(environment))?;
                // Read, so that a secret that cannot be used is told now, and not made: nothing is started.
                let secret_exists = loaded.peer_secret.read()?.is_some();
                output.text(&summary(&loaded, secret_exists))
            }
            Action::Show {
                settings,
                origin,
                json,
            } => {
                let loaded = Config::load(&settings.sources(environment))?;
                if json {
                    output.text(&format!("{:#}\n", loaded.to_json(origin)))
                } else {
                    output.text(&loaded.to_toml(origin))
                }
            }
            Action::Default => output.text(&default_file()),
        }
    }
}

fn summary(loaded: &Loaded, secret_exists: bool) -> String {
    let Config {
        node,
        peer,
        app,
        api,
        proxy,
        ..
    } = &loaded.config;
    let file = match &loaded.file {
        Some(path) => path.display().to_string(),
        None => "no file, so defaults, environment and flags".to_owned(),
    };
    let id = node
        .id
        .as_ref()
        .map_or("a name kept in the data directory", |id| id.as_str());
    let seeds = match peer.seeds.as_slice() {
        [] => "no seeds, so this node begins a cluster or waits to be found".to_owned(),
        seeds => {
            let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
            format!("seeds {}", seeds.join(", "))
        }
    };
    let made = if secret_exists {
        ""
    } else {
        ", made at the first start"
    };
    format!(
        "ok: {file}\n\
         node   {id}, in cluster {}, data in {}\n\
         peer   {}; {seeds}\n\
         secret {}{made}\n\
         app    {}, health {}, weight {}\n\
         api    http://{}\n\
         proxy  http://{}\n",
        node.cluster,
        node.data_dir.display(),
        peer.advertised(peer.listen),
        loaded.peer_secret,
        app.url,
        app.health.as_str(),
        app.weight,
        api.listen,
        proxy.listen,
    )
}
