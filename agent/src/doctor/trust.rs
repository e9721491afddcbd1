//! How this node would prove itself to others: the keys that it has installed, its certificate.
//!
//! Read as the agent reads them at its start, and written nowhere: what `run` would take up for
//! good is taken up here in memory only.

use std::error::Error;

use super::CONNECT_MAX;
use super::report::Check;
use crate::config::{Config, PeerSecret};
use crate::keys::{Adoption, KeyFile, KeyFileError, KeyRing};
use crate::peer_port::{Connector, Credentials, CredentialsError};

const NAME: &str = "keys";
/// Under which name the doctor speaks to other agents while this node has none.
const NAMELESS: &str = "doctor";

/// Why this node could prove nothing to nobody.
#[derive(Debug, thiserror::Error)]
enum TrustError {
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// A way to connect to other agents, where there is a secret, and what there is to say about the keys.
pub(super) fn examine(
    config: &Config,
    secret: Option<&PeerSecret>,
    id: Option<&str>,
) -> (Option<Connector>, Option<Check>) {
    let Some(secret) = secret else {
        return (None, None);
    };
    match connector(config, secret, id) {
        Ok((connector, ring, adoption)) => (Some(connector), Some(judge(&ring, adoption))),
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            let check = Check::failure(
                NAME,
                error.to_string(),
                "do what the message says; the agent does not start like this",
            );
            (None, Some(check.seen_if(cause)))
        }
    }
}

fn connector(
    config: &Config,
    secret: &PeerSecret,
    id: Option<&str>,
) -> Result<(Connector, KeyRing, Adoption), TrustError> {
    let kept = KeyFile::in_directory(&config.node.data_dir).read()?;
    let mut ring = kept.unwrap_or_else(|| KeyRing::new(secret.clone()));
    let adoption = ring.adopt(secret);
    let (cluster, node) = (config.node.cluster.as_str(), id.unwrap_or(NAMELESS));
    let credentials = match config.peer.certificate_files() {
        Some(files) => Credentials::from_files(&files, cluster, node)?,
        None => {
            let keys: Vec<_> = ring.installed().map(|key| key.peer_keys()).collect();
            Credentials::from_keys(&keys, cluster, node)?
        }
    };
    let connector = Connector::new(&credentials, CONNECT_MAX);
    Ok((connector, ring, adoption))
}

fn judge(ring: &KeyRing, adoption: Adoption) -> Check {
    let in_use = ring.in_use().id;
    let installed = ring.ids().len();
    let fact = format!("{in_use} is in use, {installed} installed");
    match adoption {
        Adoption::Retired(_) => Check::warning(
            NAME,
            format!("{fact}; the configured secret was retired in the cluster and is not used"),
            "put the new secret into the configuration, or take the old one away: `basic-agent keys list` on a running node shows what counts",
        ),
        Adoption::NoRoom => Check::warning(
            NAME,
            format!("{fact}; there is no room for the configured secret"),
            "retire keys that are no longer needed: `basic-agent keys retire ID`",
        ),
        Adoption::InUse | Adoption::Installed | Adoption::New => Check::ok(NAME, fact),
    }
}
