//! Gossip and the peer port: what came, what went, what was refused.

use std::fmt;

use basic_membership::Diagnostics;
use basic_membership::diagnostics::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::peer_port::StatisticsSnapshot;

#[derive(Debug)]
pub(super) struct Gossip {
    gossip: Diagnostics,
    peer_port: StatisticsSnapshot,
}

impl Gossip {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            gossip: api.cluster.diagnostics(),
            peer_port: api.peer_port.snapshot(),
        }
    }
}

impl Collector for Gossip {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        standing(&mut sheet, &self.gossip)?;
        counters(&mut sheet, &self.gossip.counters)?;
        peer_port(&mut sheet, self.peer_port)
    }
}

fn standing(sheet: &mut Sheet<'_>, gossip: &Diagnostics) -> fmt::Result {
    sheet.gauge(
        "gossip_tick_delay_seconds",
        "How late the last tick of gossip came on this node; late ones are this process's own stalls.",
        gossip.tick_delay.as_secs_f64(),
    )?;
    sheet.gauge(
        "gossip_tick_delay_max_seconds",
        "How late the latest of its ticks came since the start.",
        gossip.tick_delay_max.as_secs_f64(),
    )?;
    sheet.flag(
        "gossip_removals_held",
        "Whether this node calls nobody failed because it stalled itself.",
        gossip.removals_held,
    )?;
    sheet.gauge_if_known(
        "gossip_last_inbound_age_seconds",
        "How long ago another node last began an exchange with this one; left out before the first.",
        gossip.last_inbound.map(|age| age.as_secs_f64()),
    )?;
    sheet.gauge(
        "gossip_silent_seeds",
        "Seeds given by address that have never answered.",
        gossip.silent_seeds.len(),
    )?;
    sheet.gauge(
        "gossip_unresolved_seeds",
        "Seeds given by a name that does not resolve now.",
        gossip.unresolved_seeds.len(),
    )
}

fn counters(sheet: &mut Sheet<'_>, counters: &Counters) -> fmt::Result {
    let Counters {
        datagrams_sent,
        datagrams_received,
        bytes_sent,
        bytes_received,
        large_frames_sent,
        large_frames_received,
        frames_dropped,
        exchanges_received,
        rejected,
        members_crowded_out,
        heartbeats_refused,
        metadata_refused,
        gossip_restarts,
    } = counters;
    for (name, help, value) in [
        ("gossip_datagrams_sent", "Datagrams sent.", datagrams_sent),
        (
            "gossip_datagrams_received",
            "Datagrams received, refused ones included.",
            datagrams_received,
        ),
        ("gossip_sent_bytes", "Bytes in datagrams sent.", bytes_sent),
        (
            "gossip_received_bytes",
            "Bytes in datagrams received.",
            bytes_received,
        ),
        (
            "gossip_large_frames_sent",
            "Frames too large for a datagram, sent by a connection.",
            large_frames_sent,
        ),
        (
            "gossip_large_frames_received",
            "Frames too large for a datagram, received by a connection.",
            large_frames_received,
        ),
        (
            "gossip_frames_dropped",
            "Frames that could be sent neither way.",
            frames_dropped,
        ),
        (
            "gossip_exchanges_received",
            "Exchanges that other nodes began with this one.",
            exchanges_received,
        ),
        (
            "gossip_members_crowded_out",
            "Members that peers named and that there was no room for.",
            members_crowded_out,
        ),
        (
            "gossip_heartbeats_refused",
            "Members that peers named with heartbeats that cannot be true.",
            heartbeats_refused,
        ),
        (
            "gossip_metadata_refused",
            "Values in the metadata of peers that were not understood.",
            metadata_refused,
        ),
        (
            "gossip_restarts",
            "Times that gossip failed and was started again.",
            gossip_restarts,
        ),
    ] {
        sheet.counter(name, help, *value)?;
    }
    let refused = rejected.iter();
    sheet.counters(
        "gossip_frames_refused",
        "Frames refused, by reason; left out are reasons that there was no cause for.",
        refused.map(|(reason, count)| ([("reason", reason.as_str())], *count)),
    )
}

fn peer_port(sheet: &mut Sheet<'_>, counts: StatisticsSnapshot) -> fmt::Result {
    let StatisticsSnapshot {
        accepted,
        admitted,
        other_secret,
        other_cluster,
        not_an_agent,
        no_common_protocol,
        timed_out,
        turned_away,
        broken,
    } = counts;
    sheet.counter(
        "peer_port_accepted",
        "Connections that the peer port has accepted.",
        accepted,
    )?;
    sheet.counter(
        "peer_port_admitted",
        "Those of them that were authenticated and handed to their protocol.",
        admitted,
    )?;
    let refused = [
        ("other-secret", other_secret),
        ("other-cluster", other_cluster),
        ("not-an-agent", not_an_agent),
        ("no-common-protocol", no_common_protocol),
        ("timed-out", timed_out),
        ("turned-away", turned_away),
        ("broken", broken),
    ];
    sheet.counters(
        "peer_port_refused",
        "Those of them that were not, by reason.",
        refused.map(|(reason, count)| ([("reason", reason)], count)),
    )
}
