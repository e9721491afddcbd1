//! What the balancer can pick: an endpoint, its name, and whether it may be picked.
//!
//! Endpoints come from outside, whole ([`crate::Balancer::set_endpoints`]). What the balancer
//! learns about them by itself is kept elsewhere (`table.rs`, `health.rs`), so that these types
//! stay plain data. Nothing here can fail.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The name of an endpoint, unique in one table. Cheap to clone.
///
/// It is what clients see in the `Basic-Node` response header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// Names an endpoint. Any text will do; printable ASCII survives into headers unchanged.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for EndpointId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A server that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub id: EndpointId,
    /// Where it listens.
    pub target: SocketAddr,
    /// Its share relative to others.
    pub weight: u32,
    /// Whether it runs beside this very proxy.
    pub local: bool,
    /// What others have decided about it: membership, probes, operators.
    pub admission: Admission,
}

/// Whether an endpoint may be given new requests, as decided outside this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It takes requests.
    Accepting,
    /// It finishes what it has. New requests reach it only when nothing else is left.
    Draining,
    /// It is not to be used, for this reason.
    Refusing(Refusal),
}

/// Why an endpoint is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its health probe says that it is down.
    Unhealthy,
    /// Membership no longer hears from its node.
    Unreachable,
    /// Its data is behind: it would answer with stale data.
    CatchingUp,
    /// Its node was away and may have missed what was written meanwhile; it is better than none.
    Returning,
    /// An operator took it out, or it left.
    Administrative,
}

impl Admission {
    /// Whether new requests go here in the ordinary course.
    pub(crate) fn accepts(self) -> bool {
        self == Admission::Accepting
    }

    /// Whether new requests may go here when no endpoint accepts any more.
    ///
    /// A judgement about health can be wrong about all endpoints at once (a cut network, a bad
    /// probe path); trying is then better than refusing. An operator's word, and data known to be
    /// stale, are not such judgements.
    pub(crate) fn is_last_resort(self) -> bool {
        match self {
            Admission::Accepting | Admission::Draining => true,
            Admission::Refusing(Refusal::Unhealthy | Refusal::Unreachable | Refusal::Returning) => {
                true
            }
            Admission::Refusing(Refusal::CatchingUp | Refusal::Administrative) => false,
        }
    }
}
