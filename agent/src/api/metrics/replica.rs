//! The replica: what it has done, and what it knows to be settled.

use std::fmt;
use std::sync::Arc;

use basic_sync::protocol::Status;
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
        for (name, help, value) in status.counters.list() {
            sheet.counter(&format!("replica_{name}"), help, value)?;
        }
        Ok(())
    }
}
