//! Two nodes with one id: this one takes no writes until an operator decides.
//!
//! A data directory that was copied, or an id given twice, makes two processes that number their writes alike. Once
//! membership has heard the other, the latch closes: writes are refused here, reads go on, and the other process, which
//! hears this one, does the same. It stays closed when the other falls silent, because silence does not tell which of
//! the two should go on. An operator opens it with `basic-agent revive ID`, once the other is gone; so does a restart,
//! which finds no rival or finds it again.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use basic_membership::{Cluster, NodeId};
use basic_sync::net::Handle;
use tokio::sync::watch;
use tracing::{error, info};

/// Another process has, or had, the id of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoNodes {
    /// The id.
    pub id: NodeId,
    /// Where this process is reached.
    pub own: SocketAddr,
    /// Where the other is, or was last.
    pub rival: SocketAddr,
    /// Since when it is known here.
    pub since: SystemTime,
}

/// The latch. Clones share it.
#[derive(Debug, Clone)]
pub struct ConflictLatch {
    closed: watch::Sender<Option<TwoNodes>>,
    replica: Handle,
    cluster: Cluster,
}

impl fmt::Display for TwoNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, own, rival, .. } = self;
        write!(
            f,
            "two nodes have the id {id}, one at {own} (this one) and one at {rival}, so neither takes writes; stop the \
             one that shall not go on, then run `basic-agent revive {id}` on the other"
        )
    }
}

impl ConflictLatch {
    /// Open, and as yet unwatched: see [`ConflictLatch::watch`].
    pub fn new(cluster: Cluster, replica: Handle) -> Self {
        Self {
            closed: watch::Sender::new(None),
            replica,
            cluster,
        }
    }

    /// Closes the latch whenever another process with this node's id is heard, for as long as the agent runs.
    pub async fn watch(self, own: SocketAddr) {
        let mut conflicts = self.cluster.identity_conflict();
        loop {
            let rival = conflicts
                .borrow_and_update()
                .as_ref()
                .map(|conflict| conflict.address);
            if let Some(rival) = rival {
                self.close(own, rival);
            }
            if conflicts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why no writes are taken here, if so.
    pub fn closed(&self) -> Option<TwoNodes> {
        self.closed.borrow().clone()
    }

    /// Opens the latch; what had closed it, if it was closed.
    ///
    /// # Errors
    /// The conflict itself, while the other is still heard; the latch stays closed.
    pub fn open(&self) -> Result<Option<TwoNodes>, TwoNodes> {
        let Some(conflict) = self.closed() else {
            return Ok(None);
        };
        if let Some(rival) = self.cluster.identity_conflict().borrow().as_ref() {
            return Err(TwoNodes {
                rival: rival.address,
                ..conflict
            });
        }
        self.closed.send_replace(None);
        self.replica.allow_writes();
        info!(node = %conflict.id, rival = %conflict.rival, "an operator decided that this node goes on; it takes writes again");
        Ok(Some(conflict))
    }

    fn close(&self, own: SocketAddr, rival: SocketAddr) {
        let conflict = TwoNodes {
            id: self.cluster.identity().id.clone(),
            own,
            rival,
            since: SystemTime::now(),
        };
        let closed = self.closed.send_if_modified(|known| match known {
            Some(known) if known.rival == rival => false,
            Some(known) => {
                known.rival = rival;
                true
            }
            None => {
                *known = Some(conflict.clone());
                true
            }
        });
        if closed {
            self.replica.refuse_writes(&conflict.to_string());
            error!(node = %conflict.id, %own, %rival, "two nodes have one id; this one takes no writes until an operator decides");
        }
    }
}
