//! The programs that ours is measured beside.
//!
//! Each runs with its own defaults, except for what the work itself demands;
//! the file of each says what was set and why.

pub(crate) mod etcd;
pub(crate) mod haproxy;
pub(crate) mod nginx;
pub(crate) mod serf;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// Where a program may be, beyond the PATH of one who is not root.
const SYSTEM_DIRECTORIES: &str = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin";

/// A peer's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Replicated key-value store.
    Etcd,
    /// Gossip and failure detection.
    Serf,
    /// Web server, here as a reverse proxy.
    Nginx,
    /// Reverse proxy.
    Haproxy,
}

impl Program {
    /// Its name, which is that of its executable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::Serf => "serf",
            Program::Nginx => "nginx",
            Program::Haproxy => "haproxy",
        }
    }

    /// How to get it.
    pub(crate) fn advice(self) -> String {
        let package = match self {
            Program::Etcd => "etcd-server",
            Program::Serf | Program::Nginx | Program::Haproxy => self.name(),
        };
        format!("scripts/bench --install-peers (Debian package {package})")
    }

    /// The executable, if it is installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = OsStr::new(SYSTEM_DIRECTORIES);
        let directories = std::env::split_paths(&path).chain(std::env::split_paths(system));
        let candidates = directories.map(|directory| directory.join(self.name()));
        candidates.into_iter().find(|candidate| candidate.is_file())
    }

    /// What it says of its version: the first word with a digit and a dot in it.
    pub(crate) fn version(self) -> String {
        let argument = match self {
            Program::Etcd | Program::Serf => "version",
            Program::Nginx | Program::Haproxy => "-v",
        };
        let argument = if self == Program::Etcd {
            "--version"
        } else {
            argument
        };
        let Some(program) = self.find() else {
            return String::new();
        };
        let Ok(output) = Command::new(program).arg(argument).output() else {
            return String::new();
        };
        // nginx says it on the error output.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        version_in(&text).unwrap_or_default().to_owned()
    }
}

fn version_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || c == '/');
    words.into_iter().find(|word| {
        word.contains('.')
            && word
                .trim_start_matches('v')
                .starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_print() {
        for (text, version) in [
            ("etcd Version: 3.4.23\nGit SHA: x\n", "3.4.23"),
            (
                "Serf v0.9.4\nAgent Protocol: 5 (Understands back to: 2)\n",
                "v0.9.4",
            ),
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n",
                "2.6.12-1+deb12u4",
            ),
        ] {
            assert_eq!(version_in(text), Some(version), "{text}");
        }
        assert_eq!(version_in("no number here."), None);
    }
}
