//! The servers beside the agents: healthy, the right ones, reachable from here.

use std::time::{Duration, SystemTime};

use basic_balancer::probe::AppState;
use basic_balancer::{Admission, EndpointSnapshot};
use basic_membership::{Member, MemberState};

use super::{Code, Facts, Finding, ask_its_agent, heard};

/// How a probe says that a server answered and refused what it was asked for.
const CLIENT_ERROR: &str = "answered with status 4";
/// Failed connections in a row after which an app counts as unreachable from here.
const UNREACHABLE_AFTER: u32 = 3;

/// About this node's app, and about those of the others.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let members = facts.members.iter();
    let of_member = |member| {
        let unhealthy = unhealthy_elsewhere(member);
        let without = without_endpoint(facts, member);
        let finding = unhealthy.or(without).or_else(|| unreachable(facts, member));
        finding.map(|finding| finding.about(&member.id))
    };
    own(facts).into_iter().chain(members.filter_map(of_member))
}

fn own(facts: &Facts<'_>) -> Option<Finding> {
    if facts.health.state != AppState::Unhealthy {
        return None;
    }
    let app = &facts.config.app;
    let url = format!("http://{}{}", app.url.host_port(), app.health.as_str());
    let error = facts.health.last_error.as_deref();
    let error = error.unwrap_or("it does not answer");
    let finding = if error.starts_with(CLIENT_ERROR) {
        Finding::error(
            Code::AppMistaken,
            format!("what answers at {url} does not know that path: it may be another service than the app"),
        )
        .cause("another process has taken the app's port, or [app] health names a path that the app does not have")
        .next(format!(
            "basic-agent doctor tells who has the port; `curl -i {url}` shows what answers; correct [app] url or [app] health"
        ))
        .evidence(format!("it {error}, {} times in a row", facts.health.consecutive_failures))
    } else {
        Finding::error(
            Code::AppUnhealthy,
            "the app beside this agent is not healthy; requests go to the other nodes",
        )
        .cause(error)
        .evidence(format!(
            "{} checks of {url} in a row failed",
            facts.health.consecutive_failures
        ))
        .next(format!(
            "start or repair the app; `curl -i {url}` shows what the agent sees"
        ))
    };
    Some(finding.about(facts.own_id).since(facts.health.since))
}

fn unhealthy_elsewhere(member: &Member) -> Option<Finding> {
    let app = &member.metadata.app;
    let counts = takes_requests(member) && !member.is_self && !app.healthy;
    if !counts {
        return None;
    }
    let reason = app.reason.clone();
    let finding = Finding::warning(
        Code::AppUnhealthy,
        format!(
            "the app of {} is not healthy; it takes no requests",
            member.id
        ),
    )
    .cause(reason.unwrap_or_else(|| "its agent says so".into()))
    .evidence("announced by its agent")
    .next(ask_its_agent(member));
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(app.since_ms));
    Some(match since {
        Some(since) => finding.since(since),
        None => finding,
    })
}

fn without_endpoint(facts: &Facts<'_>, member: &Member) -> Option<Finding> {
    if !takes_requests(member) || endpoint(facts, member).is_some() {
        return None;
    }
    let announced = member.metadata.app.address.as_deref().unwrap_or("none");
    Some(
        Finding::error(
            Code::NoEndpoint,
            format!(
                "{} gets no requests although it is active",
                facts.named(member)
            ),
        )
        .cause("the address of its app does not resolve, or is not on its own host")
        .evidence(format!(
            "it announces {announced}, its host is {}",
            member.peer.ip()
        ))
        .next("set [app] advertise on its host to an address of that host"),
    )
}

/// Gossip hears the member, its agent finds the app healthy, and yet connections from here fail.
fn unreachable(facts: &Facts<'_>, member: &Member) -> Option<Finding> {
    let known = endpoint(facts, member)?;
    let offered = known.endpoint.admission == Admission::Accepting;
    let failing = known.failing >= UNREACHABLE_AFTER || known.ejected_for.is_some();
    if !offered || !failing || known.failing == 0 {
        return None;
    }
    let target = known.endpoint.target;
    let finding = Finding::error(
        Code::AppUnreachable,
        format!(
            "the app of {} cannot be reached from here, though its agent finds it healthy",
            facts.named(member)
        ),
    )
    .cause(known.last_error.clone().unwrap_or_else(|| "connections fail".into()))
    .evidence(format!(
        "{} connections to {target} in a row failed; of its agent, {}",
        known.failing,
        if member.is_self {
            "it is this one".to_owned()
        } else {
            heard(member, facts)
        }
    ))
    .next(format!(
        "from this host: `curl -i http://{target}{}`; let TCP through to that port, or correct [app] advertise on {}",
        facts.config.app.health.as_str(),
        member.id
    ));
    let since = known.failing_for.and_then(|age| facts.now.checked_sub(age));
    Some(match since {
        Some(since) => finding.since(since),
        None => finding,
    })
}

fn takes_requests(member: &Member) -> bool {
    matches!(member.state, MemberState::Active | MemberState::Suspect)
}

fn endpoint<'a>(facts: &'a Facts<'_>, member: &Member) -> Option<&'a EndpointSnapshot> {
    let mut endpoints = facts.endpoints.iter();
    endpoints.find(|known| known.endpoint.id.as_str() == member.id.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::scene::Scene;
    use super::*;

    fn own_app(error: &str) -> Scene {
        let mut scene = Scene::healthy();
        scene.health.state = AppState::Unhealthy;
        scene.health.consecutive_failures = 4;
        scene.health.last_error = Some(error.to_owned());
        scene
    }

    #[test]
    fn an_app_that_is_down_and_another_service_in_its_place_are_told_apart() {
        let down = own_app("cannot connect").only(Code::AppUnhealthy);
        assert!(
            down.is_error() && down.evidence.starts_with("4 checks"),
            "{down:?}"
        );
        let unwell = own_app("answered with status 503 Service Unavailable");
        unwell.only(Code::AppUnhealthy);
        let mistaken = own_app("answered with status 404 Not Found").only(Code::AppMistaken);
        assert!(mistaken.next.contains("basic-agent doctor"), "{mistaken:?}");
    }

    #[test]
    fn an_unhealthy_app_elsewhere_is_a_warning_unless_its_member_is_out_anyway() {
        let mut scene = Scene::healthy();
        Arc::make_mut(&mut scene.member("n2").metadata).app.healthy = false;
        let found = scene.only(Code::AppUnhealthy);
        assert!(
            !found.is_error() && found.node.as_deref() == Some("n2"),
            "{found:?}"
        );
        scene.member("n2").state = MemberState::CatchingUp;
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn an_active_member_without_an_endpoint_is_an_error() {
        let mut scene = Scene::healthy();
        scene
            .endpoints
            .retain(|known| known.endpoint.id.as_str() != "n3");
        let found = scene.only(Code::NoEndpoint);
        assert!(found.evidence.contains("10.0.0.3:8080"), "{found:?}");
    }

    #[test]
    fn the_proxys_own_evidence_counts_against_what_gossip_says() {
        let mut scene = Scene::healthy();
        let known = scene.endpoint("n2");
        known.failing = UNREACHABLE_AFTER;
        known.failing_for = Some(Duration::from_secs(9));
        known.last_error = Some("connection refused".to_owned());
        let found = scene.only(Code::AppUnreachable);
        assert_eq!(found.cause, "connection refused");
        assert!(found.since.is_some() && found.next.contains("curl -i http://10.0.0.2:8080"));
        scene.endpoint("n2").failing = 1;
        assert_eq!(scene.findings(), [], "one failure is no evidence");
        let known = scene.endpoint("n2");
        known.failing = 100;
        known.endpoint.admission = Admission::Draining;
        assert_eq!(scene.findings(), [], "it is not offered requests anyway");
    }
}
