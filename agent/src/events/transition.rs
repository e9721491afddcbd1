//! Events of membership as facts: the cause, the evidence, and a sentence for people.

use std::fmt::Display;
use std::time::Duration;

use basic_membership::{Event, EventKind, MemberState};

use super::kind::Kind;
use super::record::{Cause, CauseCode, Fact, millis, phi, text};

/// The fact behind an event of membership.
pub(super) fn fact(event: &Event) -> Fact {
    let node = &event.id;
    let (kind, cause, message) = account(node, &event.kind);
    let mut fact = Fact::new(event.at, kind, node.clone(), cause, message);
    fact.incarnation = Some(event.incarnation);
    (fact.from, fact.to) = states(&event.kind);
    let evidence = &mut fact.evidence;
    match &event.kind {
        EventKind::Suspected {
            heartbeat_age,
            phi: measured,
            held,
            ..
        } => {
            evidence.heartbeat_age_ms = heartbeat_age.map(millis);
            evidence.phi = phi(*measured);
            evidence.held = Some(*held);
        }
        EventKind::Failed {
            heartbeat_age,
            phi: measured,
            ..
        } => {
            evidence.heartbeat_age_ms = heartbeat_age.map(millis);
            evidence.phi = phi(*measured);
        }
        EventKind::Returned { away, .. } => evidence.away_ms = Some(millis(*away)),
        EventKind::Restarted { previous, .. } => evidence.other_incarnation = Some(*previous),
        EventKind::IdentityConflict { other, address } => {
            evidence.other_incarnation = Some(*other);
            evidence.address = Some(*address);
        }
        EventKind::GossipRestarted { reason } => evidence.reason = Some(text(reason)),
        EventKind::Joined { .. }
        | EventKind::Updated
        | EventKind::StateChanged { .. }
        | EventKind::Removed { .. }
        | EventKind::Left { .. }
        | EventKind::Forgotten => {}
    }
    fact
}

fn account(node: &impl Display, kind: &EventKind) -> (Kind, Cause, String) {
    let cause = Cause::new;
    match kind {
        EventKind::Joined { state } => (
            Kind::Joined,
            cause(CauseCode::Heard, "its first heartbeats were heard"),
            format!("{node} joined; it is {state}"),
        ),
        EventKind::Updated => (
            Kind::Updated,
            cause(CauseCode::Announced, "it announces something else"),
            format!("{node} announced other metadata"),
        ),
        EventKind::StateChanged { from, to, cause } => {
            let cause = transition_cause(*cause, *to);
            let message = format!("{node} went from {from} to {to}: {}", cause.text);
            (Kind::StateChanged, cause, message)
        }
        EventKind::Suspected {
            heartbeat_age,
            phi,
            held: true,
            ..
        } => (
            Kind::Suspected,
            cause(
                CauseCode::Silence,
                "its heartbeats stopped, and this agent, late itself, may not judge yet",
            ),
            format!(
                "{node} is doubted: {}; no verdict yet, because this agent was late itself",
                silence(*heartbeat_age, *phi)
            ),
        ),
        EventKind::Suspected {
            heartbeat_age, phi, ..
        } => (
            Kind::Suspected,
            cause(CauseCode::Silence, "its heartbeats are late"),
            format!("{node} is doubted: {}", silence(*heartbeat_age, *phi)),
        ),
        EventKind::Failed {
            heartbeat_age, phi, ..
        } => (
            Kind::Failed,
            cause(CauseCode::Silence, "its heartbeats stopped"),
            format!("{node} failed: {}", silence(*heartbeat_age, *phi)),
        ),
        EventKind::Left { .. } => (
            Kind::Left,
            cause(CauseCode::Announced, "it left in order"),
            format!("{node} left in order"),
        ),
        EventKind::Returned { to, away, .. } => (
            Kind::Returned,
            cause(CauseCode::Heard, "its heartbeats are heard again"),
            format!("{node} is back after {}; it is {to}", short(*away)),
        ),
        EventKind::Restarted { state, .. } => (
            Kind::Restarted,
            cause(CauseCode::Restart, "a newer incarnation took its place"),
            format!("{node} restarted before it was missed; it is {state}"),
        ),
        EventKind::Removed { .. } => (
            Kind::Removed,
            cause(CauseCode::Operator, "an operator removed it"),
            format!("{node} was removed by an operator"),
        ),
        EventKind::Forgotten => (
            Kind::Forgotten,
            cause(CauseCode::Age, "it was away for too long"),
            format!("{node} is forgotten: it was away for too long"),
        ),
        EventKind::IdentityConflict { address, .. } => (
            Kind::IdentityConflict,
            cause(
                CauseCode::Conflict,
                "another process announces this node's id",
            ),
            format!("another process, at {address}, announces the id {node}; stop one of the two"),
        ),
        EventKind::GossipRestarted { reason } => (
            Kind::GossipRestarted,
            cause(CauseCode::Defect, "gossip failed"),
            format!(
                "gossip failed on {node} and was started again: {}",
                text(reason)
            ),
        ),
    }
}

fn states(kind: &EventKind) -> (Option<MemberState>, Option<MemberState>) {
    match kind {
        EventKind::Joined { state } | EventKind::Restarted { state, .. } => (None, Some(*state)),
        EventKind::StateChanged { from, to, .. } | EventKind::Returned { from, to, .. } => {
            (Some(*from), Some(*to))
        }
        EventKind::Suspected { from, .. } => (Some(*from), Some(MemberState::Suspect)),
        EventKind::Failed { from, .. } => (Some(*from), Some(MemberState::Failed)),
        EventKind::Left { from } => (Some(*from), Some(MemberState::Left)),
        EventKind::Removed { from } => (Some(*from), Some(MemberState::Removed)),
        EventKind::Updated
        | EventKind::Forgotten
        | EventKind::IdentityConflict { .. }
        | EventKind::GossipRestarted { .. } => (None, None),
    }
}

fn transition_cause(cause: basic_membership::Cause, to: MemberState) -> Cause {
    use basic_membership::Cause as Of;
    match cause {
        Of::Announced => Cause::new(CauseCode::Announced, "it announced it"),
        Of::Operator => Cause::new(CauseCode::Operator, "an operator decided it"),
        Of::Heard if to == MemberState::Maintenance => {
            Cause::new(CauseCode::Silence, "its heartbeats stopped")
        }
        Of::Heard => Cause::new(CauseCode::Heard, "its heartbeats are heard"),
    }
}

/// Such as `no heartbeat for 1.3 s (phi 9.1)`.
fn silence(age: Option<Duration>, phi: Option<f64>) -> String {
    let age = age.map_or_else(
        || "no heartbeat was ever heard".to_owned(),
        |age| format!("no heartbeat for {}", short(age)),
    );
    match phi {
        Some(phi) if phi.is_finite() => format!("{age} (phi {phi:.1})"),
        _ => age,
    }
}

/// A duration as a person says it: `1.3 s`, `2m 5s`.
fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use basic_membership::Incarnation;

    use super::*;

    fn fact_of(kind: EventKind) -> Fact {
        fact(&Event {
            at: SystemTime::UNIX_EPOCH,
            id: "n3".parse().unwrap(),
            incarnation: Incarnation(5),
            kind,
        })
    }

    #[test]
    fn a_failure_carries_its_evidence() {
        let failed = fact_of(EventKind::Failed {
            from: MemberState::Active,
            heartbeat_age: Some(Duration::from_millis(1312)),
            phi: Some(9.119),
        });
        assert_eq!(failed.kind, Kind::Failed);
        assert_eq!(failed.cause.code, CauseCode::Silence);
        assert_eq!(failed.evidence.heartbeat_age_ms, Some(1312));
        assert_eq!(failed.evidence.phi, Some(9.12));
        assert_eq!(
            (failed.from, failed.to),
            (Some(MemberState::Active), Some(MemberState::Failed))
        );
        assert_eq!(
            failed.message,
            "n3 failed: no heartbeat for 1.3 s (phi 9.1)"
        );
    }

    #[test]
    fn a_transition_says_who_caused_it() {
        let by = |cause, to| {
            fact_of(EventKind::StateChanged {
                from: MemberState::Active,
                to,
                cause,
            })
        };
        let announced = by(basic_membership::Cause::Announced, MemberState::Leaving);
        assert_eq!(
            announced.message,
            "n3 went from active to leaving: it announced it"
        );
        let decided = by(basic_membership::Cause::Operator, MemberState::Draining);
        assert_eq!(decided.cause.code, CauseCode::Operator);
        let silent = by(basic_membership::Cause::Heard, MemberState::Maintenance);
        assert_eq!(silent.cause.code, CauseCode::Silence);
    }

    #[test]
    fn a_doubt_that_is_held_back_says_so() {
        let held = fact_of(EventKind::Suspected {
            from: MemberState::Active,
            heartbeat_age: None,
            phi: Some(f64::NAN),
            held: true,
        });
        assert_eq!(held.evidence.held, Some(true));
        assert_eq!(held.evidence.phi, None);
        assert_eq!(
            held.message,
            "n3 is doubted: no heartbeat was ever heard; no verdict yet, because this agent was late itself"
        );
    }

    #[test]
    fn how_long_a_node_was_away_is_said_in_words_and_in_milliseconds() {
        let back = fact_of(EventKind::Returned {
            from: MemberState::Failed,
            to: MemberState::Joining,
            away: Duration::from_millis(125_900),
        });
        assert_eq!(back.evidence.away_ms, Some(125_900));
        assert_eq!(back.message, "n3 is back after 2m 5s; it is joining");
    }
}
