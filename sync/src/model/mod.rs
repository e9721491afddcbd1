//! Pure data: identities, clocks, versions, entries and the rule that merges them.

mod clock;
mod entry;
mod id;
mod key;
mod merge;
mod vector;
mod version;

pub use clock::{ClockAhead, HybridClock, Timestamp};
pub use entry::{Change, Entry};
pub use id::{Epoch, Origin, PeerId, ReplicaId, SEQ_MAX, Seq};
pub use key::{Collection, InvalidName, KEY_BYTES_MAX, Key, VALUE_BYTES_MAX};
pub use merge::{Resolution, last_writer_wins};
pub use vector::{SeqRange, SeqSet, VersionVector};
pub use version::{Dot, ParseVersionError, Version};
