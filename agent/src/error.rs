//! Why the agent could not start, or had to stop: each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::peer_port;
use crate::tasks::TaskEnded;

/// The agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error(
        "the data directory {path} cannot be used; make it writable, or name another by [node] data_dir"
    )]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    OpenStore(#[from] basic_sync::storage::OpenError),
    /// The replica.
    #[error("replication cannot start")]
    Replication(#[from] basic_sync::net::StartError),
    /// The node's name.
    #[error(transparent)]
    Identity(#[from] basic_membership::IdentityError),
    /// A name that membership does not take.
    #[error("the names of node and cluster are refused by membership")]
    Name(#[from] basic_membership::NameError),
    /// The API's address.
    #[error("the API cannot listen on {address}{}; free the port, or choose another by [api] listen", in_use(.source))]
    BindApi {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The proxy's address.
    #[error("the proxy cannot start; choose another address by [proxy] listen")]
    BindProxy(#[from] basic_balancer::BindError),
    /// The proxy's threads.
    #[error("the proxy cannot start")]
    StartProxy(#[from] basic_balancer::StartError),
    /// The peer port's address.
    #[error(transparent)]
    BindPeerPort(#[from] peer_port::BindError),
    /// The keys and certificates.
    #[error(transparent)]
    Keys(#[from] crate::keys::OpenKeysError),
    /// A webhook that cannot be called.
    #[error(transparent)]
    Webhook(#[from] crate::events::TlsError),
    /// Membership.
    #[error("membership cannot start")]
    Join(#[from] basic_membership::JoinError),
    /// The app's address.
    #[error("the app's host \"{host}\" cannot be resolved; correct [app] url")]
    ResolveApp {
        /// Which.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// An operator removed this node.
    #[error(transparent)]
    Removed(#[from] crate::operations::Removed),
    /// The agents' own records.
    #[error("the decisions of operators cannot be read")]
    Records(#[from] crate::records::RecordError),
    /// The signals.
    #[error("the agent cannot listen for signals")]
    Signals(#[source] io::Error),
    /// A part of the agent ended.
    #[error("the agent had to stop")]
    Task(#[from] TaskEnded),
}

fn in_use(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        ": another process uses the port"
    } else {
        ""
    }
}
