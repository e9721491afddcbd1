//! `run`: reads the configuration and the secret, sets up logging, and runs the agent until it is told to stop.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use clap::Args;

use crate::config::{Config, Environment, Loaded, PeerSecret};
use crate::host::OpenFiles;
use crate::telemetry;

use super::CliError;
use super::settings::SettingsArgs;

/// How long threads that are blocked in the system may delay the end.
const RUNTIME_CLOSE_MAX: Duration = Duration::from_secs(1);

/// Flags of `run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Run {
    /// Everything that is wrong with the configuration is told before anything is opened, bound or written.
    pub(super) fn execute<A, F, E>(self, environment: Environment, agent: A) -> Result<(), CliError>
    where
        A: FnOnce(Loaded, PeerSecret) -> F,
        F: Future<Output = Result<(), E>>,
        E: Error + Send + Sync + 'static,
    {
        let loaded = Config::load(&self.settings.sources(environment))?;
        let secret = loaded.peer_secret.read_or_create()?;
        telemetry::init(&loaded.config.log)?;
        if let Some(file) = loaded.peer_secret.overridden() {
            let file = file.display();
            tracing::warn!(%file, "BASIC_AGENT_PEER_SECRET differs from the secret in the file and goes before it");
        }
        if let Err(error) = OpenFiles::raise() {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("basic-agent")
            .enable_all()
            .build()
            .map_err(CliError::Runtime)?;
        let outcome = runtime.block_on(agent(loaded, secret));
        // A name that is still being resolved must not delay the end.
        runtime.shutdown_timeout(RUNTIME_CLOSE_MAX);
        outcome.map_err(|error| CliError::Agent(Box::new(error)))
    }
}
