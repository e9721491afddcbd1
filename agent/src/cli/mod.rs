//! The command line: what is asked of the agent, and what is answered.
//!
//! Owns the commands, their flags, the exit codes and everything that is printed. `run` reads the configuration and
//! hands it to the agent; `config …` and `completions` need no agent; all others are clients of an agent's HTTP API.
//! Data goes to standard output, everything about it to standard error. Exit codes: 0 done, 1 failed, 2 usage (also
//! a configuration or a document that is wrong), 3 not reachable. A reader that closes the pipe ends a command
//! quietly.

mod completions;
mod config;
mod data;
mod error;
mod flags;
mod leave;
mod members;
mod output;
mod run;
mod settings;
mod status;
mod table;
mod watch;

mod client;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::future::Future;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Loaded, PeerSecret};

pub use client::{ClientError, EventError, Refusal};
pub use data::DocumentError;
pub use error::CliError;

use client::Client;
use output::Output;

/// Turns an ordinary one-node HTTP server into a cluster: one agent beside each server.
#[derive(Debug, Parser)]
#[command(name = "basic-agent", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is told to stop.
    Run(run::Run),
    /// Say whether all is well, and if not, what is wrong and what to do.
    Status(status::Status),
    /// List the members of the cluster.
    Members(members::Members),
    /// Read, write and watch the documents that are replicated to every node.
    Data(data::Data),
    /// Take the node out of the cluster in an orderly way and stop its agent.
    Leave(leave::Leave),
    /// Check, show or print the agent's own configuration.
    Config(config::ConfigCommand),
    /// Print the completions for a shell.
    Completions(completions::Completions),
}

impl Cli {
    /// Does what was asked. `agent` is what `run` starts.
    ///
    /// # Errors
    /// Whatever kept the command from being done; it says with which exit code the process should end.
    pub fn execute<A, F, E>(self, agent: A) -> Result<(), CliError>
    where
        A: FnOnce(Loaded, PeerSecret) -> F,
        F: Future<Output = Result<(), E>>,
        E: Error + Send + Sync + 'static,
    {
        self.execute_in(Environment::of_process(), &mut Output::stdio(), agent)
    }

    fn execute_in<A, F, E>(
        self,
        environment: Environment,
        output: &mut Output,
        agent: A,
    ) -> Result<(), CliError>
    where
        A: FnOnce(Loaded, PeerSecret) -> F,
        F: Future<Output = Result<(), E>>,
        E: Error + Send + Sync + 'static,
    {
        match self.command {
            Command::Run(run) => run.execute(environment, agent),
            Command::Config(command) => command.execute(environment, output),
            Command::Completions(completions) => completions.execute(output),
            Command::Status(status) => {
                let client = Client::new(status.client.api(&environment)?);
                block_on(status.execute(&client, output))
            }
            Command::Members(members) => {
                let client = Client::new(members.client.api(&environment)?);
                block_on(members.execute(&client, output))
            }
            Command::Data(data) => {
                let client = Client::new(data.client().api(&environment)?);
                block_on(data.execute(&client, output))
            }
            Command::Leave(leave) => {
                let client = Client::new(leave.client.api(&environment)?);
                block_on(leave.execute(&client, output))
            }
        }
    }
}

/// Runs a client's command; one thread is enough for one request at a time.
fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(CliError::Runtime)?.block_on(command)
}
