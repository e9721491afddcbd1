//! What a key holds: a version and a document, or a version and its deletion.

use bytes::Bytes;

use super::{Key, Version};

/// The state of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The write that made it so.
    pub version: Version,
    /// The document as JSON text, or `None` where the key was deleted: a tombstone.
    pub value: Option<Bytes>,
}

impl Entry {
    /// Whether the key was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }
}

/// One write as it travels between replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// What it became.
    pub entry: Entry,
}

impl Change {
    /// About how many bytes it takes in a frame; never less than it does.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 96;
        let value = self.entry.value.as_ref().map_or(0, Bytes::len);
        FIXED + self.key.collection().as_str().len() + self.key.name().len() + value
    }
}
