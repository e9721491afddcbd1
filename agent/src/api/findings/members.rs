//! Members: failed, in doubt, or out of rotation because an operator wants it so.

use std::time::Duration;

use basic_membership::{Member, MemberState};

use super::{Code, Facts, Finding, ask_its_agent, heard};

/// How long a removed node may take to notice, leave in order and stop.
const REMOVAL_MAX: Duration = Duration::from_secs(30);

/// What is to be said about each member, at most one thing.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let members = facts.members.iter();
    members.filter_map(|member| {
        let finding = match member.state {
            MemberState::Failed if member.directive.failed => called_failed(facts, member),
            MemberState::Failed => failed(facts, member),
            MemberState::Suspect => suspect(facts, member),
            MemberState::Maintenance => maintenance(facts, member),
            MemberState::Draining if member.directive.drain => drained(facts, member),
            MemberState::Removed if member.live => removed(facts, member)?,
            MemberState::Active if member.directive.weight == Some(0) => weightless(facts, member),
            _ => return None,
        };
        Some(finding.about(&member.id).since(member.since))
    })
}

fn failed(facts: &Facts<'_>, member: &Member) -> Finding {
    Finding::error(
        Code::MemberFailed,
        format!("member {} has failed", member.id),
    )
    .cause("its agent or its machine stopped, or the network to it is cut")
    .evidence(heard(member, facts))
    .next(format!(
        "look at the agent on {}; start it if it is down: it catches up and returns by itself. \
         If it is gone for good: basic-agent remove {}",
        member.peer.ip(),
        member.id
    ))
}

fn called_failed(facts: &Facts<'_>, member: &Member) -> Finding {
    let fact = format!(
        "an operator called {} failed; it takes no requests",
        facts.named(member)
    );
    decided(facts, member, fact, "fail", format!("revive {}", member.id))
}

fn suspect(facts: &Facts<'_>, member: &Member) -> Finding {
    let held = facts.gossip.removals_held;
    let cause = if held {
        "this agent was itself stopped for a moment, so that it holds its verdict back; the member may be well"
    } else {
        "its machine or the network to it is slow; it fails if it stays silent"
    };
    Finding::warning(
        Code::MemberSuspect,
        format!("member {} is in doubt; it still takes requests", member.id),
    )
    .cause(cause)
    .evidence(heard(member, facts))
    .next(if held {
        "look at the load of this machine; the doubt ends by itself within seconds".to_owned()
    } else {
        format!("if it stays so: {}", ask_its_agent(member))
    })
}

fn maintenance(facts: &Facts<'_>, member: &Member) -> Finding {
    let id = &member.id;
    Finding::warning(
        Code::OperatorDecision,
        format!("member {id} is in maintenance: drained, and its agent is down"),
    )
    .cause(order(facts, member, "drain"))
    .evidence(heard(member, facts))
    .next(format!(
        "when the work is done: start its agent on {}, then basic-agent undrain {id}",
        member.peer.ip()
    ))
}

fn drained(facts: &Facts<'_>, member: &Member) -> Finding {
    let fact = format!(
        "an operator drained {}; it takes no new requests",
        facts.named(member)
    );
    decided(
        facts,
        member,
        fact,
        "drain",
        format!("undrain {}", member.id),
    )
}

fn weightless(facts: &Facts<'_>, member: &Member) -> Finding {
    let fact = format!(
        "an operator gave {} the weight 0; it takes no requests",
        facts.named(member)
    );
    let way_back = format!("weight {} default", member.id);
    decided(facts, member, fact, "weight", way_back)
}

/// It is as somebody wants it; the command of the agent leads back.
fn decided(
    facts: &Facts<'_>,
    member: &Member,
    fact: String,
    decision: &str,
    way_back: String,
) -> Finding {
    Finding::warning(Code::OperatorDecision, fact)
        .cause(order(facts, member, decision))
        .evidence(heard_or_own(facts, member))
        .next(format!(
            "when it may take requests again: basic-agent {way_back}"
        ))
}

fn removed(facts: &Facts<'_>, member: &Member) -> Option<Finding> {
    let age = facts.now.duration_since(member.since).unwrap_or_default();
    (age > REMOVAL_MAX).then(|| {
        Finding::warning(
            Code::RemovedStillRuns,
            format!(
                "{} was removed, and its agent still runs",
                facts.named(member)
            ),
        )
        .cause(order(facts, member, "removed"))
        .evidence(heard_or_own(facts, member))
        .next(format!(
            "stop the agent on {}: it has not heard of its removal, or cannot stop",
            member.peer.ip()
        ))
    })
}

fn heard_or_own(facts: &Facts<'_>, member: &Member) -> String {
    if member.is_self {
        "it is this node".to_owned()
    } else {
        heard(member, facts)
    }
}

/// Who decided it, when and why, as far as that is known here.
fn order(facts: &Facts<'_>, member: &Member, decision: &str) -> String {
    let key = format!("{}/{decision}", member.id);
    let Some(order) = facts.orders.get(&key) else {
        return "an operator decided it".to_owned();
    };
    let why = order.why.as_deref().filter(|why| !why.is_empty());
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    format!(
        "{} decided it on {} at {}{why}",
        order.by, order.on, order.at
    )
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, now};
    use super::*;
    use crate::operations::decision::Order;

    /// n2 in this state, with this decision, for so long.
    fn scene(state: MemberState, decision: &str, live: bool, age: Duration) -> Scene {
        let mut scene = Scene::healthy();
        let member = scene.member("n2");
        member.state = state;
        member.live = live;
        member.since = now() - age;
        member.directive.failed = decision == "fail";
        member.directive.drain = decision == "drain";
        if !live {
            member.heartbeat_age = Some(Duration::from_secs(4));
            member.phi = Some(19.5);
        }
        let order = Order {
            by: "ann".to_owned(),
            why: Some("new disk".to_owned()),
            ..Order::default()
        };
        scene.orders.insert(format!("n2/{decision}"), order);
        scene
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_failure_is_told_with_silence_and_phi() {
        let found = scene(MemberState::Failed, "", false, MINUTE).only(Code::MemberFailed);
        assert!(found.is_error());
        assert_eq!(found.evidence, "no heartbeat for 4.0s, phi 19.5 (limit 8)");
        assert!(
            found.since.is_some() && found.next.contains("10.0.0.2"),
            "{found:?}"
        );
    }

    #[test]
    fn what_an_operator_decided_is_no_error_and_names_the_way_back() {
        for (state, decision, live, way_back) in [
            (MemberState::Failed, "fail", true, "basic-agent revive n2"),
            (
                MemberState::Maintenance,
                "drain",
                false,
                "basic-agent undrain n2",
            ),
            (
                MemberState::Draining,
                "drain",
                true,
                "basic-agent undrain n2",
            ),
        ] {
            let found = scene(state, decision, live, MINUTE).only(Code::OperatorDecision);
            assert!(!found.is_error(), "{found:?}");
            assert!(found.next.ends_with(way_back), "{found:?}");
            assert!(found.cause.contains("ann") && found.cause.ends_with("new disk"));
        }
    }

    #[test]
    fn a_node_that_drains_by_itself_is_not_worth_a_word_and_one_without_weight_is() {
        let leaving = scene(MemberState::Draining, "", true, MINUTE);
        assert_eq!(leaving.findings(), []);
        let mut weightless = scene(MemberState::Active, "weight", true, MINUTE);
        weightless.member("n2").directive.weight = Some(0);
        let found = weightless.only(Code::OperatorDecision);
        assert!(
            !found.is_error() && found.cause.contains("ann"),
            "{found:?}"
        );
        assert!(found.next.ends_with("weight n2 default"), "{found:?}");
    }

    #[test]
    fn a_removed_node_has_time_to_leave() {
        let fresh = scene(
            MemberState::Removed,
            "removed",
            true,
            Duration::from_secs(5),
        );
        assert_eq!(fresh.findings(), []);
        let late = scene(MemberState::Removed, "removed", true, MINUTE);
        let found = late.only(Code::RemovedStillRuns);
        assert!(found.cause.contains("ann"), "{found:?}");
        let gone = scene(MemberState::Removed, "removed", false, MINUTE);
        assert_eq!(gone.findings(), []);
    }

    #[test]
    fn a_doubt_tells_whether_it_may_be_our_own_stall() {
        let mut scene = scene(MemberState::Suspect, "", true, MINUTE);
        let doubt = scene.only(Code::MemberSuspect);
        assert!(doubt.next.contains("basic-agent status --api"), "{doubt:?}");
        scene.gossip.removals_held = true;
        let findings = scene.findings();
        let held = findings
            .iter()
            .find(|found| found.code == Code::MemberSuspect);
        assert!(
            held.unwrap()
                .cause
                .contains("this agent was itself stopped")
        );
    }
}
