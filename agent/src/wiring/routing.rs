//! Members become endpoints of the balancer and peers of replication.
//!
//! Who takes requests: nodes that are active and whose app is healthy. A node that is
//! draining, unreachable or unhealthy is used when nothing else is left; one that is
//! catching up never is, because it would answer with old data.

use basic_balancer::{Admission, Balancer, Endpoint, EndpointId, Refusal};
use basic_membership::{Cluster, Member, MemberState, Members};
use basic_sync::model::PeerId;
use basic_sync::net::{Handle, Peer};

use super::targets::Targets;

/// Keeps the balancer's endpoints in step with the members.
pub async fn feed_balancer(cluster: Cluster, balancer: Balancer) {
    let mut changes = cluster.watch();
    let mut targets = Targets::default();
    loop {
        let members = changes.borrow_and_update().clone();
        let endpoints = members.iter().filter_map(|member| {
            let admission = admission(member)?;
            Some(Endpoint {
                id: EndpointId::new(member.id.as_str()),
                target: targets.of(member)?,
                weight: member.metadata.weight,
                local: member.is_self,
                admission,
            })
        });
        balancer.set_endpoints(endpoints.collect());
        targets.forget_all_but(&members);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                // Gossip has stopped; the last endpoints stay.
                std::future::pending::<()>().await;
            },
            () = targets.resolved() => {}
        }
    }
}

/// Keeps the peers of replication in step with the members.
pub async fn feed_replication(cluster: Cluster, replica: Handle) {
    let mut changes = cluster.watch();
    loop {
        let peers = replication_peers(&changes.borrow_and_update());
        replica.set_peers(peers).await;
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Everyone who is or may soon be there again.
fn replication_peers(members: &Members) -> Vec<Peer> {
    let gone = |state| matches!(state, MemberState::Left | MemberState::Removed);
    let others = members
        .iter()
        .filter(|member| !member.is_self && !gone(member.state));
    others
        .map(|member| Peer {
            id: PeerId::new(member.id.as_str()),
            address: member.peer,
        })
        .collect()
}

/// Whether a member takes requests; `None` where it is not to be listed at all.
fn admission(member: &Member) -> Option<Admission> {
    Some(match member.state {
        MemberState::Active if member.metadata.weight == 0 => {
            Admission::Refusing(Refusal::Administrative)
        }
        MemberState::Active if member.metadata.app.healthy => Admission::Accepting,
        MemberState::Active => Admission::Refusing(Refusal::Unhealthy),
        MemberState::Draining | MemberState::Leaving => Admission::Draining,
        MemberState::Joining | MemberState::CatchingUp => Admission::Refusing(Refusal::CatchingUp),
        MemberState::Suspect | MemberState::Failed => Admission::Refusing(Refusal::Unreachable),
        MemberState::Maintenance => Admission::Refusing(Refusal::Administrative),
        MemberState::Left | MemberState::Removed => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use basic_membership::{Incarnation, Metadata};

    use super::*;

    fn member(state: MemberState, healthy: bool, app: &str) -> Member {
        let mut metadata = Metadata::new(1);
        metadata.app.healthy = healthy;
        metadata.app.address = Some(app.to_owned());
        Member {
            id: "n1".parse().unwrap(),
            incarnation: Incarnation(1),
            state,
            since: SystemTime::UNIX_EPOCH,
            peer: "10.0.0.1:9400".parse().unwrap(),
            metadata: Arc::new(metadata),
            heartbeat_age: None,
            phi: None,
            is_self: false,
        }
    }

    #[test]
    fn only_active_nodes_with_a_healthy_app_accept_requests() {
        use MemberState as S;
        for state in [
            S::Joining,
            S::CatchingUp,
            S::Draining,
            S::Leaving,
            S::Suspect,
            S::Failed,
            S::Maintenance,
        ] {
            let admission = admission(&member(state, true, "10.0.0.1:80"));
            assert!(
                admission.is_some() && admission != Some(Admission::Accepting),
                "{state}"
            );
        }
        assert_eq!(
            admission(&member(S::Active, true, "")),
            Some(Admission::Accepting)
        );
        assert_eq!(
            admission(&member(S::Active, false, "")),
            Some(Admission::Refusing(Refusal::Unhealthy))
        );
        let mut idle = member(S::Active, true, "");
        Arc::make_mut(&mut idle.metadata).weight = 0;
        assert_eq!(
            admission(&idle),
            Some(Admission::Refusing(Refusal::Administrative))
        );
        assert_eq!(admission(&member(S::Left, true, "")), None);
    }
}
