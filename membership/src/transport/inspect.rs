//! The check of a message before chitchat sees it.
//!
//! chitchat trusts its peers: with the key in hand, a few bytes make it panic,
//! decompress a hundred megabytes, or take a node's own state from it. A faulty
//! peer has the key. So each opened message is read here first, by rules that
//! every message of an honest node obeys; one that breaks a rule is refused whole.
//!
//! | refused | because otherwise |
//! |---|---|
//! | a digest above [`DIGEST_LEN_MAX`] | the answer has no room for a delta: chitchat asserts |
//! | a delta above [`DECODED_LEN_MAX`] | 60 KB decompress to 160 MB |
//! | versions out of order or range | chitchat asserts, or its counter overflows |
//! | tombstones, collected versions | they reset a node's keys; we delete nothing |
//! | keys outside of `a-z 0-9 -` | chitchat slices off the first byte of a key |
//! | impossible ids and addresses | they would be gossiped to |
//!
//! What depends on what is known already is checked in `heartbeat`; there, single
//! entries of a digest may be left out ([`without`]), since an honest peer may
//! pass on what a faulty one told it. Formats are those of chitchat 0.11.2,
//! `message.rs`, `digest.rs` and `delta.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use chitchat::{ChitchatId, Deserializable};
use thiserror::Error;

use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

/// Length of a digest: a thousand incarnations with short ids. It leaves room for
/// one full block of delta in chitchat's largest message, without which chitchat
/// asserts.
pub(crate) const DIGEST_LEN_MAX: usize = 49_000;
/// More incarnations than a digest has room for.
pub(crate) const MEMBERS_MAX: usize = DIGEST_LEN_MAX / 42;
/// Decompressed size of a delta: the metadata of five hundred nodes, full.
pub(crate) const DECODED_LEN_MAX: usize = 1024 * 1024;
/// Largest version or first heartbeat: at a thousand a second, 34 years.
pub(crate) const VERSION_MAX: u64 = 1 << 40;
/// Keys that one node may have, ever; we use eleven.
pub(crate) const KEYS_MAX: usize = 32;

const KEY_LEN_MAX: usize = 32;
const VALUE_LEN_MAX: usize = 4096;

/// What a message says, as far as the checks need it.
#[derive(Debug, Default)]
pub(crate) struct Inspected {
    pub(crate) digest: Vec<DigestEntry>,
    pub(crate) delta: Vec<NodeDelta>,
}

/// What the sender knows about one member.
#[derive(Debug)]
pub(crate) struct DigestEntry {
    pub(crate) member: ChitchatId,
    pub(crate) heartbeat: u64,
    pub(crate) max_version: u64,
    /// Where it stands in the message.
    pub(crate) bytes: Range<usize>,
}

/// What the sender tells about one member.
#[derive(Debug)]
pub(crate) struct NodeDelta {
    pub(crate) member: ChitchatId,
    pub(crate) keys: BTreeSet<String>,
    /// How far the member's state comes with it.
    pub(crate) max_version: u64,
}

/// Which rule a message breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("it is not a message of the gossip protocol")]
    Malformed,
    #[error("it names another cluster inside than outside")]
    Cluster,
    #[error("it names too many members")]
    TooManyMembers,
    #[error("it names a member with an id, address or incarnation that no node has")]
    ImpossibleMember,
    #[error("it names a member twice")]
    RepeatedMember,
    #[error("it decompresses to more than a message may hold")]
    Bomb,
    #[error("its versions are out of order or out of range")]
    Versions,
    #[error("it deletes or resets keys, which no node does")]
    Deletion,
    #[error("it has a key or value that no node has")]
    KeyValue,
    #[error("it tells more of this node's own state than there is, and nobody else may change it")]
    OwnState,
}

/// Reads a whole message, without trusting a length in it.
pub(crate) fn inspect(body: &[u8], cluster: &ClusterName) -> Result<Inspected, Refusal> {
    let buf = &mut &*body;
    let [magic_low, magic_high, version, kind] = read::<[u8; 4]>(buf)?;
    if u16::from_le_bytes([magic_low, magic_high]) != CHITCHAT_MAGIC || version != 0 {
        return Err(Refusal::Malformed);
    }
    let mut inspected = Inspected::default();
    match kind {
        KIND_SYN => {
            inspected.digest = read_digest(buf)?;
            if read::<String>(buf)? != cluster.as_str() {
                return Err(Refusal::Cluster);
            }
        }
        KIND_SYN_ACK => {
            inspected.digest = read_digest(buf)?;
            inspected.delta = read_delta(buf)?;
        }
        KIND_ACK => inspected.delta = read_delta(buf)?,
        // Among them the library's own word for a wrong cluster: ours is said
        // in the envelope, before a message gets here.
        _ => return Err(Refusal::Malformed),
    }
    if buf.is_empty() {
        Ok(inspected)
    } else {
        Err(Refusal::Malformed)
    }
}

/// The message without some entries of its digest. `left_out` must come from the
/// inspection of the same message.
pub(crate) fn without(body: &[u8], digest: &[DigestEntry], left_out: &[Range<usize>]) -> Vec<u8> {
    let mut kept = body.get(..HEADER_LEN).unwrap_or_default().to_vec();
    let count = u16::try_from(digest.len() - left_out.len()).expect("it was read as a u16");
    kept.extend_from_slice(&count.to_le_bytes());
    for entry in digest
        .iter()
        .filter(|entry| !left_out.contains(&entry.bytes))
    {
        kept.extend_from_slice(body.get(entry.bytes.clone()).unwrap_or_default());
    }
    let end = digest
        .last()
        .map_or(HEADER_LEN + 2, |entry| entry.bytes.end);
    kept.extend_from_slice(body.get(end..).unwrap_or_default());
    kept
}

/// Whether one agent can be at this address, and would write it so: an IPv4
/// address that is written as IPv6 would be a second name of the same place.
pub(crate) fn is_possible_address(address: SocketAddr) -> bool {
    let ip = address.ip();
    let one_host = !ip.is_unspecified() && !ip.is_multicast();
    address.port() != 0 && one_host && ip.to_canonical() == ip
}

/// Magic, version and kind.
const HEADER_LEN: usize = 4;
const CHITCHAT_MAGIC: u16 = 45_139;
const KIND_SYN: u8 = 0;
const KIND_SYN_ACK: u8 = 1;
const KIND_ACK: u8 = 2;

const BLOCK_END: u8 = 0;
const BLOCK_COMPRESSED: u8 = 1;
const BLOCK_PLAIN: u8 = 2;
/// The largest block that chitchat decompresses.
const BLOCK_LEN_MAX: usize = 65_535;

const OP_NODE: u8 = 0;
const OP_KEY_VALUE: u8 = 1;
const OP_MAX_VERSION: u8 = 2;

/// One value in chitchat's own encoding. Its readers check every length against
/// what is left before they allocate.
fn read<T: Deserializable>(buf: &mut &[u8]) -> Result<T, Refusal> {
    T::deserialize(buf).map_err(|_| Refusal::Malformed)
}

fn read_member(buf: &mut &[u8]) -> Result<ChitchatId, Refusal> {
    let member: ChitchatId = read(buf)?;
    let address = member.gossip_advertise_addr;
    let possible = member.node_id.parse::<NodeId>().is_ok()
        && member.generation_id <= Incarnation::MAX.0
        && is_possible_address(address);
    if possible {
        Ok(member)
    } else {
        Err(Refusal::ImpossibleMember)
    }
}

fn read_digest(buf: &mut &[u8]) -> Result<Vec<DigestEntry>, Refusal> {
    let count = usize::from(read::<u16>(buf)?);
    let mut digest: Vec<DigestEntry> = Vec::new();
    let mut named = BTreeSet::new();
    let mut start = HEADER_LEN + 2;
    for _ in 0..count {
        let before = buf.len();
        let member = read_member(buf)?;
        if !named.insert(member.clone()) {
            return Err(Refusal::RepeatedMember);
        }
        let heartbeat = read::<u64>(buf)?;
        let collected_version = read::<u64>(buf)?;
        let max_version = read::<u64>(buf)?;
        if collected_version != 0 {
            return Err(Refusal::Deletion);
        }
        if max_version > VERSION_MAX {
            return Err(Refusal::Versions);
        }
        let bytes = start..start + before - buf.len();
        start = bytes.end;
        if start > DIGEST_LEN_MAX {
            return Err(Refusal::TooManyMembers);
        }
        digest.push(DigestEntry {
            member,
            heartbeat,
            max_version,
            bytes,
        });
    }
    Ok(digest)
}

fn read_delta(buf: &mut &[u8]) -> Result<Vec<NodeDelta>, Refusal> {
    let decoded = decompress(buf)?;
    let mut ops = decoded.as_slice();
    let mut deltas: Vec<NodeDelta> = Vec::new();
    let mut named = BTreeSet::new();
    let mut version_before = 0u64;
    while !ops.is_empty() {
        match read::<u8>(&mut ops)? {
            OP_NODE => {
                let member = read_member(&mut ops)?;
                let collected_version = read::<u64>(&mut ops)?;
                let from_version = read::<u64>(&mut ops)?;
                if collected_version != 0 {
                    return Err(Refusal::Deletion);
                }
                if from_version > VERSION_MAX {
                    return Err(Refusal::Versions);
                }
                if !named.insert(member.clone()) {
                    return Err(Refusal::RepeatedMember);
                }
                if named.len() > MEMBERS_MAX {
                    return Err(Refusal::TooManyMembers);
                }
                version_before = 0;
                deltas.push(NodeDelta {
                    member,
                    keys: BTreeSet::new(),
                    max_version: 0,
                });
            }
            OP_KEY_VALUE => {
                let key: String = read(&mut ops)?;
                let value: String = read(&mut ops)?;
                let version: u64 = read(&mut ops)?;
                let deletion: u8 = read(&mut ops)?;
                let delta = deltas.last_mut().ok_or(Refusal::Malformed)?;
                if !is_key(&key) || value.len() > VALUE_LEN_MAX {
                    return Err(Refusal::KeyValue);
                }
                if version <= version_before || version > VERSION_MAX {
                    return Err(Refusal::Versions);
                }
                if deletion != 0 {
                    return Err(Refusal::Deletion);
                }
                version_before = version;
                delta.max_version = version;
                delta.keys.insert(key);
                if delta.keys.len() > KEYS_MAX {
                    return Err(Refusal::KeyValue);
                }
            }
            OP_MAX_VERSION => {
                let version: u64 = read(&mut ops)?;
                let delta = deltas.last_mut().ok_or(Refusal::Malformed)?;
                if version < version_before || version > VERSION_MAX {
                    return Err(Refusal::Versions);
                }
                version_before = version;
                delta.max_version = version;
            }
            _ => return Err(Refusal::Malformed),
        }
    }
    Ok(deltas)
}

/// The blocks of a delta, joined. Memory stays below [`DECODED_LEN_MAX`] and one
/// block, however well the blocks compress.
fn decompress(buf: &mut &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut decoded = Vec::new();
    let mut block = Vec::new();
    loop {
        let kind = read::<u8>(buf)?;
        if kind == BLOCK_END {
            return Ok(decoded);
        }
        let len = usize::from(read::<u16>(buf)?);
        let (bytes, rest) = buf.split_at_checked(len).ok_or(Refusal::Malformed)?;
        *buf = rest;
        let plain = match kind {
            BLOCK_COMPRESSED => {
                block.resize(BLOCK_LEN_MAX, 0);
                let len = zstd::bulk::decompress_to_buffer(bytes, &mut block[..])
                    .map_err(|_| Refusal::Malformed)?;
                block.get(..len).ok_or(Refusal::Malformed)?
            }
            BLOCK_PLAIN => bytes,
            _ => return Err(Refusal::Malformed),
        };
        if decoded.len() + plain.len() > DECODED_LEN_MAX {
            return Err(Refusal::Bomb);
        }
        decoded.extend_from_slice(plain);
    }
}

fn is_key(key: &str) -> bool {
    (1..=KEY_LEN_MAX).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests;
