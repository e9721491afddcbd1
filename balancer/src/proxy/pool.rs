//! Idle connections of one worker to endpoints.
//!
//! The one used last is used first: it is the least likely to have gone stale, and the others may
//! grow old and be closed when the load falls. Bounded for each endpoint; what does not fit is
//! closed. Nothing here waits or fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::Instant;

use super::upstream::Upstream;
use crate::config::PoolConfig;

/// Idle connections, by where they lead.
pub(super) struct Pool {
    config: PoolConfig,
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
}

struct Idle {
    upstream: Upstream,
    since: Instant,
}

impl Pool {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            idle: RefCell::default(),
        }
    }

    /// Takes the connection to `target` that was used last. With `must_be_quiet`, only one that is
    /// still open for certain; this costs a system call.
    pub(super) fn take(
        &self,
        target: SocketAddr,
        now: Instant,
        must_be_quiet: bool,
    ) -> Option<Upstream> {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.get_mut(&target)?;
        while let Some(Idle { upstream, since }) = idle.pop() {
            if now.saturating_duration_since(since) > self.config.idle_timeout {
                // Those below it are older still.
                idle.clear();
                return None;
            }
            if upstream.is_ready() && (!must_be_quiet || upstream.is_quiet()) {
                return Some(upstream);
            }
        }
        None
    }

    /// Gives a connection back whose last response has been read to its end.
    pub(super) fn give_back(self: &Rc<Self>, target: SocketAddr, mut upstream: Upstream) {
        if upstream.is_ready() {
            return self.keep(target, upstream);
        }
        // The response can end before hyper is done with the request; or the connection closes.
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if upstream.becomes_ready().await {
                pool.keep(target, upstream);
            }
        });
    }

    /// Closes the connections that are too old, and forgets endpoints without any.
    pub(super) fn evict_idle(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| {
                idle.upstream.is_ready()
                    && now.saturating_duration_since(idle.since) <= self.config.idle_timeout
            });
            !idle.is_empty()
        });
    }

    fn keep(&self, target: SocketAddr, upstream: Upstream) {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.entry(target).or_default();
        if idle.len() < self.config.idle_max {
            idle.push(Idle {
                upstream,
                since: Instant::now(),
            });
        }
    }
}
