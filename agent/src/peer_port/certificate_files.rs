//! Certificates that an operator gives: `[peer] tls_cert`, `tls_key`, `tls_ca`.
//!
//! They take the place of those derived from the secret for everything that goes
//! over TLS; gossip stays sealed by the secret. Three PEM files: this node's
//! certificate with what its authority needs between it and the root, its private
//! key, and the authorities that a peer's certificate must come from. Whatever is
//! wrong with them is found before anything starts, and by the same rules a peer
//! would apply. While the agent runs the files are looked at again and again: new
//! ones are put to use without a restart, bad ones are named and change nothing.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error as TlsError, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;
use tokio::time::sleep;
use tracing::{info, warn};

use super::credentials::{Credentials, provider};
use super::handshake::NameRefusal;
use super::name::{AgentUri, Naming};
use super::selection::{AuthorityVerifier, SERVER_NAME};

/// Largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Where the certificate, its private key and the authorities are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `[peer] tls_cert`.
    pub certificate: PathBuf,
    /// `[peer] tls_key`.
    pub key: PathBuf,
    /// `[peer] tls_ca`.
    pub authorities: PathBuf,
}

/// Why files make no credentials. What was in force before stays so.
#[derive(Debug, Error)]
pub enum CertificateFileError {
    /// It does not exist, or may not be read.
    #[error("{setting} {path} cannot be read; correct the name or its permissions")]
    Unreadable {
        /// The key of the configuration.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than any PEM file of this kind.
    #[error("{setting} {path} has more than {FILE_MAX} bytes, so it is hardly a PEM file")]
    TooLarge {
        /// The key of the configuration.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Everyone on the host can read the private key.
    #[error(
        "{path} holds a private key and can be read by every user of this host (mode {mode:04o}); \
         run `chmod 600 {path}`, and make a new key if others may have seen it"
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Nothing of the kind is in it.
    #[error("{setting} {path} holds no {wanted} in PEM form (-----BEGIN …-----)")]
    Empty {
        /// The key of the configuration.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// It is no PEM, or was cut.
    #[error("{setting} {path} is damaged: it is not the PEM file that it should be")]
    Damaged {
        /// The key of the configuration.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        source: pem::Error,
    },
    /// What is in it cannot be used.
    #[error("{setting} {path} cannot be used")]
    Unusable {
        /// The key of the configuration.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TlsError,
    },
    /// Certificate and private key are not of one pair.
    #[error(
        "the private key in {key} does not belong to the certificate in {certificate}; set [peer] \
         tls_cert and tls_key to a pair"
    )]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Its time is over, or has not come.
    #[error(
        "the certificate in {path} has expired or is not valid yet; renew it, or set this host's \
         clock"
    )]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        source: TlsError,
    },
    /// Peers with the same authorities would refuse it.
    #[error(
        "the certificate in {certificate} is not one that the authorities in {authorities} vouch \
         for as both server and client; peers would refuse it"
    )]
    NotTrusted {
        /// The certificate's file.
        certificate: PathBuf,
        /// The authorities' file.
        authorities: PathBuf,
        /// What is wrong with it.
        source: TlsError,
    },
    /// It is another's.
    #[error(
        "the certificate in {path} names node {found:?}, and this is node {expected:?}; give each \
         node its own, or set [node] id"
    )]
    OtherNode {
        /// The certificate's file.
        path: PathBuf,
        /// The node in the certificate.
        found: String,
        /// This node.
        expected: String,
    },
    /// It is of another cluster.
    #[error(
        "the certificate in {path} names cluster {found:?}, and this node belongs to {expected:?}; \
         give it one of this cluster, or set [node] cluster"
    )]
    OtherCluster {
        /// The certificate's file.
        path: PathBuf,
        /// The cluster in the certificate.
        found: String,
        /// This node's cluster.
        expected: String,
    },
    /// It names no node.
    #[error(
        "the certificate in {path} names no node: its subject alternative names need the URI \
         {expected}, or else this node's id as the first DNS name"
    )]
    NoName {
        /// The certificate's file.
        path: PathBuf,
        /// The URI that would do.
        expected: String,
    },
}

/// A certificate that has been checked as a peer would check it.
pub(super) struct GivenCertificate {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) roots: RootCertStore,
}

const CERT: &str = "[peer] tls_cert";
const KEY: &str = "[peer] tls_key";
const CA: &str = "[peer] tls_ca";

impl CertificateFiles {
    /// Reads the files, and checks that they go together and name this agent.
    pub(super) fn load(
        &self,
        identity: &AgentUri,
    ) -> Result<GivenCertificate, CertificateFileError> {
        let chain: Vec<CertificateDer<'static>> = read(CERT, &self.certificate, "certificate")?;
        let keys: Vec<PrivateKeyDer<'static>> = read(KEY, &self.key, "private key")?;
        let mut roots = RootCertStore::empty();
        for authority in read::<CertificateDer<'static>>(CA, &self.authorities, "certificate")? {
            let added = roots.add(authority);
            added.map_err(|source| unusable(CA, &self.authorities, source))?;
        }
        let leaf = chain.first().cloned();
        let key = keys.into_iter().next();
        let (Some(leaf), Some(key)) = (leaf, key) else {
            unreachable!("a file without an entry is refused when it is read");
        };
        let provider = provider();
        let signer = provider.key_provider.load_private_key(key);
        let signer = signer.map_err(|source| unusable(KEY, &self.key, source))?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|source| match source {
            TlsError::InconsistentKeys(_) => CertificateFileError::NotAPair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            },
            source => unusable(CERT, &self.certificate, source),
        })?;
        self.check_trust(&certified, &roots)?;
        self.check_name(&leaf, identity)?;
        Ok(GivenCertificate {
            certified: Arc::new(certified),
            roots,
        })
    }

    /// Verifies the certificate as both ends of a connection would.
    fn check_trust(
        &self,
        certified: &CertifiedKey,
        roots: &RootCertStore,
    ) -> Result<(), CertificateFileError> {
        let refused = |source| match source {
            TlsError::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => CertificateFileError::Expired {
                path: self.certificate.clone(),
                source,
            },
            source => CertificateFileError::NotTrusted {
                certificate: self.certificate.clone(),
                authorities: self.authorities.clone(),
                source,
            },
        };
        let (leaf, intermediates) = certified
            .cert
            .split_first()
            .ok_or(TlsError::NoCertificatesPresented)
            .map_err(refused)?;
        let (roots, provider, now) = (Arc::new(roots.clone()), provider(), UnixTime::now());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| refused(TlsError::General(error.to_string())))?;
        clients
            .verify_client_cert(leaf, intermediates, now)
            .map_err(refused)?;
        let servers = AuthorityVerifier { roots, provider };
        let any = ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name");
        let verified = servers.verify_server_cert(leaf, intermediates, &any, &[], now);
        verified.map(drop).map_err(refused)
    }

    fn check_name(
        &self,
        leaf: &CertificateDer<'_>,
        identity: &AgentUri,
    ) -> Result<(), CertificateFileError> {
        let path = self.certificate.clone();
        match Naming::UriOrDns.peer_name(leaf, &identity.cluster) {
            Ok(node) if node == identity.node => Ok(()),
            Ok(node) => Err(CertificateFileError::OtherNode {
                path,
                found: node.into_string(),
                expected: identity.node.to_string(),
            }),
            Err(NameRefusal::OtherCluster { cluster }) => Err(CertificateFileError::OtherCluster {
                path,
                found: cluster,
                expected: identity.cluster.clone(),
            }),
            Err(NameRefusal::NoName) => Err(CertificateFileError::NoName {
                path,
                expected: identity.to_string(),
            }),
        }
    }

    /// What tells one version of the files from the next; None where one cannot
    /// be looked at, as in the midst of being replaced.
    fn version(&self) -> Option<[(u64, i64, i64, u64); 3]> {
        let of = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        };
        Some([
            of(&self.certificate)?,
            of(&self.key)?,
            of(&self.authorities)?,
        ])
    }
}

/// Puts new versions of the files to use as they appear; never returns.
pub async fn watch_files(credentials: Credentials, files: CertificateFiles) {
    let mut seen = files.version();
    loop {
        sleep(LOOK_INTERVAL).await;
        let found = files.version();
        if found.is_none() || found == seen {
            continue;
        }
        seen = found;
        match credentials.replace_files(&files) {
            Ok(()) => {
                info!(certificate = %files.certificate.display(), "the new certificate is in use");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "the new certificate cannot be used; the one before stays in use");
            }
        }
    }
}

fn unusable(setting: &'static str, path: &Path, source: TlsError) -> CertificateFileError {
    CertificateFileError::Unusable {
        setting,
        path: path.to_owned(),
        source,
    }
}

/// All entries of one kind in a PEM file, at least one.
fn read<T: PemObject>(
    setting: &'static str,
    path: &Path,
    wanted: &'static str,
) -> Result<Vec<T>, CertificateFileError> {
    let unreadable = |source| CertificateFileError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if setting == KEY && mode & 0o007 != 0 {
        return Err(CertificateFileError::KeyExposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Vec::new();
    let mut limited = file.take(FILE_MAX + 1);
    limited.read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_MAX {
        return Err(CertificateFileError::TooLarge {
            setting,
            path: path.to_owned(),
        });
    }
    let entries: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let entries = entries.map_err(|source| CertificateFileError::Damaged {
        setting,
        path: path.to_owned(),
        source,
    })?;
    if entries.is_empty() {
        return Err(CertificateFileError::Empty {
            setting,
            path: path.to_owned(),
            wanted,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
