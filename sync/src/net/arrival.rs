//! Waiting until what others have written is here.
//!
//! A frontier asks for all writes of an origin up to one. Some of them may be gone for
//! good, because the store that made them was lost before anybody had them. A later one
//! that did get through must not make its readers wait for ever, so what is lacking below
//! a write that is here is waited for only while some peer has it
//! ([`Status::has_all_there_is`]).

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::model::{Dot, Frontier, Seq};
use crate::protocol::Status;

/// What was waited for is not here.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WaitError {
    /// Not in time. It may yet come; or never, if the store that it was written to was lost
    /// or set back to an older state.
    #[error("this node lacks writes of {} origins that were waited for", .0.len())]
    Lacking(Vec<Lacking>),
    /// The replica is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// Writes of one origin that are not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lacking {
    /// The last of those that were waited for.
    pub wanted: Dot,
    /// Up to which of the origin's writes all are here.
    pub here: Seq,
}

/// Waits until `reached` has come to `wanted`, or as far as it can.
pub(super) async fn wait_for(
    wanted: &Frontier,
    mut reached: watch::Receiver<Frontier>,
    mut status: watch::Receiver<Arc<Status>>,
    limit: Duration,
) -> Result<(), WaitError> {
    // What has come once is not looked up again.
    let mut lacking = wanted.beyond(&reached.borrow());
    let arriving = async {
        while !lacking.is_empty() {
            let known = status.borrow_and_update().clone();
            {
                let reached = reached.borrow_and_update();
                lacking.retain(|dot| {
                    reached.of(dot.origin) < dot.seq && !known.has_all_there_is(*dot)
                });
            }
            if lacking.is_empty() {
                break;
            }
            let changed = tokio::select! {
                changed = reached.changed() => changed,
                changed = status.changed() => changed,
            };
            changed.map_err(|_| WaitError::Stopped)?;
        }
        Ok(())
    };
    if let Ok(arrived) = timeout(limit, arriving).await {
        return arrived;
    }
    let reached = reached.borrow();
    let lacking = lacking.into_iter().map(|wanted| Lacking {
        wanted,
        here: reached.of(wanted.origin),
    });
    Err(WaitError::Lacking(lacking.collect()))
}
