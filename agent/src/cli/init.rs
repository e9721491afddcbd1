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
use crate::keys::KeyFile;

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

/// The secret that the node will use. Where it has keys of a cluster already, these say which; else it is the one in the
/// file that the configuration names, which is made if it is not there.
fn read_or_make_secret(node: &NewNode) -> Result<PeerSecret, CliError> {
    let ring = KeyFile::in_directory(&node.loaded.config.node.data_dir).read();
    let ring = ring.map_err(SetupError::Keys)?;
    match node.loaded.peer_secret.read() {
        Err(SecretError::FileMissing { path }) => {
            let secret = match ring {
                Some(ring) => ring.in_use().secret.clone(),
                None => PeerSecret::random()?,
            };
            write_secret(&path, &secret)?;
            Ok(secret)
        }
        Ok(Some(secret)) => Ok(match ring {
            // As the start will do it: a secret that was rotated or retired is not used.
            Some(mut ring) => {
                ring.adopt(&secret);
                ring.in_use().secret.clone()
            }
            None => secret,
        }),
        Ok(None) => Err(SetupError::NoSecret.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SECRET_FILE_NAME;
    use crate::keys::ring::InstalledKey;

    fn secret_of(node: &NewNode) -> PeerSecret {
        let secret = read_or_make_secret(node);
        secret.map_err(|error| error.report()).unwrap()
    }

    #[test]
    fn a_node_with_keys_is_set_up_again_with_the_secret_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = FlagValue {
            flag: "--data-dir".to_owned(),
            value: directory.path().display().to_string(),
        };
        let node = NewNode::plan(directory.path().join("agent.toml"), vec![data_dir]);
        let node = node.map_err(|error| error.report()).unwrap();
        let file = directory.path().join(SECRET_FILE_NAME);
        let (first, newer) = (secret_of(&node), PeerSecret::random().unwrap());
        assert_eq!(secret_of(&node), first, "kept");

        let keys = KeyFile::in_directory(directory.path());
        let (mut ring, _) = keys.open(&first).unwrap();
        let retired = ring.in_use().id;
        ring.install(InstalledKey::new(newer.clone(), 5));
        ring.advance(|_| true);
        keys.write(&ring).unwrap();
        assert_eq!(secret_of(&node), newer, "rotated");
        ring.retire(retired, 9);
        keys.write(&ring).unwrap();
        assert_eq!(secret_of(&node), newer, "and the old one retired");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(secret_of(&node), newer, "none is made beside the keys");
        assert_eq!(node.loaded.peer_secret.read().unwrap(), Some(newer));
    }
}
