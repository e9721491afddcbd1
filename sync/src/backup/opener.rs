//! Header and frames as they are read.

use bytes::{Buf as _, BytesMut};

use super::frame::{
    BODY_MAX, CHECKSUM_BYTES, Chain, FRAME_HEAD_BYTES, Frame, HEAD_BYTES, HEADER_BYTES, Kind,
    MAGIC, PREFIX_AT, PREFIX_BYTES, VERSION,
};
use super::key::CHECK_BYTES;
use super::{BackupError, BackupKey};

/// Takes the bytes of a backup apart.
pub struct Opener {
    key: Option<BackupKey>,
    chain: Option<Chain>,
    buffer: BytesMut,
    /// How many bytes were taken off the buffer.
    at: u64,
    ended: bool,
}

impl Opener {
    /// For a backup that was sealed with this key, or for one that was not.
    pub fn new(key: Option<BackupKey>) -> Self {
        Self {
            key,
            chain: None,
            buffer: BytesMut::new(),
            at: 0,
            ended: false,
        }
    }

    /// Takes the next bytes. What is pushed waits in memory until [`Self::next_frame`] has
    /// taken it off: call that until it has nothing before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes have been read, those of incomplete frames left out.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next frame; `None` when more bytes are needed, or after the end.
    ///
    /// # Errors
    /// [`BackupError`]; nothing that comes later can be trusted then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.ended {
            return match self.buffer.is_empty() {
                true => Ok(None),
                false => Err(BackupError::Trailing { at: self.at }),
            };
        }
        let Some(mut chain) = self
            .chain
            .take()
            .map_or_else(|| self.header(), |c| Ok(Some(c)))?
        else {
            return Ok(None);
        };
        let frame = self.frame(&mut chain);
        self.chain = Some(chain);
        frame
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// [`BackupError::Cut`]: the end has not come.
    pub fn finish(&self) -> Result<(), BackupError> {
        if self.ended {
            return Ok(());
        }
        let Some(chain) = &self.chain else {
            // Even what is there is not known to be a backup.
            let read = self.buffer.len().min(MAGIC.len());
            if read == 0 || self.buffer[..read] != MAGIC[..read] {
                return Err(BackupError::NotABackup);
            }
            let at = self.buffer.len() as u64;
            return Err(BackupError::Cut { frame: 0, at });
        };
        let at = self.at + self.buffer.len() as u64;
        let frame = chain.next;
        Err(BackupError::Cut { frame, at })
    }

    fn header(&mut self) -> Result<Option<Chain>, BackupError> {
        let seen = self.buffer.len().min(MAGIC.len());
        if self.buffer[..seen] != MAGIC[..seen] {
            return Err(BackupError::NotABackup);
        }
        let Some((header, _)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let (head, rest) = header.split_at(HEAD_BYTES);
        let (check, checksum) = rest.split_at(CHECK_BYTES);
        let sum = *blake3::hash(&header[..HEAD_BYTES + CHECK_BYTES]).as_bytes();
        let version = u16::from_be_bytes([head[8], head[9]]);
        if sum != checksum || version == 0 || version == VERSION && head[10] > 1 {
            return Err(BackupError::Header);
        }
        if version > VERSION {
            return Err(BackupError::TooNew { found: version });
        }
        let key = match (head[10] == 1, &self.key) {
            (false, None) => None,
            (false, Some(_)) => return Err(BackupError::KeyNotNeeded),
            (true, None) => return Err(BackupError::KeyNeeded),
            (true, Some(key)) if key.check(head) != check => return Err(BackupError::WrongKey),
            (true, Some(key)) => Some(key),
        };
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&head[PREFIX_AT..PREFIX_AT + PREFIX_BYTES]);
        let chain = Chain::begin(prefix, sum, key);
        self.buffer.advance(HEADER_BYTES);
        self.at = HEADER_BYTES as u64;
        Ok(Some(chain))
    }

    fn frame(&mut self, chain: &mut Chain) -> Result<Option<Frame>, BackupError> {
        let Some(&head) = self.buffer.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let (number, at) = (chain.next, self.at);
        let damaged = BackupError::Damaged { frame: number, at };
        let [n0, n1, n2, n3, kind, l0, l1, l2, l3] = head;
        let found = u32::from_be_bytes([n0, n1, n2, n3]);
        if found != number {
            let frame = number;
            return Err(BackupError::Order { frame, found, at });
        }
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(kind) = Kind::of(kind).filter(|_| length <= BODY_MAX) else {
            return Err(damaged);
        };
        let whole = FRAME_HEAD_BYTES + length + CHECKSUM_BYTES;
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        let checksum = frame.split_off(FRAME_HEAD_BYTES + length);
        let body = frame.slice(FRAME_HEAD_BYTES..);
        let sum = chain.checksum(&head, &body);
        if checksum != sum[..] {
            return Err(damaged);
        }
        let packed = chain.open(kind, &head, body);
        let packed = packed.ok_or(BackupError::Forged { frame: number, at })?;
        self.at += whole as u64;
        self.ended = kind == Kind::End;
        chain.advance(sum)?;
        Ok(Some(Frame {
            number,
            kind,
            packed,
        }))
    }
}
