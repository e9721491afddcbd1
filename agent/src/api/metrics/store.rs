//! The store and its disk.

use std::fmt;

use basic_sync::net::DiskStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::host::DiskSpace;

#[derive(Debug)]
pub(super) struct Store {
    pub(super) disk: DiskStatus,
    /// `None` where the system does not tell.
    pub(super) space: Option<DiskSpace>,
    /// Writes that were kept aside and wait for a decision; `None` where they cannot be read.
    pub(super) exported: Option<u64>,
}

impl Store {
    pub(super) fn of(api: &Api) -> Self {
        let disk = api.replica.disk();
        // A disk that does not answer writes may not answer questions, and a scrape must not wait for it.
        let answers = disk.stuck.is_none();
        Self {
            space: answers
                .then(|| DiskSpace::at(&api.config.node.data_dir).ok())
                .flatten(),
            exported: answers.then(|| api.replica.exported_count().ok()).flatten(),
            disk,
        }
    }
}

impl Collector for Store {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let DiskStatus { stuck, failure } = &self.disk;
        sheet.flag(
            "store_stuck",
            "Whether the disk of the store has not answered for too long.",
            stuck.is_some(),
        )?;
        sheet.gauge_if_known(
            "store_stuck_seconds",
            "For how long it has not; left out while it does.",
            stuck.map(|stuck| stuck.as_secs_f64()),
        )?;
        sheet.flag(
            "store_failing",
            "Whether nothing could be written the last time that there was something to write.",
            failure.is_some(),
        )?;
        sheet.flag(
            "store_full",
            "Whether that was for lack of room.",
            failure.as_ref().is_some_and(|failure| failure.full),
        )?;
        sheet.gauge_if_known(
            "disk_free_bytes",
            "Room on the file system of the data directory.",
            self.space.map(|space| space.free),
        )?;
        sheet.gauge_if_known(
            "disk_size_bytes",
            "Size of the file system of the data directory.",
            self.space.map(|space| space.total),
        )?;
        sheet.gauge_if_known(
            "exported_writes",
            "Writes that were kept aside, and wait for a decision.",
            self.exported,
        )
    }
}
