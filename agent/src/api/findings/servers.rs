//! The servers without an agent: probed, healthy, where requests may go.

use basic_membership::MemberState;

use super::{Code, Facts, Finding, START_MAX};
use crate::servers::Server;

/// About every server that was registered.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    facts.servers.iter().filter_map(|server| {
        let finding = match server.state() {
            MemberState::Failed => unhealthy(server),
            MemberState::Joining => without_verdict(facts, server),
            MemberState::Active => without_endpoint(facts, server),
            _ => None,
        }?;
        Some(finding.about(&server.id))
    })
}

fn unhealthy(server: &Server) -> Option<Finding> {
    // That an operator called it failed is no fault of the server.
    let verdict = server.verdict().filter(|_| !server.directive.failed)?;
    let (id, address) = (&server.id, &server.registration.address);
    let reason = verdict.reason.clone();
    let finding = Finding::warning(
        Code::AppUnhealthy,
        format!("the server {id} is not healthy; it takes no requests"),
    )
    .cause(reason.unwrap_or_else(|| "it does not answer".into()))
    .evidence(format!(
        "the agent of {} asks {address}{}",
        verdict.by,
        server.registration.health.as_str()
    ))
    .next(format!(
        "start or repair it; if it is gone for good, `basic-agent remove {id}`"
    ));
    Some(finding.since(verdict.since()))
}

fn without_verdict(facts: &Facts<'_>, server: &Server) -> Option<Finding> {
    let waited = facts.now.duration_since(server.since).unwrap_or_default();
    if waited < START_MAX {
        return None;
    }
    let finding = Finding::warning(
        Code::AppUnhealthy,
        format!(
            "no agent has found out yet whether the server {} is healthy; it takes no requests",
            server.id
        ),
    )
    .cause("no agent takes traffic now, or the one that probes it cannot write")
    .evidence("there is no record of a probe of its address")
    .next("`basic-agent members` shows which agents are active");
    Some(finding.since(server.since))
}

fn without_endpoint(facts: &Facts<'_>, server: &Server) -> Option<Finding> {
    let mut endpoints = facts.endpoints.iter();
    if endpoints.any(|known| known.endpoint.id.as_str() == server.id.as_str()) {
        return None;
    }
    let (id, address) = (&server.id, &server.registration.address);
    let finding = Finding::error(
        Code::NoEndpoint,
        format!("the server {id} gets no requests from here although it is healthy"),
    )
    .cause("its address does not resolve on this agent, is one where no server may be, or a node has its id")
    .evidence(format!("it is registered at {address}"))
    .next(format!(
        "`getent hosts {}` shows what this agent sees; register {id} at an address that is the same everywhere",
        address.host()
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scene::{Scene, now};
    use super::*;
    use crate::servers::server::tests::server;

    fn scene(healthy: Option<bool>, age: Duration) -> Scene {
        let mut scene = Scene::healthy();
        let mut server = server("s1", healthy);
        server.since = now() - age;
        scene.servers = vec![server];
        scene
    }

    #[test]
    fn a_server_that_is_not_healthy_is_named_with_who_says_so() {
        let mut scene = scene(Some(false), Duration::ZERO);
        let finding = serde_json::to_value(scene.only(Code::AppUnhealthy)).unwrap();
        assert_eq!(finding["node"], "s1");
        assert_eq!(
            finding["evidence"],
            "the agent of n1 asks 10.0.0.9:8080/health"
        );
        scene.servers[0].directive.failed = true;
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_server_may_take_a_moment_to_be_probed() {
        assert_eq!(scene(None, Duration::from_secs(1)).findings(), []);
        scene(None, START_MAX).only(Code::AppUnhealthy);
    }

    #[test]
    fn a_healthy_server_without_an_endpoint_is_an_error() {
        let mut scene = scene(Some(true), Duration::ZERO);
        assert!(scene.only(Code::NoEndpoint).is_error());
        let mut endpoint = scene.endpoint("n2").clone();
        endpoint.endpoint.id = "s1".into();
        scene.endpoints.push(endpoint);
        assert_eq!(scene.findings(), []);
    }
}
