//! `join`: sets up a further node of a cluster by a token, and tries whether the cluster can be reached.
//!
//! On a node that is set up already, as after its removal, the configuration stays; the secret in the data directory
//! becomes that of the token, and the node counts as joined anew.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use basic_membership::Identity;
use clap::Args;
use serde_json::json;
use tokio::time::timeout;

use super::CliError;
use super::block_on;
use super::init::SetupArgs;
use super::output::Output;
use super::setup::{self, NewNode, SetupError};
use crate::config::{
    Environment, FlagValue, HostPort, Loaded, PeerSecret, SecretError, write_secret,
};
use crate::keys::JoinToken;
use crate::peer_port::{ConnectError, Connector, Credentials, PeerKeys, Protocol};

/// Most bytes that are read from standard input.
const INPUT_MAX: u64 = 64 << 10;
/// Time for each address of the token.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// Flags of `join`.
#[derive(Debug, Args)]
pub(super) struct Join {
    /// The token, or `-` to read it from standard input [env: BASIC_AGENT_JOIN_TOKEN]
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    setup: SetupArgs,
}

/// What was found at one address of the token.
struct Attempt {
    address: HostPort,
    outcome: Outcome,
}

/// The node that joins.
struct Own<'a> {
    id: &'a str,
    advertised: SocketAddr,
}

enum Outcome {
    /// A node of the cluster, with the same secret.
    Reached { node: String },
    /// It is there, and a person has to change something.
    Refused { reason: String },
    /// It may be there later.
    Away { reason: String },
}

impl Join {
    pub(super) fn execute(
        self,
        environment: &Environment,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let token = self.token(environment, output)?;
        let file = setup::file(self.setup.settings.file())?;
        let flags = self.setup.flags();
        let node = if file.exists() && !self.setup.force {
            kept(file, &flags, &token)?
        } else {
            let node = NewNode::plan(file, with_seeds(flags, &token))?;
            node.write()?;
            node
        };
        keep_secret(&node.loaded, token.secret())?;
        let config = &node.loaded.config;
        let configured = config.node.id.as_ref().map(|id| id.as_str().parse());
        let configured = configured.transpose().map_err(SetupError::Name)?;
        let identity = Identity::rejoin(&config.node.data_dir, configured, SystemTime::now())
            .map_err(SetupError::Identity)?;

        let keys = [PeerKeys::derive(token.secret().expose().as_bytes())];
        let cluster = config.node.cluster.as_str();
        let credentials = match config.peer.certificate_files() {
            Some(files) => Credentials::from_files(&files, cluster, identity.id.as_str()),
            None => Credentials::from_keys(&keys, cluster, identity.id.as_str()),
        };
        let connector = Connector::new(&credentials.map_err(SetupError::Credentials)?, ATTEMPT_MAX);
        let mut attempts = Vec::new();
        block_on(async {
            let own = Own {
                id: identity.id.as_str(),
                advertised: config.peer.advertised(config.peer.listen),
            };
            for address in token.addresses() {
                let attempt = Attempt::of(&connector, address, &own).await;
                let is_enough = !matches!(attempt.outcome, Outcome::Away { .. });
                attempts.push(attempt);
                if is_enough {
                    break;
                }
            }
            Ok(())
        })?;
        self.report(&node, identity.id.as_str(), &attempts, output)
    }

    fn token(
        &self,
        environment: &Environment,
        output: &mut Output,
    ) -> Result<JoinToken, SetupError> {
        match self.token.as_deref() {
            Some("-") => {
                let mut text = String::new();
                let mut input = io::stdin().take(INPUT_MAX);
                input.read_to_string(&mut text).map_err(SetupError::Input)?;
                Ok(text.parse()?)
            }
            Some(text) => {
                let token = text.parse()?;
                output.remark("the token is a secret, and your shell may keep this command in its history; `basic-agent join -` reads it from standard input");
                Ok(token)
            }
            None => {
                let text = environment.join_token().ok_or(SetupError::NoToken)?;
                // What stands in for bytes that are not UTF-8 is no part of a token either.
                Ok(text.to_string_lossy().parse()?)
            }
        }
    }

    fn report(
        &self,
        node: &NewNode,
        id: &str,
        attempts: &[Attempt],
        output: &mut Output,
    ) -> Result<(), CliError> {
        let run = setup::run_command(&node.file);
        if self.setup.json {
            let attempts: Vec<_> = attempts.iter().map(Attempt::to_json).collect();
            let answer = json!({
                "config": node.file,
                "node": id,
                "cluster": node.loaded.config.node.cluster.as_str(),
                "attempts": attempts,
                "next": [run],
            });
            output.document(answer.to_string().as_bytes())?;
        } else {
            output.text(&format!(
                "node {id} of cluster {} is set up: {}\n",
                node.loaded.config.node.cluster,
                node.file.display()
            ))?;
            for Attempt { address, outcome } in attempts {
                output.text(&match outcome {
                    Outcome::Reached { node } => {
                        format!("{address}: reached {node}, which has the same secret\n")
                    }
                    Outcome::Refused { reason } | Outcome::Away { reason } => {
                        format!("{address}: {reason}\n")
                    }
                })?;
            }
        }
        let refused = attempts.iter().find_map(|attempt| match &attempt.outcome {
            Outcome::Refused { reason } => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = refused {
            return Err(SetupError::Refused { reason }.into());
        }
        if self.setup.json {
            return Ok(());
        }
        let reached = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Reached { .. });
        if !attempts.iter().any(reached) {
            output.text("nobody was reached; the node goes on trying once it runs\n")?;
        }
        output.text(&format!("start it:\n  {run}\n"))
    }
}

impl Attempt {
    async fn of(connector: &Connector, address: &HostPort, own: &Own<'_>) -> Self {
        let resolved = timeout(
            ATTEMPT_MAX,
            tokio::net::lookup_host((address.host(), address.port())),
        );
        let found = match resolved.await {
            Ok(Ok(mut found)) => found.next(),
            Ok(Err(_)) | Err(_) => None,
        };
        let outcome = match found {
            None => Outcome::Away {
                reason: "the name cannot be resolved; check it, and the name service of this host"
                    .to_owned(),
            },
            Some(found) => {
                let outcome = Outcome::of(connector.connect(found, Protocol::Gossip).await);
                outcome.unless_advertised(found, own)
            }
        };
        Self {
            address: address.clone(),
            outcome,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let address = self.address.to_string();
        match &self.outcome {
            Outcome::Reached { node } => {
                json!({ "address": address, "result": "reached", "node": node })
            }
            Outcome::Refused { reason } => {
                json!({ "address": address, "result": "refused", "reason": reason })
            }
            Outcome::Away { reason } => {
                json!({ "address": address, "result": "away", "reason": reason })
            }
        }
    }
}

impl Outcome {
    fn of<S>(connected: Result<(S, crate::peer_port::PeerName), ConnectError>) -> Self {
        match connected {
            Ok((_, name)) => Self::Reached {
                node: name.into_string(),
            },
            Err(
                error @ (ConnectError::OtherSecret { .. }
                | ConnectError::OtherCluster { .. }
                | ConnectError::Expired { .. }),
            ) => Self::Refused {
                reason: error.to_string(),
            },
            Err(error) => Self::Away {
                reason: error.to_string(),
            },
        }
    }
}

impl Outcome {
    /// Another node cannot be where this one tells all others that it is.
    fn unless_advertised(self, reached: SocketAddr, own: &Own<'_>) -> Self {
        match self {
            Self::Reached { node } if reached == own.advertised && node != own.id => {
                Self::Refused {
                    reason: format!(
                        "that is the address of {node}, and this node advertises it too; join again with --force, and an \
                         address of this node for --advertise"
                    ),
                }
            }
            outcome => outcome,
        }
    }
}

/// A node that is set up already and stays as it is.
fn kept(file: PathBuf, flags: &[FlagValue], token: &JoinToken) -> Result<NewNode, CliError> {
    if !flags.is_empty() {
        return Err(SetupError::FileExists { path: file }.into());
    }
    let loaded = setup::existing(&file)?;
    let found = loaded.config.node.cluster.as_str();
    if found != token.cluster().as_str() {
        let error = SetupError::OtherCluster {
            path: file,
            found: found.to_owned(),
            expected: token.cluster().to_string(),
        };
        return Err(error.into());
    }
    Ok(NewNode { file, loaded })
}

/// What the token says goes before what was given: its cluster cannot be another, its seeds are as good as any.
fn with_seeds(mut flags: Vec<FlagValue>, token: &JoinToken) -> Vec<FlagValue> {
    let mut push = |flag: &str, value: String| {
        flags.push(FlagValue {
            flag: flag.to_owned(),
            value,
        });
    };
    push("--cluster", token.cluster().to_string());
    let seeds: Vec<String> = token.addresses().iter().map(ToString::to_string).collect();
    push("--seed", seeds.join(","));
    flags
}

/// Writes the token's secret where the configuration looks for it, if that is in the data directory.
fn keep_secret(loaded: &Loaded, secret: &PeerSecret) -> Result<(), CliError> {
    match loaded.peer_secret.read() {
        Ok(Some(found)) if found == *secret => return Ok(()),
        Ok(_) | Err(SecretError::FileMissing { .. } | SecretError::NotShared { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let own = loaded.peer_secret.file();
    let own = own.filter(|path| path.parent() == Some(loaded.config.node.data_dir.as_path()));
    match own {
        Some(path) => Ok(write_secret(path, secret)?),
        None => Err(SetupError::SecretElsewhere {
            place: loaded.peer_secret.to_string(),
        }
        .into()),
    }
}
