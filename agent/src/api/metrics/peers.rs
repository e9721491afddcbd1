//! The peers: what has not arrived there and here, and how the connections stand.

use std::fmt;

use basic_sync::net::{LinkStatus, PeerLag};
use basic_sync::protocol::{PeerStatus, Trust};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::api::sync::trust_name;

/// Peers with series of their own.
pub(super) const PEERS_MAX: usize = 1024;

const TRUSTS: [Trust; 5] = [
    Trust::Unknown,
    Trust::Full,
    Trust::Fenced,
    Trust::Stale,
    Trust::Foreign,
];

#[derive(Debug)]
pub(super) struct Peers {
    /// How many there are.
    total: usize,
    /// Those that are told of one by one. Beyond a full mesh, most are neither linked to nor heard of,
    /// and of these there is nothing to tell.
    near: Vec<PeerLag>,
}

impl Peers {
    pub(super) fn of(api: &Api) -> Self {
        Self::new(api.replica.lags())
    }

    pub(super) fn new(lags: Vec<PeerLag>) -> Self {
        let total = lags.len();
        let near = lags.into_iter();
        let near = near.filter(|lag| lag.status.as_ref().is_none_or(|known| known.near));
        Self {
            total,
            near: near.take(PEERS_MAX).collect(),
        }
    }

    /// A number of each peer of which it is known.
    fn each<V>(
        &self,
        read: impl Fn(&PeerLag) -> Option<V>,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        let near = self.near.iter();
        near.filter_map(move |lag| Some(([("peer", lag.peer.as_str())], read(lag)?)))
    }

    /// The same of the replica's part.
    fn known<V>(
        &self,
        read: impl Fn(&PeerStatus) -> Option<V>,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        self.each(move |lag| read(lag.status.as_ref()?))
    }

    /// The same of the connection's.
    fn link<V>(
        &self,
        read: impl Fn(&LinkStatus) -> V,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        self.each(move |lag| lag.link.as_ref().map(&read))
    }

    fn lags(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.gauges(
            "peer_behind_writes",
            "Writes that a peer has and this node lacks; left out before the peer has told what it has.",
            self.known(|known| known.heard.then_some(known.behind)),
        )?;
        sheet.gauges(
            "peer_behind_seconds",
            "For how long this node has known of the oldest of them; 0 where it lacks none.",
            self.each(|lag| {
                let known = lag.status.as_ref().filter(|known| known.heard)?;
                match known.behind {
                    0 => Some(0.0),
                    _ => Some(lag.behind_for?.as_secs_f64()),
                }
            }),
        )?;
        sheet.gauges(
            "peer_unacknowledged_writes",
            "Writes of this node that a peer has not acknowledged.",
            self.known(|known| Some(known.unacknowledged)),
        )?;
        sheet.gauges(
            "peer_unacknowledged_seconds",
            "Age of the oldest of them; 0 where there is none, left out where it is from an earlier life of this node.",
            self.each(|lag| match lag.status.as_ref()?.unacknowledged {
                0 => Some(0.0),
                _ => Some(lag.unacknowledged_for?.as_secs_f64()),
            }),
        )?;
        sheet.gauges(
            "peer_silent_seconds",
            "How long ago a peer last told what it has; one that is well does so every second.",
            self.each(|lag| Some(lag.silent_for?.as_secs_f64())),
        )?;
        sheet.gauges(
            "peer_caught_up",
            "Whether this node once had all that a peer had, since the two were linked.",
            self.known(|known| Some(u32::from(known.caught_up))),
        )
    }

    fn links(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.gauges(
            "peer_linked",
            "Whether a peer is connected to.",
            self.each(|lag| {
                let up = lag.link.as_ref().map(|link| link.up);
                let linked = up.or_else(|| Some(lag.status.as_ref()?.linked))?;
                Some(u32::from(linked))
            }),
        )?;
        sheet.gauges(
            "peer_queue_messages",
            "Messages that wait to be sent to a peer.",
            self.link(|link| link.queued.messages),
        )?;
        sheet.gauges(
            "peer_queue_bytes",
            "Bytes of writes that wait to be pushed to a peer.",
            self.link(|link| link.queued.ring_bytes),
        )?;
        sheet.counters(
            "peer_frames_lost",
            "Frames that a peer was too slow for; it pulled their contents.",
            self.link(|link| link.frames_lost),
        )?;
        sheet.gauges(
            "peer_error",
            "Whether the last attempt to connect to a peer failed; sync status tells why.",
            self.link(|link| u32::from(link.last_error.is_some())),
        )
    }
}

impl Collector for Peers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        sheet.gauge("peers", "Peers that there are.", self.total)?;
        sheet.gauge(
            "peers_listed",
            "Those of them with series of their own: the ones that this node links to, at most 1024.",
            self.near.len(),
        )?;
        self.lags(&mut sheet)?;
        self.links(&mut sheet)?;
        let trusts = self.near.iter().flat_map(|lag| {
            let present = lag
                .status
                .as_ref()
                .map_or(Trust::Unknown, |known| known.trust);
            let series = move |trust| {
                let labels = [("peer", lag.peer.as_str()), ("trust", trust_name(trust))];
                (labels, u32::from(trust == present))
            };
            TRUSTS.map(series)
        });
        sheet.gauges(
            "peer_trust",
            "Whether anything is taken from a peer: 1 at how it stands.",
            trusts,
        )
    }
}
