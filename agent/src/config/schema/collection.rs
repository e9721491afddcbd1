//! The keys of every `[collections.NAME]`.
//!
//! They differ from the others in that their table stands for many: each collection has values of its own.

use std::time::Duration;

use basic_sync::model::VALUE_BYTES_MAX;
use basic_sync::model::document::Merge;
use bytesize::ByteSize;

use super::{AnyKey, Initial, Key, KeyId};

/// The table of the collections' tables.
pub(in crate::config) const COLLECTIONS: &str = "collections";

/// What stands for the table of a collection where none in particular is meant.
const TABLE: &str = "collections.NAME";

/// Ten years as [`humantime`] counts them.
const TTL_MAX: Duration = Duration::from_secs(315_576_000);

/// Every key of a collection.
pub(in crate::config) static COLLECTION_KEYS: &[&dyn AnyKey] = &[
    &COLLECTION_MERGE,
    &COLLECTION_DOCUMENT_MAX,
    &COLLECTION_TTL,
    &COLLECTION_HISTORY,
    &COLLECTION_HISTORY_AGE,
];

pub(in crate::config) static COLLECTION_MERGE: Key<Merge> = Key::new(
    KeyId {
        table: TABLE,
        name: "merge",
    },
    Initial::Default("lww"),
    "What becomes of two writes to one document at the same time: lww, the later wins; fields, the later wins for each \
     field; counter, additions add up; set, elements come and go one by one; the same on every node.",
);

pub(in crate::config) static COLLECTION_DOCUMENT_MAX: Key<ByteSize> = Key::new(
    KeyId {
        table: TABLE,
        name: "document_max",
    },
    Initial::Default("1MiB"),
    "Largest document that is taken.",
)
.within(ByteSize::kib(1), ByteSize::b(VALUE_BYTES_MAX as u64));

pub(in crate::config) static COLLECTION_TTL: Key<Duration> = Key::new(
    KeyId {
        table: TABLE,
        name: "ttl",
    },
    Initial::Unset { example: "30days" },
    "How long a document lives after a put, or the patch that began it, that does not say so itself; without it, until it is deleted.",
)
.within(Duration::from_secs(1), TTL_MAX);

pub(in crate::config) static COLLECTION_HISTORY: Key<u16> = Key::new(
    KeyId {
        table: TABLE,
        name: "history",
    },
    Initial::Default("0"),
    "Older versions of a document that each node keeps, of those that it went through itself; at most 16MiB a document.",
)
.within(0, 1000);

pub(in crate::config) static COLLECTION_HISTORY_AGE: Key<Duration> = Key::new(
    KeyId {
        table: TABLE,
        name: "history_age",
    },
    Initial::Unset { example: "30days" },
    "How long older versions are kept; without it, until later ones take their place.",
)
.within(Duration::from_secs(1), TTL_MAX);
