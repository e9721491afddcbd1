//! A new life of gossip within the same process.
//!
//! chitchat is started again when it has ended by itself, which is a panic; when
//! a peer holds state of this node that this node never announced; when the
//! others remember a later life of it, and so refuse this one; and when another
//! process with its id is gone that had a later life. Each time it goes
//! by a new incarnation, since peers ignore what counts from zero, and as an heir
//! to what is known: the members stay as they were until they were heard again or
//! had time to be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use super::protocol::Protocol;
use super::{Desired, Driver};
use crate::event::EventKind;

/// An incarnation is not given up more often: who forges once can forge again.
const RENOUNCE_INTERVAL: Duration = Duration::from_secs(30);
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(50);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a restarted protocol may take to hear of everybody again.
const RELEARN_TIME: Duration = Duration::from_secs(5);

impl Driver {
    /// Why this incarnation is of no use, if it is. Either a peer holds state of
    /// it that this node never announced: a faulty peer made it up, and others pass
    /// it on; nobody believes the forgery of a life that is over. Or the others have
    /// heard a later life of this node, one that this node forgot or one that another
    /// process had, and take this one for a recording.
    pub(super) async fn reason_to_renounce(&mut self) -> Option<&'static str> {
        let rested = self
            .renounced
            .is_none_or(|at| at.elapsed() >= RENOUNCE_INTERVAL);
        if !rested {
            return None;
        }
        let now = Instant::now();
        let (claim, outrun, outlived) = {
            let screen = self.endpoint.screen();
            let (outrun, outlived) = (screen.outrun_by(now), screen.outlived(now));
            (screen.newest_claim(), outrun, outlived)
        };
        if outrun.is_some() {
            return Some(
                "the others remember a later life of this node: its data directory is new, and \
                 its clock has gone back",
            );
        }
        if outlived.is_some() {
            return Some(
                "another process with this node's id is gone, and its life was a later one",
            );
        }
        let forged = claim > self.protocol.own_version().await;
        forged.then_some("a peer holds state of this node that this node never announced")
    }

    /// Gives up an incarnation for that reason.
    pub(super) async fn renounce(&mut self, reason: &str) -> Option<()> {
        self.renounced = Some(Instant::now());
        self.protocol.end().await;
        warn!(reason, "this node goes on as a new incarnation");
        self.restart(Some(reason.to_owned())).await
    }

    /// Starts chitchat again, under a new incarnation, after it has ended. `None`
    /// if meanwhile nobody wants it any more.
    pub(super) async fn restart(&mut self, reason: Option<String>) -> Option<()> {
        self.shared
            .journal
            .count(|counters| counters.gossip_restarts += 1);
        let mut pause = RESTART_PAUSE_MIN;
        let started = loop {
            self.pause_unless_stopped(pause).await?;
            pause = (pause * 2).min(RESTART_PAUSE_MAX);
            match self.start_again().await {
                Ok(started) => break started,
                Err(error) => {
                    error!(
                        error = format!("{error:#}"),
                        "gossip was not started; trying on"
                    );
                }
            }
        };
        let ended = std::mem::replace(&mut self.protocol, started)
            .shut_down()
            .await;
        let reason = match (reason, ended) {
            (Some(reason), _) => reason,
            (None, Ok(())) => "it ended by itself".to_owned(),
            (None, Err(error)) => format!("{error:#}"),
        };
        self.stall.resume(Instant::now());
        self.relearn_until = Instant::now() + RELEARN_TIME;
        self.publish(self.own_event(EventKind::GossipRestarted { reason }));
        Some(())
    }

    async fn start_again(&mut self) -> anyhow::Result<Protocol> {
        let now = Instant::now();
        let former = {
            let screen = self.endpoint.screen();
            screen.outrun_by(now).max(screen.outlived(now))
        };
        self.config.identity.advance(former, SystemTime::now())?;
        let own = self.config.identity.chitchat_id(self.config.advertise);
        self.endpoint.screen().renew(own);
        let mut seeds = self.seeds.addresses.clone();
        seeds.extend(self.live_peers().map(|(_, peer)| peer));
        let Desired {
            metadata, revision, ..
        } = self.desired_changes.borrow_and_update().clone();
        let protocol = Protocol::start(
            &self.config,
            seeds,
            &metadata,
            Arc::clone(&self.endpoint),
            Arc::clone(&self.shared.journal),
        );
        let protocol = protocol.await?;
        self.applied.send_replace(revision);
        Ok(protocol)
    }

    async fn pause_unless_stopped(&mut self, pause: Duration) -> Option<()> {
        tokio::select! {
            () = sleep(pause) => Some(()),
            // A leave cannot be told to anybody now; its reply is dropped unsent.
            _ = self.commands.recv() => None,
        }
    }
}
