//! The program `basic-agent`: reads the command line, does what it says, and ends with an exit code that tells how
//! it went. 0 done, 1 failed, 2 usage or configuration, 3 no agent reached.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use basic_agent::agent;
use basic_agent::cli::Cli;
use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// A write is made of some dozens of short-lived pieces of memory, most of them freed by another thread than took them;
/// jemalloc is cheaper than glibc's allocator for that, and takes hardly more memory.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Ends here with 2 and a hint if the command line makes no sense, and with 0 if only help was asked for.
    let cli = Cli::parse();
    match cli.execute(agent::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(report) = error.report() {
                // Where standard error is gone too, the exit code has to do.
                let _ = writeln!(io::stderr(), "{report}");
            }
            error.exit_code()
        }
    }
}
