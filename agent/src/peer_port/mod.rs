//! The peer port: the one address of an agent that other hosts need.
//!
//! Owns the UDP socket and the TCP listener of `[peer] listen`, the certificates
//! derived from the cluster's secrets or given as files, and every TLS handshake.
//! In go the secrets, the cluster's and the node's name, and TCP connections;
//! out come the bound UDP socket, authenticated [`PeerStream`]s sorted by
//! [`Protocol`], and a [`Connector`] that opens such streams to others. What is
//! said over a stream is the business of whoever asked for its protocol; the
//! crates below the agent see streams and keys, never TLS.
//!
//! What can fail: binding ([`BindError`]), making or reading certificates
//! ([`CredentialsError`]), connecting ([`ConnectError`]). What a stranger sends
//! can only end in a [`Refusal`], which is counted and, at a bounded rate, said.

mod accept;
mod bind;
mod certificate_files;
mod certificates;
mod connect;
mod credentials;
mod generation;
mod handshake;
pub mod large_frames;
mod name;
mod notices;
mod protocol;
mod secret;
mod selection;
mod statistics;
mod stream;

#[cfg(test)]
mod tests;

pub use accept::{Incoming, Limits, Routes, ServeError};
pub use bind::{BindError, Listener, PeerPort, Transport};
pub use certificate_files::{CertificateFileError, CertificateFiles, watch_files};
pub use connect::{ConnectError, Connector};
pub use credentials::{Credentials, CredentialsError};
pub use handshake::Refusal;
pub use name::PeerName;
pub use protocol::Protocol;
pub use secret::PeerKeys;
pub use statistics::{Statistics, StatisticsSnapshot};
pub use stream::PeerStream;
