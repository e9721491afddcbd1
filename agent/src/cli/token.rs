//! `token`: prints the token by which further nodes join the cluster of this one.

use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::Output;
use super::settings::SettingsArgs;
use super::setup::SetupError;
use crate::config::{Config, Environment, HostPort, PeerSecret};
use crate::keys::{JoinToken, KeyFile, TokenError};

/// Flags of `token`.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Token {
    /// The token has the secret in use, which after a rotation is another one than the configured.
    pub(super) fn execute(
        self,
        environment: Environment,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let loaded = Config::load(&self.settings.sources(environment))?;
        let config = &loaded.config;
        let ring = KeyFile::in_directory(&config.node.data_dir).read();
        let secret = match ring.map_err(SetupError::Keys)? {
            Some(ring) => ring.in_use().secret.clone(),
            None => loaded.peer_secret.read()?.ok_or(SetupError::NoSecret)?,
        };
        let token = token_of(config, secret)?;
        if token.addresses().iter().all(HostPort::is_loopback) {
            output.remark(
                "this token is good on this host only: the node advertises a loopback address",
            );
        }
        if self.json {
            let addresses: Vec<String> =
                token.addresses().iter().map(ToString::to_string).collect();
            let answer = json!({
                "token": token.expose(),
                "cluster": token.cluster().as_str(),
                "addresses": addresses,
            });
            return output.document(answer.to_string().as_bytes());
        }
        output.text(&format!("{}\n", token.expose()))
    }
}

/// The token of a node's cluster: the node itself and its seeds.
pub(super) fn token_of(config: &Config, secret: PeerSecret) -> Result<JoinToken, SetupError> {
    let own = config.peer.advertised(config.peer.listen).to_string();
    let own: HostPort = own.parse().map_err(|_| TokenError::Content {
        what: "no address, or one too long",
    })?;
    let mut addresses = vec![own];
    for seed in &config.peer.seeds {
        if !addresses.contains(seed) {
            addresses.push(seed.clone());
        }
    }
    let cluster = config.node.cluster.as_str().parse()?;
    Ok(JoinToken::new(cluster, addresses, secret)?)
}
