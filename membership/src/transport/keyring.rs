//! The gossip keys of this node: one that seals, several that open.
//!
//! Keys rotate in three steps, each of which may reach the nodes at different
//! times: install the new key everywhere, use it everywhere, retire the old
//! one. A node that was away meanwhile still gets in for as long as one of its
//! keys is installed at the others: to each peer, gossip seals with a key that
//! the peer is known to have. A [`Keyring`] is a shared handle: what one clone
//! installs, all clones open with, from the next frame on. In go keys and ids
//! of keys; out come ids, and ciphers to this crate alone. Operations on keys
//! that are not there, in use or too many are refused. No key is ever printed.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

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

/// Names a key without giving it away: four bytes derived from it by blake3,
/// written as eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub(crate) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<KeyId, KeyIdError> {
        let is_hex = text.len() == 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex {
            return Err(KeyIdError);
        }
        let number = u32::from_str_radix(text, 16).map_err(|_| KeyIdError)?;
        Ok(KeyId(number.to_be_bytes()))
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyIdError;

    fn try_from(text: String) -> Result<KeyId, KeyIdError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

/// A text is not the id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key id has eight hexadecimal digits, such as 1f0c93ab")]
pub struct KeyIdError;

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
    shared: Arc<Shared>,
}

struct Shared {
    keys: RwLock<Keys>,
    /// What [`Keyring::installed`] tells, for those who follow it.
    installed: watch::Sender<Vec<KeyId>>,
}

impl Keyring {
    /// A keyring with one key, which seals.
    pub fn new(primary: GossipKey) -> Keyring {
        let keys = Keys {
            primary: Installed::new(&primary),
            others: Vec::new(),
        };
        Keyring {
            shared: Arc::new(Shared {
                installed: watch::channel(keys.ids()).0,
                keys: RwLock::new(keys),
            }),
        }
    }

    /// Opens frames that are sealed with this key from now on.
    ///
    /// # Errors
    /// [`KeyringError::Full`].
    pub fn install(&self, key: GossipKey) -> Result<(), KeyringError> {
        self.change(|keys| {
            if keys.find(key.id).is_some() {
                return Ok(());
            }
            if keys.others.len() + 1 >= KEYS_MAX {
                return Err(KeyringError::Full);
            }
            keys.others.push(Installed::new(&key));
            Ok(())
        })
    }

    /// Seals with this key from now on.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn use_key(&self, id: KeyId) -> Result<(), KeyringError> {
        self.change(|keys| {
            if keys.primary.id == id {
                return Ok(());
            }
            let place = keys.others.iter().position(|other| other.id == id);
            let place = place.ok_or(KeyringError::Unknown { id })?;
            let before = std::mem::replace(&mut keys.primary, keys.others.remove(place));
            keys.others.insert(0, before);
            Ok(())
        })
    }

    /// No longer opens frames that are sealed with this key.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`], or [`KeyringError::InUse`] for the key that seals.
    pub fn retire(&self, id: KeyId) -> Result<(), KeyringError> {
        self.change(|keys| {
            if keys.primary.id == id {
                return Err(KeyringError::InUse { id });
            }
            let place = keys.others.iter().position(|other| other.id == id);
            let place = place.ok_or(KeyringError::Unknown { id })?;
            keys.others.remove(place);
            Ok(())
        })
    }

    /// Puts other keys in the place of all that are installed, in one step:
    /// `primary` seals, and it and `others` open. A key given twice counts once.
    ///
    /// # Errors
    /// [`KeyringError::Full`].
    pub fn replace(
        &self,
        primary: GossipKey,
        others: impl IntoIterator<Item = GossipKey>,
    ) -> Result<(), KeyringError> {
        let mut next = Keys {
            primary: Installed::new(&primary),
            others: Vec::new(),
        };
        for key in others {
            if next.find(key.id).is_some() {
                continue;
            }
            if next.others.len() + 1 >= KEYS_MAX {
                return Err(KeyringError::Full);
            }
            next.others.push(Installed::new(&key));
        }
        self.change(|keys| {
            *keys = next;
            Ok(())
        })
    }

    /// The key that seals.
    pub fn primary(&self) -> KeyId {
        self.read().primary.id
    }

    /// Every key that opens; the first is the one that seals.
    pub fn installed(&self) -> Vec<KeyId> {
        self.read().ids()
    }

    /// Follows [`Keyring::installed`]; wakes at each change.
    pub fn watch(&self) -> watch::Receiver<Vec<KeyId>> {
        self.shared.installed.subscribe()
    }

    /// The key to seal with for a receiver that is known to have the `preferred`
    /// ones, the best first: the first of them that is installed, else the one in
    /// use here.
    pub(crate) fn sealing(&self, preferred: &[KeyId]) -> SealingKey {
        let keys = self.read();
        let key = preferred.iter().find_map(|id| keys.find(*id));
        let key = key.unwrap_or(&keys.primary);
        SealingKey {
            id: key.id,
            cipher: Arc::clone(&key.cipher),
            in_use: keys.primary.id,
        }
    }

    pub(crate) fn opening(&self, id: KeyId) -> Option<Arc<XChaCha20Poly1305>> {
        let keys = self.read();
        keys.find(id).map(|key| Arc::clone(&key.cipher))
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        // A panic cannot leave the keys half changed.
        let keys = self.shared.keys.read();
        keys.unwrap_or_else(PoisonError::into_inner)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Keys) -> Result<(), KeyringError>,
    ) -> Result<(), KeyringError> {
        let keys = self.shared.keys.write();
        let mut keys = keys.unwrap_or_else(PoisonError::into_inner);
        change(&mut keys)?;
        let ids = keys.ids();
        // Still under the lock, so that changes are told in their order.
        self.shared.installed.send_if_modified(|told| {
            let differs = *told != ids;
            *told = ids;
            differs
        });
        Ok(())
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

/// A key chosen to seal a frame with.
pub(crate) struct SealingKey {
    pub(crate) id: KeyId,
    pub(crate) cipher: Arc<XChaCha20Poly1305>,
    /// The key that this node uses where it has the choice.
    pub(crate) in_use: KeyId,
}

struct Keys {
    primary: Installed,
    /// At most one less than [`KEYS_MAX`].
    others: Vec<Installed>,
}

struct Installed {
    id: KeyId,
    cipher: Arc<XChaCha20Poly1305>,
}

impl Installed {
    fn new(key: &GossipKey) -> Installed {
        Installed {
            id: key.id,
            cipher: Arc::new(XChaCha20Poly1305::new((&key.bytes).into())),
        }
    }
}

impl Keys {
    fn iter(&self) -> impl Iterator<Item = &Installed> {
        std::iter::once(&self.primary).chain(&self.others)
    }

    fn find(&self, id: KeyId) -> Option<&Installed> {
        self.iter().find(|key| key.id == id)
    }

    fn ids(&self) -> Vec<KeyId> {
        self.iter().map(|key| key.id).collect()
    }
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
    fn a_keyring_is_replaced_at_once_and_tells_those_who_follow_it() {
        let ring = Keyring::new(key(1));
        let mut followed = ring.watch();
        let two_and_one = [key(2).id(), key(1).id()];
        ring.replace(key(2), [key(1), key(2), key(1)]).unwrap();
        assert_eq!(ring.installed(), two_and_one);
        assert!(followed.has_changed().unwrap());
        assert_eq!(*followed.borrow_and_update(), two_and_one);
        ring.replace(key(2), [key(1)]).unwrap();
        assert!(!followed.has_changed().unwrap(), "nothing differs");
        let many = (3..).map(key).take(KEYS_MAX);
        assert_eq!(ring.replace(key(2), many), Err(KeyringError::Full));
        assert_eq!(ring.installed(), two_and_one);
    }

    #[test]
    fn a_frame_is_sealed_with_the_best_key_that_its_receiver_has() {
        let ring = Keyring::new(key(1));
        ring.install(key(2)).unwrap();
        let [one, two, three] = [1, 2, 3].map(|seed| key(seed).id());
        for (preferred, chosen) in [
            (&[][..], one),
            (&[two, one], two),
            (&[three, two], two),
            (&[three], one),
        ] {
            assert_eq!(ring.sealing(preferred).id, chosen);
            assert_eq!(ring.sealing(preferred).in_use, one);
        }
    }

    #[test]
    fn the_id_of_a_key_is_written_and_read_as_eight_digits() {
        let id = KeyId([0x0f, 0, 0xab, 0xff]);
        assert_eq!(id.to_string(), "0f00abff");
        assert_eq!("0f00abff".parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"0f00abff\"");
        assert_eq!(serde_json::from_str::<KeyId>("\"0F00ABFF\"").unwrap(), id);
        for bad in [
            "",
            "0f00abf",
            "0f00abfff",
            "+f00abff",
            "0f00abfg",
            "0f00äff",
        ] {
            assert_eq!(bad.parse::<KeyId>(), Err(KeyIdError), "{bad}");
        }
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
