//! The tasks that the agent was given.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::sync_tasks::Statistics;
use crate::sync_tasks::board::Counts;

#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) counts: Counts,
    pub(super) statistics: Statistics,
}

impl Tasks {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            counts: api.sync_tasks.counts(),
            statistics: api.sync_tasks.statistics(),
        }
    }
}

impl Collector for Tasks {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let Counts {
            queued,
            running,
            retrying,
            refused,
        } = self.counts;
        let Statistics {
            total_sync_tasks,
            completed_sync_tasks,
            failed_sync_tasks,
            retry_sync_tasks,
            sync_targets,
        } = &self.statistics;
        let states = [
            ("queued", queued),
            ("running", running),
            ("retrying", retrying),
        ];
        sheet.gauges(
            "sync_tasks_pending",
            "Tasks that are not done, by state.",
            states.map(|(state, count)| ([("state", state)], count)),
        )?;
        for (name, help, value) in [
            (
                "sync_tasks",
                "Tasks accepted, or found at the start.",
                *total_sync_tasks,
            ),
            (
                "sync_tasks_completed",
                "Those that all targets have confirmed.",
                *completed_sync_tasks,
            ),
            (
                "sync_tasks_failed",
                "Those that have failed.",
                *failed_sync_tasks,
            ),
            (
                "sync_task_retries",
                "Attempts beyond the first of a task.",
                *retry_sync_tasks,
            ),
            (
                "sync_tasks_refused",
                "Tasks refused because the queue was full.",
                refused,
            ),
        ] {
            sheet.counter(name, help, value)?;
        }
        let targets = sync_targets.iter().flat_map(|(target, counts)| {
            let outcomes = [("success", counts.success), ("failed", counts.failed)];
            let target = target.as_str();
            outcomes.map(|(outcome, count)| ([("target", target), ("outcome", outcome)], count))
        });
        sheet.counters(
            "sync_target_tasks",
            "Tasks that a target has confirmed, and tasks that failed without its confirmation.",
            targets,
        )
    }
}
