//! The secrets that this node knows, and the rules by which one of them is in use.
//!
//! Secrets are ordered by when they were made, then by id: the same order on every node. The one in use only moves
//! up in that order, to the greatest secret that every live member has, so that all nodes end at the same one
//! whatever each saw first. The ring is a value: no file, no network, no clock.

use std::collections::BTreeMap;
use std::fmt;

use basic_membership::KeyId;
use basic_membership::transport::keyring::KEYS_MAX;

use crate::config::PeerSecret;
use crate::peer_port::PeerKeys;

/// Retired ids that are remembered; the oldest are forgotten first.
const RETIRED_MAX: usize = 64;

/// A secret that is accepted from others.
#[derive(Clone, PartialEq, Eq)]
pub struct InstalledKey {
    /// Its public name.
    pub id: KeyId,
    /// The secret.
    pub secret: PeerSecret,
    /// When it was made, in milliseconds since the Unix epoch; 0 for the one that the cluster began with.
    pub created_ms: u64,
}

/// The secrets of one node: at least one, at most [`KEYS_MAX`].
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    in_use: InstalledKey,
    others: Vec<InstalledKey>,
    retired: BTreeMap<KeyId, u64>,
}

/// What became of the secret in the configuration when a ring was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It is in use.
    InUse,
    /// It is installed, and another one is in use since a rotation.
    Installed,
    /// It was retired since, at this time in milliseconds since the Unix epoch, and is not used.
    Retired(u64),
    /// It was not known, and is in use now: the operator's word.
    New,
    /// It was not known, and there is no room for it; it is not used.
    NoRoom,
}

/// What became of a key that was to be retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// It is gone.
    Gone,
    /// It is gone, and this key took its place.
    Replaced(KeyId),
    /// It is the only one, so that it stays; other nodes refuse it.
    Last,
    /// It was not installed.
    Unknown,
}

impl InstalledKey {
    /// A secret with the id that follows from it.
    pub fn new(secret: PeerSecret, created_ms: u64) -> Self {
        Self {
            id: PeerKeys::derive(secret.expose().as_bytes()).id(),
            secret,
            created_ms,
        }
    }

    /// The keys that follow from it.
    pub fn peer_keys(&self) -> PeerKeys {
        PeerKeys::derive(self.secret.expose().as_bytes())
    }

    fn rank(&self) -> (u64, KeyId) {
        (self.created_ms, self.id)
    }
}

impl KeyRing {
    /// The ring of a node that has only ever known the secret in its configuration.
    pub fn new(secret: PeerSecret) -> Self {
        Self {
            in_use: InstalledKey::new(secret, 0),
            others: Vec::new(),
            retired: BTreeMap::new(),
        }
    }

    /// The ring as it was written down.
    pub(super) fn restore(
        in_use: InstalledKey,
        others: Vec<InstalledKey>,
        retired: BTreeMap<KeyId, u64>,
    ) -> Self {
        Self {
            in_use,
            others,
            retired,
        }
    }

    /// Takes up the secret in the configuration.
    pub fn adopt(&mut self, configured: &PeerSecret) -> Adoption {
        // After all that are known, or a later look at the others would put one of them back to use; and just so:
        // when this clock says would, if the clock is ahead, outrank every rotation until the others have caught up.
        let created_ms = self.newest().created_ms.saturating_add(1);
        let key = InstalledKey::new(configured.clone(), created_ms);
        if key.id == self.in_use.id {
            return Adoption::InUse;
        }
        if let Some(at_ms) = self.retired.get(&key.id) {
            return Adoption::Retired(*at_ms);
        }
        if self.find(key.id).is_some() {
            return Adoption::Installed;
        }
        if self.is_full() {
            return Adoption::NoRoom;
        }
        let former = std::mem::replace(&mut self.in_use, key);
        self.others.push(former);
        Adoption::New
    }

    /// Every installed key, the one in use first.
    pub fn installed(&self) -> impl Iterator<Item = &InstalledKey> {
        std::iter::once(&self.in_use).chain(&self.others)
    }

    /// The ids of all installed keys, the one in use first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.installed().map(|key| key.id).collect()
    }

    /// The key in use.
    pub fn in_use(&self) -> &InstalledKey {
        &self.in_use
    }

    /// The installed key with this id.
    pub fn find(&self, id: KeyId) -> Option<&InstalledKey> {
        self.installed().find(|key| key.id == id)
    }

    /// The greatest key in the common order: the one that is in use, or will be.
    pub fn newest(&self) -> &InstalledKey {
        let newest = self.others.iter().max_by_key(|key| key.rank());
        newest
            .filter(|key| key.rank() > self.in_use.rank())
            .unwrap_or(&self.in_use)
    }

    /// The ids that were retired, and when, in milliseconds since the Unix epoch.
    pub fn retired(&self) -> &BTreeMap<KeyId, u64> {
        &self.retired
    }

    /// Whether there is no room for another key.
    pub fn is_full(&self) -> bool {
        1 + self.others.len() >= KEYS_MAX
    }

    /// Accepts a secret from now on; whether it is installed afterwards. One that was retired is not.
    pub fn install(&mut self, key: InstalledKey) -> bool {
        if self.find(key.id).is_some() {
            return true;
        }
        if self.retired.contains_key(&key.id) || self.is_full() {
            return false;
        }
        self.others.push(key);
        true
    }

    /// Sets when a key was made, which a node that joined with it does not know by itself.
    pub fn date(&mut self, id: KeyId, created_ms: u64) {
        let keys = std::iter::once(&mut self.in_use).chain(&mut self.others);
        for key in keys.filter(|key| key.id == id) {
            key.created_ms = created_ms;
        }
    }

    /// Uses the greatest key that is `everywhere`, if it is greater than the one in use; returns the one that was.
    pub fn advance(&mut self, everywhere: impl Fn(KeyId) -> bool) -> Option<KeyId> {
        let current = self.in_use.rank();
        let candidates = self.others.iter().enumerate();
        let (index, _) = candidates
            .filter(|(_, key)| key.rank() > current && everywhere(key.id))
            .max_by_key(|(_, key)| key.rank())?;
        Some(self.use_other(index))
    }

    /// Accepts a key no longer.
    pub fn retire(&mut self, id: KeyId, at_ms: u64) -> Retirement {
        self.retired.entry(id).or_insert(at_ms);
        while self.retired.len() > RETIRED_MAX {
            let oldest = self.retired.iter().min_by_key(|(_, at_ms)| **at_ms);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.retired.remove(&oldest);
        }
        let others = self.others.len();
        self.others.retain(|key| key.id != id);
        if self.others.len() < others {
            return Retirement::Gone;
        }
        if self.in_use.id != id {
            return Retirement::Unknown;
        }
        let candidates = self.others.iter().enumerate();
        match candidates.max_by_key(|(_, key)| key.rank()) {
            None => Retirement::Last,
            Some((index, _)) => {
                self.use_other(index);
                self.others.retain(|key| key.id != id);
                Retirement::Replaced(self.in_use.id)
            }
        }
    }

    fn use_other(&mut self, index: usize) -> KeyId {
        let next = self.others.remove(index);
        let former = std::mem::replace(&mut self.in_use, next);
        let id = former.id;
        self.others.insert(0, former);
        id
    }
}

impl fmt::Debug for InstalledKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.created_ms)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("in_use", &self.in_use)
            .field("others", &self.others)
            .field("retired", &self.retired)
            .finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A secret of which only `text` differs from others.
    pub(in crate::keys) fn secret(text: &str) -> PeerSecret {
        PeerSecret::parse(&format!("{text:-<32}"), "a test").unwrap()
    }

    pub(in crate::keys) fn key(text: &str, created_ms: u64) -> InstalledKey {
        InstalledKey::new(secret(text), created_ms)
    }

    #[test]
    fn a_new_key_is_used_once_it_is_everywhere_and_never_before() {
        let mut ring = KeyRing::new(secret("old"));
        let (old, new) = (ring.in_use().id, key("new", 5));
        assert!(ring.install(new.clone()));
        assert_eq!(ring.advance(|id| id == old), None);
        assert_eq!((ring.in_use().id, ring.newest().id), (old, new.id));
        assert_eq!(ring.advance(|_| true), Some(old));
        assert_eq!(ring.ids(), [new.id, old]);
        assert_eq!(ring.advance(|_| true), None, "never down again");
    }

    #[test]
    fn the_configured_secret_counts_unless_it_was_retired() {
        let (old, new) = (secret("old"), key("new", 5));
        let mut ring = KeyRing::new(old.clone());
        let id = ring.in_use().id;
        assert_eq!(ring.adopt(&old), Adoption::InUse);
        ring.install(new.clone());
        ring.advance(|_| true);
        assert_eq!(ring.adopt(&old), Adoption::Installed);
        assert_eq!(ring.in_use().id, new.id);
        assert_eq!(ring.retire(id, 7), Retirement::Gone);
        assert_eq!(ring.adopt(&old), Adoption::Retired(7));
        assert!(!ring.install(InstalledKey::new(old, 0)));
        assert_eq!(ring.ids(), [new.id]);

        let other = secret("other");
        assert_eq!(ring.adopt(&other), Adoption::New);
        assert_eq!(ring.in_use().secret, other);
        assert_eq!(
            ring.advance(|_| true),
            None,
            "it ranks above all known ones"
        );
        let next = key("next", 7);
        ring.install(next.clone());
        ring.advance(|_| true);
        assert_eq!(ring.in_use().id, next.id, "and below the next rotation");
    }

    #[test]
    fn the_last_key_stays_and_one_in_use_makes_place_for_the_next() {
        let mut ring = KeyRing::new(secret("old"));
        let old = ring.in_use().id;
        assert_eq!(ring.clone().retire(old, 1), Retirement::Last);
        let new = key("new", 5);
        ring.install(new.clone());
        assert_eq!(ring.retire(old, 1), Retirement::Replaced(new.id));
        assert_eq!(ring.ids(), [new.id]);
        assert_eq!(ring.retire(old, 2), Retirement::Unknown);
        assert_eq!(ring.retired().get(&old), Some(&1));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut ring = KeyRing::new(secret("0"));
        for n in 1..KEYS_MAX {
            assert!(ring.install(key(&n.to_string(), 1)));
        }
        assert!(!ring.install(key("one more", 1)));
        assert_eq!(ring.adopt(&secret("another")), Adoption::NoRoom);
        for n in 0..200 {
            ring.retire(key(&format!("r{n}"), 0).id, n);
        }
        assert_eq!(ring.retired().len(), RETIRED_MAX);
        assert!(ring.retired().values().all(|at_ms| *at_ms >= 200 - 64));
    }

    #[test]
    fn nothing_printed_contains_a_secret() {
        let ring = KeyRing::new(secret("hidden"));
        assert!(!format!("{ring:?}").contains("hidden"));
    }

    proptest! {
        /// Whatever the order in which nodes hear of several rotations at once, all use the same one in the end.
        #[test]
        fn the_order_of_arrival_does_not_matter(
            times in prop::collection::vec(1_u64..4, 1..6),
            order in any::<prop::sample::Index>(),
            when in prop::collection::vec(any::<bool>(), 6),
        ) {
            let keys: Vec<_> = times.iter().enumerate().map(|(n, ms)| key(&n.to_string(), *ms)).collect();
            let mut reference = KeyRing::new(secret("first"));
            keys.iter().for_each(|key| { reference.install(key.clone()); });
            reference.advance(|_| true);

            let mut ring = KeyRing::new(secret("first"));
            let mut shuffled = keys.clone();
            shuffled.rotate_left(order.index(keys.len()));
            for (key, advance) in shuffled.into_iter().zip(when) {
                ring.install(key);
                if advance {
                    ring.advance(|_| true);
                }
            }
            ring.advance(|_| true);
            prop_assert_eq!(ring.in_use(), reference.in_use());
        }
    }
}
