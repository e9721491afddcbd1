//! The roster's file.
//!
//! One JSON object: the format, the cluster, the entries in the order of their
//! ids, and a checksum over them. It is replaced atomically (temporary file,
//! fsync, rename, fsync of the directory), with mode 0600. The roster is a cache
//! of knowledge, so a file that cannot be understood, or belongs to another
//! cluster, is moved aside and the node goes on without; it is never overwritten
//! unseen.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{ENTRIES_MAX, Roster, RosterEntry};
use crate::directive::JoinMark;
use crate::error::RosterError;
use crate::identity::Incarnation;
use crate::member::MemberState;
use crate::name::{ClusterName, NodeId};
use crate::replace::replace;

const FORMAT: u32 = 1;
/// All entries at their longest.
const FILE_LEN_MAX: u64 = 1 << 20;

/// The file's content: a promise to later releases, hence apart from [`Roster`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    cluster: ClusterName,
    nodes: Vec<Node>,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: NodeId,
    incarnation: Incarnation,
    joined: JoinMark,
    peer: SocketAddr,
    first_seen_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
    last_state: MemberState,
}

/// Reads the roster of this cluster; an absent file is an empty roster.
///
/// # Errors
/// [`RosterError::Read`], where the file is as it was; [`RosterError::Damaged`]
/// and [`RosterError::OtherCluster`] after it has been moved aside.
pub(super) fn load(path: &Path, cluster: &ClusterName) -> Result<Roster, RosterError> {
    let failed = |source| RosterError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Roster::default()),
        Err(error) => Err(error),
    }
    .map_err(failed)?;
    match decode(&bytes) {
        Ok((of, roster)) if of == *cluster => Ok(roster),
        Ok((of, _)) => {
            let aside = path.with_extension("json.other-cluster");
            fs::rename(path, &aside).map_err(failed)?;
            Err(RosterError::OtherCluster {
                path: path.to_owned(),
                aside,
                of,
            })
        }
        Err(what) => {
            let aside = path.with_extension("json.damaged");
            fs::rename(path, &aside).map_err(failed)?;
            Err(RosterError::Damaged {
                path: path.to_owned(),
                aside,
                what,
            })
        }
    }
}

/// Replaces the file.
///
/// # Errors
/// [`RosterError::Write`]; the file is then the one before.
pub(super) fn save(path: &Path, cluster: &ClusterName, roster: &Roster) -> Result<(), RosterError> {
    let replaced = encode(cluster, roster).and_then(|bytes| replace(path, &bytes));
    replaced.map_err(|source| RosterError::Write {
        path: path.to_owned(),
        source,
    })
}

fn encode(cluster: &ClusterName, roster: &Roster) -> io::Result<Vec<u8>> {
    let nodes: Vec<Node> = roster.iter().map(Node::of).collect();
    let record = Record {
        format: FORMAT,
        cluster: cluster.clone(),
        checksum: checksum(cluster, &nodes)?,
        nodes,
    };
    let mut bytes = serde_json::to_vec_pretty(&record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(ClusterName, Roster), String> {
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(format!("longer than {FILE_LEN_MAX} bytes"));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if record.format != FORMAT {
        return Err(format!("format {}, expected {FORMAT}", record.format));
    }
    if record.nodes.len() > ENTRIES_MAX {
        return Err(format!("more than {ENTRIES_MAX} nodes"));
    }
    let checksum = checksum(&record.cluster, &record.nodes).map_err(|error| error.to_string())?;
    if record.checksum != checksum {
        return Err("the checksum does not match".to_owned());
    }
    let entries: Option<Vec<_>> = record.nodes.into_iter().map(Node::into_entry).collect();
    let entries = entries.ok_or("a number is out of range")?;
    Ok((record.cluster, Roster::from_entries(entries)))
}

fn checksum(cluster: &ClusterName, nodes: &[Node]) -> io::Result<String> {
    let text = serde_json::to_vec(&(FORMAT, cluster, nodes))?;
    let digest = blake3::hash(&text).to_hex();
    Ok(digest.chars().take(16).collect())
}

impl Node {
    fn of(entry: &RosterEntry) -> Node {
        Node {
            id: entry.id.clone(),
            incarnation: entry.incarnation,
            joined: entry.joined,
            peer: entry.peer,
            first_seen_ms: to_ms(entry.first_seen),
            last_seen_ms: entry.last_seen.map(to_ms),
            last_state: entry.last_state,
        }
    }

    fn into_entry(self) -> Option<RosterEntry> {
        let in_range = self.incarnation <= Incarnation::MAX && self.joined <= JoinMark::MAX;
        in_range.then_some(RosterEntry {
            id: self.id,
            incarnation: self.incarnation,
            joined: self.joined,
            peer: self.peer,
            first_seen: from_ms(self.first_seen_ms)?,
            last_seen: match self.last_seen_ms {
                Some(ms) => Some(from_ms(ms)?),
                None => None,
            },
            last_state: self.last_state,
        })
    }
}

fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_ms(ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests;
