//! What this process uses of the machine.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Memory and processor time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in user and in kernel mode.
    pub processor: Duration,
    /// Memory that is in RAM, in bytes.
    pub resident: u64,
    /// Addresses that are taken, in bytes.
    pub address_space: u64,
    /// When it started, to a second or so; `None` where the system does not tell.
    pub began: Option<SystemTime>,
}

/// What a second and a page are to the kernel.
#[derive(Clone, Copy)]
struct Units {
    /// In a second.
    ticks: u64,
    /// Bytes of a page.
    page: u64,
    /// Seconds from 1970 to the start of the machine.
    boot: Option<u64>,
}

impl Usage {
    /// Of this process.
    ///
    /// # Errors
    /// What the operating system says, or that its answer is not understood.
    pub fn of_this_process() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime "));
        let units = Units {
            ticks: rustix::param::clock_ticks_per_second(),
            page: rustix::param::page_size() as u64,
            boot: boot.and_then(|seconds| seconds.trim().parse().ok()),
        };
        Self::read(&stat, units).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// From a line as in proc_pid_stat(5).
    fn read(stat: &str, units: Units) -> Option<Self> {
        // The name of the program is in brackets and may contain anything, brackets among it.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // There they are counted from 1; the first one after the name is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let time = |ticks: u64| {
            let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(units.ticks.max(1));
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        };
        let boot = units.boot.map(Duration::from_secs);
        let began = boot.and_then(|boot| boot.checked_add(time(field(22)?)?));
        Some(Self {
            processor: time(field(14)?.checked_add(field(15)?)?)?,
            address_space: field(23)?,
            resident: field(24)?.checked_mul(units.page)?,
            began: began.and_then(|began| UNIX_EPOCH.checked_add(began)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units {
        ticks: 100,
        page: 4096,
        boot: Some(1_000),
    };

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let line =
            "7 (a ) S 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 250 8192 3 184467";
        let usage = Usage::read(line, UNITS).unwrap();
        assert_eq!(usage.processor, Duration::from_secs(2));
        assert_eq!((usage.address_space, usage.resident), (8192, 3 * 4096));
        let began = UNIX_EPOCH + Duration::from_millis(1_002_500);
        assert_eq!(usage.began, Some(began));
        let unknown = Units {
            boot: None,
            ..UNITS
        };
        assert_eq!(Usage::read(line, unknown).unwrap().began, None);
    }

    #[test]
    fn a_line_that_is_cut_off_or_absurd_tells_nothing() {
        for line in [
            "",
            "7 (a",
            "7 (a) S 1 7",
            "7 (a) S 1 7 7 0 -1 0 1 0 0 0 x 1 0 0 20 0 9 0 1 1 1",
        ] {
            assert_eq!(Usage::read(line, UNITS), None, "{line}");
        }
        let most = u64::MAX;
        let line =
            format!("7 (a) S 1 7 7 0 -1 0 1 0 0 0 {most} {most} 0 0 20 0 9 0 {most} 1 {most}");
        assert_eq!(Usage::read(&line, UNITS), None);
    }

    #[test]
    fn this_process_started_a_while_ago_and_is_somewhere() {
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.resident > 0 && usage.address_space >= usage.resident);
        let age = SystemTime::now().duration_since(usage.began.unwrap());
        assert!(
            age.is_ok_and(|age| age < Duration::from_secs(24 * 3600)),
            "{usage:?}"
        );
    }
}
