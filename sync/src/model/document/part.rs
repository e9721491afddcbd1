//! Parts of a document and what a write says about them.

use bytes::Bytes;
use thiserror::Error;

use super::json;
use crate::model::{Dot, Origin, SEQ_MAX, Seq, Version};

/// Longest name of a field that is a part of its own, in bytes.
pub const FIELD_BYTES_MAX: usize = 512;

/// One register of a document. Their order is the order within a write.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// The whole document as JSON text; no value: deleted. It puts an end to every
    /// older part that it [covers](Part::is_covered_by_root).
    Root,
    /// One top-level field, laid over the root's object: its JSON text; no value:
    /// removed.
    Field(Box<str>),
    /// All that one origin ever added to a counter: an [`Amount`]. Only that origin
    /// writes it.
    Tally(Origin),
    /// What a deletion had seen of that origin's tally: an [`Amount`].
    Reset(Origin),
    /// A set is here, even if it is empty (an empty value), or was deleted (none).
    Set,
    /// One addition of an element: its canonical JSON; no value: removed again.
    Element(Tag),
    /// When the document expires: milliseconds since 1970 as a big-endian `u64`; no
    /// value: never.
    Expiry,
}

impl Part {
    /// Whether a root puts an end to it.
    ///
    /// A tally and its reset are spared. A tally is a running total, and a total
    /// only means something beside the amount that was taken off it: a deletion of
    /// a counter must not take along additions it has not seen, and which reset
    /// counts depends on what it saw rather than on when, so that a root which cut
    /// one off by time would make the outcome depend on the order of arrival.
    pub fn is_covered_by_root(&self) -> bool {
        match self {
            Self::Field(_) | Self::Set | Self::Element(_) | Self::Expiry => true,
            Self::Root | Self::Tally(_) | Self::Reset(_) => false,
        }
    }
}

/// Which addition of an element: the write, and the position within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    /// The write that added it.
    pub dot: Dot,
    /// As which of its additions.
    pub index: u16,
}

/// An amount as of a write: 8 bytes of [`Seq`] and 8 of `i64`, both big-endian.
///
/// In a tally `seq` is the write that began the count. In a reset it is the last
/// write of the tally that the deletion had seen, and `total` what the tally came to
/// then. A reset says nothing about a count that began after it: an origin whose
/// tally was collected with a tombstone begins anew from nothing, while a reset of
/// the old one may still be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    /// The write that it is as of, or that began it.
    pub seq: Seq,
    /// How much.
    pub total: i64,
}

impl Amount {
    /// The value of a part.
    pub fn encode(self) -> Bytes {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..].copy_from_slice(&self.total.to_be_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// Reads the value of a part; `None` where it is no amount.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, total) = bytes.split_first_chunk()?;
        Some(Self {
            seq: Seq::from_be_bytes(*seq),
            total: i64::from_be_bytes(total.try_into().ok()?),
        })
    }
}

/// What a write makes of one part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartWrite {
    /// Which part.
    pub part: Part,
    /// Its value; what none means is said with each [`Part`].
    pub value: Option<Bytes>,
}

/// What decides between two writes of one part; the greater wins.
///
/// For all but resets it is the version. Between resets the one wins that saw more,
/// whenever it was: a late deletion that had seen little must not bring back what an
/// earlier one took off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    seen: Seq,
    version: Version,
}

impl PartWrite {
    /// About how many bytes it takes; never less than it does.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 64;
        let name = match &self.part {
            Part::Field(name) => name.len(),
            _ => 0,
        };
        FIXED + name + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Whether the value is of the shape that the part asks for, in a write of
    /// `version`.
    ///
    /// # Errors
    /// [`InvalidWrite`] says what is wrong.
    pub fn check(&self, version: &Version) -> Result<(), InvalidWrite> {
        match (&self.part, &self.value) {
            (Part::Field(name), _) if name.len() > FIELD_BYTES_MAX => {
                Err(InvalidWrite::FieldName(name.len()))
            }
            (Part::Root, Some(text)) => check_json(text, json::DEPTH_MAX),
            (Part::Field(_), Some(text)) => check_json(text, json::DEPTH_MAX - 1),
            (Part::Element(tag), Some(_)) if tag.dot != version.dot => Err(InvalidWrite::Foreign),
            (Part::Element(_), Some(text)) => check_json(text, json::DEPTH_MAX - 1),
            (Part::Tally(origin), _) if *origin != version.dot.origin => Err(InvalidWrite::Foreign),
            (Part::Tally(_), value) => check_amount(value.as_ref(), version.dot.seq),
            (Part::Reset(_), value) => check_amount(value.as_ref(), SEQ_MAX),
            (Part::Set, Some(mark)) if !mark.is_empty() => Err(InvalidWrite::Length),
            (Part::Expiry, Some(moment)) if moment.len() != 8 => Err(InvalidWrite::Length),
            _ => Ok(()),
        }
    }

    pub(super) fn rank(&self, version: Version) -> Rank {
        let seen = match (&self.part, &self.value) {
            (Part::Reset(_), Some(value)) => Amount::decode(value).map_or(0, |amount| amount.seq),
            _ => 0,
        };
        Rank { seen, version }
    }
}

fn check_json(text: &[u8], depth: u8) -> Result<(), InvalidWrite> {
    json::check(text, depth).map_err(InvalidWrite::Json)
}

fn check_amount(value: Option<&Bytes>, seq_max: Seq) -> Result<(), InvalidWrite> {
    let amount = value.and_then(|bytes| Amount::decode(bytes));
    match amount {
        Some(amount) if (1..=seq_max).contains(&amount.seq) => Ok(()),
        Some(_) => Err(InvalidWrite::Seq),
        None => Err(InvalidWrite::Length),
    }
}

/// One write of a document: what a client's operation came to.
///
/// A dot always means the same parts with the same values. A copy may lack parts
/// that have been beaten since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Which write, and when.
    pub version: Version,
    /// What it says, strictly ascending by part and never empty.
    pub parts: Vec<PartWrite>,
}

impl Write {
    /// Whether it may be merged: what must hold for bytes that came from a peer.
    ///
    /// # Errors
    /// [`InvalidWrite`] says what is wrong.
    pub fn check(&self) -> Result<(), InvalidWrite> {
        self.check_order()?;
        self.parts
            .iter()
            .try_for_each(|part| part.check(&self.version))
    }

    pub(super) fn check_order(&self) -> Result<(), InvalidWrite> {
        if self.parts.is_empty() {
            return Err(InvalidWrite::Empty);
        }
        if !self.parts.is_sorted_by(|a, b| a.part < b.part) {
            return Err(InvalidWrite::Order);
        }
        Ok(())
    }

    pub(super) fn find(&self, part: &Part) -> Result<usize, usize> {
        self.parts.binary_search_by(|probe| probe.part.cmp(part))
    }

    /// About how many bytes it takes in a frame; never less than it does.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 64;
        FIXED + self.parts.iter().map(PartWrite::weight).sum::<usize>()
    }
}

/// A write that breaks the rules. Nothing was changed; whoever sent it is at fault.
#[derive(Debug, Error)]
pub enum InvalidWrite {
    /// It has no part.
    #[error("a write says nothing")]
    Empty,
    /// Its parts are not strictly ascending.
    #[error("the parts of a write are out of order")]
    Order,
    /// A field's name is too long.
    #[error("the name of a field has {0} bytes; at most {FIELD_BYTES_MAX} are allowed")]
    FieldName(usize),
    /// A value that is to be JSON is not, or nests too deep.
    #[error("the value of a part is not JSON")]
    Json(#[source] serde_json::Error),
    /// A value is missing or has the wrong length.
    #[error("the value of a part has the wrong length")]
    Length,
    /// A sequence number that no write can have.
    #[error("an amount names a write that cannot be")]
    Seq,
    /// It writes what only another origin, or another write, may.
    #[error("a write claims a part that belongs to another one")]
    Foreign,
}
