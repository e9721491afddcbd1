//! The agent's certificate, and the two TLS configurations that rest on it.
//!
//! Every agent with the same secret makes the same certificate authority and
//! signs its own leaf with it, under a key that lives as long as the process.
//! So whoever shows a certificate of this authority knows the secret. The
//! authority's name carries a fingerprint of its key: an agent with another
//! secret is then told "unknown CA", not "bad signature".
//!
//! Certificates are valid for ever on paper: an agent whose clock is wrong must
//! still be able to join, and a certificate is worth no more than the secret
//! with which anybody can make one. TLS 1.3 only, both sides verify, and no
//! session is resumed, so that every connection proves its peer anew.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use thiserror::Error;

use super::handshake::NameRefusal;
use super::name::{AgentUri, PeerName};
use super::protocol::Protocol;
use super::secret::PeerKeys;

/// The name under which every agent is verified. Peers are found by address
/// and told apart by the URI beside this name, so one fixed name serves all.
const SERVER_NAME: &str = "peer.basic-agent.internal";

/// PKCS#8 (RFC 8410, section 7) of an ed25519 key up to the 32 bytes of it.
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What an agent shows and what it demands: its certificate with its key, and
/// the authority that a peer's certificate must come from. `Debug` shows names.
pub struct Credentials {
    identity: AgentUri,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Credentials {
    /// Makes the cluster's authority from its keys and signs a new leaf with it.
    ///
    /// # Errors
    /// When a name is not 1 to 64 characters of `A-Z a-z 0-9 . _ -`, or the
    /// system has no randomness for the leaf's key.
    pub fn from_keys(
        keys: &PeerKeys,
        cluster: &str,
        node: &str,
    ) -> Result<Credentials, CredentialsError> {
        let identity =
            AgentUri::new(cluster, node).ok_or_else(|| CredentialsError::InvalidName {
                cluster: cluster.to_owned(),
                node: node.to_owned(),
            })?;
        let authority = Authority::from_seed(keys.authority_seed())?;
        let (leaf, key) = authority.sign(&identity)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate)?;
        Ok(Credentials {
            identity,
            chain: vec![leaf],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            roots: Arc::new(roots),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        })
    }

    /// The configuration of a listener that serves these protocols.
    pub(super) fn server_config(
        &self,
        protocols: &[Protocol],
    ) -> Result<Arc<ServerConfig>, CredentialsError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
                .build()?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = protocols.iter().copied().map(alpn_bytes).collect();
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration of a client that asks for this protocol.
    pub(super) fn client_config(
        &self,
        protocol: Protocol,
    ) -> Result<Arc<ClientConfig>, CredentialsError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn_bytes(protocol)];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    #[cfg(test)]
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }

    /// The names under which this agent shows itself.
    pub(super) fn identity(&self) -> &AgentUri {
        &self.identity
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The name that a client verifies the other side's certificate against.
pub(super) fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name")
}

/// Reads who a peer is out of the certificates that TLS has verified.
pub(super) fn peer_name(
    chain: Option<&[CertificateDer<'_>]>,
    own: &AgentUri,
) -> Result<PeerName, NameRefusal> {
    let leaf = chain.and_then(<[_]>::first).ok_or(NameRefusal::NoName)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| NameRefusal::NoName)?;
    let AgentUri { cluster, node } = leaf
        .valid_uri_names()
        .find_map(AgentUri::parse)
        .ok_or(NameRefusal::NoName)?;
    if cluster == own.cluster {
        Ok(node)
    } else {
        Err(NameRefusal::OtherCluster { cluster })
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

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The same seed makes the same certificate, byte for byte: ed25519 is
    /// deterministic, and so are the name, the serial number and the dates.
    fn from_seed(seed: &[u8; 32]) -> Result<Authority, rcgen::Error> {
        let mut pkcs8 = ED25519_PKCS8_PREFIX.to_vec();
        pkcs8.extend_from_slice(seed);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ED25519)?;
        let mut params = CertificateParams::default();
        let fingerprint = blake3::hash(key.public_key_raw()).to_hex();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("Basic Agent cluster authority {:.16}", fingerprint.as_str()),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    fn sign(
        &self,
        identity: &AgentUri,
    ) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, identity.node.as_str());
        params.subject_alt_names = vec![
            SanType::DnsName(SERVER_NAME.try_into()?),
            SanType::URI(identity.to_string().try_into()?),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.der().clone(), key))
    }
}

fn alpn_bytes(protocol: Protocol) -> Vec<u8> {
    protocol.alpn().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secret: &[u8], node: &str) -> Credentials {
        Credentials::from_keys(&PeerKeys::derive(secret), "c1", node).expect("valid names")
    }

    #[test]
    fn two_agents_make_one_authority_and_different_leaves() {
        let seed = *PeerKeys::derive(b"one secret").authority_seed();
        let one = Authority::from_seed(&seed).expect("a key");
        let two = Authority::from_seed(&seed).expect("a key");
        assert_eq!(one.certificate, two.certificate);

        let a = credentials(b"one secret", "n1");
        let b = credentials(b"one secret", "n1");
        assert_ne!(a.chain, b.chain);
        assert_ne!(a.key.secret_der(), b.key.secret_der());
    }

    #[test]
    fn another_secret_makes_another_authority() {
        let [one, two] = [b"one secret", b"two secret"].map(|secret| {
            Authority::from_seed(PeerKeys::derive(secret).authority_seed()).expect("a key")
        });
        assert_ne!(one.certificate, two.certificate);
    }

    #[test]
    fn the_node_id_is_read_out_of_the_certificate() {
        let own = AgentUri::new("c1", "n1").expect("valid");
        let theirs = credentials(b"one secret", "Node_2.x-y");
        let name = peer_name(Some(&theirs.chain), &own).expect("a name");
        assert_eq!(name.as_str(), "Node_2.x-y");
    }

    #[test]
    fn a_certificate_of_another_cluster_names_that_cluster() {
        let own = AgentUri::new("c2", "n1").expect("valid");
        let theirs = credentials(b"one secret", "n2");
        let refusal = peer_name(Some(&theirs.chain), &own).expect_err("another cluster");
        assert_eq!(
            refusal,
            NameRefusal::OtherCluster {
                cluster: "c1".to_owned()
            }
        );
    }

    #[test]
    fn no_certificate_and_an_authority_have_no_name() {
        let own = AgentUri::new("c1", "n1").expect("valid");
        let seed = *PeerKeys::derive(b"one secret").authority_seed();
        let authority = Authority::from_seed(&seed).expect("a key").certificate;
        assert_eq!(peer_name(None, &own), Err(NameRefusal::NoName));
        assert_eq!(peer_name(Some(&[]), &own), Err(NameRefusal::NoName));
        assert_eq!(
            peer_name(Some(&[authority]), &own),
            Err(NameRefusal::NoName)
        );
        assert_eq!(
            peer_name(Some(&[vec![0x30, 0xff].into()]), &own),
            Err(NameRefusal::NoName)
        );
    }

    #[test]
    fn a_name_that_a_certificate_cannot_carry_is_refused() {
        let keys = PeerKeys::derive(b"one secret");
        let error = Credentials::from_keys(&keys, "c1", "a b").expect_err("a blank");
        assert!(
            matches!(error, CredentialsError::InvalidName { .. }),
            "{error:?}"
        );
    }
}
