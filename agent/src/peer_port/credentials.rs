//! What an agent shows and what it demands on the peer port, changeable while it
//! is in use.
//!
//! Two sources: certificates derived from the installed secrets, one for each,
//! or one given by files. Either gives both TLS configurations. They are swapped
//! as a whole: connections that are open, and handshakes under way, keep what
//! they began with, until a key is retired: that ends them all ([`Generation`]),
//! because nobody knows which of them come from a peer that has only that key. TLS 1.3 only, both sides verify, and no session is resumed,
//! so that every connection proves its peer anew.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use basic_membership::KeyId;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;

use super::certificate_files::{CertificateFileError, CertificateFiles, GivenCertificate};
use super::certificates::Derived;
use super::generation::Generation;
use super::handshake::NameRefusal;
use super::name::{AgentUri, Naming, PeerName};
use super::protocol::Protocol;
use super::secret::PeerKeys;
use super::selection::{AuthorityVerifier, Candidate, Candidates};

/// What an agent shows and what it demands: its certificates with their keys,
/// and the authorities that a peer's certificate must come from. Clones share
/// what is in force. `Debug` shows names only.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    identity: AgentUri,
    naming: Naming,
    current: ArcSwap<Tls>,
}

impl Credentials {
    /// Makes a certificate for each of the keys. The first of them is in use, and
    /// a peer that knows any of them is a peer.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_keys(
        keys: &[PeerKeys],
        cluster: &str,
        node: &str,
    ) -> Result<Credentials, CredentialsError> {
        let identity = identity(cluster, node)?;
        let tls = Tls::derived(keys, &identity)?;
        Ok(Credentials::new(identity, Naming::Uri, tls))
    }

    /// Reads certificate, key and authorities from files.
    ///
    /// # Errors
    /// [`CredentialsError`]; [`CredentialsError::Files`] names the file.
    pub fn from_files(
        files: &CertificateFiles,
        cluster: &str,
        node: &str,
    ) -> Result<Credentials, CredentialsError> {
        let identity = identity(cluster, node)?;
        let tls = Tls::given(files.load(&identity)?)?;
        Ok(Credentials::new(identity, Naming::UriOrDns, tls))
    }

    /// Puts other keys in the place of the present ones, for connections from now
    /// on. Where one of the present keys is not among them, all that are open end.
    /// Certificates that came from files stay as they are, and so do connections:
    /// keys let nobody in then.
    ///
    /// # Errors
    /// [`CredentialsError`]; the present keys stay in force.
    pub fn replace_keys(&self, keys: &[PeerKeys]) -> Result<(), CredentialsError> {
        if self.shared.naming == Naming::Uri {
            let present = self.shared.current.load_full();
            let mut tls = Tls::derived(keys, &self.shared.identity)?;
            let is_kept = |id: &KeyId| tls.keys.contains(id);
            if present.keys.iter().all(is_kept) {
                tls.generation = present.generation.clone();
                self.shared.current.store(Arc::new(tls));
            } else {
                // A handshake that begins in between has the new keys; one that is under way ends with the old.
                self.shared.current.store(Arc::new(tls));
                present.generation.end();
            }
        }
        Ok(())
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// [`CredentialsError`]; the present certificate stays in force.
    pub(super) fn replace_files(&self, files: &CertificateFiles) -> Result<(), CredentialsError> {
        let mut tls = Tls::given(files.load(&self.shared.identity)?)?;
        tls.generation = self.shared.current.load().generation.clone();
        self.shared.current.store(Arc::new(tls));
        Ok(())
    }

    /// The names under which this agent shows itself.
    pub(super) fn identity(&self) -> &AgentUri {
        &self.shared.identity
    }

    /// The configurations in force.
    pub(super) fn current(&self) -> Arc<Tls> {
        self.shared.current.load_full()
    }

    /// Reads who a peer is out of the certificates that TLS has verified.
    pub(super) fn peer_name(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Result<PeerName, NameRefusal> {
        let leaf = chain.and_then(<[_]>::first).ok_or(NameRefusal::NoName)?;
        self.shared
            .naming
            .peer_name(leaf, &self.shared.identity.cluster)
    }

    fn new(identity: AgentUri, naming: Naming, tls: Tls) -> Credentials {
        Credentials {
            shared: Arc::new(Shared {
                identity,
                naming,
                current: ArcSwap::from_pointee(tls),
            }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.shared.identity)
            .finish_non_exhaustive()
    }
}

/// Why an agent has no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A name that cannot stand in a certificate.
    #[error(
        "cluster {cluster:?} and node {node:?} must each be 1 to 64 characters of \
         A-Z a-z 0-9 . _ - ([node] cluster, [node] id)"
    )]
    InvalidName {
        /// The cluster's name as given.
        cluster: String,
        /// The node's name as given.
        node: String,
    },
    /// There is no key to make a certificate with.
    #[error("no key is installed, so there is nothing to make a certificate with")]
    NoKey,
    /// The files cannot be used.
    #[error(transparent)]
    Files(#[from] CertificateFileError),
    /// The certificate could not be made.
    #[error("cannot make this agent's certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be put to use.
    #[error("cannot use this agent's certificate")]
    Tls(#[from] rustls::Error),
    /// The authority cannot be used to verify peers.
    #[error("cannot verify peers against the cluster's authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The two TLS configurations of one moment.
pub(super) struct Tls {
    server: ServerConfig,
    client: ClientConfig,
    server_name: ServerName<'static>,
    /// The keys that it is made of; none where files are.
    keys: Vec<KeyId>,
    generation: Generation,
}

impl Tls {
    /// The configuration of a listener that serves these protocols.
    pub(super) fn server_config(&self, protocols: &[Protocol]) -> Arc<ServerConfig> {
        let mut config = self.server.clone();
        config.alpn_protocols = protocols.iter().copied().map(alpn_bytes).collect();
        Arc::new(config)
    }

    /// The configuration of a client that asks for this protocol.
    pub(super) fn client_config(&self, protocol: Protocol) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        config.alpn_protocols = vec![alpn_bytes(protocol)];
        Arc::new(config)
    }

    /// The server name that a client sends.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// The connections that are made by these, and by those that differ by further keys only.
    pub(super) fn generation(&self) -> &Generation {
        &self.generation
    }

    fn derived(keys: &[PeerKeys], identity: &AgentUri) -> Result<Tls, CredentialsError> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        let mut candidates = Vec::with_capacity(keys.len());
        for keys in keys {
            let derived = Derived::of(keys, identity)?;
            let mut authority = RootCertStore::empty();
            authority.add(derived.authority.clone())?;
            roots.add(derived.authority)?;
            let chain = vec![derived.leaf];
            let certified = CertifiedKey::from_der(chain, derived.leaf_key, &provider)?;
            candidates.push(Candidate {
                key: Some(derived.key),
                authorities: authority.subjects(),
                certified: Arc::new(certified),
            });
        }
        if candidates.is_empty() {
            return Err(CredentialsError::NoKey);
        }
        let preferred = candidates.remove(0);
        let ids = keys.iter().map(PeerKeys::id).collect();
        let tls = Tls::new(Candidates::new(preferred, candidates), roots, provider)?;
        Ok(Tls { keys: ids, ..tls })
    }

    fn given(given: GivenCertificate) -> Result<Tls, CredentialsError> {
        let candidate = Candidate {
            key: None,
            authorities: given.roots.subjects(),
            certified: given.certified,
        };
        let candidates = Candidates::new(candidate, Vec::new());
        Tls::new(candidates, given.roots, provider())
    }

    fn new(
        candidates: Candidates,
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Tls, CredentialsError> {
        let server_name = candidates.server_name();
        let candidates = Arc::new(candidates);
        let roots = Arc::new(roots);

        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients.build()?)
            .with_cert_resolver(candidates.clone());
        server.send_tls13_tickets = 0;

        let servers = Arc::new(AuthorityVerifier {
            roots,
            provider: provider.clone(),
        });
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_cert_resolver(candidates);
        client.resumption = Resumption::disabled();
        Ok(Tls {
            server,
            client,
            server_name,
            keys: Vec::new(),
            generation: Generation::begin(),
        })
    }
}

/// The algorithms that all of TLS uses here.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn identity(cluster: &str, node: &str) -> Result<AgentUri, CredentialsError> {
    AgentUri::new(cluster, node).ok_or_else(|| CredentialsError::InvalidName {
        cluster: cluster.to_owned(),
        node: node.to_owned(),
    })
}

fn alpn_bytes(protocol: Protocol) -> Vec<u8> {
    protocol.alpn().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_certificate_cannot_carry_is_refused() {
        let keys = [PeerKeys::derive(b"one secret")];
        let error = Credentials::from_keys(&keys, "c1", "a b").expect_err("a blank");
        assert!(
            matches!(error, CredentialsError::InvalidName { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn without_a_key_there_are_no_credentials_and_the_present_ones_stay() {
        let error = Credentials::from_keys(&[], "c1", "n1").expect_err("no key");
        assert!(matches!(error, CredentialsError::NoKey), "{error:?}");

        let credentials = Credentials::from_keys(&[PeerKeys::derive(b"one")], "c1", "n1");
        let credentials = credentials.expect("valid names");
        let before = credentials.current();
        assert!(credentials.replace_keys(&[]).is_err());
        assert!(Arc::ptr_eq(&before, &credentials.current()));
    }

    #[test]
    fn a_client_names_all_its_keys_with_the_one_in_use_first() {
        let keys = [b"one", b"two"].map(|secret| PeerKeys::derive(secret));
        let credentials = Credentials::from_keys(&keys, "c1", "n1").expect("valid names");
        let expected = format!(
            "{}.{}.peer.basic-agent.internal",
            keys[0].id(),
            keys[1].id()
        );
        assert_eq!(credentials.current().server_name().to_str(), expected);
    }
}
