//! Who a peer is: the names that its certificate carries.
//!
//! A leaf certificate names its agent by one URI in the subject alternative
//! name, `basic-agent://CLUSTER/NODE`. Both parts keep to characters that need
//! no escaping in a URI, so that there is exactly one spelling of each name.

use std::fmt;

const SCHEME: &str = "basic-agent://";
const NAME_BYTES_MAX: usize = 64;

/// The node id that a peer proved to be by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName(String);

impl PeerName {
    /// The node id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The node id, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pair of names in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentUri {
    /// The cluster to which the agent belongs.
    pub(super) cluster: String,
    /// The agent itself.
    pub(super) node: PeerName,
}

impl AgentUri {
    /// None if either name is not one that this module can write.
    pub(super) fn new(cluster: &str, node: &str) -> Option<AgentUri> {
        (is_name(cluster) && is_name(node)).then(|| AgentUri {
            cluster: cluster.to_owned(),
            node: PeerName(node.to_owned()),
        })
    }

    /// Reads what [`Display`](fmt::Display) wrote; None for anything else.
    pub(super) fn parse(uri: &str) -> Option<AgentUri> {
        let (cluster, node) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        AgentUri::new(cluster, node)
    }
}

impl fmt::Display for AgentUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.cluster, self.node)
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            cluster in "[A-Za-z0-9._-]{1,64}",
            node in "[A-Za-z0-9._-]{1,64}",
        ) {
            let uri = AgentUri::new(&cluster, &node).expect("valid names");
            prop_assert_eq!(AgentUri::parse(&uri.to_string()), Some(uri));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "(basic-agent://)?[ -~]{0,80}") {
            if let Some(uri) = AgentUri::parse(&text) {
                prop_assert_eq!(uri.to_string(), text);
            }
        }
    }

    #[test]
    fn names_that_would_need_escaping_are_refused() {
        for (cluster, node) in [
            ("", "n1"),
            ("c", ""),
            ("c", "a/b"),
            ("c", "é"),
            ("c d", "n1"),
        ] {
            assert_eq!(AgentUri::new(cluster, node), None, "{cluster:?} {node:?}");
        }
        assert_eq!(AgentUri::new("c", &"n".repeat(NAME_BYTES_MAX + 1)), None);
    }
}
