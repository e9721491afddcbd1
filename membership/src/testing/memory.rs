//! What this process takes of the machine's memory, as Linux counts it.
//!
//! A test that asserts on it must have the process to itself, which is how
//! `cargo nextest` runs each test.

use std::fs;

/// Watches the peak of resident memory from one moment on.
pub(crate) struct PeakMemory {
    resident_before: u64,
}

impl PeakMemory {
    /// Forgets the peak so far.
    pub(crate) fn watch() -> PeakMemory {
        // See proc_pid_clear_refs(5): 5 resets the peak to what is resident now.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        PeakMemory {
            resident_before: status("VmRSS:"),
        }
    }

    /// Prints how far above the start resident memory has been since, and asserts
    /// that it was not further than by so many bytes.
    #[track_caller]
    pub(crate) fn assert_growth_below(&self, bytes: u64) {
        let growth = status("VmHWM:").saturating_sub(self.resident_before);
        eprintln!("resident memory grew by {} KiB at its peak", growth / 1024);
        assert!(growth <= bytes, "{growth} bytes");
    }
}

/// A value of /proc/self/status, which is told in KiB, in bytes.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.unwrap().split_whitespace().next().unwrap();
    value.parse::<u64>().unwrap() * 1024
}
