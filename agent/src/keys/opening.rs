//! From the configuration and the data directory to keys that are ready for use.

use basic_membership::{Cluster, Keyring};
use tracing::{info, warn};

use crate::config::{Config, PeerSecret};
use crate::operations::AuditLog;
use crate::peer_port::{CertificateFiles, Credentials, CredentialsError, PeerKeys};
use crate::records::Records;

use super::file::{KeyFile, KeyFileError};
use super::ring::{Adoption, InstalledKey, KeyRing};
use super::rotation::{Keys, Parts};

/// Keys before anything runs that uses them.
pub struct OpenedKeys {
    /// The keys of gossip.
    pub keyring: Keyring,
    /// The certificates of TLS.
    pub credentials: Credentials,
    /// The files that the certificates come from, where an operator gives them.
    pub certificate_files: Option<CertificateFiles>,
    cluster_name: String,
    ring: KeyRing,
    file: KeyFile,
}

/// Why there are no keys to start with.
#[derive(Debug, thiserror::Error)]
pub enum OpenKeysError {
    /// The ring.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The certificates.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The keys of gossip.
    #[error(transparent)]
    Keyring(#[from] basic_membership::KeyringError),
}

impl OpenedKeys {
    /// Reads or begins the ring of this data directory, takes up the configured secret, and says what became of it.
    ///
    /// # Errors
    /// [`OpenKeysError`].
    pub fn open(
        config: &Config,
        node: &str,
        configured: &PeerSecret,
    ) -> Result<Self, OpenKeysError> {
        let file = KeyFile::in_directory(&config.node.data_dir);
        let (ring, adoption) = file.open(configured)?;
        tell(&ring, configured, adoption);
        let keys: Vec<PeerKeys> = ring.installed().map(InstalledKey::peer_keys).collect();
        let keyring = Keyring::new(ring.in_use().peer_keys().gossip_key());
        for others in keys.iter().skip(1) {
            keyring.install(others.gossip_key())?;
        }
        let cluster = config.node.cluster.as_str();
        let certificate_files = config.peer.certificate_files();
        let credentials = match &certificate_files {
            Some(files) => Credentials::from_files(files, cluster, node)?,
            None => Credentials::from_keys(&keys, cluster, node)?,
        };
        Ok(Self {
            keyring,
            credentials,
            certificate_files,
            cluster_name: cluster.to_owned(),
            ring,
            file,
        })
    }

    /// The keys of a node that has joined.
    pub fn run(self, cluster: Cluster, records: Records, audit: AuditLog) -> Keys {
        let parts = Parts {
            cluster_name: self.cluster_name,
            file: self.file,
            keyring: self.keyring,
            credentials: self.credentials,
            cluster,
            records,
            audit,
        };
        Keys::new(self.ring, parts)
    }
}

fn tell(ring: &KeyRing, configured: &PeerSecret, adoption: Adoption) {
    let id = InstalledKey::new(configured.clone(), 0).id;
    let in_use = ring.in_use().id;
    match adoption {
        Adoption::InUse => {}
        Adoption::Installed => info!(
            configured = %id, %in_use,
            "the configured peer secret was rotated; the newer key in keys.json is in use and goes before it"
        ),
        Adoption::Retired(_) => warn!(
            configured = %id, %in_use,
            "the configured peer secret was retired and is not used; take it out of the configuration"
        ),
        Adoption::New => warn!(
            configured = %id,
            "the configured peer secret is new to this node and in use from now on; the keys known before stay installed until they are retired"
        ),
        Adoption::NoRoom => warn!(
            configured = %id, %in_use,
            "the configured peer secret is not used: there is no room for another key; retire one by `basic-agent keys retire`"
        ),
    }
}
