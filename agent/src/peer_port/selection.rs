//! Which certificate is shown to whom, while several secrets are installed.
//!
//! During a rotation two agents may have only one secret in common, and not the
//! one that either prefers. Each side therefore says what it can verify before
//! the other shows anything. A client names its keys in the server name (SNI):
//! `KEY.KEY.peer.basic-agent.internal`, the one in use first. A server names its
//! authorities in the certificate request (RFC 8446, section 4.2.4). Whoever
//! finds nothing in common shows what it prefers, so that the other side can say
//! that the secrets differ.
//!
//! A peer is found by address, and its name is read out of its certificate
//! afterwards; so a certificate is verified against the authorities alone.

use std::sync::Arc;

use basic_membership::KeyId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What every server name ends in, and the whole of it where no keys are named.
pub(super) const SERVER_NAME: &str = "peer.basic-agent.internal";

/// A certificate of this agent, and what tells whether a peer can verify it.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The secret that it follows from; None for one that was given as a file.
    pub(super) key: Option<KeyId>,
    /// The names of the authorities that vouch for it, one of which is enough.
    pub(super) authorities: Vec<DistinguishedName>,
    /// The certificate with its private key.
    pub(super) certified: Arc<CertifiedKey>,
}

/// The certificates of this agent; the preferred one first. Never empty.
#[derive(Debug)]
pub(super) struct Candidates {
    preferred: Candidate,
    others: Vec<Candidate>,
}

impl Candidates {
    /// With the one to show where nothing tells which a peer can verify.
    pub(super) fn new(preferred: Candidate, others: Vec<Candidate>) -> Candidates {
        Candidates { preferred, others }
    }

    /// The server name by which a client says which of these keys it has.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        let mut name = String::new();
        for key in self.iter().filter_map(|candidate| candidate.key) {
            name.push_str(&format!("{key}."));
        }
        name.push_str(SERVER_NAME);
        ServerName::try_from(name).expect("a few short labels of hexadecimal digits are a DNS name")
    }

    fn iter(&self) -> impl Iterator<Item = &Candidate> {
        std::iter::once(&self.preferred).chain(&self.others)
    }

    fn select(&self, verifiable: impl Fn(&Candidate) -> bool) -> Arc<CertifiedKey> {
        let chosen = self.iter().find(|candidate| verifiable(candidate));
        chosen.unwrap_or(&self.preferred).certified.clone()
    }

    fn for_client(&self, server_name: Option<&str>) -> Arc<CertifiedKey> {
        let labels = || server_name.unwrap_or_default().split('.');
        self.select(|candidate| {
            let key = candidate.key.map(|key| key.to_string());
            key.is_some_and(|key| labels().any(|label| label.eq_ignore_ascii_case(&key)))
        })
    }

    fn for_server(&self, authorities: &[&[u8]]) -> Arc<CertifiedKey> {
        self.select(|candidate| {
            let mut own = candidate.authorities.iter();
            own.any(|own| authorities.contains(&own.as_ref()))
        })
    }
}

impl ResolvesServerCert for Candidates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.for_client(hello.server_name()))
    }
}

impl ResolvesClientCert for Candidates {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.for_server(root_hint_subjects))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies that a server's certificate is of one of the authorities and in
/// force. Whose it is, is read out of it by whoever connects.
#[derive(Debug)]
pub(super) struct AuthorityVerifier {
    /// The authorities.
    pub(super) roots: Arc<RootCertStore>,
    /// The algorithms.
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AuthorityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
