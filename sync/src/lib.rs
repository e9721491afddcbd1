//! Replication between agents: durable, convergent, written anywhere.
//!
//! The map of this crate, from the inside out:
//!
//! - [`model`]: pure data. Identities of replicas, hybrid logical clocks,
//!   versions, version vectors, keys, entries and the merge rule; documents that
//!   merge part by part. Knows no storage, no network and no time of its own.
//! - [`storage`]: where data lives. One small seam ([`storage::Storage`]: ordered
//!   byte tables with atomic transactions), two implementations (memory and redb),
//!   and above the seam the records of the store, written once for both.
//! - [`protocol`]: the replica as a state machine. Messages, time and random
//!   numbers go in; replies, messages and the next deadline come out. It compiles
//!   without tokio, clocks or a random source of its own, so that a whole cluster
//!   runs in one test thread.
//! - [`verify`]: whether stores hold the same, and what would make them: digests, then
//!   keys, then parts; a plan for each key. Asks and answers in plain data.
//! - [`backup`]: a file with all that a replica has, written while it works, and read with
//!   suspicion. Bytes in, bytes out; it knows no files.
//! - [`codec`]: frames on the wire; the only module that names bincode.
//! - [`net`]: the only module that names tokio. One thread owns the replica and
//!   the store; connections and callers send it inputs.
//!
//! A write: [`net::Handle`] → driver → [`protocol::Replica`] → one store
//! transaction for everything that arrived meanwhile → pushes, which peers bring to their
//! disks meanwhile → fsync → replies. **Nothing is acknowledged or claimed before it is
//! durable.** A push claims nothing: it is a write, and holds whatever becomes of its
//! sender, which never uses a number again that a peer may have heard of.
//!
//! What must never be known here: who the members are and whether they are
//! alive (the agent says which peers to connect to), TLS (the agent hands in
//! streams), HTTP.
#![forbid(unsafe_code)]

pub mod backup;
pub mod codec;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;
pub mod net;
pub mod protocol;
pub mod storage;
pub mod verify;
