//! What is replicated about keys, and what follows from it for the ring of one node.
//!
//! Two records for each key in `agent.keys`, so that making and retiring one never overwrite each other: `{id}/made`
//! with the sealed secret, `{id}/retired` with who ended it. The secret is sealed under every key that the node that
//! made it had installed, because a node that was away may have any one of them; a box under a key that is retired is
//! taken out: by who retires it, and where both happened at once, by who made the key. What follows is a function of the records, the ring, and which keys are everywhere; no IO.

use std::collections::{BTreeMap, BTreeSet};

use basic_membership::KeyId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::records::{RecordError, Records, System};

use super::ring::{InstalledKey, KeyRing, Retirement};
use super::rotation::Way;
use super::sealed::SealedSecret;

/// A key that a rotation made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// When, in milliseconds since the Unix epoch; later than every key that was known there.
    pub created_ms: u64,
    /// On which node.
    pub on: String,
    /// The secret, sealed under older ones.
    pub sealed: Vec<SealedSecret>,
}

/// A key that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredKey {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// On which node.
    pub on: String,
}

/// Everything that is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRecords {
    /// The keys that rotations made.
    pub made: BTreeMap<KeyId, MadeKey>,
    /// The keys that were ended.
    pub retired: BTreeMap<KeyId, RetiredKey>,
    /// The keys of records that are not understood; they have no effect.
    pub unknown: BTreeSet<String>,
}

/// Something that a ring took up from the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key is accepted from others.
    Installed(KeyId),
    /// There is no room for a key.
    NoRoom(KeyId),
    /// A key is in use, instead of another.
    Used {
        /// The key in use.
        id: KeyId,
        /// The one before.
        instead_of: KeyId,
    },
    /// A key is accepted no longer.
    Retired(KeyId),
    /// The only key of this node was retired: it stays, and other nodes refuse it.
    LastRetired(KeyId),
}

const MADE: &str = "made";
const RETIRED: &str = "retired";

/// The key of the record that a key was made.
pub(super) fn made_key(id: KeyId) -> String {
    format!("{id}/{MADE}")
}

/// The key of the record that a key was retired.
pub(super) fn retired_key(id: KeyId) -> String {
    format!("{id}/{RETIRED}")
}

impl KeyRecords {
    /// Reads them out of the store.
    ///
    /// # Errors
    /// [`RecordError::Read`].
    pub fn read(records: &Records) -> Result<Self, RecordError> {
        let mut found = Self::default();
        for (key, value) in records.all::<Value>(System::Keys)? {
            if !found.take(&key, value) {
                found.unknown.insert(key);
            }
        }
        Ok(found)
    }

    fn take(&mut self, key: &str, value: Value) -> bool {
        let Some((id, kind)) = key.split_once('/') else {
            return false;
        };
        let Ok(id) = id.parse() else {
            return false;
        };
        match kind {
            MADE => serde_json::from_value(value).is_ok_and(|made| {
                self.made.insert(id, made);
                true
            }),
            RETIRED => serde_json::from_value(value).is_ok_and(|retired| {
                self.retired.insert(id, retired);
                true
            }),
            _ => false,
        }
    }

    /// How others come to have a key.
    pub(super) fn way_of(&self, id: KeyId) -> Way {
        if self.made.contains_key(&id) {
            Way::Recorded
        } else {
            Way::ByHand
        }
    }

    /// The records of made keys that hold boxes for who has a retired key only, as they should be instead.
    pub fn cleared(&self) -> impl Iterator<Item = (KeyId, MadeKey)> + '_ {
        let is_stale = |id: &KeyId, sealed: &SealedSecret| {
            self.retired.contains_key(id) || self.retired.contains_key(&sealed.under)
        };
        self.made.iter().filter_map(move |(id, made)| {
            let mut cleared = made.clone();
            cleared.sealed.retain(|sealed| !is_stale(id, sealed));
            (cleared != *made).then_some((*id, cleared))
        })
    }

    /// Brings a ring in step with the records: opens and installs what it can, drops what was retired, and uses the
    /// greatest key that is `everywhere`. Says what has changed, in order.
    pub fn apply(
        &self,
        ring: &mut KeyRing,
        cluster: &str,
        everywhere: impl Fn(KeyId) -> bool,
    ) -> Vec<Change> {
        let mut changes = self.install(ring, cluster);
        for (id, made) in &self.made {
            ring.date(*id, made.created_ms);
        }
        for (id, retired) in &self.retired {
            let known = ring.retired().contains_key(id) && ring.find(*id).is_none();
            if known || ring.ids() == [*id] && ring.retired().contains_key(id) {
                continue;
            }
            match ring.retire(*id, retired.at_ms) {
                Retirement::Gone => changes.push(Change::Retired(*id)),
                Retirement::Replaced(next) => {
                    changes.push(Change::Used {
                        id: next,
                        instead_of: *id,
                    });
                    changes.push(Change::Retired(*id));
                }
                Retirement::Last => changes.push(Change::LastRetired(*id)),
                Retirement::Unknown => {}
            }
        }
        if let Some(instead_of) = ring.advance(everywhere) {
            changes.push(Change::Used {
                id: ring.in_use().id,
                instead_of,
            });
        }
        changes
    }

    /// A key that was opened may open the next one, so this goes on until nothing more opens.
    fn install(&self, ring: &mut KeyRing, cluster: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        let is_retired =
            |ring: &KeyRing, id| self.retired.contains_key(id) || ring.retired().contains_key(id);
        loop {
            let unknown = self.made.iter();
            let unknown =
                unknown.filter(|(id, _)| ring.find(**id).is_none() && !is_retired(ring, id));
            let opened = unknown.filter_map(|(id, made)| {
                let secret = made
                    .sealed
                    .iter()
                    .find_map(|sealed| sealed.open(*id, ring.find(sealed.under)?, cluster))?;
                Some(InstalledKey::new(secret, made.created_ms))
            });
            let opened: Vec<InstalledKey> = opened.collect();
            let mut progress = false;
            for key in opened {
                let id = key.id;
                if ring.install(key) {
                    progress = true;
                    changes.push(Change::Installed(id));
                } else {
                    changes.push(Change::NoRoom(id));
                }
            }
            if !progress {
                changes.dedup();
                return changes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::tests::{key, secret};
    use super::*;

    fn made(new: &InstalledKey, under: &[&InstalledKey]) -> (KeyId, MadeKey) {
        let seal = |under: &&InstalledKey| SealedSecret::seal(new, under, "c1").unwrap();
        let record = MadeKey {
            created_ms: new.created_ms,
            on: "n1".to_owned(),
            sealed: under.iter().map(seal).collect(),
        };
        (new.id, record)
    }

    fn retired(id: KeyId) -> (KeyId, RetiredKey) {
        let record = RetiredKey {
            at_ms: 99,
            on: "n1".to_owned(),
        };
        (id, record)
    }

    #[test]
    fn a_node_with_an_old_key_only_gets_through_several_rotations() {
        let (a, b, c) = (key("a", 0), key("b", 1), key("c", 2));
        let mut records = KeyRecords::default();
        records.made.extend([made(&c, &[&b]), made(&b, &[&a])]);
        let mut ring = KeyRing::new(a.secret.clone());
        let changes = records.apply(&mut ring, "c1", |_| true);
        assert_eq!(ring.in_use().id, c.id);
        assert_eq!(ring.ids().len(), 3);
        assert!(changes.contains(&Change::Installed(b.id)), "{changes:?}");
        let used = Change::Used {
            id: c.id,
            instead_of: a.id,
        };
        assert_eq!(changes.last(), Some(&used));
        assert_eq!(
            records.apply(&mut ring, "c1", |_| true),
            [],
            "nothing more to do"
        );
    }

    #[test]
    fn a_box_under_any_installed_key_is_enough() {
        let (a, b, c) = (key("a", 0), key("b", 1), key("c", 2));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[]), made(&c, &[&b, &a])]);
        let mut ring = KeyRing::new(a.secret.clone());
        records.apply(&mut ring, "c1", |_| true);
        assert_eq!(ring.ids(), [c.id, a.id]);
    }

    #[test]
    fn nothing_is_installed_from_another_cluster_or_without_an_older_key() {
        let (a, b) = (key("a", 0), key("b", 1));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[&a])]);
        let mut other = KeyRing::new(secret("other"));
        assert_eq!(records.apply(&mut other, "c1", |_| true), []);
        let mut elsewhere = KeyRing::new(a.secret.clone());
        assert_eq!(records.apply(&mut elsewhere, "c2", |_| true), []);
    }

    #[test]
    fn two_rotations_at_once_end_at_the_later_one() {
        let (a, b, c) = (key("a", 0), key("b", 5), key("c", 4));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[&a]), made(&c, &[&a])]);
        let mut ring = KeyRing::new(a.secret.clone());
        // Another node has installed the earlier one only so far.
        records.apply(&mut ring, "c1", |id| id == c.id);
        assert_eq!(ring.in_use().id, c.id);
        records.apply(&mut ring, "c1", |_| true);
        assert_eq!(ring.in_use().id, b.id);
    }

    #[test]
    fn a_retired_key_is_dropped_and_never_comes_back_from_its_record() {
        let (a, b) = (key("a", 0), key("b", 1));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[&a])]);
        let mut ring = KeyRing::new(a.secret.clone());
        records.apply(&mut ring, "c1", |_| true);
        records.retired.extend([retired(a.id)]);
        assert_eq!(
            records.apply(&mut ring, "c1", |_| true),
            [Change::Retired(a.id)]
        );
        assert_eq!(ring.ids(), [b.id]);

        records.retired.extend([retired(b.id)]);
        assert_eq!(
            records.apply(&mut ring, "c1", |_| true),
            [Change::LastRetired(b.id)]
        );
        assert_eq!(ring.ids(), [b.id], "a node never loses its only key");
        assert_eq!(
            records.apply(&mut ring, "c1", |_| true),
            [],
            "and says so once"
        );
    }

    #[test]
    fn a_box_under_a_retired_key_is_stale_and_so_is_every_box_of_one() {
        let (a, b, c) = (key("a", 0), key("b", 1), key("c", 2));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[&a]), made(&c, &[&b, &a])]);
        assert_eq!(records.cleared().count(), 0);
        // Retired on one node while another one sealed `c` under it.
        records.retired.extend([retired(a.id)]);
        let cleared: BTreeMap<KeyId, MadeKey> = records.cleared().collect();
        assert_eq!(cleared[&b.id].sealed, []);
        let under: Vec<KeyId> = cleared[&c.id].sealed.iter().map(|s| s.under).collect();
        assert_eq!(under, [b.id]);
        records.made.extend(cleared);
        assert_eq!(records.cleared().count(), 0, "nothing is left to do");
        records.retired.extend([retired(c.id)]);
        let cleared: Vec<KeyId> = records.cleared().map(|(id, _)| id).collect();
        assert_eq!(cleared, [c.id]);
    }

    #[test]
    fn a_node_that_joined_with_a_newer_key_learns_when_it_was_made() {
        let (a, b) = (key("a", 0), key("b", 7));
        let mut records = KeyRecords::default();
        records.made.extend([made(&b, &[&a])]);
        let mut ring = KeyRing::new(b.secret.clone());
        assert_eq!(records.apply(&mut ring, "c1", |_| true), []);
        assert_eq!(ring.in_use().created_ms, 7);
    }

    #[test]
    fn records_of_another_form_have_no_effect() {
        let mut records = KeyRecords::default();
        for (key, value) in [
            ("hello", Value::Null),
            ("hello/made", Value::Null),
            ("00000000/made", serde_json::json!({ "created_ms": "x" })),
            ("00000000/renamed", serde_json::json!({})),
        ] {
            assert!(!records.take(key, value), "{key}");
        }
        assert_eq!(records, KeyRecords::default());
    }
}
