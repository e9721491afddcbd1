//! The disk under the data directory: room, and how long it takes to make a write durable.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::data_dir::existing;
use super::report::Check;
use super::{Subject, blocking};
use crate::host::{DiskSpace, bytes};

const SPACE: &str = "disk space";
const LATENCY: &str = "disk latency";
/// Writes that are measured.
const WRITES: usize = 20;
/// Bytes of each.
const WRITE_BYTES: usize = 4096;
/// When measuring ends early: the disk is slow then, however many writes are still to come.
const MEASURE_MAX: Duration = Duration::from_secs(3);
/// Every write of a client waits at least this long; above it people notice.
const LATENCY_MAX: Duration = Duration::from_millis(30);

/// Room and latency.
pub(super) async fn examine(subject: &Subject) -> Vec<Check> {
    let directory = existing(&subject.config.node.data_dir);
    let (space, latency) = blocking(move || {
        let space = DiskSpace::at(&directory).map_err(|error| error.to_string());
        (space, measure(&directory))
    })
    .await;
    vec![judge_space(space), judge_latency(latency)]
}

fn judge_space(space: Result<DiskSpace, String>) -> Check {
    let space = match space {
        Ok(space) => space,
        Err(error) => return Check::unknown(SPACE, format!("it cannot be told: {error}")),
    };
    let fact = format!("{} of {} are free", bytes(space.free), bytes(space.total));
    let next = "make room, or move the data directory to a larger disk";
    if space.is_critical() {
        Check::failure(
            SPACE,
            format!("{fact}: writes may be refused at any moment"),
            next,
        )
    } else if space.is_nearly_full() {
        Check::warning(SPACE, format!("{fact}: it is nearly full"), next)
    } else {
        Check::ok(SPACE, fact)
    }
}

/// Writes and syncs a file that has no name (open(2), `O_TMPFILE`), so that nothing is left and nobody sees it.
fn measure(directory: &Path) -> io::Result<Vec<Duration>> {
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let mut file = OpenOptions::new()
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(directory)?;
    let block = [0x5a; WRITE_BYTES];
    let began = Instant::now();
    let mut took = Vec::with_capacity(WRITES);
    while took.len() < WRITES && began.elapsed() < MEASURE_MAX {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    Ok(took)
}

fn judge_latency(measured: io::Result<Vec<Duration>>) -> Check {
    let mut took = match measured {
        Ok(took) => took,
        Err(error) => {
            return Check::unknown(
                LATENCY,
                format!("not measured: the file system has no files without a name ({error})"),
            );
        }
    };
    took.sort_unstable();
    let (Some(median), Some(worst)) = (took.get(took.len() / 2), took.last()) else {
        return Check::unknown(LATENCY, "not measured: no write ended in time");
    };
    let fact = format!(
        "a durable write takes {median:.1?} (median of {})",
        took.len()
    );
    let check = if *median > LATENCY_MAX {
        Check::warning(
            LATENCY,
            format!("{fact}, and every write of a client waits for one"),
            "put the data directory on a local SSD, or find out what else uses the disk (`iostat -x 1`)",
        )
    } else {
        Check::ok(LATENCY, fact)
    };
    check.seen(format!("worst {worst:.1?}, {WRITE_BYTES} bytes each"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn measuring_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let before = directory.path().metadata().unwrap().modified().unwrap();
        // A file system without unnamed files is no failure: nothing is measured then.
        if let Ok(took) = measure(directory.path()) {
            assert_eq!(took.len(), WRITES);
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        let after = directory.path().metadata().unwrap().modified().unwrap();
        assert_eq!(before, after, "not even for a moment");
    }

    #[test]
    fn a_slow_disk_is_a_warning_with_the_median() {
        let ms = |ms| Duration::from_millis(ms);
        let slow = judge_latency(Ok(vec![ms(50), ms(1), ms(60)]));
        assert_eq!(slow.verdict, Verdict::Warning);
        assert!(slow.fact.contains("50.0ms"), "{slow:?}");
        let fast = judge_latency(Ok(vec![ms(1), ms(500), ms(1)]));
        assert_eq!(fast.verdict, Verdict::Ok);
        assert_eq!(judge_latency(Ok(Vec::new())).verdict, Verdict::Unknown);
        let refused = judge_latency(Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(refused.verdict, Verdict::Unknown);
    }

    #[test]
    fn space_is_judged_by_what_is_left() {
        let space = |free, total| judge_space(Ok(DiskSpace { free, total })).verdict;
        assert_eq!(space(50 << 30, 100 << 30), Verdict::Ok);
        assert_eq!(space(1 << 30, 100 << 30), Verdict::Warning);
        assert_eq!(space(1 << 20, 100 << 30), Verdict::Failure);
        assert_eq!(judge_space(Err(String::new())).verdict, Verdict::Unknown);
    }
}
