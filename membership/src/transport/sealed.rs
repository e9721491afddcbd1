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
//!  │ BA 9A  │ 01  │ 00  │ key id │ nonce (24) │ sealed                │ tag    │
//!  └────────┴─────┴─────┴────────┴────────────┴───────────────────────┴────────┘
//!   magic    vers. zero          └ header: bytes 0-8 are bound to the tag
//!
//!  sealed: kind u8, incarnation u64, sequence u64 (both big endian),
//!          sender, cluster, recipient (each a length u8 and that many bytes;
//!          recipient may be empty), body
//! ```

use std::str::FromStr;

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use thiserror::Error;

use super::keyring::{KeyId, Keyring};
use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

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
    #[error("its envelope is not valid")]
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

/// Bytes a frame has beside names and body.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN + FIXED_LEN;

/// Seals `body` with the key in use.
pub(crate) fn seal(
    keyring: &Keyring,
    envelope: &Envelope,
    body: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut plain = Vec::with_capacity(FIXED_LEN + 3 * 64 + body.len());
    plain.push(match envelope.kind {
        FrameKind::Gossip => 0,
        FrameKind::OtherCluster => 1,
    });
    plain.extend_from_slice(&envelope.incarnation.0.to_be_bytes());
    plain.extend_from_slice(&envelope.sequence.to_be_bytes());
    let recipient = envelope.recipient.as_ref().map_or("", NodeId::as_str);
    for name in [
        envelope.sender.as_str(),
        envelope.cluster.as_str(),
        recipient,
    ] {
        plain.push(u8::try_from(name.len()).expect("a name has at most 64 bytes"));
        plain.extend_from_slice(name.as_bytes());
    }
    plain.extend_from_slice(body);

    let (key, cipher) = keyring.sealing();
    let mut nonce = [0u8; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
    let mut frame = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[VERSION, 0]);
    frame.extend_from_slice(&key.0);
    let payload = Payload {
        msg: &plain,
        aad: &frame,
    };
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload);
    let sealed = sealed.map_err(|_| SealError::TooLong)?;
    frame.extend_from_slice(&nonce);
    frame.extend_from_slice(&sealed);
    Ok(frame)
}

/// Opens a frame with whichever installed key sealed it.
pub(crate) fn open(keyring: &Keyring, frame: &[u8]) -> Result<(Envelope, Vec<u8>), OpenError> {
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
    let mut plain = plain.map_err(|_| OpenError::Forged)?;
    let (envelope, rest) = read_envelope(&plain).ok_or(OpenError::Envelope)?;
    let body_at = plain.len() - rest.len();
    plain.drain(..body_at);
    Ok((envelope, plain))
}

const MAGIC: [u8; 2] = [0xBA, 0x9A];
const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Magic, version, zero and key id: bound to the tag as additional data. The
/// nonce needs no binding, it is part of the computation.
const BOUND_LEN: usize = 8;
const HEADER_LEN: usize = BOUND_LEN + NONCE_LEN;
/// Kind, incarnation, sequence and three lengths.
const FIXED_LEN: usize = 1 + 8 + 8 + 3;

fn read_envelope(plain: &[u8]) -> Option<(Envelope, &[u8])> {
    let (kind, rest) = plain.split_first()?;
    let kind = match kind {
        0 => FrameKind::Gossip,
        1 => FrameKind::OtherCluster,
        _ => return None,
    };
    let (incarnation, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let incarnation = Incarnation(u64::from_be_bytes(*incarnation));
    if incarnation > Incarnation::MAX {
        return None;
    }
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
    };
    Some((envelope, rest))
}

fn read_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::keyring::GossipKey;

    fn ring(seed: u8) -> Keyring {
        Keyring::new(GossipKey::from_bytes([seed; 32]))
    }

    fn envelope() -> Envelope {
        Envelope {
            kind: FrameKind::Gossip,
            sender: "n1".parse().unwrap(),
            incarnation: Incarnation(1_790_000_000_000),
            sequence: 7,
            cluster: "jobfirst-cluster-1".parse().unwrap(),
            recipient: Some("n2".parse().unwrap()),
        }
    }

    #[test]
    fn a_frame_of_another_secret_is_told_from_an_altered_one() {
        let frame = seal(&ring(1), &envelope(), b"hello").unwrap();
        assert!(matches!(
            open(&ring(2), &frame),
            Err(OpenError::UnknownKey(_))
        ));
        let mut altered = frame.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(open(&ring(1), &altered), Err(OpenError::Forged));
        assert_eq!(open(&ring(1), b"GET / HTTP/1.1"), Err(OpenError::NotGossip));
    }

    #[test]
    fn a_frame_sealed_before_a_rotation_opens_after_it() {
        let (old, new) = (
            GossipKey::from_bytes([1; 32]),
            GossipKey::from_bytes([2; 32]),
        );
        let here = Keyring::new(old.clone());
        let frame = seal(&Keyring::new(old), &envelope(), b"x").unwrap();
        here.install(new.clone()).unwrap();
        here.use_key(new.id()).unwrap();
        assert_eq!(open(&here, &frame).unwrap().0, envelope());
    }

    #[test]
    fn nothing_of_the_envelope_shows_in_the_frame() {
        let frame = seal(&ring(1), &envelope(), b"body text").unwrap();
        for secret in [&b"jobfirst"[..], b"body text"] {
            assert!(!frame.windows(secret.len()).any(|window| window == secret));
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same(
            body in prop::collection::vec(any::<u8>(), 0..2000),
            sequence in any::<u64>(),
            other in any::<bool>(),
        ) {
            let envelope = Envelope {
                sequence,
                kind: if other { FrameKind::OtherCluster } else { FrameKind::Gossip },
                recipient: if other { None } else { Some("n2".parse().unwrap()) },
                ..envelope()
            };
            let frame = seal(&ring(1), &envelope, &body).unwrap();
            prop_assert_eq!(open(&ring(1), &frame), Ok((envelope, body)));
        }

        #[test]
        fn any_changed_bit_is_refused(
            body in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut frame = seal(&ring(1), &envelope(), &body).unwrap();
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            prop_assert!(open(&ring(1), &frame).is_err());
        }

        #[test]
        fn any_cut_or_grown_frame_is_refused(
            keep in any::<prop::sample::Index>(),
            extra in prop::collection::vec(any::<u8>(), 1..9),
        ) {
            let frame = seal(&ring(1), &envelope(), b"body").unwrap();
            prop_assert!(open(&ring(1), &frame[..keep.index(frame.len())]).is_err());
            prop_assert!(open(&ring(1), &[frame, extra].concat()).is_err());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&ring(1), &bytes).is_err());
        }

        #[test]
        fn an_envelope_of_random_bytes_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Some((_, rest)) = read_envelope(&bytes) {
                prop_assert!(rest.len() <= bytes.len());
            }
        }
    }
}
