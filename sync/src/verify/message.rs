//! What is asked of a node, and what it answers. Keys are those of the table `entries`, so
//! that one which cannot be decoded can be named too.

use bytes::Bytes;

use super::indexes::{Fault, Place};
use crate::model::document::Document;
use crate::model::{Dot, VersionVector};
use crate::storage::mending::{Mend, Mended};
use crate::storage::state::Digest;

/// Ranges in one question at most.
pub const RANGES_MAX: usize = 64;
/// Keys in one question at most.
pub const KEYS_MAX: usize = 64;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The digests of consecutive ranges of keys: the first begins at `from`, each ends
    /// before one of `bounds`, and with `to_end` another one reaches from there to the end.
    Digests {
        /// Where the first range begins.
        from: Bytes,
        /// Where each ends, ascending.
        bounds: Vec<Bytes>,
        /// Whether there is one more, to the end.
        to_end: bool,
    },
    /// The keys of a range with the digests of what they hold.
    Items {
        /// Where the range begins.
        from: Bytes,
        /// Before which key it ends, if it does.
        to: Option<Bytes>,
    },
    /// What these keys hold, and the node's vector at the same moment.
    Documents {
        /// Which keys; none asks for the vector alone.
        keys: Vec<Bytes>,
    },
    /// A stretch of the node's own tables, checked against each other.
    Check {
        /// Where to begin.
        from: Place,
    },
    /// Mend this, in the order given.
    Mend {
        /// What.
        work: Vec<Mend>,
    },
}

/// An answer; each belongs to the [`Request`] of the same place in the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of each range.
    Digests(Vec<RangeDigest>),
    /// The first keys of the range, in order.
    Items {
        /// The keys.
        items: Vec<Item>,
        /// Whether there are more after them.
        more: bool,
    },
    /// What the first of the keys hold, at least one if any was named.
    Documents {
        /// What the node has taken in.
        vector: VersionVector,
        /// In the order of the question.
        held: Vec<Held>,
    },
    /// What a stretch of tables came to.
    Checked {
        /// Rows that were looked at.
        rows: u64,
        /// What is wrong.
        faults: Vec<Fault>,
        /// Where to go on, if that was not all.
        next: Option<Place>,
    },
    /// What became of each piece of work.
    Mended(Vec<Mended>),
    /// As many comparisons as this node allows are under way.
    Busy,
    /// The node could not do it, for this reason.
    Failed(String),
}

/// The sum of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeDigest {
    /// Of the contents of all its keys, mod 2^256.
    pub sum: Digest,
    /// How many keys those are; deleted ones are none.
    pub count: u64,
}

impl RangeDigest {
    /// Adds a key's content; what counts as nothing adds nothing.
    pub fn add(&mut self, content: Digest) {
        if content != Digest::default() {
            self.sum.add(content);
            self.count += 1;
        }
    }
}

/// A key and the digest of what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Which key.
    pub key: Bytes,
    /// What it holds.
    pub content: Digest,
}

/// What a node holds for a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Its digest as it lies on the node's disk.
    pub digest: Digest,
    /// The document.
    pub content: Content,
    /// Writes of the document that the node's own index or vector knows nothing of: no write
    /// of this name ever came to this key here.
    pub loose: Vec<Dot>,
}

/// A document, or why there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Content {
    /// Nothing was ever written.
    #[default]
    Nothing,
    /// Something was, and cannot be read.
    Damaged,
    /// This.
    Document(Document),
}

impl Held {
    /// The document, if there is a readable one.
    pub fn document(&self) -> Option<&Document> {
        match &self.content {
            Content::Document(document) => Some(document),
            Content::Nothing | Content::Damaged => None,
        }
    }
}
