//! `completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::output::Output;
use super::{Cli, CliError};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, output: &mut Output) -> Result<(), CliError> {
        // Into memory first: the generator panics where writing fails, and a closed pipe is no reason to.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "basic-agent", &mut script);
        output.bytes(&script)
    }
}
