//! Who speaks from which peer address, and with which keys.
//!
//! A request goes to an address, and must be sealed with a key that is installed
//! there. A frame shows two: the one its sender uses and the one it sealed with;
//! both are noted for the address that the frame names as its sender's own. So a
//! peer that was away during a rotation is spoken to with the old key, and is
//! followed at once when it begins to use the new one. An address that was not
//! heard from for [`HEARD_LATELY`] may have another keyring by now: then any
//! installed key may be the right one, and the caller tries them.
//!
//! An address belongs to the node that is heard with it, and a node has one: where
//! it moves, it leaves the old one behind. Another node may take an address over
//! once its holder no longer lives, which is the failure detector's to say, or at
//! once if its datagrams come from there; a claim beside a living holder is
//! refused, so that a node that advertises the address of another, by mistake or
//! malice, gets neither its answers nor a say in its keys. Only authentic frames reach this table, and it is bounded by [`MEMBERS_MAX`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::inspect::MEMBERS_MAX;
use super::sealed::PeerKeys;
use crate::name::NodeId;

/// How long the keys of an address are believed after a frame. In a cluster of a
/// hundred, each node hears each other some twenty times in this time.
pub(crate) const HEARD_LATELY: Duration = Duration::from_secs(60);

/// The way that a frame came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// As a datagram.
    Datagram(SocketAddr),
    /// Over a connection; the address is what its other end wrote there.
    Connection(SocketAddr),
}

impl Source {
    /// What to call it in a message for people.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Source::Datagram(address) | Source::Connection(address) => address,
        }
    }
}

/// The addresses and their nodes.
#[derive(Debug, Default)]
pub(crate) struct AddressTable {
    holders: HashMap<SocketAddr, Holder>,
}

#[derive(Debug)]
struct Holder {
    node: NodeId,
    keys: PeerKeys,
    heard: Instant,
}

impl AddressTable {
    /// Notes that `node` advertises `address` in a frame that came from `source`.
    /// `lives` says of a holder that was last heard then whether it is still alive.
    /// False, and nothing is noted, if the address is another's.
    pub(crate) fn claim(
        &mut self,
        address: SocketAddr,
        node: &NodeId,
        source: Source,
        keys: PeerKeys,
        now: Instant,
        lives: impl FnOnce(&NodeId, Instant) -> bool,
    ) -> bool {
        let holder = self.holders.get(&address);
        let other = holder.filter(|holder| holder.node != *node);
        if source != Source::Datagram(address)
            && other.is_some_and(|holder| lives(&holder.node, holder.heard))
        {
            return false;
        }
        if holder.is_none() || other.is_some() {
            self.holders.retain(|_, holder| holder.node != *node);
        }
        if !self.holders.contains_key(&address) && self.holders.len() >= MEMBERS_MAX {
            let oldest = self.holders.iter().min_by_key(|(_, holder)| holder.heard);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.map(|address| self.holders.remove(&address));
        }
        let holder = Holder {
            node: node.clone(),
            keys,
            heard: now,
        };
        self.holders.insert(address, holder);
        true
    }

    /// The keys of the node at this address, if it was heard lately.
    pub(crate) fn keys(&self, address: SocketAddr, now: Instant) -> Option<PeerKeys> {
        let holder = self.holders.get(&address)?;
        let lately = now.saturating_duration_since(holder.heard) < HEARD_LATELY;
        lately.then_some(holder.keys)
    }

    /// Whether a node was ever heard that advertises this address.
    pub(crate) fn knows(&self, address: SocketAddr) -> bool {
        self.holders.contains_key(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::keyring::KeyId;

    fn keys(seed: u8) -> PeerKeys {
        PeerKeys {
            in_use: KeyId([seed; 4]),
            sealed_with: KeyId([seed; 4]),
        }
    }

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    /// How long a holder counts as alive in these tests.
    const LIVES: Duration = Duration::from_secs(6);

    fn claim(
        table: &mut AddressTable,
        node: &str,
        port: u16,
        from: Source,
        seed: u8,
        now: Instant,
    ) -> bool {
        let node = node.parse().unwrap();
        let lives = |_: &NodeId, heard| now.saturating_duration_since(heard) < LIVES;
        table.claim(address(port), &node, from, keys(seed), now, lives)
    }

    #[test]
    fn a_node_that_uses_another_key_is_followed_with_its_next_frame() {
        let mut table = AddressTable::default();
        let now = Instant::now();
        let from = Source::Datagram(address(1));
        for seed in [1, 2] {
            assert!(claim(&mut table, "n1", 1, from, seed, now));
            assert_eq!(table.keys(address(1), now), Some(keys(seed)));
        }
        assert_eq!(table.keys(address(1), now + HEARD_LATELY), None);
        assert!(table.knows(address(1)));
    }

    #[test]
    fn the_address_of_a_node_that_is_heard_is_not_to_be_had() {
        let mut table = AddressTable::default();
        let now = Instant::now();
        let own = Source::Datagram(address(1));
        assert!(claim(&mut table, "n1", 1, own, 1, now));
        for elsewhere in [
            Source::Datagram(address(2)),
            // Whoever connects can write any address into its first bytes.
            Source::Connection(address(1)),
        ] {
            assert!(!claim(&mut table, "n2", 1, elsewhere, 2, now));
            assert_eq!(table.keys(address(1), now), Some(keys(1)));
            assert!(claim(&mut table, "n1", 1, elsewhere, 1, now), "its own");
        }
    }

    #[test]
    fn a_new_node_in_the_place_of_another_has_the_address_at_once() {
        let mut table = AddressTable::default();
        let now = Instant::now();
        let own = Source::Datagram(address(1));
        assert!(claim(&mut table, "n1", 1, own, 1, now));
        assert!(claim(&mut table, "n2", 1, own, 2, now));
        assert_eq!(table.keys(address(1), now), Some(keys(2)));
        let behind_nat = Source::Datagram(address(77));
        assert!(!claim(&mut table, "n3", 1, behind_nat, 3, now));
        let connected = Source::Connection(address(1));
        assert!(!claim(&mut table, "n3", 1, connected, 3, now));
        assert!(claim(&mut table, "n3", 1, behind_nat, 3, now + LIVES));
        let later = now + LIVES * 2;
        assert!(claim(&mut table, "n4", 1, connected, 4, later));
    }

    #[test]
    fn a_node_that_moves_leaves_its_address_to_others_at_once() {
        let mut table = AddressTable::default();
        let now = Instant::now();
        let own = |port| Source::Datagram(address(port));
        assert!(claim(&mut table, "n1", 1, own(1), 1, now));
        assert!(!claim(&mut table, "n2", 1, own(9), 2, now));
        assert!(claim(&mut table, "n1", 3, own(3), 1, now));
        assert_eq!(table.keys(address(1), now), None);
        assert!(claim(&mut table, "n2", 1, own(9), 2, now));
        assert_eq!(table.keys(address(3), now), Some(keys(1)));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_heard_least_recently() {
        let mut table = AddressTable::default();
        let start = Instant::now();
        let ports = (1..).take(MEMBERS_MAX + 1);
        for (port, ms) in ports.zip(0..) {
            let now = start + Duration::from_millis(ms);
            let from = Source::Datagram(address(port));
            let node = format!("n{port}");
            assert!(claim(&mut table, &node, port, from, 1, now));
        }
        assert_eq!(table.holders.len(), MEMBERS_MAX);
        assert!(!table.knows(address(1)));
        assert!(table.knows(address(2)));
    }
}
