//! Members become endpoints of the balancer and peers of replication.
//!
//! Who takes requests: nodes that are active and whose app is healthy. A node that is
//! draining, unreachable or unhealthy is used when nothing else is left; one that is
//! catching up never is, because it would answer with old data.
//!
//! Where requests may go: to the address that a member announces for its app, and
//! only if that is on the member's own host. Otherwise one faulty member could make
//! every proxy of the cluster send its clients' requests anywhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use basic_balancer::{Admission, Balancer, Endpoint, EndpointId, Refusal};
use basic_membership::{Cluster, Member, MemberState, Members};
use basic_sync::model::PeerId;
use basic_sync::net::{Handle, Peer};
use tokio::net::lookup_host;
use tokio::time::{interval, timeout};
use tracing::warn;

/// How long the name of an app's host may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often names of apps' hosts are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the balancer's endpoints in step with the members.
pub async fn feed_balancer(cluster: Cluster, balancer: Balancer) {
    let mut changes = cluster.watch();
    let mut resolver = Resolver::default();
    let mut again = interval(RESOLVE_INTERVAL);
    loop {
        let members = changes.borrow_and_update().clone();
        let mut endpoints = Vec::with_capacity(members.len());
        for member in members.iter() {
            if let Some(admission) = admission(member)
                && let Some(target) = resolver.target(member).await
            {
                endpoints.push(Endpoint {
                    id: EndpointId::new(member.id.as_str()),
                    target,
                    weight: member.metadata.weight,
                    local: member.is_self,
                    admission,
                });
            }
        }
        resolver.forget_all_but(&members);
        balancer.set_endpoints(endpoints);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                // Gossip has stopped; the last endpoints stay.
                std::future::pending::<()>().await;
            },
            _ = again.tick() => resolver.refresh(),
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
        MemberState::Active if member.metadata.app.healthy => Admission::Accepting,
        MemberState::Active => Admission::Refusing(Refusal::Unhealthy),
        MemberState::Draining | MemberState::Leaving => Admission::Draining,
        MemberState::Joining | MemberState::CatchingUp => Admission::Refusing(Refusal::CatchingUp),
        MemberState::Suspect | MemberState::Failed => Admission::Refusing(Refusal::Unreachable),
        MemberState::Maintenance => Admission::Refusing(Refusal::Administrative),
        MemberState::Left | MemberState::Removed => return None,
    })
}

/// Resolves the addresses of apps and checks them.
#[derive(Default)]
struct Resolver {
    /// What members announce, and what became of it.
    known: HashMap<String, Option<SocketAddr>>,
}

impl Resolver {
    async fn target(&mut self, member: &Member) -> Option<SocketAddr> {
        let announced = member.metadata.app.address.as_deref()?;
        let resolved = match self.known.get(announced) {
            Some(resolved) => *resolved,
            None => {
                let resolved = resolve(announced).await;
                self.known.insert(announced.to_owned(), resolved);
                if resolved.is_none() {
                    warn!(node = %member.id, address = announced, "the app's address cannot be resolved; its node gets no requests");
                }
                resolved
            }
        }?;
        if is_on_host_of(resolved, member.peer) {
            return Some(resolved);
        }
        // Said once for each announcement: the next look-up finds nothing.
        self.known.insert(announced.to_owned(), None);
        warn!(
            node = %member.id, address = announced, host = %member.peer.ip(),
            "a member's app address is not on its own host; its node gets no requests"
        );
        None
    }

    /// Resolves names again from the next time on; keeps what needs no resolving.
    fn refresh(&mut self) {
        self.known
            .retain(|announced, _| announced.parse::<SocketAddr>().is_ok());
    }

    fn forget_all_but(&mut self, members: &Members) {
        self.known.retain(|announced, _| {
            let announced = Some(announced.as_str());
            members
                .iter()
                .any(|member| member.metadata.app.address.as_deref() == announced)
        });
    }
}

async fn resolve(announced: &str) -> Option<SocketAddr> {
    if let Ok(address) = announced.parse() {
        return Some(address);
    }
    let found = timeout(RESOLVE_TIMEOUT, lookup_host(announced))
        .await
        .ok()?
        .ok()?;
    // IPv4 first where a name has both, as most servers listen there.
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied()
}

fn is_on_host_of(target: SocketAddr, peer: SocketAddr) -> bool {
    target.ip() == peer.ip() || (target.ip().is_loopback() && peer.ip().is_loopback())
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
        assert_eq!(admission(&member(S::Left, true, "")), None);
    }

    #[tokio::test]
    async fn an_app_address_on_another_host_is_refused() {
        let mut resolver = Resolver::default();
        let own = member(MemberState::Active, true, "10.0.0.1:8080");
        assert_eq!(
            resolver.target(&own).await,
            Some("10.0.0.1:8080".parse().unwrap())
        );
        for elsewhere in [
            "169.254.169.254:80",
            "10.0.0.2:8080",
            "127.0.0.1:8080",
            "nonsense",
        ] {
            let member = member(MemberState::Active, true, elsewhere);
            assert_eq!(resolver.target(&member).await, None, "{elsewhere}");
        }
    }
}
