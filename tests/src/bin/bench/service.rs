//! A program that is being measured: a child that ends in good order.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use basic_tests::harness::node::Service;
use basic_tests::harness::process::{ProcessId, Signal};

/// How long a child may take to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A child process. Dropping it ends it by SIGTERM, so that it ends its own
/// children too (nginx has some), and by SIGKILL if it does not.
pub(crate) struct Contestant {
    service: Service,
}

impl Contestant {
    /// Starts it; its output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Contestant> {
        let service = Service::start(command, log.to_owned())
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Contestant { service })
    }

    /// Kills it at once. Returns the moment before.
    pub(crate) fn kill(&self) -> anyhow::Result<Instant> {
        self.signal(Signal::KILL)
    }

    /// What it has said so far.
    pub(crate) fn output(&self) -> String {
        self.service.output()
    }

    /// What it has said after the first `offset` bytes.
    pub(crate) fn output_from(&self, offset: u64) -> String {
        self.service.output_from(offset)
    }

    /// How many bytes it has said so far.
    pub(crate) fn output_length(&self) -> u64 {
        self.service.output_length()
    }

    /// Asks it by a signal to end in order. Returns the moment before.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<Instant> {
        let moment = Instant::now();
        self.service.signal(signal)?;
        Ok(moment)
    }

    /// Bytes of its memory that are resident; fails if it has ended.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let usage = self.service.id().usage();
        Ok(usage
            .context("a process that is measured has ended")?
            .resident)
    }

    /// Fails with its last lines if it has ended.
    pub(crate) fn check_alive(&self, name: &str) -> anyhow::Result<()> {
        if self.service.id().is_alive() {
            return Ok(());
        }
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(10)).copied();
        anyhow::bail!("{name} has ended:\n{}", last.collect::<Vec<_>>().join("\n"))
    }

    /// Processor time of it and its children since their start; fails if it
    /// has ended.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let own = self.service.id();
        let usage = own
            .usage()
            .context("a process that is measured has ended")?;
        let children = children(own.pid).filter_map(ProcessId::usage);
        Ok(usage.processor + children.map(|usage| usage.processor).sum::<Duration>())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let family: Vec<_> = children(self.service.id().pid).collect();
        // An error means that it has ended already.
        let _ = self.service.signal(Signal::TERM);
        let start = Instant::now();
        while self.service.id().is_alive() && start.elapsed() < END_MAX {
            std::thread::sleep(POLL_INTERVAL);
        }
        // Whoever outlives the parent; `Service` itself kills the parent.
        for child in family {
            let _ = child.signal(Signal::KILL);
        }
    }
}

/// The children of a process, of all its threads.
fn children(pid: u32) -> impl Iterator<Item = ProcessId> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        list.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect::<Vec<u32>>()
    });
    pids.filter_map(ProcessId::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_a_contestant_ends_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo started; wait"]);
        let contestant = Contestant::start(&mut command, &log).unwrap();
        let start = Instant::now();
        while !contestant.output().contains("started") {
            assert!(start.elapsed() < END_MAX, "it does not start");
            std::thread::sleep(POLL_INTERVAL);
        }
        let family: Vec<_> = children(contestant.service.id().pid).collect();
        assert_eq!(family.len(), 1);
        drop(contestant);
        while family[0].is_alive() {
            assert!(start.elapsed() < 2 * END_MAX, "the child goes on");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    #[test]
    fn one_that_has_ended_is_reported_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such port; exit 1"]);
        let contestant = Contestant::start(&mut command, &directory.path().join("log")).unwrap();
        let start = Instant::now();
        let error = loop {
            assert!(start.elapsed() < END_MAX, "it does not end");
            if let Err(error) = contestant.check_alive("sh") {
                break error;
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        assert_eq!(error.to_string(), "sh has ended:\nno such port");
    }
}
