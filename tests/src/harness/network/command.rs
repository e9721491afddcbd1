//! The commands `ip` and `nft`, told what to do by standard input.
//!
//! Both take a whole batch and stop at its first error; nft applies all of it or
//! nothing. What they say when they fail is in the error.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A command could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be run.
    #[error("cannot run {program} (on Debian: apt-get install {package})")]
    Run {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed: {said}")]
    Failed {
        /// Its name, with its arguments.
        program: String,
        /// What it said.
        said: String,
    },
    /// It said what is no JSON document.
    #[error("what {program} says is no JSON")]
    Answer {
        /// Its name, with its arguments.
        program: String,
        /// Where it ceases to be.
        #[source]
        source: serde_json::Error,
    },
}

/// `ip` with these arguments; returns what it prints.
pub(super) fn ip(arguments: &[&str]) -> Result<String, CommandError> {
    run("ip", "iproute2", arguments, "")
}

/// `ip` with these lines, in a namespace if one is named.
pub(super) fn ip_batch(namespace: Option<&str>, lines: &str) -> Result<(), CommandError> {
    let within = namespace.map(|name| ["-n", name]);
    let arguments: Vec<&str> = within
        .into_iter()
        .flatten()
        .chain(["-batch", "-"])
        .collect();
    run("ip", "iproute2", &arguments, lines).map(drop)
}

/// `nft` with this script.
pub(super) fn nft(script: &str) -> Result<(), CommandError> {
    run("nft", "nftables", &["-f", "-"], script).map(drop)
}

/// `nft -j` with these arguments; returns what it answers.
pub(super) fn nft_json(arguments: &[&str]) -> Result<Value, CommandError> {
    let arguments = [&["-j"], arguments].concat();
    let answer = run("nft", "nftables", &arguments, "")?;
    serde_json::from_str(&answer).map_err(|source| CommandError::Answer {
        program: described("nft", &arguments),
        source,
    })
}

fn run(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, CommandError> {
    let output = communicate(program, arguments, input).map_err(|source| CommandError::Run {
        program,
        package,
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CommandError::Failed {
        program: described(program, arguments),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn communicate(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It has ended without reading on; its status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    child.wait_with_output()
}

fn described(program: &str, arguments: &[&str]) -> String {
    format!("{program} {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_names_its_package_and_a_failed_one_says_why() {
        let missing = run("no-such-command", "some-package", &[], "").unwrap_err();
        assert!(missing.to_string().contains("apt-get install some-package"));
        let failed = run("ls", "coreutils", &["/no/such/file"], "").unwrap_err();
        assert!(failed.to_string().contains("/no/such/file"), "{failed}");
    }
}
