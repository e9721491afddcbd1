//! The running side: follows the records, puts keys to use, and does what operators ask.
//!
//! One task per node ([`Keys::follow`]) owns every change of the ring. It looks when a record or a member has changed,
//! writes the new ring to disk before anything uses it, and then gives it to gossip and TLS, which take it up without
//! dropping a connection; gossip announces what is installed. An operator's order only writes records, so that the
//! node that is asked does nothing that the others would not do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use basic_membership::{Cluster, KeyId, Keyring, Member, MemberState, NodeId};
use serde_json::json;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::config::{PeerSecret, SecretError};
use crate::operations::{Actor, AuditEntry, AuditLog};
use crate::peer_port::{Credentials, PeerKeys};
use crate::records::{Batch, RecordError, Records, System};

use super::file::{KeyFile, KeyFileError};
use super::record::{Change, KeyRecords, MadeKey, RetiredKey, made_key, retired_key};
use super::ring::{InstalledKey, KeyRing};
use super::sealed::SealedSecret;

/// Time between two looks without a signal.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest time between two looks: changes of members come in bursts.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The keys of a running node. Clones share them.
#[derive(Clone)]
pub struct Keys {
    parts: Arc<Parts>,
    ring: Arc<Mutex<KeyRing>>,
}

/// What the keys of a node work with.
pub struct Parts {
    /// The name of the cluster.
    pub cluster_name: String,
    /// Where the ring is kept.
    pub file: KeyFile,
    /// The keys of gossip, as the ring has them.
    pub keyring: Keyring,
    /// The certificates of TLS, as the ring has them.
    pub credentials: Credentials,
    /// The membership.
    pub cluster: Cluster,
    /// The replicated records.
    pub records: Records,
    /// The record of what operators decide.
    pub audit: AuditLog,
}

/// A rotation that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The new key.
    pub id: KeyId,
    /// The one in use until every live member has the new one.
    pub previous: KeyId,
}

/// Why no rotation has begun.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The one before has not ended.
    #[error("the rotation to key {id} is not complete: it waits for {} to install it", names(.waiting))]
    UnderWay {
        /// The key of that rotation.
        id: KeyId,
        /// The live members that lack it.
        waiting: Vec<NodeId>,
        /// How they come to have it.
        way: Way,
    },
    /// As many keys as there may be are installed.
    #[error("{count} keys are installed, which is the most there may be; retire one first")]
    Full {
        /// How many.
        count: usize,
    },
    /// No new secret could be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It could not be sealed.
    #[error("no random numbers for the new key")]
    Random(#[source] getrandom::Error),
    /// It could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why a key was not retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// This node does not have it.
    #[error("no key {id} is installed here; there are {}", names(.installed))]
    Unknown {
        /// The key asked for.
        id: KeyId,
        /// The keys that are.
        installed: Vec<KeyId>,
    },
    /// It is the one in use.
    #[error("key {id} is in use; rotate to a new one first")]
    InUse {
        /// The key asked for.
        id: KeyId,
    },
    /// Live members would be cut off.
    #[error("{} still use it or lack key {newer}", names(.members))]
    Needed {
        /// The key that they should use.
        newer: KeyId,
        /// Those members.
        members: Vec<NodeId>,
        /// How they come to have it.
        way: Way,
    },
    /// Members that are away could not come back.
    #[error("{} may have no newer key and could not come back by themselves", names(.members))]
    Away {
        /// Those members.
        members: Vec<NodeId>,
    },
    /// The decision could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// How a member that lacks a key comes to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By replication: a rotation has recorded it.
    Recorded,
    /// Only by hand: this node has it from its configuration or a token, and no record tells it.
    ByHand,
}

/// Which keys a member announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberKeys {
    /// The member.
    pub id: NodeId,
    /// Its state here.
    pub state: MemberState,
    /// Whether a rotation waits for it.
    pub live: bool,
    /// Its keys, the one in use first; empty where it announces none.
    pub keys: Vec<KeyId>,
}

impl Keys {
    /// The keys of this node, in this ring.
    pub fn new(ring: KeyRing, parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            ring: Arc::new(Mutex::new(ring)),
        }
    }

    /// The ring as it is now.
    pub fn ring(&self) -> KeyRing {
        self.ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Which keys every member announces, in the order of their ids; removed ones are left out.
    pub fn members(&self) -> Vec<MemberKeys> {
        let members = self.parts.cluster.members();
        let kept = members
            .iter()
            .filter(|member| member.state != MemberState::Removed);
        kept.map(|member| MemberKeys {
            id: member.id.clone(),
            state: member.state,
            live: is_live(member),
            keys: if member.is_self {
                self.ring().ids()
            } else {
                member.metadata.keys.clone()
            },
        })
        .collect()
    }

    /// Makes a new key and hands it to every node; they use it as soon as all live ones have it.
    ///
    /// # Errors
    /// [`RotateError`]; nothing has changed then.
    pub async fn rotate(&self, actor: &Actor) -> Result<Rotation, RotateError> {
        let ring = self.ring();
        let newest = ring.newest();
        let waiting = self.lacking(|keys| keys.contains(&newest.id));
        if newest != ring.in_use() && !waiting.is_empty() {
            return Err(RotateError::UnderWay {
                id: newest.id,
                waiting,
                way: KeyRecords::read(&self.parts.records)?.way_of(newest.id),
            });
        }
        if ring.is_full() {
            return Err(RotateError::Full {
                count: ring.ids().len(),
            });
        }
        let now_ms = millis(SystemTime::now());
        let created_ms = now_ms.max(newest.created_ms.saturating_add(1));
        let key = InstalledKey::new(PeerSecret::random()?, created_ms);
        let sealed = ring
            .installed()
            .map(|under| SealedSecret::seal(&key, under, &self.parts.cluster_name));
        let sealed: Result<_, _> = sealed.collect();
        let made = MadeKey {
            created_ms,
            on: self.parts.cluster.identity().id.to_string(),
            sealed: sealed.map_err(RotateError::Random)?,
        };
        let rotation = Rotation {
            id: key.id,
            previous: ring.in_use().id,
        };
        let batch = Batch::default().put(System::Keys, &made_key(key.id), &made)?;
        let entry = self.entry("rotate-keys", actor, rotation.previous, rotation.id);
        self.parts.audit.write(batch, &entry).await?;
        Ok(rotation)
    }

    /// Ends a key on every node. Members that are away and may have no other are refused unless `force`.
    ///
    /// # Errors
    /// [`RetireError`]; nothing has changed then.
    pub async fn retire(&self, id: KeyId, force: bool, actor: &Actor) -> Result<(), RetireError> {
        let ring = self.ring();
        if ring.find(id).is_none() {
            return Err(RetireError::Unknown {
                id,
                installed: ring.ids(),
            });
        }
        let newer = ring.in_use().id;
        if newer == id {
            return Err(RetireError::InUse { id });
        }
        let members = self.lacking(|keys| keys.contains(&newer) && keys.first() != Some(&id));
        let mut recorded = KeyRecords::read(&self.parts.records)?;
        if !members.is_empty() {
            return Err(RetireError::Needed {
                newer,
                members,
                way: recorded.way_of(newer),
            });
        }
        let away = self.away_without(newer);
        if !away.is_empty() && !force {
            return Err(RetireError::Away { members: away });
        }
        let retired = RetiredKey {
            at_ms: millis(SystemTime::now()),
            on: self.parts.cluster.identity().id.to_string(),
        };
        let batch = Batch::default().put(System::Keys, &retired_key(id), &retired)?;
        // Whoever has the retired secret shall not find the newer ones under it.
        recorded.retired.insert(id, retired);
        let batch = clear(batch, recorded.cleared())?;
        let entry = self.entry("retire-key", actor, id, newer);
        self.parts.audit.write(batch, &entry).await?;
        Ok(())
    }

    /// Keeps the ring in step with records and members; never returns.
    pub async fn follow(self) {
        let mut records = self.parts.records.changes(System::Keys);
        let mut members = self.parts.cluster.watch();
        let mut told = Told::default();
        loop {
            if let Err(error) = self.apply(&mut told).await {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                error!(%error, cause, "the keys cannot be brought up to date; the ones before stay in use");
            }
            if let Err(error) = self.sweep().await {
                warn!(%error, "what was sealed under a retired key is still in the records; it will be tried again");
            }
            sleep(LOOK_PAUSE).await;
            tokio::select! {
                () = records.changed() => {}
                Ok(()) = members.changed() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn apply(&self, told: &mut Told) -> Result<(), ApplyError> {
        let recorded = KeyRecords::read(&self.parts.records)?;
        let before = self.ring();
        let mut next = before.clone();
        let changes = recorded.apply(&mut next, &self.parts.cluster_name, |id| {
            self.lacking(|keys| keys.contains(&id)).is_empty()
        });
        for key in told.lacks_room(&changes) {
            warn!(%key, "there is no room for a new key, and its rotation waits for this node; retire an old one by `basic-agent keys retire`");
        }
        for key in told.not_understood(&recorded) {
            warn!(
                key,
                "a record of a key is not understood; did a newer agent write it?"
            );
        }
        if next == before {
            return Ok(());
        }
        let file = self.parts.file.clone();
        let kept = next.clone();
        let written = tokio::task::spawn_blocking(move || file.write(&kept)).await;
        written.map_err(ApplyError::Interrupted)??;

        let keys: Vec<PeerKeys> = next.installed().map(InstalledKey::peer_keys).collect();
        self.parts.credentials.replace_keys(&keys)?;
        let others = keys.iter().skip(1).map(PeerKeys::gossip_key);
        let in_use = next.in_use().peer_keys().gossip_key();
        self.parts.keyring.replace(in_use, others)?;
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = next;
        changes.iter().for_each(log);
        Ok(())
    }

    /// Takes out of the records what was sealed under a key while another node retired that.
    async fn sweep(&self) -> Result<(), RecordError> {
        let recorded = KeyRecords::read(&self.parts.records)?;
        let own = &self.parts.cluster.identity().id;
        let members = self.parts.cluster.members();
        let live: BTreeSet<&str> = members
            .iter()
            .filter(|member| is_live(member))
            .map(|member| member.id.as_str())
            .collect();
        let ours = recorded
            .cleared()
            .filter(|(_, made)| sweeper(&made.on, &live) == Some(own.as_str()));
        let batch = clear(Batch::default(), ours)?;
        self.parts.records.write(batch).await
    }

    /// The other live members whose announced keys do not satisfy `enough`.
    fn lacking(&self, enough: impl Fn(&[KeyId]) -> bool) -> Vec<NodeId> {
        let members = self.parts.cluster.members();
        let others = members.iter().filter(|member| !member.is_self);
        others
            .filter(|member| is_live(member) && !enough(&member.metadata.keys))
            .map(|member| member.id.clone())
            .collect()
    }

    /// Members that are away, and of which it is not known that they have this key.
    fn away_without(&self, key: KeyId) -> Vec<NodeId> {
        let members = self.parts.cluster.members();
        let known = members.iter().filter(|member| !member.is_self);
        let mut away: Vec<NodeId> = known
            .filter(|member| !is_live(member) && member.state != MemberState::Removed)
            .filter(|member| !member.metadata.keys.contains(&key))
            .map(|member| member.id.clone())
            .collect();
        let roster = self.parts.cluster.roster().into_iter();
        away.extend(
            roster
                .map(|entry| entry.id)
                .filter(|id| members.find(id).is_none()),
        );
        away
    }

    fn entry(&self, action: &str, actor: &Actor, before: KeyId, after: KeyId) -> AuditEntry {
        AuditEntry {
            action: action.to_owned(),
            node: format!("key {before}"),
            order: self.parts.audit.order(actor),
            before: json!({ "key": before }),
            after: json!({ "key": after }),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("ring", &self.ring())
            .finish_non_exhaustive()
    }
}

/// Why the ring was not brought up to date; it is as it was, and is looked at again soon.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("the records of keys cannot be read")]
    Records(#[from] RecordError),
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("writing the keys was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    #[error("the certificates cannot be made")]
    Credentials(#[from] crate::peer_port::CredentialsError),
    #[error(transparent)]
    Keyring(#[from] basic_membership::KeyringError),
}

/// What stands in the way and was said; it is said once for as long as it lasts.
#[derive(Debug, Default)]
struct Told {
    no_room: BTreeSet<KeyId>,
    unknown: BTreeSet<String>,
}

impl Told {
    /// The keys that there is no room for, of which that was not said.
    fn lacks_room(&mut self, changes: &[Change]) -> Vec<KeyId> {
        let now = changes.iter().filter_map(|change| match change {
            Change::NoRoom(id) => Some(*id),
            _ => None,
        });
        let before = std::mem::replace(&mut self.no_room, now.collect());
        self.no_room.difference(&before).copied().collect()
    }

    /// The records that are not understood, of which that was not said.
    fn not_understood(&mut self, recorded: &KeyRecords) -> Vec<String> {
        let before = std::mem::replace(&mut self.unknown, recorded.unknown.clone());
        self.unknown.difference(&before).cloned().collect()
    }
}

/// Who clears a record: the node that made it; the first of the live ones where that is away.
fn sweeper<'a>(maker: &'a str, live: &BTreeSet<&'a str>) -> Option<&'a str> {
    live.get(maker).or_else(|| live.first()).copied()
}

fn clear(
    batch: Batch,
    mut cleared: impl Iterator<Item = (KeyId, MadeKey)>,
) -> Result<Batch, RecordError> {
    cleared.try_fold(batch, |batch, (id, made)| {
        batch.put(System::Keys, &made_key(id), &made)
    })
}

/// Whether a rotation waits for a member: it is there, and nobody took it out.
fn is_live(member: &Member) -> bool {
    let gone = matches!(
        member.state,
        MemberState::Left | MemberState::Removed | MemberState::Failed | MemberState::Maintenance
    );
    member.is_self || member.live && !gone
}

fn log(change: &Change) {
    match change {
        Change::Installed(id) => {
            info!(key = %id, "a new key is installed; it will be used once every live member has it");
        }
        // Said by `Told`, because it changes nothing and is found at every look.
        Change::NoRoom(_) => {}
        Change::Used { id, instead_of } => info!(key = %id, %instead_of, "another key is in use"),
        Change::Retired(id) => {
            info!(key = %id, "a key was retired; who has no other is refused from now on");
        }
        Change::LastRetired(id) => warn!(
            key = %id,
            "the only key of this node was retired, so the others refuse it; run `basic-agent join` with a token from `basic-agent token` on another node"
        ),
    }
}

/// Milliseconds since the Unix epoch.
pub fn millis(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn names<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::ring::tests::{key, secret};
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_said_once_and_again_when_it_comes_back() {
        let (old, new) = (InstalledKey::new(secret("old"), 0), key("new", 9));
        let mut ring = KeyRing::new(old.secret.clone());
        let full = (0..).find(|n| !ring.install(key(&n.to_string(), 1)));
        assert!(full.is_some());
        let made = MadeKey {
            created_ms: 9,
            on: "n1".to_owned(),
            sealed: vec![SealedSecret::seal(&new, &old, "c1").unwrap()],
        };
        let mut recorded = KeyRecords::default();
        recorded.made.insert(new.id, made);
        recorded.unknown.insert("hello".to_owned());

        let mut told = Told::default();
        let changes = recorded.apply(&mut ring, "c1", |_| false);
        assert_eq!(told.lacks_room(&changes), [new.id]);
        let changes = recorded.apply(&mut ring, "c1", |_| false);
        assert_eq!(told.lacks_room(&changes), [], "at every look, said once");
        assert_eq!(told.lacks_room(&[]), []);
        assert_eq!(told.lacks_room(&changes), [new.id], "it came back");
        assert_eq!(told.not_understood(&recorded), ["hello"]);
        assert!(told.not_understood(&recorded).is_empty());
    }

    #[test]
    fn who_made_a_record_clears_it_and_the_first_live_one_where_that_is_away() {
        let live = BTreeSet::from(["n2", "n3"]);
        assert_eq!(sweeper("n3", &live), Some("n3"));
        assert_eq!(sweeper("n1", &live), Some("n2"));
        assert_eq!(sweeper("n1", &BTreeSet::new()), None);
    }
}
