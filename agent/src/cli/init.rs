//! `init`: sets up the first node of a cluster, and prints the token by which others join.

use std::time::SystemTime;

use basic_membership::Identity;
use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::Output;
use super::settings::SettingsArgs;
use super::setup::{self, NewNode, SetupError};
use super::token::token_of;
use crate::config::{FlagValue, PeerSecret, SecretError, write_secret};

/// Flags of `init` and `join` that `run` does not have.
#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// The server beside this agent, the same as --app-url.
    #[arg(long, value_name = "URL")]
    app: Option<String>,
    /// Replace a configuration file that exists. Data, identity and secret are never replaced.
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Flags of `init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    setup: SetupArgs,
}

impl SetupArgs {
    /// The settings that were given.
    pub(super) fn flags(&self) -> Vec<FlagValue> {
        let app = self.app.iter().map(|url| FlagValue {
            flag: "--app-url".to_owned(),
            value: url.clone(),
        });
        self.settings.flags().iter().cloned().chain(app).collect()
    }
}

impl Init {
    pub(super) fn execute(self, output: &mut Output) -> Result<(), CliError> {
        let file = setup::file(self.setup.settings.file())?;
        if file.exists() && !self.setup.force {
            return Err(SetupError::FileExists { path: file }.into());
        }
        let node = NewNode::plan(file, self.setup.flags())?;
        let config = &node.loaded.config;
        let configured = config.node.id.as_ref().map(|id| id.as_str().parse());
        let configured = configured.transpose().map_err(SetupError::Name)?;
        let identity =
            Identity::load_or_create(&config.node.data_dir, configured, SystemTime::now())
                .map_err(SetupError::Identity)?;
        let secret = read_or_make_secret(&node)?;
        node.write()?;

        let token = token_of(config, secret)?.expose();
        let run = setup::run_command(&node.file);
        let join = format!("basic-agent join {token} --advertise ITS_ADDRESS:9400");
        if self.setup.json {
            let answer = json!({
                "config": node.file,
                "node": identity.id.as_str(),
                "cluster": config.node.cluster.as_str(),
                "data_dir": config.node.data_dir,
                "token": token,
                "next": [run, join],
            });
            return output.document(answer.to_string().as_bytes());
        }
        output.remark(format_args!(
            "node {} of cluster {} is set up: {}",
            identity.id,
            config.node.cluster,
            node.file.display()
        ));
        output.remark(format_args!(
            "start it here:\n  {run}\nlet another node join, there (the token is a secret):\n  {join}"
        ));
        output.text(&format!("{token}\n"))
    }
}

/// The secret in the file that the configuration names, which is made if it is not there.
fn read_or_make_secret(node: &NewNode) -> Result<PeerSecret, CliError> {
    match node.loaded.peer_secret.read() {
        Err(SecretError::FileMissing { path }) => {
            let secret = PeerSecret::random()?;
            write_secret(&path, &secret)?;
            Ok(secret)
        }
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(SetupError::NoSecret.into()),
        Err(error) => Err(error.into()),
    }
}
