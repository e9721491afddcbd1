//! Who a peer is: the names that its certificate carries.
//!
//! A leaf certificate names its agent by one URI in the subject alternative
//! name, `basic-agent://CLUSTER/NODE`. Both parts keep to characters that need
//! no escaping in a URI, so that there is exactly one spelling of each name.
//!
//! Certificates that an operator gives may lack such a URI, since many issuers
//! write DNS names only. Then the first DNS name of the subject alternative name
//! must be the node id, letter for letter. Such a certificate tells no cluster:
//! the authority stands for it, so clusters that must not mix need an authority
//! each, or URIs. The common name means nothing, as everywhere in TLS today.

use std::fmt;

use rustls_pki_types::CertificateDer;

use super::handshake::NameRefusal;

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

/// Which names of a certificate count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The URI only: certificates that agents make themselves.
    Uri,
    /// The URI, or else the first DNS name: certificates that operators give.
    UriOrDns,
}

impl Naming {
    /// Reads out of a verified leaf certificate which node of `cluster` it names.
    pub(super) fn peer_name(
        self,
        leaf: &CertificateDer<'_>,
        cluster: &str,
    ) -> Result<PeerName, NameRefusal> {
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| NameRefusal::NoName)?;
        if let Some(uri) = leaf.valid_uri_names().find_map(AgentUri::parse) {
            return if uri.cluster == cluster {
                Ok(uri.node)
            } else {
                Err(NameRefusal::OtherCluster {
                    cluster: uri.cluster,
                })
            };
        }
        let name = match self {
            Naming::Uri => None,
            Naming::UriOrDns => leaf.valid_dns_names().next(),
        };
        match name.filter(|name| is_name(name)) {
            Some(name) => Ok(PeerName(name.to_owned())),
            None => Err(NameRefusal::NoName),
        }
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
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::super::certificates::Derived;
    use super::super::secret::PeerKeys;
    use super::*;

    /// A certificate with these alternative names.
    fn certificate(uris: &[&str], dns: &[&str]) -> CertificateDer<'static> {
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
        let dns = dns
            .iter()
            .map(|dns| SanType::DnsName((*dns).try_into().expect("ASCII")));
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.chain(dns).collect();
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone()
    }

    #[test]
    fn the_node_id_is_read_out_of_a_derived_certificate() {
        let uri = AgentUri::new("c1", "Node_2.x-y").expect("valid");
        let theirs = Derived::of(&PeerKeys::derive(b"one secret"), &uri).expect("a certificate");
        let name = Naming::Uri.peer_name(&theirs.leaf, "c1").expect("a name");
        assert_eq!(name.as_str(), "Node_2.x-y");
        let refusal = Naming::Uri.peer_name(&theirs.leaf, "c2");
        let cluster = "c1".to_owned();
        assert_eq!(refusal, Err(NameRefusal::OtherCluster { cluster }));
        let authority = Naming::UriOrDns.peer_name(&theirs.authority, "c1");
        assert_eq!(authority, Err(NameRefusal::NoName));
        let garbage = Naming::Uri.peer_name(&vec![0x30, 0xff].into(), "c1");
        assert_eq!(garbage, Err(NameRefusal::NoName));
    }

    #[test]
    fn a_given_certificate_names_its_node_by_uri_or_else_by_its_first_dns_name() {
        let name = |naming: Naming, uris: &[&str], dns: &[&str]| {
            let name = naming.peer_name(&certificate(uris, dns), "c1");
            name.ok().map(PeerName::into_string)
        };
        for (uris, dns, by_uri, by_either) in [
            (
                &["basic-agent://c1/n1"][..],
                &["n9"][..],
                Some("n1"),
                Some("n1"),
            ),
            (&[], &["n1", "n1.example.org"], None, Some("n1")),
            (&["spiffe://example/x"], &["n1"], None, Some("n1")),
            (&["basic-agent://c2/n1"], &["n1"], None, None),
            (&[], &["*.example.org"], None, None),
            (&[], &[], None, None),
        ] {
            assert_eq!(
                name(Naming::Uri, uris, dns).as_deref(),
                by_uri,
                "{uris:?} {dns:?}"
            );
            let either = name(Naming::UriOrDns, uris, dns);
            assert_eq!(either.as_deref(), by_either, "{uris:?} {dns:?}");
        }
    }

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
