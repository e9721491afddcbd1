//! The journal of events, and the hooks that are told of them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::events::{HookStatus, JournalStatus};

#[derive(Debug)]
pub(super) struct Events {
    journal: JournalStatus,
    /// As many as are configured: a command and a webhook at most.
    hooks: Vec<HookStatus>,
}

impl Events {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            journal: api.events.journal().status(),
            hooks: api.events.hooks().status(),
        }
    }

    fn each<V>(
        &self,
        read: impl Fn(&HookStatus) -> V,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        let hooks = self.hooks.iter();
        hooks.map(move |status| ([("hook", status.hook)], read(status)))
    }
}

impl Collector for Events {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        sheet.flag(
            "journal_failing",
            "Whether events are kept in memory only, because the disk does not take them.",
            self.journal.failure.is_some(),
        )?;
        sheet.counter(
            "events_unwritten",
            "Events that never reached the disk.",
            self.journal.unwritten,
        )?;
        sheet.counters(
            "hook_delivered",
            "Events that a hook was told of.",
            self.each(|status| status.delivered),
        )?;
        sheet.counters(
            "hook_failed",
            "Events that a hook could not be told of.",
            self.each(|status| status.failed),
        )?;
        sheet.counters(
            "hook_retries",
            "Tries beyond the first of an event.",
            self.each(|status| status.retried),
        )?;
        sheet.counters(
            "hook_dropped",
            "Events dropped because too many were waiting.",
            self.each(|status| status.dropped),
        )?;
        sheet.gauges(
            "hook_waiting",
            "Events that wait for a hook now.",
            self.each(|status| status.waiting),
        )
    }
}
