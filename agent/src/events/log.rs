//! The log line of an event: once, with its fields.

use tracing::{debug, error, info, warn};

use super::kind::Kind;
use super::record::Record;

/// Logs an event at the level of its kind.
pub(super) fn line(record: &Record) {
    let fact = &record.fact;
    let evidence = &fact.evidence;
    let node = &fact.node;
    let incarnation = fact.incarnation.map(|incarnation| incarnation.0);
    let from = fact.from.map(tracing::field::display);
    let to = fact.to.map(tracing::field::display);
    let silent_ms = evidence.heartbeat_age_ms;
    let phi = evidence.phi;
    let cause = &fact.cause.text;
    let reason = evidence.reason.as_deref();
    match fact.kind {
        Kind::Joined => info!(%node, incarnation, state = to, "member joined"),
        Kind::Updated => debug!(%node, incarnation, "member changed its metadata"),
        Kind::StateChanged => {
            info!(%node, incarnation, from, to, cause, "member changed its state");
        }
        Kind::Suspected => {
            info!(%node, incarnation, from, silent_ms, phi, held = evidence.held, "member is doubted");
        }
        Kind::Failed => {
            warn!(%node, incarnation, from, silent_ms, phi, "member failed: its heartbeats stopped");
        }
        Kind::Left => info!(%node, incarnation, from, "member left"),
        Kind::Returned => {
            info!(%node, incarnation, from, to, away_ms = evidence.away_ms, "member returned");
        }
        Kind::Restarted => {
            let previous = evidence.other_incarnation.map(|incarnation| incarnation.0);
            info!(%node, incarnation, previous, state = to, "member restarted");
        }
        Kind::Removed => info!(%node, incarnation, from, "member was removed"),
        Kind::Forgotten => info!(%node, incarnation, "member is forgotten"),
        Kind::IdentityConflict => {
            let other = evidence.other_incarnation.map(|incarnation| incarnation.0);
            let address = evidence.address.map(tracing::field::display);
            error!(%node, other, address, "another process announces this node's id; stop one of them");
        }
        Kind::GossipRestarted => {
            error!(%node, incarnation, reason, "gossip failed and was started again");
        }
        Kind::AppUnhealthy => warn!(%node, reason, "the server beside a member is unhealthy"),
        Kind::AppHealthy => info!(%node, "the server beside a member is healthy again"),
        Kind::KeysChanged => info!(%node, keys = ?evidence.keys, "member changed its keys"),
        Kind::Operator => info!(%node, decision = fact.message, "an operator has decided"),
        // Said with more detail where the agent starts and stops.
        Kind::NodeStarted | Kind::NodeStopped => debug!(%node, "{}", fact.message),
        Kind::Missed => warn!(
            missed = evidence.missed,
            "membership events came too fast to record"
        ),
    }
}
