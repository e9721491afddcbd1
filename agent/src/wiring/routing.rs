//! Members become endpoints of the balancer and peers of replication.
//!
//! Who takes requests: nodes that are active and whose app is healthy; doubt about a
//! node takes nothing from it. A node that is draining, unreachable or unhealthy is used
//! when nothing else is left. One that is catching up never is, because it would answer
//! with old data, nor is one that an operator took out. One that was away without a restart
//! is a last resort until it has caught up (`routing/returns.rs`).
//!
//! Who replicates: everyone who is or may soon be there again, and a removed node for as
//! long as it lives, so that it learns of its removal.

use std::time::{Duration, Instant};

use basic_balancer::{Admission, Balancer, Endpoint, EndpointId, Refusal};
use basic_membership::{AnnouncedState, Cluster, Member, MemberState, Members};
use basic_sync::model::PeerId;
use basic_sync::net::{Handle, Peer};

use tokio::time::sleep;

use self::returns::Returns;
use super::servers;
use super::targets::Targets;
use crate::servers::Registry;

mod returns;

/// How often one that was away is looked at until it has caught up.
const LOOK: Duration = Duration::from_millis(50);

/// Keeps the balancer's endpoints in step with the members and with the servers without an agent.
pub async fn feed_balancer(
    cluster: Cluster,
    registry: Registry,
    balancer: Balancer,
    replica: Handle,
) {
    let mut changes = cluster.watch();
    let replicated = replica.status();
    let mut returns = Returns::default();
    let mut registered = registry.watch();
    let mut targets = Targets::default();
    loop {
        let members = changes.borrow_and_update().clone();
        let known = registered.borrow_and_update().clone();
        let status = replicated.borrow().clone();
        returns.look(Instant::now(), members.iter().as_slice(), &*status);
        let endpoints = members.iter().filter_map(|member| {
            let mut admission = admission(member)?;
            if admission == Admission::Accepting && returns.is_behind(member) {
                admission = Admission::Refusing(Refusal::Returning);
            }
            Some(Endpoint {
                id: EndpointId::new(member.id.as_str()),
                target: targets.of(member)?,
                weight: member.weight(),
                local: member.is_self,
                admission,
            })
        });
        let mut endpoints: Vec<Endpoint> = endpoints.collect();
        endpoints.extend(servers::endpoints(
            &known,
            &members,
            &registry,
            &mut targets,
        ));
        balancer.set_endpoints(endpoints);
        targets.forget_all_but(&members, &known);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                // Gossip has stopped; the last endpoints stay.
                std::future::pending::<()>().await;
            },
            Ok(()) = registered.changed() => {}
            () = targets.resolved() => {}
            () = sleep(LOOK), if returns.is_waiting() => {}
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

/// Everyone to replicate with.
fn replication_peers(members: &Members) -> Vec<Peer> {
    let gone = |member: &Member| match member.state {
        MemberState::Left => true,
        MemberState::Removed => !member.live,
        _ => false,
    };
    let others = members
        .iter()
        .filter(|member| !member.is_self && !gone(member));
    others
        .map(|member| Peer {
            id: PeerId::new(member.id.as_str()),
            address: member.peer,
        })
        .collect()
}

/// Whether a member takes requests; `None` where it is not to be listed at all.
fn admission(member: &Member) -> Option<Admission> {
    let announced = member.metadata.announced;
    Some(match member.state {
        MemberState::Left | MemberState::Removed => return None,
        MemberState::Maintenance => Admission::Refusing(Refusal::Administrative),
        MemberState::Failed if member.directive.failed => {
            Admission::Refusing(Refusal::Administrative)
        }
        MemberState::Failed => Admission::Refusing(Refusal::Unreachable),
        MemberState::Joining | MemberState::CatchingUp => Admission::Refusing(Refusal::CatchingUp),
        // It lives; what it announces shows through what an observer or an operator lays over it.
        MemberState::Active
        | MemberState::Suspect
        | MemberState::Draining
        | MemberState::Leaving => match announced {
            AnnouncedState::Joining | AnnouncedState::CatchingUp => {
                Admission::Refusing(Refusal::CatchingUp)
            }
            AnnouncedState::Draining | AnnouncedState::Leaving | AnnouncedState::Left => {
                Admission::Draining
            }
            AnnouncedState::Active if member.directive.drain => Admission::Draining,
            AnnouncedState::Active => active_admission(member),
        },
    })
}

/// Whether a member takes requests that announces itself active, and is not taken out by an operator.
fn active_admission(member: &Member) -> Admission {
    if member.weight() == 0 {
        Admission::Refusing(Refusal::Administrative)
    } else if member.metadata.app.healthy {
        Admission::Accepting
    } else {
        Admission::Refusing(Refusal::Unhealthy)
    }
}

#[cfg(test)]
mod tests;
