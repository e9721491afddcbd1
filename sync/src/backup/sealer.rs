//! Header and frames as they are written.

use bytes::{Bytes, BytesMut};

use super::frame::{
    CHECKSUM_BYTES, Chain, HEAD_BYTES, HEADER_BYTES, Kind, MAGIC, PREFIX_AT, PREFIX_BYTES, VERSION,
    frame_head,
};
use super::key::CHECK_BYTES;
use super::{BackupError, BackupKey};

/// Of zstd: as quick as a disk.
const LEVEL: i32 = 3;

/// Makes the bytes of a backup.
pub struct Sealer {
    chain: Chain,
    header: [u8; HEADER_BYTES],
}

impl Sealer {
    /// Begins a backup that is not sealed.
    pub fn plain() -> Self {
        Self::begin([0; PREFIX_BYTES], None)
    }

    /// Begins one that only who has the key can read.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn sealed(key: &BackupKey) -> Result<Self, getrandom::Error> {
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix)?;
        Ok(Self::begin(prefix, Some(key)))
    }

    fn begin(prefix: [u8; PREFIX_BYTES], key: Option<&BackupKey>) -> Self {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_be_bytes());
        header[10] = u8::from(key.is_some());
        header[PREFIX_AT..PREFIX_AT + PREFIX_BYTES].copy_from_slice(&prefix);
        let (head, rest) = header.split_at_mut(HEAD_BYTES);
        let (check, checksum) = rest.split_at_mut(CHECK_BYTES);
        if let Some(key) = key {
            check.copy_from_slice(&key.check(head));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(head).update(check);
        let sum = *hasher.finalize().as_bytes();
        checksum.copy_from_slice(&sum);
        let chain = Chain::begin(prefix, sum, key);
        Self { chain, header }
    }

    /// The first bytes.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        self.header
    }

    /// The bytes of the next frame, with the content of one that was read.
    ///
    /// # Errors
    /// [`BackupError::TooLong`].
    pub fn frame(&mut self, kind: Kind, packed: &[u8]) -> Result<Bytes, BackupError> {
        let head = frame_head(self.chain.next, kind, packed.len() + self.chain.tag_bytes());
        let body = self.chain.seal(kind, &head, packed)?;
        let checksum = self.chain.checksum(&head, &body);
        let mut bytes = BytesMut::with_capacity(head.len() + body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&checksum);
        self.chain.advance(checksum)?;
        Ok(bytes.freeze())
    }

    /// The bytes of the next frame, with a content of at most 4 MiB.
    pub(super) fn content(&mut self, kind: Kind, content: &[u8]) -> Result<Bytes, BackupError> {
        let packed = zstd::bulk::compress(content, LEVEL);
        // Memory aside, compressing cannot fail.
        let packed = packed.map_err(|_| BackupError::TooLong)?;
        self.frame(kind, &packed)
    }
}
