//! A secret sealed under another, as it lies in the replicated store.
//!
//! XChaCha20-Poly1305 with a random nonce, under a key derived from the older secret for this purpose alone. The
//! associated data bind the cluster and both ids, so that a box cannot be passed off as another. Whoever has the
//! store and not the older secret learns nothing but the length.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use basic_membership::KeyId;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::config::PeerSecret;

use super::ring::InstalledKey;

const KEY_CONTEXT: &str = "basic-agent peer secret v1: seal of the next secret";
const NONCE_BYTES: usize = 24;
/// Longest box that is looked at, in characters.
const TEXT_MAX: usize = 8192;

/// A secret that only those can read who have another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The secret under which it is sealed.
    pub under: KeyId,
    /// Nonce and ciphertext, base64url.
    sealed: String,
}

impl SealedSecret {
    /// Seals `key` under `under`.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn seal(
        key: &InstalledKey,
        under: &InstalledKey,
        cluster: &str,
    ) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload {
            msg: key.secret.expose().as_bytes(),
            aad: &associated_data(cluster, key.id, under.id),
        };
        let ciphertext = cipher(under).encrypt(XNonce::from_slice(&nonce), payload);
        let ciphertext = ciphertext.expect("a secret is far shorter than the cipher's limit");
        let sealed = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &ciphertext].concat());
        Ok(Self {
            under: under.id,
            sealed,
        })
    }

    /// Opens it as the secret `id`; none if it is not that, or was changed, or is of another cluster.
    pub fn open(&self, id: KeyId, under: &InstalledKey, cluster: &str) -> Option<PeerSecret> {
        if under.id != self.under || self.sealed.len() > TEXT_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.sealed).ok()?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES)?;
        let payload = Payload {
            msg: ciphertext,
            aad: &associated_data(cluster, id, under.id),
        };
        let opened = cipher(under)
            .decrypt(XNonce::from_slice(nonce), payload)
            .ok()?;
        let secret =
            PeerSecret::parse(std::str::from_utf8(&opened).ok()?, "a sealed record").ok()?;
        // The cipher does not commit to its key; the id does.
        (InstalledKey::new(secret.clone(), 0).id == id).then_some(secret)
    }
}

fn cipher(under: &InstalledKey) -> XChaCha20Poly1305 {
    let key = blake3::derive_key(KEY_CONTEXT, under.secret.expose().as_bytes());
    XChaCha20Poly1305::new(&key.into())
}

fn associated_data(cluster: &str, id: KeyId, under: KeyId) -> Vec<u8> {
    format!("basic-agent sealed key v1\0{cluster}\0{id}\0{under}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::ring::tests::key;
    use super::*;

    #[test]
    fn only_the_older_secret_of_the_same_cluster_opens_it() {
        let (old, new, other) = (key("old", 0), key("new", 1), key("other", 2));
        let sealed = SealedSecret::seal(&new, &old, "c1").unwrap();
        assert_eq!(sealed.open(new.id, &old, "c1"), Some(new.secret.clone()));
        assert_eq!(sealed.open(new.id, &other, "c1"), None);
        assert_eq!(sealed.open(new.id, &old, "c2"), None);
        assert_eq!(sealed.open(other.id, &old, "c1"), None);
        let renamed = SealedSecret {
            under: other.id,
            ..sealed.clone()
        };
        assert_eq!(renamed.open(new.id, &other, "c1"), None);
        assert!(!serde_json::to_string(&sealed).unwrap().contains("new-"));
    }

    #[test]
    fn a_changed_cut_or_oversized_box_does_not_open() {
        let (old, new) = (key("old", 0), key("new", 1));
        let sealed = SealedSecret::seal(&new, &old, "c1").unwrap();
        let text = sealed.sealed.clone();
        let mut bad = vec![String::new(), "*".to_owned(), "A".repeat(TEXT_MAX + 1)];
        bad.push(text[..text.len() / 2].to_owned());
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            bad.push(String::from_utf8(changed).unwrap());
        }
        for sealed in bad {
            let sealed = SealedSecret {
                under: old.id,
                sealed,
            };
            assert_eq!(sealed.open(new.id, &old, "c1"), None);
        }
    }

    #[test]
    fn two_seals_of_one_secret_differ() {
        let (old, new) = (key("old", 0), key("new", 1));
        let seal = || SealedSecret::seal(&new, &old, "c1").unwrap();
        assert_ne!(seal(), seal());
    }
}
