//! The gossip keys of this node: one that seals, several that open.
//!
//! Keys rotate in three steps, each of which may reach the nodes at different
//! times: install the new key everywhere, use it everywhere, retire the old
//! one. A node that was away meanwhile still gets in for as long as one of its
//! keys is installed at the others. A [`Keyring`] is a shared handle: what one
//! clone installs, all clones open with. No key is ever printed.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use thiserror::Error;

/// Most keys installed at a time.
pub const KEYS_MAX: usize = 8;

/// A secret key of gossip.
#[derive(Clone)]
pub struct GossipKey {
    id: KeyId,
    bytes: [u8; 32],
}

impl GossipKey {
    /// A key from 32 bytes that only the cluster knows.
    pub fn from_bytes(bytes: [u8; 32]) -> GossipKey {
        let [a, b, c, d, ..] = blake3::derive_key(KEY_ID_CONTEXT, &bytes);
        GossipKey {
            id: KeyId([a, b, c, d]),
            bytes,
        }
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GossipKey({})", self.id)
    }
}

/// Names a key without giving it away: four bytes derived from it by blake3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a key operation was refused. The keyring is then unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// The key is not installed.
    #[error("key {id} is not installed; install it on every node first")]
    Unknown {
        /// The key asked for.
        id: KeyId,
    },
    /// The key that seals cannot be retired.
    #[error("key {id} is in use; use another key before retiring it")]
    InUse {
        /// The key asked for.
        id: KeyId,
    },
    /// No room for another key.
    #[error("{KEYS_MAX} keys are installed already; retire one first")]
    Full,
}

/// The installed keys.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<RwLock<Keys>>,
}

struct Keys {
    primary: KeyId,
    installed: Vec<(KeyId, Arc<XChaCha20Poly1305>)>,
}

impl Keyring {
    /// A keyring with one key, which seals.
    pub fn new(primary: GossipKey) -> Keyring {
        let keys = Keys {
            primary: primary.id,
            installed: vec![entry(&primary)],
        };
        Keyring {
            keys: Arc::new(RwLock::new(keys)),
        }
    }

    /// Opens frames that are sealed with this key from now on.
    ///
    /// # Errors
    /// [`KeyringError::Full`].
    pub fn install(&self, key: GossipKey) -> Result<(), KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.find(key.id).is_some() {
            return Ok(());
        }
        if keys.installed.len() >= KEYS_MAX {
            return Err(KeyringError::Full);
        }
        keys.installed.push(entry(&key));
        Ok(())
    }

    /// Seals with this key from now on.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn use_key(&self, id: KeyId) -> Result<(), KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.find(id).is_none() {
            return Err(KeyringError::Unknown { id });
        }
        keys.primary = id;
        Ok(())
    }

    /// No longer opens frames that are sealed with this key.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`], or [`KeyringError::InUse`] for the key that seals.
    pub fn retire(&self, id: KeyId) -> Result<(), KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.find(id).is_none() {
            return Err(KeyringError::Unknown { id });
        }
        if keys.primary == id {
            return Err(KeyringError::InUse { id });
        }
        keys.installed.retain(|(installed, _)| *installed != id);
        Ok(())
    }

    /// The key that seals.
    pub fn primary(&self) -> KeyId {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .primary
    }

    /// Every key that opens, in the order of installation.
    pub fn installed(&self) -> Vec<KeyId> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.installed.iter().map(|(id, _)| *id).collect()
    }

    pub(crate) fn sealing(&self) -> (KeyId, Arc<XChaCha20Poly1305>) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let cipher = keys
            .find(keys.primary)
            .expect("the primary key is always installed");
        (keys.primary, cipher)
    }

    pub(crate) fn opening(&self, id: KeyId) -> Option<Arc<XChaCha20Poly1305>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .find(id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("primary", &self.primary())
            .field("installed", &self.installed())
            .finish()
    }
}

const KEY_ID_CONTEXT: &str = "basic-agent 2026 gossip key id v1";

impl Keys {
    fn find(&self, id: KeyId) -> Option<Arc<XChaCha20Poly1305>> {
        let (_, cipher) = self
            .installed
            .iter()
            .find(|(installed, _)| *installed == id)?;
        Some(Arc::clone(cipher))
    }
}

fn entry(key: &GossipKey) -> (KeyId, Arc<XChaCha20Poly1305>) {
    (
        key.id,
        Arc::new(XChaCha20Poly1305::new((&key.bytes).into())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> GossipKey {
        GossipKey::from_bytes([seed; 32])
    }

    #[test]
    fn rotation_goes_through_install_use_and_retire_in_that_order_only() {
        let (old, new) = (key(1), key(2));
        let ring = Keyring::new(old.clone());
        assert_eq!(
            ring.use_key(new.id()),
            Err(KeyringError::Unknown { id: new.id() })
        );
        ring.install(new.clone()).unwrap();
        ring.install(new.clone()).unwrap();
        assert_eq!(
            ring.retire(old.id()),
            Err(KeyringError::InUse { id: old.id() })
        );
        ring.use_key(new.id()).unwrap();
        assert!(ring.opening(old.id()).is_some());
        ring.retire(old.id()).unwrap();
        assert!(ring.opening(old.id()).is_none());
        assert_eq!(ring.clone().installed(), [new.id()]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let ring = Keyring::new(key(0));
        for seed in 1..8 {
            ring.install(key(seed)).unwrap();
        }
        assert_eq!(ring.install(key(99)), Err(KeyringError::Full));
    }

    #[test]
    fn nothing_printed_contains_the_key() {
        let key = GossipKey::from_bytes([0xAB; 32]);
        let text = format!("{key:?} {:?}", Keyring::new(key.clone()));
        assert!(
            !text.contains("171") && !text.to_lowercase().contains("abab"),
            "{text}"
        );
    }
}
