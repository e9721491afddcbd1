//! Reading a backup: frames in their order, what is in them, and whether the totals agree.

use super::content;
use super::frame::{Frame, Kind};
use super::{BackupError, BackupKey, Manifest, Opener, Totals};
use crate::model::{Delta, VersionVector};

/// A frame with what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The frame, to be written to another file, or thrown away.
    pub frame: Frame,
    /// What is in it.
    pub item: Item,
}

/// What is in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// What the backup says of itself; first and once.
    Manifest(Manifest),
    /// Writes.
    Writes(Vec<Delta>),
    /// A part of what a replica has that has taken in all writes.
    Claim(VersionVector),
    /// The end.
    End(Totals),
}

/// Reads a backup whose bytes are pushed in.
pub struct Reader {
    opener: Opener,
    /// The kind of the last frame.
    last: Option<Kind>,
    partial: bool,
    counted: Totals,
}

impl Reader {
    /// For a backup that was sealed with this key, or for one that was not.
    pub fn new(key: Option<BackupKey>) -> Self {
        Self {
            opener: Opener::new(key),
            last: None,
            partial: false,
            counted: Totals::default(),
        }
    }

    /// As [`Opener::push`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.opener.push(bytes);
    }

    /// As [`Opener::position`].
    pub fn position(&self) -> u64 {
        self.opener.position()
    }

    /// What has been counted so far.
    pub fn counted(&self) -> &Totals {
        &self.counted
    }

    /// The next frame and what is in it; `None` when more bytes are needed, or after the end.
    ///
    /// # Errors
    /// [`BackupError`]; nothing that comes later can be trusted then.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, BackupError> {
        let Some(frame) = self.opener.next_frame()? else {
            return Ok(None);
        };
        let item = self.read(&frame).map_err(|fault| match fault {
            Fault::Frame(error) => error,
            Fault::Content(detail) => BackupError::Content {
                frame: frame.number,
                detail,
            },
        })?;
        self.last = Some(frame.kind);
        Ok(Some(Piece { frame, item }))
    }

    /// As [`Opener::finish`].
    ///
    /// # Errors
    /// [`BackupError::Cut`].
    pub fn finish(&self) -> Result<(), BackupError> {
        self.opener.finish()
    }

    fn read(&mut self, frame: &Frame) -> Result<Item, Fault> {
        let follows = match (self.last, frame.kind) {
            (None, kind) => kind == Kind::Manifest,
            (Some(Kind::Manifest | Kind::Writes), Kind::Claim) => !self.partial,
            (Some(Kind::Manifest | Kind::Writes), Kind::Writes) => true,
            (Some(Kind::Manifest | Kind::Writes), Kind::End) => self.partial,
            (Some(Kind::Claim), Kind::Claim | Kind::End) => true,
            _ => false,
        };
        if !follows {
            return Err(Fault::Content(format!(
                "{:?} cannot follow {:?}",
                frame.kind, self.last
            )));
        }
        let content = frame.content()?;
        Ok(match frame.kind {
            Kind::Manifest => {
                let manifest: Manifest = content::decode_text(&content)?;
                self.partial = manifest.collections.is_some();
                Item::Manifest(manifest)
            }
            Kind::Writes => {
                let writes = content::decode_writes(&content)?;
                let deletions = writes.iter().filter(|write| content::deletes(write));
                self.counted.deletions += deletions.count() as u64;
                self.counted.writes += writes.len() as u64;
                self.counted.bytes += content.len() as u64;
                Item::Writes(writes)
            }
            Kind::Claim => Item::Claim(content::decode_claim(&content)?),
            Kind::End => {
                let told: Totals = content::decode_text(&content)?;
                let sums = |totals: &Totals| (totals.writes, totals.deletions, totals.bytes);
                if sums(&told) != sums(&self.counted) {
                    let counted = self.counted.writes;
                    let detail = format!("it tells of {} writes, and {counted} came", told.writes);
                    return Err(Fault::Content(detail));
                }
                Item::End(told)
            }
        })
    }
}

enum Fault {
    Frame(BackupError),
    Content(content::Fault),
}

impl From<BackupError> for Fault {
    fn from(error: BackupError) -> Self {
        Self::Frame(error)
    }
}

impl From<content::Fault> for Fault {
    fn from(fault: content::Fault) -> Self {
        Self::Content(fault)
    }
}
