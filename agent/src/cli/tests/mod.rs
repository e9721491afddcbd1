//! The commands as a person uses them, against an agent that is played by a few lines of a test.

mod backup;
mod batch;
mod client;
mod commands;
mod data;
mod events;
mod exported;
mod keys;
mod operate;
mod parsing;
mod register;
mod server;
mod sync;
mod sync_task;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::Parser as _;

use crate::config::{Environment, Loaded, PeerSecret};

use super::Cli;
use super::output::Output;

/// What a command left behind.
#[derive(Debug)]
struct Outcome {
    code: u8,
    stdout: String,
    /// The remarks, and the error as the program would report it.
    stderr: String,
}

/// A stream that can be read afterwards.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

/// Runs a command line without the program's name, in an empty environment.
fn run(args: &[&str]) -> Outcome {
    run_in(&[], args)
}

/// Runs a command line with the given variables.
fn run_in(variables: &[(&str, &str)], args: &[&str]) -> Outcome {
    let variables = variables
        .iter()
        .map(|(n, v)| (OsString::from(n), OsString::from(v)));
    let environment: Environment = variables.collect();
    let args = ["basic-agent"].iter().chain(args);
    let cli = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"));
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let mut output = Output::to(stdout.clone(), stderr.clone(), false);
    let (code, report) = match cli.execute_in(environment, &mut output, agent) {
        Ok(()) => (0, String::new()),
        Err(error) => (error.code(), error.report().unwrap_or_default()),
    };
    Outcome {
        code,
        stdout: stdout.text(),
        stderr: stderr.text() + &report,
    }
}

/// An agent that stops at once, and says so as an error.
async fn agent(loaded: Loaded, _secret: PeerSecret) -> Result<(), io::Error> {
    Err(io::Error::other(format!(
        "{} was started",
        loaded.config.node.cluster
    )))
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
