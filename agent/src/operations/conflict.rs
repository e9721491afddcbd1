//! Two nodes with one id: this one takes no writes until an operator decides.
//!
//! A data directory that was copied, or an id given twice, makes two processes that number their writes alike. Once
//! membership has heard the other, the latch closes: writes are refused here, reads go on, and the other process, which
//! hears this one, does the same. It stays closed when the other falls silent, because silence does not tell which of
//! the two should go on. An operator opens it with `basic-agent revive ID`, once the other is gone; so does a restart,
//! which finds no rival or finds it again.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use basic_membership::{Cluster, NodeId};
use basic_sync::net::Handle;
use tracing::{error, info};

/// Under this name writes are held back.
const HOLDER: &str = "two nodes with one id";

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
    /// Held while the latch is opened or closed, so that it and the replica always say the same.
    closed: Arc<Mutex<Option<TwoNodes>>>,
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
            closed: Arc::default(),
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
        self.lock().clone()
    }

    /// Opens the latch; what had closed it, if it was closed.
    ///
    /// # Errors
    /// The conflict itself, while the other is still heard; the latch stays closed.
    pub fn open(&self) -> Result<Option<TwoNodes>, TwoNodes> {
        // A rival that is heard before the lock is taken is seen below; one that is heard later closes the latch again
        // once the lock is released.
        let mut closed = self.lock();
        let Some(conflict) = closed.clone() else {
            return Ok(None);
        };
        if let Some(rival) = self.cluster.identity_conflict().borrow().as_ref() {
            return Err(TwoNodes {
                rival: rival.address,
                ..conflict
            });
        }
        *closed = None;
        self.replica.allow_writes(HOLDER);
        info!(node = %conflict.id, rival = %conflict.rival, "an operator decided that this node goes on; it takes writes again");
        Ok(Some(conflict))
    }

    pub(super) fn close(&self, own: SocketAddr, rival: SocketAddr) {
        let conflict = TwoNodes {
            id: self.cluster.identity().id.clone(),
            own,
            rival,
            since: SystemTime::now(),
        };
        let mut closed = self.lock();
        match &mut *closed {
            Some(known) if known.rival == rival => return,
            Some(known) => known.rival = rival,
            None => *closed = Some(conflict.clone()),
        }
        self.replica.refuse_writes(HOLDER, &conflict.to_string());
        error!(node = %conflict.id, %own, %rival, "two nodes have one id; this one takes no writes until an operator decides");
    }

    /// Closes the latch as it was before [`ConflictLatch::open`], because the decision to open it was not recorded.
    pub(super) fn close_again(&self, conflict: TwoNodes) {
        let mut closed = self.lock();
        // Another rival that has been heard meanwhile is the better known one.
        let conflict = closed.get_or_insert(conflict);
        self.replica.refuse_writes(HOLDER, &conflict.to_string());
        error!(node = %conflict.id, rival = %conflict.rival, "the decision that this node goes on could not be recorded; it takes no writes");
    }

    fn lock(&self) -> MutexGuard<'_, Option<TwoNodes>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
