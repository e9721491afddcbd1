//! The processors of this machine, dealt out to two sides as if each had a machine.
//!
//! Where two nodes share processors, each one's work comes out of what the other gets done,
//! and a measurement of one says as much about the other. Threads and children stay where
//! the thread that makes them is, so that it is enough to move those that are there.

use std::fs;

use anyhow::Context;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two halves of the processors that this process may use. What it has, and what it starts,
/// stays in the first one until this is dropped.
pub(crate) struct Halves {
    all: CpuSet,
    first: CpuSet,
    second: CpuSet,
}

impl Halves {
    /// Moves this process into the first half; `None` where there is but one processor.
    pub(crate) fn confine() -> anyhow::Result<Option<Self>> {
        let all = sched_getaffinity(None).context("cannot read which processors there are")?;
        let Some((first, second)) = halves(&all) else {
            return Ok(None);
        };
        let halves = Self { all, first, second };
        move_all_threads(&halves.first)?;
        Ok(Some(halves))
    }

    /// Starts something in the second half.
    pub(crate) fn in_second<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        move_thread(None, &self.second)?;
        let started = start();
        move_thread(None, &self.first)?;
        Ok(started)
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        // What is measured next would only be slower.
        let _ = move_all_threads(&self.all);
    }
}

fn halves(all: &CpuSet) -> Option<(CpuSet, CpuSet)> {
    let (mut first, mut second) = (CpuSet::new(), CpuSet::new());
    let processors = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor));
    let half = all.count() / 2;
    for (number, processor) in (0..).zip(processors) {
        match number < half {
            true => first.set(processor),
            false => second.set(processor),
        }
    }
    (half > 0).then_some((first, second))
}

fn move_all_threads(to: &CpuSet) -> anyhow::Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("cannot list this process's threads")?;
    for thread in threads {
        let name = thread?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        // One that has ended meanwhile needs no processor.
        if let Some(id) = id.and_then(Pid::from_raw)
            && let Err(error) = sched_setaffinity(Some(id), to)
            && error != rustix::io::Errno::SRCH
        {
            return Err(error).context("cannot choose processors");
        }
    }
    Ok(())
}

fn move_thread(thread: Option<Pid>, to: &CpuSet) -> anyhow::Result<()> {
    sched_setaffinity(thread, to).context("cannot choose processors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(processors: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        for processor in processors {
            set.set(*processor);
        }
        set
    }

    #[test]
    fn every_processor_is_in_one_half() {
        assert!(halves(&set(&[3])).is_none());
        let (first, second) = halves(&set(&[1, 4])).unwrap();
        assert!(first == set(&[1]) && second == set(&[4]));
        let (first, second) = halves(&set(&[0, 2, 3, 7, 9])).unwrap();
        assert!(first == set(&[0, 2]) && second == set(&[3, 7, 9]));
    }
}
