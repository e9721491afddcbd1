//! The command line: what is asked of the agent, and what is answered.
//!
//! Owns the commands, their flags, the exit codes and everything that is printed. `run` reads the configuration and
//! hands it to the agent; `init`, `join`, `token`, `config …` and `completions` need no agent; all others are clients
//! of an agent's HTTP API. Data goes to standard output, everything about it to standard error. Exit codes: 0 done, 1
//! failed, 2 usage (also a configuration or a document that is wrong), 3 not reachable. A reader that closes the pipe
//! ends a command quietly.

mod audit;
mod backup;
mod batch;
mod completions;
mod config;
mod data;
mod doctor;
mod error;
mod events;
mod exported;
mod flags;
mod follow;
mod history;
mod init;
mod join;
mod keys;
mod leave;
mod members;
mod operate;
mod output;
mod register;
mod run;
mod settings;
mod setup;
mod status;
mod sync;
mod sync_task;
mod table;
mod token;
mod verify;
mod watch;

mod client;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::future::Future;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Loaded, PeerSecret};

pub use backup::ArchiveError;
pub use client::{ClientError, EventError, Refusal};
pub use data::DocumentError;
pub use error::CliError;
pub use setup::SetupError;

use client::Client;
use operate::Verb;
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
    /// Set up the first node of a cluster: configuration, identity, secret; prints the token by which others join.
    Init(init::Init),
    /// Set up a further node of a cluster by a token, or let one that was removed come back.
    Join(join::Join),
    /// Print the token by which further nodes join this node's cluster.
    Token(token::Token),
    /// List, rotate and retire the keys of the cluster.
    Keys(keys::Keys),
    /// Say whether all is well, and if not, what is wrong and what to do.
    ///
    /// Exit code 0: nothing is broken, though there may be warnings; 1: something does not work.
    Status(status::Status),
    /// Look for what keeps an agent from running well here, whether it runs or not. Changes nothing.
    ///
    /// Exit code 0: no check failed (warnings are no failure); 1: one did.
    Doctor(doctor::Doctor),
    /// List the members of the cluster.
    Members(members::Members),
    /// Read, write and watch the documents that are replicated to every node.
    Data(data::Data),
    /// Show how far the copies of the data are apart, compare them, and mend what differs.
    Sync(sync::Sync),
    /// Copy all documents into a file, as they are at one moment, while everything runs.
    Backup(backup::Backup),
    /// Bring back what a backup holds, into a cluster that runs or into a new one.
    ///
    /// Exit code 1 also where the backup is damaged; it is read to its end before anything is changed.
    Restore(backup::Restore),
    /// Say what happened to the nodes, why, and how that is known; with --follow as it happens.
    Events(events::Events),
    /// Take the node out of the cluster in an orderly way and stop its agent.
    Leave(leave::Leave),
    /// Give a node no new requests; it finishes those it has.
    Drain(operate::Decide),
    /// Give a drained node requests again.
    Undrain(operate::Decide),
    /// Treat a node as failed, whatever its heartbeats say.
    Fail(operate::Decide),
    /// Take back that a node counts as failed; of two nodes with one id, let this agent's go on.
    Revive(operate::Decide),
    /// Change a node's share of the load.
    Weight(operate::Weight),
    /// Remove a node from the cluster until it joins again.
    Remove(operate::Remove),
    /// Add a server that has no agent beside it.
    Register(register::Register),
    /// Show who decided what about which node, and why.
    Audit(audit::Audit),
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
            Command::Init(init) => init.execute(output),
            Command::Join(join) => join.execute(&environment, output),
            Command::Token(token) => token.execute(environment, output),
            Command::Keys(keys) => {
                let client = Client::new(keys.client().api(&environment)?);
                block_on(keys.execute(&client, output))
            }
            Command::Config(command) => command.execute(environment, output),
            Command::Doctor(doctor) => doctor.execute(environment, output),
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
            Command::Sync(sync) => {
                let client = Client::new(sync.client().api(&environment)?);
                block_on(sync.execute(&client, output))
            }
            Command::Backup(backup) => backup.execute(&environment, output),
            Command::Restore(restore) => {
                let client = Client::new(restore.client.api(&environment)?);
                block_on(restore.execute(&client, output))
            }
            Command::Drain(decide) => decide_by(decide, Verb::Drain, &environment, output),
            Command::Undrain(decide) => decide_by(decide, Verb::Undrain, &environment, output),
            Command::Fail(decide) => decide_by(decide, Verb::Fail, &environment, output),
            Command::Revive(decide) => decide_by(decide, Verb::Revive, &environment, output),
            Command::Weight(weight) => {
                let client = Client::new(weight.decide.client.api(&environment)?);
                block_on(weight.execute(&client, output))
            }
            Command::Remove(remove) => {
                let client = Client::new(remove.decide.client.api(&environment)?);
                block_on(remove.execute(&client, output))
            }
            Command::Register(register) => {
                let client = Client::new(register.client.api(&environment)?);
                block_on(register.execute(&client, output))
            }
            Command::Audit(audit) => {
                let client = Client::new(audit.client.api(&environment)?);
                block_on(audit.execute(&client, output))
            }
            Command::Events(events) => {
                let client = Client::new(events.client.api(&environment)?);
                block_on(events.execute(&client, output))
            }
            Command::Leave(leave) => {
                let client = Client::new(leave.client.api(&environment)?);
                block_on(leave.execute(&client, output))
            }
        }
    }
}

fn decide_by(
    decide: operate::Decide,
    verb: Verb,
    environment: &Environment,
    output: &mut Output,
) -> Result<(), CliError> {
    let client = Client::new(decide.client.api(environment)?);
    block_on(decide.execute(verb, &client, output))
}

/// Runs a client's command; one thread is enough for one request at a time.
fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(CliError::Runtime)?.block_on(command)
}
