//! Where requests for a member's app may go.
//!
//! To the address that the member announces for it, and only if that is on the
//! member's own host: otherwise one faulty member could make every proxy of the
//! cluster send its clients' requests anywhere. Each member is judged by itself; what
//! one announces never changes the verdict on another.
//!
//! Names are resolved aside, one task each, so that a slow name server delays nothing
//! else, and again every half minute. The last good address stays in use while a name
//! does not resolve.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use basic_membership::{Member, Members, NodeId};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// What is known about the addresses of apps.
#[derive(Default)]
pub(super) struct Targets {
    names: HashMap<String, Name>,
    lookups: JoinSet<(String, Option<SocketAddr>)>,
    /// Announcements that were refused and said to be.
    refused: HashSet<(NodeId, String)>,
}

/// A name that is not an address.
struct Name {
    address: Option<SocketAddr>,
    again: Instant,
    under_way: bool,
}

impl Targets {
    /// Where requests for this member's app go now, if they may go anywhere.
    pub(super) fn of(&mut self, member: &Member) -> Option<SocketAddr> {
        let announced = member.metadata.app.address.as_deref()?;
        let address = match announced.parse() {
            Ok(address) => Some(address),
            Err(_) => self.look_up(announced),
        }?;
        if is_on_host_of(address, member.peer) {
            return Some(address);
        }
        if self
            .refused
            .insert((member.id.clone(), announced.to_owned()))
        {
            warn!(
                node = %member.id, address = announced, host = %member.peer.ip(),
                "a member's app address is not on its own host; its node gets no requests"
            );
        }
        None
    }

    /// Waits until a name has resolved, or is to be resolved again.
    pub(super) async fn resolved(&mut self) {
        let waiting = self.names.values().filter(|name| !name.under_way);
        let again = waiting.map(|name| name.again).min();
        let due = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(looked_up) = self.lookups.join_next() => {
                if let Ok((announced, address)) = looked_up {
                    self.note(&announced, address);
                }
            }
            () = due => {}
        }
    }

    /// Forgets what no member announces any longer.
    pub(super) fn forget_all_but(&mut self, members: &Members) {
        let announced = |name: &str| {
            members
                .iter()
                .any(|member| member.metadata.app.address.as_deref() == Some(name))
        };
        self.names.retain(|name, _| announced(name));
        self.refused.retain(|(id, name)| {
            members
                .find(id)
                .is_some_and(|member| member.metadata.app.address.as_deref() == Some(name.as_str()))
        });
    }

    fn look_up(&mut self, announced: &str) -> Option<SocketAddr> {
        let now = Instant::now();
        let name = self.names.entry(announced.to_owned()).or_insert(Name {
            address: None,
            again: now,
            under_way: false,
        });
        if !name.under_way && name.again <= now {
            name.under_way = true;
            let announced = announced.to_owned();
            self.lookups.spawn(async move {
                let address = resolve(&announced).await;
                (announced, address)
            });
        }
        name.address
    }

    fn note(&mut self, announced: &str, address: Option<SocketAddr>) {
        let Some(name) = self.names.get_mut(announced) else {
            return;
        };
        name.under_way = false;
        name.again = Instant::now() + RESOLVE_INTERVAL;
        if address.is_none() {
            let in_use = name.address.is_some();
            warn!(
                address = announced,
                in_use, "the address of a member's app does not resolve"
            );
        }
        name.address = address.or(name.address);
    }
}

async fn resolve(announced: &str) -> Option<SocketAddr> {
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

    use basic_membership::{Incarnation, MemberState, Metadata};

    use super::*;

    fn member(id: &str, host: &str, app: &str) -> Member {
        let mut metadata = Metadata::new(1);
        metadata.app.address = Some(app.to_owned());
        Member {
            id: id.parse().unwrap(),
            incarnation: Incarnation(1),
            state: MemberState::Active,
            since: SystemTime::UNIX_EPOCH,
            peer: format!("{host}:9400").parse().unwrap(),
            metadata: Arc::new(metadata),
            heartbeat_age: None,
            phi: None,
            is_self: false,
        }
    }

    #[test]
    fn an_app_address_on_another_host_is_refused() {
        let mut targets = Targets::default();
        let own = member("n1", "10.0.0.1", "10.0.0.1:8080");
        assert_eq!(targets.of(&own), Some("10.0.0.1:8080".parse().unwrap()));
        for elsewhere in ["169.254.169.254:80", "10.0.0.2:8080", "127.0.0.1:8080"] {
            assert_eq!(
                targets.of(&member("n1", "10.0.0.1", elsewhere)),
                None,
                "{elsewhere}"
            );
        }
    }

    #[test]
    fn a_member_that_announces_the_app_of_another_does_not_harm_it() {
        let mut targets = Targets::default();
        let victim = member("n1", "10.0.0.1", "10.0.0.1:8080");
        let impostor = member("n2", "10.0.0.2", "10.0.0.1:8080");
        let expected = Some("10.0.0.1:8080".parse().unwrap());
        assert_eq!(targets.of(&victim), expected);
        assert_eq!(targets.of(&impostor), None);
        assert_eq!(targets.of(&victim), expected);
    }

    #[tokio::test]
    async fn a_name_is_resolved_aside_and_kept() {
        let mut targets = Targets::default();
        let local = member("n1", "127.0.0.1", "localhost:8080");
        assert_eq!(targets.of(&local), None);
        targets.resolved().await;
        let found = targets.of(&local);
        assert!(found.is_some_and(|found| found.ip().is_loopback()));
        targets.note("localhost:8080", None);
        assert_eq!(
            targets.of(&local),
            found,
            "a failed lookup keeps the last good address"
        );
    }
}
