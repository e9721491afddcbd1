//! Counts of what came to the peer port's listener.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::handshake::Refusal;

/// The listener's counters, from the start of the process.
#[derive(Debug, Default)]
pub struct Statistics {
    accepted: AtomicU64,
    admitted: AtomicU64,
    other_secret: AtomicU64,
    other_cluster: AtomicU64,
    not_an_agent: AtomicU64,
    no_common_protocol: AtomicU64,
    timed_out: AtomicU64,
    turned_away: AtomicU64,
    broken: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatisticsSnapshot {
    /// TCP connections accepted.
    pub accepted: u64,
    /// Connections authenticated and handed to their protocol.
    pub admitted: u64,
    /// Refused because the two sides have different peer secrets, or a
    /// certificate that is out of date.
    pub other_secret: u64,
    /// Refused because the peer belongs to another cluster.
    pub other_cluster: u64,
    /// Refused because it spoke no TLS 1.3, or showed no agent's certificate.
    pub not_an_agent: u64,
    /// Refused because it asked for no protocol that is served.
    pub no_common_protocol: u64,
    /// Given up because the handshake took too long.
    pub timed_out: u64,
    /// Closed though authenticated, because a bound was reached.
    pub turned_away: u64,
    /// Lost during the handshake: hung up, reset, or any other fault.
    pub broken: u64,
}

impl Statistics {
    /// The counters now.
    pub fn snapshot(&self) -> StatisticsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatisticsSnapshot {
            accepted: read(&self.accepted),
            admitted: read(&self.admitted),
            other_secret: read(&self.other_secret),
            other_cluster: read(&self.other_cluster),
            not_an_agent: read(&self.not_an_agent),
            no_common_protocol: read(&self.no_common_protocol),
            timed_out: read(&self.timed_out),
            turned_away: read(&self.turned_away),
            broken: read(&self.broken),
        }
    }

    pub(super) fn record_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_refused(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::OtherSecret | Refusal::Expired => &self.other_secret,
            Refusal::OtherCluster { .. } => &self.other_cluster,
            Refusal::NoCertificate | Refusal::NoName | Refusal::NotTls(_) => &self.not_an_agent,
            Refusal::NoCommonProtocol => &self.no_common_protocol,
            Refusal::Timeout(_) => &self.timed_out,
            Refusal::Full(_) | Refusal::Busy(_) | Refusal::Stopped(_) => &self.turned_away,
            Refusal::Closed | Refusal::Tls(_) | Refusal::Io(_) => &self.broken,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
