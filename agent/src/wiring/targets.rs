//! Where requests for an app may go.
//!
//! A member's: to the address that the member announces for it, and only if that is on
//! the member's own host: otherwise one faulty member could make every proxy of the
//! cluster send its clients' requests anywhere. Each member is judged by itself; what
//! one announces never changes the verdict on another.
//!
//! A server's without an agent: to the address that a person registered, if that is one
//! where a server may be (`servers/address.rs`).

use std::collections::HashSet;
use std::net::SocketAddr;

use basic_membership::{Member, Members, NodeId};
use tracing::warn;

use crate::names::{Lookup, Names};
use crate::servers::address::AddressFault;
use crate::servers::{Server, Servers};

/// What is known about the addresses of apps.
#[derive(Default)]
pub(super) struct Targets {
    names: Names,
    /// Addresses that were refused and said to be.
    refused: HashSet<(NodeId, String)>,
}

impl Targets {
    /// Where requests for this member's app go now, if they may go anywhere.
    pub(super) fn of(&mut self, member: &Member) -> Option<SocketAddr> {
        let announced = member.metadata.app.address.as_deref()?;
        let address = self.look_up(announced)?;
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

    /// Where requests for this server go now, if they may go anywhere; `judge` says whether
    /// a server may be at an address.
    pub(super) fn of_server(
        &mut self,
        server: &Server,
        judge: impl FnOnce(SocketAddr) -> Result<(), AddressFault>,
    ) -> Option<SocketAddr> {
        let registered = server.registration.address.to_string();
        let address = self.look_up(&registered)?;
        match judge(address) {
            // A node with an agent has begun to announce it meanwhile; it is a server all the same.
            Ok(()) | Err(AddressFault::App { .. }) => Some(address),
            Err(fault) => {
                if self.refused.insert((server.id.clone(), registered)) {
                    warn!(
                        node = %server.id, %address, %fault,
                        "a server's address cannot be used; it gets no requests"
                    );
                }
                None
            }
        }
    }

    /// Waits until a name has resolved, or is to be resolved again.
    pub(super) async fn resolved(&mut self) {
        self.names.resolved().await;
    }

    /// Forgets what no member announces and no server has any longer.
    pub(super) fn forget_all_but(&mut self, members: &Members, servers: &Servers) {
        let announced = members
            .iter()
            .filter_map(|member| Some((&member.id, member.metadata.app.address.clone()?)));
        let registered = servers
            .iter()
            .map(|server| (&server.id, server.registration.address.to_string()));
        let wanted: HashSet<(&NodeId, String)> = announced.chain(registered).collect();
        self.names
            .retain(|name| wanted.iter().any(|(_, wanted)| wanted == name));
        self.refused
            .retain(|(id, name)| wanted.contains(&(id, name.clone())));
    }

    fn look_up(&mut self, host_port: &str) -> Option<SocketAddr> {
        match self.names.look_up(host_port) {
            Lookup::Found(address) => Some(address),
            Lookup::Pending | Lookup::Failed => None,
        }
    }
}

fn is_on_host_of(target: SocketAddr, peer: SocketAddr) -> bool {
    target.ip() == peer.ip() || (target.ip().is_loopback() && peer.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use basic_membership::{Directive, Incarnation, MemberState, Metadata};

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
            live: true,
            directive: Directive::default(),
            clock_offset: None,
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
    #[test]
    fn a_server_is_where_it_was_registered_unless_it_may_not_be_there() {
        let mut targets = Targets::default();
        let server = crate::servers::server::tests::server("s1", None);
        let registered = Some("10.0.0.9:8080".parse().unwrap());
        assert_eq!(targets.of_server(&server, |_| Ok(())), registered);
        let fault = AddressFault::LinkLocal("169.254.169.254".parse().unwrap());
        assert_eq!(targets.of_server(&server, |_| Err(fault)), None);
        targets.forget_all_but(&Members::default(), &Servers::default());
        assert!(targets.refused.is_empty());
    }
}
