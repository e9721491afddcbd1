//! What can go wrong when a proxy is set up. What goes wrong with a request is an answer to its
//! client, see `proxy/problem.rs`.

use std::io;
use std::net::SocketAddr;

/// The listening address could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{address} is in use by another process; stop it or choose another address")]
    InUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused for another reason: no such local address, or not permitted.
    #[error(
        "cannot listen on {address}; it must be an address of this host, with a port this user may take"
    )]
    Refused {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address, source }
        } else {
            BindError::Refused { address, source }
        }
    }
}

/// The proxy is bound, but its threads could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no thread.
    #[error("cannot start the proxy's thread {name}; check the limit on processes")]
    Thread {
        /// Which thread.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no event queue, mostly for lack of file descriptors.
    #[error("cannot start the proxy's event loop; check the limit on open files")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
}
