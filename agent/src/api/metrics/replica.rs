//! The replica: what it has done, and what it knows to be settled.

use std::fmt;
use std::sync::Arc;

use basic_sync::protocol::{Counters, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;

#[derive(Debug)]
pub(super) struct Replica {
    status: Arc<Status>,
    /// Watches that are open.
    watches: usize,
}

impl Replica {
    pub(super) fn of(api: &Api) -> Self {
        Self::new(api.replica.status().borrow().clone(), api.watches().count())
    }

    pub(super) fn new(status: Arc<Status>, watches: usize) -> Self {
        Self { status, watches }
    }
}

impl Collector for Replica {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let status = &self.status;
        sheet.flag(
            "filling",
            "Whether a snapshot is being taken over.",
            status.filling,
        )?;
        let fenced = |fenced| {
            let lines = status.roster.iter();
            lines.filter(|line| line.fenced == fenced).count()
        };
        sheet.gauges(
            "roster_replicas",
            "Replicas that this one knows of, by whether they were given up.",
            ["false", "true"].map(|word| ([("fenced", word)], fenced(word == "true"))),
        )?;
        let settled = Some(status.floor.millis()).filter(|millis| *millis > 0);
        #[allow(clippy::cast_precision_loss)] // 48 bits
        let settled = settled.map(|millis| millis as f64 / 1e3);
        sheet.gauge_if_known(
            "deletions_settled_timestamp_seconds",
            "Deletions dated up to here, since 1970, are let go of; left out before the first.",
            settled,
        )?;
        sheet.gauge(
            "watches",
            "Watches that are open, of documents and of events.",
            self.watches,
        )?;
        let feed = status.feed;
        sheet.gauge(
            "feed_head",
            "Position of the latest change in the feed of this node.",
            feed.head,
        )?;
        sheet.gauge(
            "feed_floor",
            "Position after which a watch can resume.",
            feed.floor,
        )?;
        sheet.gauge(
            "feed_past_bytes",
            "Bytes that the feed keeps of documents which were superseded since.",
            feed.past_bytes,
        )?;
        for (name, help, value) in counters(status.counters) {
            sheet.counter(&format!("replica_{name}"), help, value)?;
        }
        Ok(())
    }
}

/// All of them, each with its name in `/v1/sync/stats` and what it means.
pub(super) fn counters(counters: Counters) -> [(&'static str, &'static str, u64); 25] {
    let Counters {
        written,
        taken_in,
        superseded,
        repeated,
        pulls_begun,
        pulls_completed,
        pulls_abandoned,
        pulls_served,
        pulls_refused,
        dated_ahead,
        dates_come,
        expired,
        epochs_begun,
        snapshots_taken,
        snapshots_served,
        collected,
        buried,
        fencings,
        fenced,
        exported,
        untrusted,
        forwarded,
        pruned,
        grafted,
        roll_calls,
    } = counters;
    [
        ("written", "Operations written by clients.", written),
        ("taken_in", "Changes of others taken in.", taken_in),
        (
            "superseded",
            "Changes of others that a newer version had already superseded.",
            superseded,
        ),
        (
            "repeated",
            "Changes of others that had come before.",
            repeated,
        ),
        ("pulls_begun", "Pulls begun.", pulls_begun),
        (
            "pulls_completed",
            "Pulls brought to their end.",
            pulls_completed,
        ),
        ("pulls_abandoned", "Pulls given up.", pulls_abandoned),
        (
            "pulls_served",
            "Pulls of others served to their end.",
            pulls_served,
        ),
        (
            "pulls_refused",
            "Pulls of others turned away.",
            pulls_refused,
        ),
        (
            "dated_ahead",
            "Changes that came with dates far ahead of the clock of this node.",
            dated_ahead,
        ),
        (
            "dates_come",
            "Those of them whose dates have come.",
            dates_come,
        ),
        (
            "expired",
            "Documents of whose expiry watchers of this node were told.",
            expired,
        ),
        (
            "epochs_begun",
            "New epochs begun: one with the first write of each life.",
            epochs_begun,
        ),
        ("snapshots_taken", "Snapshots taken over.", snapshots_taken),
        (
            "snapshots_served",
            "Snapshots served to their end.",
            snapshots_served,
        ),
        (
            "collected",
            "Documents that let go of what only remembered a deletion.",
            collected,
        ),
        (
            "buried",
            "Expired documents that this node deleted for good.",
            buried,
        ),
        ("fencings", "Replicas that this one gave up.", fencings),
        (
            "fenced",
            "Times that this replica found itself given up, and went on as another.",
            fenced,
        ),
        (
            "exported",
            "Writes that were taken out and kept aside.",
            exported,
        ),
        (
            "untrusted",
            "Pushes and pulls not taken in because their sender is not trusted.",
            untrusted,
        ),
        (
            "forwarded",
            "Changes of others passed on, in clusters beyond a full mesh.",
            forwarded,
        ),
        (
            "pruned",
            "Links made lazy because pushes on them came later than by another.",
            pruned,
        ),
        (
            "grafted",
            "Links made eager because a write did not come, or another link went down.",
            grafted,
        ),
        (
            "roll_calls",
            "Questions who has writes beyond the neighbours.",
            roll_calls,
        ),
    ]
}
