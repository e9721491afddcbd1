//! `scripts/cluster`: agents beside sample servers, on this machine.
//!
//! Starts, stops and disturbs a local cluster, and remembers it in one
//! directory (`state`), so that each call is a process of its own and the
//! cluster outlives it. Ports and files are those of
//! [`basic_tests::harness::layout`]. A signal goes only to a process that this
//! command started, however often pids are used again meanwhile.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running.

#![forbid(unsafe_code)]

mod arguments;
mod disturb;
mod down;
mod failure;
mod output;
mod probe;
mod start;
mod state;
mod status;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Task};
use crate::failure::Failure;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure:#}", output::error("error"));
            failure.exit_code()
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let directory = arguments.directory()?;
    match arguments.task {
        Task::Up(options) => up::up(directory, &options).await,
        Task::Down => down::down(&directory).await,
        Task::Restart { node } => start::restart(&directory, node).await,
        Task::Status { json } => status::status(&directory, json).await,
        Task::Env => status::environment(&directory),
        Task::Logs { node, follow, app } => status::logs(&directory, node, follow, app),
        Task::Kill(target) => disturb::kill(&directory, &target).await,
        Task::Stop(target) => disturb::stop(&directory, &target).await,
        Task::Cont(target) => disturb::cont(&directory, &target).await,
        Task::Leave { node } => disturb::leave(&directory, node).await,
    }
}
