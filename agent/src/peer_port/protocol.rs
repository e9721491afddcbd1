//! What a connection to the peer port is for, told by ALPN (RFC 7301).

use std::fmt;

/// A protocol spoken over the peer port. The name on the wire ends in a
/// version, so that a later version can be offered beside this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Replication between replicas.
    Sync,
    /// Gossip frames too large for a datagram.
    Gossip,
    /// Requests forwarded to the app beside the peer.
    Http,
}

impl Protocol {
    /// Every protocol, in the order in which a listener prefers them.
    pub const ALL: [Protocol; 3] = [Protocol::Sync, Protocol::Gossip, Protocol::Http];

    /// The ALPN protocol name.
    pub fn alpn(self) -> &'static str {
        match self {
            Protocol::Sync => "basic-sync/1",
            Protocol::Gossip => "basic-gossip/1",
            Protocol::Http => "http/1.1",
        }
    }

    /// The protocol with this ALPN name.
    pub fn from_alpn(name: &[u8]) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.alpn().as_bytes() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alpn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_found_by_its_own_name_only() {
        for protocol in Protocol::ALL {
            assert_eq!(
                Protocol::from_alpn(protocol.alpn().as_bytes()),
                Some(protocol)
            );
        }
        assert_eq!(Protocol::from_alpn(b"basic-sync/2"), None);
        assert_eq!(Protocol::from_alpn(b""), None);
    }
}
