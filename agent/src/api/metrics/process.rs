//! The process, under the names that every process has: `process_…`.

use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::host::{OpenFiles, Usage};

#[derive(Debug)]
pub(super) struct Process {
    /// `None` where the system does not tell.
    usage: Option<Usage>,
    files: OpenFiles,
}

impl Process {
    /// This one.
    pub(super) fn now() -> Self {
        Self {
            usage: Usage::of_this_process().ok(),
            files: OpenFiles::of_this_process(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let Self { usage, files } = self;
        if let Some(usage) = usage {
            sheet.counter(
                "process_cpu_seconds",
                "Processor time that the process has taken, in user and in kernel mode.",
                usage.processor.as_secs_f64(),
            )?;
            sheet.gauge(
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                usage.resident,
            )?;
            sheet.gauge(
                "process_virtual_memory_bytes",
                "Address space of the process.",
                usage.address_space,
            )?;
        }
        let began = usage.as_ref().and_then(|usage| usage.began);
        let began = began.and_then(|began| began.duration_since(UNIX_EPOCH).ok());
        sheet.gauge_if_known(
            "process_start_time_seconds",
            "When the process started, since 1970; what is counted is counted since then.",
            began.map(|began| began.as_secs_f64()),
        )?;
        sheet.gauge_if_known(
            "process_open_fds",
            "Files and connections that the process has open.",
            files.open,
        )?;
        sheet.gauge_if_known(
            "process_max_fds",
            "How many it may have open; left out where there is no limit.",
            files.soft,
        )
    }
}
