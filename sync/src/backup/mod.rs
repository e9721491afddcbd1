//! Backups: all that a replica has in one file, and what is read of such a file.
//!
//! Owns the format and what makes a backup consistent. In: a store that goes on being written
//! ([`Backup`]), or bytes from anywhere ([`Reader`]). Out: frames of bounded size; writes, each
//! with its version, so that a restore merges them as if a peer had sent them, deletions
//! included. It does no IO of its own and knows no runtime: bytes are pushed in and taken out.
//! What can fail: the store; and bytes that are not what was written ([`BackupError`], which
//! says which frame and where). Nothing is given out before its checksum has been seen to be
//! right, and memory is bounded by a frame, whatever the bytes say.
//!
//! **Consistency.** A backup is a pull by somebody who has nothing (`storage/scan.rs`): portions
//! read one by one while writes go on, then what has changed meanwhile, until nothing has. It
//! holds everything as it was at its end, and every write that was acknowledged before it began.
//! One long transaction of the store would give its beginning instead; it would keep every page
//! that is written meanwhile from being used again, and reading must not hold up the journal. The
//! price: a document that changes while it is read may be in it twice, and where documents change
//! faster than they are read for [`PASSES_MAX`] rounds, the backup gives up.
//!
//! **Restoring.** The writes go in as from a peer, then the claim. Until the claim, writes that
//! were superseded before the backup are missing in the vector, which is true; an interrupted
//! restore has brought what it has brought, and is repeated from the beginning. A backup of some
//! collections only has no claim: its writes come back, and nothing is said of others.
//!
//! # Format, version 1
//!
//! Numbers are big-endian. A file is a header and frames; each frame's checksum covers all bytes
//! before it, through the checksum of the frame before.
//!
//! ```text
//! header   8  89 42 41 62 61 6b 0d 0a: no text, and telling when it was treated as one
//!          2  version, 1
//!          1  sealing: 0 none, 1 XChaCha20-Poly1305
//!          1  0
//!         19  nonce prefix, random; without sealing zeros
//!          1  0
//!         16  key check: the first bytes of blake3, keyed with a key derived from the backup's
//!             key for this purpose, of the 32 bytes before; without sealing zeros
//!         32  blake3 of the 48 bytes before
//!
//! frame    4  number, from 0
//!          1  kind: 1 manifest, 2 writes, 3 claim, 4 end
//!          4  length of the body, at most 4 MiB + 64 KiB
//!          …  body: the content, compressed by zstd, then sealed where the header says so
//!         32  blake3 of: the checksum before this frame, number, kind, length, body
//!
//! manifest    JSON object (UTF-8): cluster, node, origin, began_ms, agent, collections (a list
//!             of names, or null for all); members that are not known are passed over
//! writes      one after the other: length of the key (2), the key as in the store's table
//!             `entries`, the write as in an entry of kind 2 (`storage/records.rs`)
//! claim       one after the other: origin (24), count (4), and so many pairs of the first (8)
//!             and the last (8) of a range of sequence numbers
//! end         JSON object: ended_ms, writes, deletions, bytes (of the contents of all frames
//!             of writes), passes
//! ```
//!
//! A content is at most 4 MiB. There is one manifest, at the beginning; then frames of writes,
//! then those of the claim, then one end, and nothing after it. Writes of one origin ascend, as
//! long as no later pass brings more of them.
//!
//! **Sealing** is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption
//! and its Nonce-Reuse Misuse-Resistance", 2015): the nonce of a frame is the prefix (19), its
//! number (4) and 1 for the end, else 0 (1); associated data are the header's checksum and the
//! nine bytes before the body. So a frame opens in its place in its file only, and no end can be
//! made up. Checksums are of what is written, so that damage can be told without the key, and a
//! wrong key (by the key check) from damage. The checksums keep nobody from changing a backup
//! that is not sealed.

mod content;
mod error;
mod frame;
mod key;
mod opener;
mod reader;
mod scratch;
mod sealer;
mod source;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use error::BackupError;
pub use frame::{Frame, HEADER_BYTES, Kind};
pub use key::BackupKey;
pub use opener::Opener;
pub use reader::{Item, Piece, Reader};
pub use scratch::{Scratch, ScratchError};
pub use sealer::Sealer;
pub use source::{About, Backup, BackupFailed, PASSES_MAX};

/// What a backup says of itself at its beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The cluster that it is of.
    pub cluster: String,
    /// The node whose store was read.
    pub node: String,
    /// Under which origin that store wrote.
    pub origin: String,
    /// When it was begun, in milliseconds since 1970.
    pub began_ms: u64,
    /// Version of the program.
    pub agent: String,
    /// The collections that were asked for; `None` for all.
    pub collections: Option<Vec<String>>,
}

/// What a backup says of itself at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// When it was ended, in milliseconds since 1970: as of then it is.
    pub ended_ms: u64,
    /// Writes in it.
    pub writes: u64,
    /// Those of them that delete a whole document.
    pub deletions: u64,
    /// Bytes of them, as they are before compression.
    pub bytes: u64,
    /// How often the store was gone over.
    pub passes: u32,
}
