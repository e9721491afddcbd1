//! Certificates that follow from a secret.
//!
//! Every agent with the same secret makes the same certificate authority and
//! signs its own leaf with it, under a key that lives as long as the process.
//! So whoever shows a certificate of this authority knows the secret. The
//! authority's name carries a fingerprint of its key: an agent with another
//! secret is then told "unknown CA", not "bad signature".
//!
//! Certificates are valid for ever on paper: an agent whose clock is wrong must
//! still be able to join, and a certificate is worth no more than the secret
//! with which anybody can make one.

use basic_membership::KeyId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::name::AgentUri;
use super::secret::PeerKeys;
use super::selection::SERVER_NAME;

/// PKCS#8 (RFC 8410, section 7) of an ed25519 key up to the 32 bytes of it.
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What one secret gives an agent: the authority to demand of others, and a
/// certificate of it to show.
pub(super) struct Derived {
    /// The secret's name.
    pub(super) key: KeyId,
    /// The authority that every agent with this secret has in common.
    pub(super) authority: CertificateDer<'static>,
    /// This agent's own certificate, ...
    pub(super) leaf: CertificateDer<'static>,
    /// ... and the private key that goes with it.
    pub(super) leaf_key: PrivateKeyDer<'static>,
}

impl Derived {
    /// Makes the authority of these keys, and a new leaf signed by it.
    pub(super) fn of(keys: &PeerKeys, identity: &AgentUri) -> Result<Derived, rcgen::Error> {
        let authority = Authority::from_seed(keys.authority_seed())?;
        let (leaf, key) = authority.sign(identity)?;
        Ok(Derived {
            key: keys.id(),
            authority: authority.certificate,
            leaf,
            leaf_key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(secret: &[u8], node: &str) -> Derived {
        let identity = AgentUri::new("c1", node).expect("valid names");
        Derived::of(&PeerKeys::derive(secret), &identity).expect("a certificate")
    }

    #[test]
    fn two_agents_make_one_authority_and_different_leaves() {
        let a = derived(b"one secret", "n1");
        let b = derived(b"one secret", "n1");
        assert_eq!(a.authority, b.authority);
        assert_eq!(a.key, b.key);
        assert_ne!(a.leaf, b.leaf);
        assert_ne!(a.leaf_key.secret_der(), b.leaf_key.secret_der());
    }

    #[test]
    fn another_secret_makes_another_authority() {
        let one = derived(b"one secret", "n1");
        let two = derived(b"two secret", "n1");
        assert_ne!(one.authority, two.authority);
        assert_ne!(one.key, two.key);
    }
}
