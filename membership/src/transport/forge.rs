//! Messages that no honest node sends, written byte by byte for tests.

use std::net::SocketAddr;

use chitchat::{ChitchatId, Serializable};

use super::keyring::Keyring;
use super::sealed::{self, Envelope, FrameKind};
use crate::identity::Incarnation;

/// The first envelope of a node's first life, for anybody.
pub(crate) fn envelope(sender: &str, cluster: &str, address: SocketAddr) -> Envelope {
    Envelope {
        kind: FrameKind::Gossip,
        sender: sender.parse().unwrap(),
        incarnation: Incarnation(1),
        sequence: 1,
        cluster: cluster.parse().unwrap(),
        recipient: None,
        address,
        clock_ms: 1_790_000_000_000,
    }
}

/// A frame sealed with the key in use of a keyring.
pub(crate) fn frame(keyring: &Keyring, envelope: &Envelope, body: &[u8]) -> Vec<u8> {
    sealed::seal(&keyring.sealing(&[]), envelope, body).unwrap()
}

/// A member at a loopback address.
pub(crate) fn member(id: &str, incarnation: u64, port: u16) -> ChitchatId {
    ChitchatId::new(id, incarnation, ([127, 0, 0, 1], port).into())
}

/// An entry of a digest.
pub(crate) struct Entry {
    pub(crate) member: ChitchatId,
    pub(crate) heartbeat: u64,
    pub(crate) collected_version: u64,
    pub(crate) max_version: u64,
}

impl Entry {
    /// An entry that an honest node might send.
    pub(crate) fn of(member: ChitchatId) -> Entry {
        Entry {
            member,
            heartbeat: 1,
            collected_version: 0,
            max_version: 1,
        }
    }
}

/// An operation of a delta.
pub(crate) enum Op {
    Node {
        member: ChitchatId,
        collected_version: u64,
        from_version: u64,
    },
    Set {
        key: &'static str,
        value: String,
        version: u64,
    },
    Delete {
        key: &'static str,
        version: u64,
    },
    MaxVersion(u64),
}

impl Op {
    /// What opens the delta of a member from its first version on.
    pub(crate) fn node(member: ChitchatId) -> Op {
        Op::Node {
            member,
            collected_version: 0,
            from_version: 0,
        }
    }

    pub(crate) fn set(key: &'static str, version: u64) -> Op {
        Op::Set {
            key,
            value: "v".to_owned(),
            version,
        }
    }
}

pub(crate) fn syn(cluster: &str, entries: &[Entry]) -> Vec<u8> {
    let mut message = header(0);
    digest(&mut message, entries);
    cluster.serialize(&mut message);
    message
}

pub(crate) fn syn_ack(entries: &[Entry], ops: &[Op]) -> Vec<u8> {
    let mut message = header(1);
    digest(&mut message, entries);
    delta(&mut message, ops);
    message
}

pub(crate) fn ack(ops: &[Op]) -> Vec<u8> {
    let mut message = header(2);
    delta(&mut message, ops);
    message
}

/// The library's own word for a wrong cluster.
pub(crate) fn bad_cluster() -> Vec<u8> {
    header(3)
}

/// An acknowledgement of `blocks` blocks, each of which decompresses to the
/// largest size there is.
pub(crate) fn bomb(blocks: usize) -> Vec<u8> {
    let block = zstd::bulk::compress(&vec![0; 65_535], 19).unwrap();
    let mut message = header(2);
    for _ in 0..blocks {
        message.push(1);
        u16::try_from(block.len()).unwrap().serialize(&mut message);
        message.extend_from_slice(&block);
    }
    message.push(0);
    message
}

fn header(kind: u8) -> Vec<u8> {
    let [low, high] = 45_139u16.to_le_bytes();
    vec![low, high, 0, kind]
}

fn digest(message: &mut Vec<u8>, entries: &[Entry]) {
    u16::try_from(entries.len()).unwrap().serialize(message);
    for entry in entries {
        entry.member.serialize(message);
        entry.heartbeat.serialize(message);
        entry.collected_version.serialize(message);
        entry.max_version.serialize(message);
    }
}

fn delta(message: &mut Vec<u8>, ops: &[Op]) {
    let mut plain = Vec::new();
    for op in ops {
        match op {
            Op::Node {
                member,
                collected_version,
                from_version,
            } => {
                plain.push(0);
                member.serialize(&mut plain);
                collected_version.serialize(&mut plain);
                from_version.serialize(&mut plain);
            }
            Op::Set {
                key,
                value,
                version,
            } => key_value(&mut plain, key, value, *version, 0),
            Op::Delete { key, version } => key_value(&mut plain, key, "", *version, 1),
            Op::MaxVersion(version) => {
                plain.push(2);
                version.serialize(&mut plain);
            }
        }
    }
    for block in plain.chunks(60_000) {
        message.push(2);
        u16::try_from(block.len()).unwrap().serialize(message);
        message.extend_from_slice(block);
    }
    message.push(0);
}

fn key_value(plain: &mut Vec<u8>, key: &str, value: &str, version: u64, deletion: u8) {
    plain.push(1);
    key.serialize(plain);
    value.serialize(plain);
    version.serialize(plain);
    plain.push(deletion);
}
