//! Whether stores hold the same, and what would make them.
//!
//! Replication trusts version vectors: where two are equal, nothing is exchanged. A damaged
//! disk, a defect or an operator's hand can make documents differ under equal vectors, and
//! then nothing but a comparison of the documents themselves finds out. This is it, as pure
//! functions over a [`Reader`](crate::storage::Reader) and plain data; `net/verify` asks
//! the nodes, [`crate::storage::mending`] and the replica do the mending.
//!
//! - **Digests, then keys, then parts.** A range of keys has a sum over its [`content`]
//!   digests; where sums differ, the keys with their digests are listed, and of those that
//!   differ the documents are fetched and compared part by part ([`compare`]). The ranges
//!   are cut in the order of the keys by whoever asks, and each is read in a snapshot of its
//!   own: a walk over a million documents holds neither a long read transaction nor much
//!   memory, and the same range is read everywhere within milliseconds. (Buckets by hash,
//!   kept up to date by every write, would answer sooner, and cost every write; found by a
//!   scan, each bucket that differs would cost another scan to list.)
//! - **Contents, not versions.** The digest that each store keeps covers keys and versions,
//!   because a version means its values. A disk does not keep to that, so here the values
//!   go in too.
//! - **A write on its way is no difference.** Documents differ truly where neither node
//!   waits for the other: each one's vector, in the snapshot of its document, has all that
//!   the other's document rests on. A pull may bring a write in part, with the rest to come
//!   under a later number; so a difference counts when it is there again after all nodes
//!   have reached what any of them had after the first look.
//! - **A plan decides alike on every node** ([`plan`]): merge what can be merged; of two
//!   contents of one write take the sound one, else the one that most nodes hold, else the
//!   one with the greater hash.
//! - **Indexes** ([`indexes`]): that a store's tables say the same as its documents.
//!
//! - **What was let go of does not come back.** A deletion that one node remembers and another
//!   has let go of is no difference ([`content`] says how). A document that is there on some
//!   nodes and not on others, and old enough that its deletion may have been let go of, is
//!   named and not mended unless most nodes have it: it may be one that was deleted.
//!
//! What can fail: reading the store. Rows that cannot be decoded are findings, not errors.

pub mod compare;
pub mod content;
pub mod indexes;
pub mod message;
pub mod plan;
pub mod survey;

#[cfg(test)]
mod tests;

pub use compare::{Difference, PartDifference, PartState};
pub use indexes::{Fault, FaultKind};
pub use message::{Answer, Content, Held, Item, RangeDigest, Request};
pub use plan::{Plan, Reason};
