//! What frames are, how they are chained, and how a seal is put on one and taken off.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use super::key::CHECK_BYTES;
use super::{BackupError, BackupKey};

/// What every backup begins with.
pub(super) const MAGIC: [u8; 8] = *b"\x89BAbak\r\n";
/// The format that is written.
pub(super) const VERSION: u16 = 1;
pub(super) const PREFIX_BYTES: usize = 19;
/// Where the nonce prefix begins.
pub(super) const PREFIX_AT: usize = 12;
/// Up to the key check.
pub(super) const HEAD_BYTES: usize = 32;
pub(super) const CHECKSUM_BYTES: usize = 32;
/// Bytes of the header.
pub const HEADER_BYTES: usize = HEAD_BYTES + CHECK_BYTES + CHECKSUM_BYTES;

pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// Largest content, in bytes.
pub(super) const CONTENT_MAX: usize = 4 * 1024 * 1024;
/// Largest body: what cannot be compressed grows a little, and a seal is 16 bytes.
pub(super) const BODY_MAX: usize = CONTENT_MAX + 64 * 1024;
pub(super) type Checksum = [u8; CHECKSUM_BYTES];

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What the backup says of itself.
    Manifest,
    /// Writes.
    Writes,
    /// A part of what the backup claims to have.
    Claim,
    /// The totals; the last frame.
    End,
}

impl Kind {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Manifest => 1,
            Self::Writes => 2,
            Self::Claim => 3,
            Self::End => 4,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        let all = [Self::Manifest, Self::Writes, Self::Claim, Self::End];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// A frame whose checksum and seal were right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its number.
    pub number: u32,
    /// What it holds.
    pub kind: Kind,
    /// The content, compressed and not sealed.
    pub(super) packed: Bytes,
}

/// How the frames of one file are chained and sealed.
pub(super) struct Chain {
    /// Of the header.
    first: Checksum,
    /// Of the last frame, or of the header.
    last: Checksum,
    /// Number of the next frame.
    pub(super) next: u32,
    seal: Option<(XChaCha20Poly1305, [u8; PREFIX_BYTES])>,
}

impl Chain {
    /// After a header with this nonce prefix and checksum.
    pub(super) fn begin(
        prefix: [u8; PREFIX_BYTES],
        checksum: Checksum,
        key: Option<&BackupKey>,
    ) -> Self {
        let cipher = |key: &BackupKey| XChaCha20Poly1305::new(key.seal().into());
        Self {
            first: checksum,
            last: checksum,
            next: 0,
            seal: key.map(|key| (cipher(key), prefix)),
        }
    }

    pub(super) fn checksum(&self, frame_head: &[u8], body: &[u8]) -> Checksum {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.last).update(frame_head).update(body);
        *hasher.finalize().as_bytes()
    }

    fn nonce(&self, prefix: [u8; PREFIX_BYTES], kind: Kind) -> XNonce {
        let mut nonce = [0; 24];
        nonce[..PREFIX_BYTES].copy_from_slice(&prefix);
        nonce[PREFIX_BYTES..23].copy_from_slice(&self.next.to_be_bytes());
        nonce[23] = u8::from(kind == Kind::End);
        nonce.into()
    }

    fn associated(&self, frame_head: &[u8]) -> Vec<u8> {
        [&self.first, frame_head].concat()
    }

    /// Bytes that a seal adds to a body.
    pub(super) fn tag_bytes(&self) -> usize {
        if self.seal.is_some() { 16 } else { 0 }
    }

    /// The body with its seal, where there is one.
    pub(super) fn seal(&self, kind: Kind, head: &[u8], body: &[u8]) -> Result<Bytes, BackupError> {
        let Some((cipher, prefix)) = &self.seal else {
            return Ok(Bytes::copy_from_slice(body));
        };
        let aad = &self.associated(head);
        let sealed = cipher.encrypt(&self.nonce(*prefix, kind), Payload { msg: body, aad });
        // Refused is only what is longer than any frame.
        sealed.map(Bytes::from).map_err(|_| BackupError::TooLong)
    }

    /// The body without its seal; `None` where that is not right.
    pub(super) fn open(&self, kind: Kind, head: &[u8], body: Bytes) -> Option<Bytes> {
        let Some((cipher, prefix)) = &self.seal else {
            return Some(body);
        };
        let aad = &self.associated(head);
        let payload = Payload { msg: &body, aad };
        let opened = cipher.decrypt(&self.nonce(*prefix, kind), payload);
        opened.ok().map(Bytes::from)
    }

    pub(super) fn advance(&mut self, checksum: Checksum) -> Result<(), BackupError> {
        self.last = checksum;
        self.next = self.next.checked_add(1).ok_or(BackupError::TooLong)?;
        Ok(())
    }
}

pub(super) fn frame_head(number: u32, kind: Kind, length: usize) -> [u8; FRAME_HEAD_BYTES] {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&number.to_be_bytes());
    head[4] = kind.byte();
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    head[5..].copy_from_slice(&length.to_be_bytes());
    head
}

impl Frame {
    /// The content, compressed and not sealed; [`Sealer::frame`](super::Sealer::frame)
    /// makes the same frame of another file of it.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The content.
    pub(super) fn content(&self) -> Result<Vec<u8>, BackupError> {
        let number = self.number;
        // What a frame says of its size is not believed: it is unpacked into so much and no more.
        zstd::bulk::decompress(&self.packed, CONTENT_MAX).map_err(|error| BackupError::Content {
            frame: number,
            detail: format!("it cannot be unpacked into {CONTENT_MAX} bytes: {error}"),
        })
    }
}
