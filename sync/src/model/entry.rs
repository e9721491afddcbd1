//! What travels between replicas, and what a reader sees of a key.

use bytes::Bytes;

use super::document::{Document, Revision, Write};
use super::{Dot, Key};

/// One write as it travels between replicas: what it still has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    /// Which key.
    pub key: Key,
    /// What was written to it.
    pub write: Write,
}

impl Delta {
    /// Which write it is.
    pub fn dot(&self) -> Dot {
        self.write.version.dot
    }

    /// About how many bytes it takes in a frame; never less than it does.
    pub fn weight(&self) -> usize {
        self.key.weight() + self.write.weight()
    }
}

/// A key as a reader sees it at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which state of it.
    pub revision: Revision,
    /// The document as JSON text, or `None` where it was deleted or has expired.
    pub value: Option<Bytes>,
    /// When it expires, in milliseconds since 1970.
    pub expires_at: Option<u64>,
}

impl Entry {
    /// What a reader sees of a document at `now_ms`; `None` where nothing was ever written.
    pub fn of(document: &Document, now_ms: u64) -> Option<Self> {
        Some(Self {
            revision: document.revision()?,
            value: document.value(now_ms),
            expires_at: document.expires_at(),
        })
    }

    /// Whether there is no document.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }
}

/// A key and what a reader sees of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// What it is.
    pub entry: Entry,
}

impl Change {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        self.key.weight() + self.entry.value.as_ref().map_or(0, Bytes::len)
    }
}
