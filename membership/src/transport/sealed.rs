//! Sealed frames: what every gossip message looks like on the wire.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce. Nothing
//! behind the header is looked at before the tag has been verified, and what an
//! envelope says about its sender is inside, so that it cannot be changed
//! without the key. In goes an [`Envelope`] with a body, out come bytes, and the
//! other way round; the only state is the keyring.
//!
//! ```text
//!  0        2     3     4        8            32                      n-16     n
//!  ┌────────┬─────┬─────┬────────┬────────────┬───────────────────────┬────────┐
//!  │ BA 9A  │ 02  │ 00  │ key id │ nonce (24) │ sealed                │ tag    │
//!  └────────┴─────┴─────┴────────┴────────────┴───────────────────────┴────────┘
//!   magic    vers. zero          └ header: bytes 0-8 are bound to the tag
//!
//!  sealed: kind u8, packing u8, incarnation u64, sequence u64, clock u64 (ms since
//!          the Unix epoch), id of the sender's key in use (4), advertised address
//!          (16, IPv4 as mapped IPv6) and port u16, numbers big endian;
//!          sender, cluster, recipient (each a length u8 and that many bytes;
//!          recipient may be empty); body
//!  body:   packing 0: as it is; packing 1: its length u16, then zstd
//! ```
//!
//! A body that would make the frame too long for a datagram is packed, because a
//! digest, which names every member, repeats itself: that of a hundred members
//! shrinks from 4.4 to 1.4 KB. A shorter one is not: the time costs more than the
//! bytes. All of a body comes from holders of the key, so its length gives nothing
//! away that they did not put in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use thiserror::Error;

use super::DATAGRAM_LEN_MAX;
use super::keyring::{KeyId, Keyring, SealingKey};
use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

mod packing;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The body is a message of the gossip protocol.
    Gossip,
    /// The body is empty: the sender tells that it belongs to another cluster.
    OtherCluster,
}

/// Who says it, to whom, and in which order: all of it authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) kind: FrameKind,
    pub(crate) sender: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Grows with each frame of the incarnation, whoever it goes to.
    pub(crate) sequence: u64,
    pub(crate) cluster: ClusterName,
    /// The node meant, or `None` for whoever listens at the address.
    pub(crate) recipient: Option<NodeId>,
    /// The peer port of the sender, as it advertises it.
    pub(crate) address: SocketAddr,
    /// The sender's wall clock when it sealed the frame, in milliseconds since
    /// the Unix epoch. It may be anything.
    pub(crate) clock_ms: u64,
}

/// Keys that a peer opens frames with, as its own frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerKeys {
    /// The key it uses where it has the choice.
    pub(crate) in_use: KeyId,
    /// The key it sealed this frame with.
    pub(crate) sealed_with: KeyId,
}

impl PeerKeys {
    /// The keys in the order in which an answer should try them.
    pub(crate) fn best_first(self) -> [KeyId; 2] {
        [self.in_use, self.sealed_with]
    }
}

/// A frame that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    pub(crate) keys: PeerKeys,
    pub(crate) body: Vec<u8>,
}

/// Why a frame was not opened. Only the last two were made by a holder of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum OpenError {
    #[error("it is not a gossip frame")]
    NotGossip,
    #[error("it speaks version {0} of the frame format")]
    Version(u8),
    #[error("it is sealed with key {0}, which is not installed here")]
    UnknownKey(KeyId),
    #[error("it was altered on its way or made without the key")]
    Forged,
    #[error("its envelope or the packing of its body is not valid")]
    Envelope,
}

/// Why a frame was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SealError {
    #[error("the system's random source failed")]
    Random,
    #[error("the message is too long to seal")]
    TooLong,
}

/// Longest body: chitchat fills a delta up to 65,507 bytes and adds three.
pub(crate) const BODY_LEN_MAX: usize = 65_510;
/// Bytes a frame has beside names and body.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN + FIXED_LEN;

/// Seals `body` with a key of the keyring.
pub(crate) fn seal(
    key: &SealingKey,
    envelope: &Envelope,
    body: &[u8],
) -> Result<Vec<u8>, SealError> {
    if body.len() > BODY_LEN_MAX {
        return Err(SealError::TooLong);
    }
    let recipient = envelope.recipient.as_ref().map_or("", NodeId::as_str);
    let names = [
        envelope.sender.as_str(),
        envelope.cluster.as_str(),
        recipient,
    ];
    let unpacked_len = OVERHEAD + names.map(str::len).iter().sum::<usize>() + body.len();
    let packed = match unpacked_len {
        ..=DATAGRAM_LEN_MAX => None,
        _ => packing::pack(body),
    };
    let mut plain = Vec::with_capacity(unpacked_len);
    plain.push(match envelope.kind {
        FrameKind::Gossip => 0,
        FrameKind::OtherCluster => 1,
    });
    plain.push(if packed.is_some() { PACKED } else { PLAIN });
    plain.extend_from_slice(&envelope.incarnation.0.to_be_bytes());
    plain.extend_from_slice(&envelope.sequence.to_be_bytes());
    plain.extend_from_slice(&envelope.clock_ms.to_be_bytes());
    plain.extend_from_slice(&key.in_use.0);
    let ip = match envelope.address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    plain.extend_from_slice(&ip.octets());
    plain.extend_from_slice(&envelope.address.port().to_be_bytes());
    for name in names {
        plain.push(u8::try_from(name.len()).expect("a name has at most 64 bytes"));
        plain.extend_from_slice(name.as_bytes());
    }
    plain.extend_from_slice(packed.as_deref().unwrap_or(body));

    let mut nonce = [0u8; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
    let mut frame = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[VERSION, 0]);
    frame.extend_from_slice(&key.id.0);
    let payload = Payload {
        msg: &plain,
        aad: &frame,
    };
    let sealed = key.cipher.encrypt(XNonce::from_slice(&nonce), payload);
    let sealed = sealed.map_err(|_| SealError::TooLong)?;
    frame.extend_from_slice(&nonce);
    frame.extend_from_slice(&sealed);
    Ok(frame)
}

/// Opens a frame with whichever installed key sealed it.
pub(crate) fn open(keyring: &Keyring, frame: &[u8]) -> Result<Opened, OpenError> {
    let (header, sealed) = frame
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(OpenError::NotGossip)?;
    let (bound, nonce) = header.split_at(BOUND_LEN);
    let &[m0, m1, version, zero, k0, k1, k2, k3] = bound else {
        return Err(OpenError::NotGossip);
    };
    if [m0, m1] != MAGIC {
        return Err(OpenError::NotGossip);
    }
    if version != VERSION || zero != 0 {
        return Err(OpenError::Version(version));
    }
    let key = KeyId([k0, k1, k2, k3]);
    let cipher = keyring.opening(key).ok_or(OpenError::UnknownKey(key))?;
    let payload = Payload {
        msg: sealed,
        aad: bound,
    };
    let plain = cipher.decrypt(XNonce::from_slice(nonce), payload);
    let plain = plain.map_err(|_| OpenError::Forged)?;
    let (envelope, in_use, packing, body) = read_envelope(&plain).ok_or(OpenError::Envelope)?;
    let body = match packing {
        PACKED => packing::unpack(body).ok_or(OpenError::Envelope)?,
        _ => {
            let body_at = plain.len() - body.len();
            let mut plain = plain;
            plain.drain(..body_at);
            plain
        }
    };
    let keys = PeerKeys {
        in_use,
        sealed_with: key,
    };
    Ok(Opened {
        envelope,
        keys,
        body,
    })
}

const MAGIC: [u8; 2] = [0xBA, 0x9A];
/// 1 had no clock, address, key in use and packing.
const VERSION: u8 = 2;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Magic, version, zero and key id: bound to the tag as additional data. The
/// nonce needs no binding, it is part of the computation.
const BOUND_LEN: usize = 8;
const HEADER_LEN: usize = BOUND_LEN + NONCE_LEN;
/// Kind, packing, three numbers, key id, address and three lengths.
const FIXED_LEN: usize = 1 + 1 + 3 * 8 + 4 + 18 + 3;

const PLAIN: u8 = 0;
const PACKED: u8 = 1;
/// The envelope, the sender's key in use, the packing of the body, and the body.
fn read_envelope(plain: &[u8]) -> Option<(Envelope, KeyId, u8, &[u8])> {
    let (&[kind, packing], rest) = plain.split_first_chunk::<2>()?;
    let kind = match kind {
        0 => FrameKind::Gossip,
        1 => FrameKind::OtherCluster,
        _ => return None,
    };
    if packing != PLAIN && packing != PACKED {
        return None;
    }
    let (incarnation, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (clock_ms, rest) = rest.split_first_chunk::<8>()?;
    let (in_use, rest) = rest.split_first_chunk::<4>()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let incarnation = Incarnation(u64::from_be_bytes(*incarnation));
    if incarnation > Incarnation::MAX {
        return None;
    }
    let ip = Ipv6Addr::from(*ip).to_canonical();
    let (sender, rest) = read_name(rest)?;
    let (cluster, rest) = read_name(rest)?;
    let (recipient, rest) = read_name(rest)?;
    let envelope = Envelope {
        kind,
        sender: NodeId::from_str(sender).ok()?,
        incarnation,
        sequence: u64::from_be_bytes(*sequence),
        cluster: ClusterName::from_str(cluster).ok()?,
        recipient: match recipient {
            "" => None,
            id => Some(NodeId::from_str(id).ok()?),
        },
        address: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        clock_ms: u64::from_be_bytes(*clock_ms),
    };
    Some((envelope, KeyId(*in_use), packing, rest))
}

fn read_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests;
