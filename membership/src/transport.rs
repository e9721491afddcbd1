//! The gossip transport: sealed frames over UDP, and over a connection where
//! they are too large for a datagram.
//!
//! Out goes what chitchat says, sealed. In comes only what was opened, is new, is
//! meant for this node and this cluster, and obeys the rules of the protocol.
//! Everything else is counted, told to the operator where the operator can act,
//! and never answered, with one exception: an agent that holds the key and
//! belongs to another cluster is told so, at most once every few seconds, since
//! otherwise only one side might learn of the mistake.
//!
//! | module | what it owns |
//! |---|---|
//! | [`keyring`] | the keys, and their rotation |
//! | `sealed` | the bytes of a frame |
//! | `replay` | which frames have been seen |
//! | `addresses` | who speaks from which address, and with which keys |
//! | `clocks` | how far the others' clocks are from ours |
//! | `inspect` | the rules that a message must obey before chitchat reads it |
//! | `screening` | all checks of an arriving frame, in their order; no IO |
//! | `endpoint` | the datagrams and the connection path |
//! | `datagrams` | the seam to the network |
//! | `socket` | chitchat's view of the endpoint |
//! | [`large_frames`] | the seam to the agent's peer port |

pub(crate) mod addresses;
mod clocks;
pub(crate) mod datagrams;
pub(crate) mod endpoint;
#[cfg(test)]
pub(crate) mod forge;
pub(crate) mod inspect;
pub mod keyring;
pub mod large_frames;
mod replay;
pub(crate) mod screening;
pub(crate) mod sealed;
pub(crate) mod socket;

/// Longest frame sent as a datagram where there is a connection path: below what
/// every network carries in one piece.
pub const DATAGRAM_LEN_MAX: usize = 1200;
/// Longest frame sent as a datagram where there is none; the network may cut it
/// into fragments.
pub const DATAGRAM_LEN_MAX_FRAGMENTED: usize = 60_000;
