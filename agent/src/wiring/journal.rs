//! What happens to members is logged, once, with its evidence.

use std::time::Duration;

use basic_membership::{Event, EventKind, EventStream};
use tracing::{error, info, warn};

/// Logs every event.
pub async fn log_events(mut events: EventStream) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => log(&event),
            Err(lagged) => warn!(
                missed = lagged.missed,
                "membership events came too fast to log"
            ),
        }
    }
    std::future::pending::<()>().await;
}

fn log(event: &Event) {
    let node = &event.id;
    let incarnation = event.incarnation.0;
    match &event.kind {
        EventKind::Joined { state } => info!(%node, incarnation, %state, "member joined"),
        EventKind::Updated => tracing::debug!(%node, incarnation, "member changed its metadata"),
        EventKind::StateChanged { from, to } => {
            info!(%node, incarnation, %from, %to, "member changed its state");
        }
        EventKind::Failed {
            from,
            heartbeat_age,
            phi,
        } => {
            let silent_ms = heartbeat_age.as_ref().map(Duration::as_millis);
            warn!(%node, incarnation, %from, silent_ms, phi, "member failed: its heartbeats stopped");
        }
        EventKind::Left { from } => info!(%node, incarnation, %from, "member left"),
        EventKind::Returned { from, to, away } => {
            info!(%node, incarnation, %from, %to, away_ms = away.as_millis(), "member returned");
        }
        EventKind::Restarted { previous, state } => {
            info!(%node, incarnation, previous = previous.0, %state, "member restarted");
        }
        EventKind::Forgotten => info!(%node, incarnation, "member is forgotten"),
        EventKind::IdentityConflict { other, address } => {
            error!(%node, other = other.0, %address, "another process announces this node's id; stop one of them");
        }
        EventKind::GossipRestarted { reason } => {
            error!(%node, incarnation, reason, "gossip failed and was started again");
        }
    }
}
