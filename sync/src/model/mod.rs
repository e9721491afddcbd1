//! Pure data: identities, clocks, versions, entries and the rule that merges them.

mod clock;
pub mod document;
mod entry;
mod frontier;
mod id;
mod key;
#[cfg(test)]
pub(crate) mod numbered;
mod vector;
mod version;

pub use clock::{HybridClock, Timestamp};
pub use entry::{Change, Delta, Entry};
pub use frontier::Frontier;
pub use id::{Epoch, Origin, PeerId, ReplicaId, SEQ_MAX, Seq};
pub use key::{Collection, InvalidName, KEY_BYTES_MAX, Key, VALUE_BYTES_MAX};
pub use vector::{SeqRange, SeqSet, VersionVector};
pub use version::{Dot, ParseVersionError, Version};
