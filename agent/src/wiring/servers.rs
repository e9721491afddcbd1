//! Servers without an agent become endpoints of the balancer.
//!
//! A server takes requests by the verdict of its probe and by what operators have decided, as a node does. One on
//! which there is no verdict yet takes none, also when nothing else is left.

use std::net::SocketAddr;

use basic_balancer::{Admission, Endpoint, EndpointId, Refusal};
use basic_membership::{MemberState, Members};

use super::targets::Targets;
use crate::servers::{Registry, Server, Servers};

/// The endpoints of all servers but those whose name a node with an agent has.
pub(super) fn endpoints(
    servers: &Servers,
    members: &Members,
    registry: &Registry,
    targets: &mut Targets,
) -> Vec<Endpoint> {
    let without_agent = servers
        .iter()
        .filter(|server| members.find(&server.id).is_none());
    without_agent
        .filter_map(|server| {
            let admission = admission(server)?;
            let target = targets.of_server(server, |target| registry.judge(target, members))?;
            Some(endpoint(server, target, admission))
        })
        .collect()
}

fn endpoint(server: &Server, target: SocketAddr, admission: Admission) -> Endpoint {
    Endpoint {
        id: EndpointId::new(server.id.as_str()),
        target,
        weight: server.weight(),
        local: false,
        admission,
    }
}

/// Whether a server takes requests; `None` where it is not to be listed at all.
fn admission(server: &Server) -> Option<Admission> {
    Some(match server.state() {
        MemberState::Active if server.weight() == 0 => Admission::Refusing(Refusal::Administrative),
        MemberState::Active => Admission::Accepting,
        MemberState::Draining => Admission::Draining,
        MemberState::Failed if server.directive.failed => {
            Admission::Refusing(Refusal::Administrative)
        }
        MemberState::Failed => Admission::Refusing(Refusal::Unhealthy),
        MemberState::Maintenance => Admission::Refusing(Refusal::Administrative),
        MemberState::Removed => return None,
        // The rest are states of nodes with an agent, but for `joining`.
        MemberState::Joining
        | MemberState::CatchingUp
        | MemberState::Suspect
        | MemberState::Leaving
        | MemberState::Left => Admission::Refusing(Refusal::CatchingUp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::server::tests::server;

    #[test]
    fn only_a_server_with_a_good_verdict_and_a_weight_takes_requests() {
        let refusing = |refusal| Some(Admission::Refusing(refusal));
        assert_eq!(
            admission(&server("s1", Some(true))),
            Some(Admission::Accepting)
        );
        assert_eq!(
            admission(&server("s1", Some(false))),
            refusing(Refusal::Unhealthy)
        );
        assert_eq!(
            admission(&server("s1", None)),
            refusing(Refusal::CatchingUp)
        );
        let mut idle = server("s1", Some(true));
        idle.directive.weight = Some(0);
        assert_eq!(admission(&idle), refusing(Refusal::Administrative));
    }

    #[test]
    fn what_an_operator_decided_outweighs_the_verdict() {
        let mut drained = server("s1", Some(true));
        drained.directive.drain = true;
        assert_eq!(admission(&drained), Some(Admission::Draining));
        let mut failed = server("s1", Some(true));
        failed.directive.failed = true;
        assert_eq!(
            admission(&failed),
            Some(Admission::Refusing(Refusal::Administrative))
        );
        let mut removed = server("s1", Some(true));
        removed.directive.removed = Some(removed.registered);
        assert_eq!(admission(&removed), None);
    }
}
