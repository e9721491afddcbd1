//! The keys that follow from the one cluster secret.
//!
//! Each key has its own context in BLAKE3's key derivation mode (BLAKE3 paper,
//! section 6.2), so that knowing one key tells nothing about another or about
//! the secret. The contexts are a promise between versions: an agent with
//! another context is an agent with another secret.

use std::fmt;

use basic_membership::{GossipKey, KeyId};

const GOSSIP_CONTEXT: &str = "basic-agent peer secret v1: gossip datagram key";
const AUTHORITY_CONTEXT: &str = "basic-agent peer secret v1: certificate authority ed25519 seed";

/// The keys of the peer port. `Debug` shows none of them, only by which id they go.
#[derive(Clone)]
pub struct PeerKeys {
    id: KeyId,
    gossip: [u8; 32],
    authority_seed: [u8; 32],
}

impl PeerKeys {
    /// Derives the keys from the cluster secret. The derivation is fast, not a
    /// password hash: the secret itself must be long and random.
    pub fn derive(secret: &[u8]) -> PeerKeys {
        let gossip = blake3::derive_key(GOSSIP_CONTEXT, secret);
        PeerKeys {
            id: GossipKey::from_bytes(gossip).id(),
            gossip,
            authority_seed: blake3::derive_key(AUTHORITY_CONTEXT, secret),
        }
    }

    /// The public name of the secret and of all that follows from it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key that seals gossip datagrams.
    pub fn gossip_key(&self) -> GossipKey {
        GossipKey::from_bytes(self.gossip)
    }

    /// The ed25519 private key (RFC 8032 seed) of the cluster's authority.
    pub(super) fn authority_seed(&self) -> &[u8; 32] {
        &self.authority_seed
    }
}

impl fmt::Debug for PeerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKeys({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_the_secret_and_differ_from_each_other() {
        let keys = PeerKeys::derive(b"a secret of thirty-two characters");
        let again = PeerKeys::derive(b"a secret of thirty-two characters");
        let other = PeerKeys::derive(b"a secret of thirty-two characterz");
        assert_eq!(keys.gossip, again.gossip);
        assert_eq!(keys.authority_seed, again.authority_seed);
        assert_ne!(keys.gossip, keys.authority_seed);
        assert_ne!(keys.gossip, other.gossip);
        assert_ne!(keys.authority_seed, other.authority_seed);
        assert_eq!(keys.id(), again.id());
        assert_eq!(keys.id(), keys.gossip_key().id());
        assert_ne!(keys.id(), other.id());
    }

    #[test]
    fn debug_output_holds_no_key() {
        let keys = PeerKeys::derive(b"secret");
        assert_eq!(format!("{keys:?}"), format!("PeerKeys({})", keys.id()));
    }
}
