//! `doctor`: what keeps an agent from running well here, whether it runs or not.
//!
//! In goes what `run` would be given; out comes a [`Report`]: for each check a verdict, the
//! evidence and the next step. Looked at are the configuration and the secret, the ports and
//! who has them, the server beside the agent, the seeds and the advertised address over TLS,
//! the clocks of the peers, the disk and the limits of the process, the program that is told
//! of events, and whether anything of it belongs to another agent.
//!
//! Nothing that it does stays: ports are bound for a moment, the disk is measured with a
//! file that has no name, the store is locked shared and let go. An agent that starts in
//! that very moment could find a port taken; one that runs notices a few connections.
//! Each check has [`CHECK_MAX`]; those that do not need one another run side by side. No
//! check can fail otherwise than by its verdict, and none shows a secret.

mod advertised;
mod app;
mod clocks;
mod configuration;
mod data_dir;
mod disk;
mod fetch;
mod holder;
mod hooks;
mod limits;
mod ports;
mod report;
mod running;
mod seeds;
mod trust;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::timeout;

pub use report::{Check, Report, Verdict};

use crate::config::{Config, Sources};
use crate::peer_port::Connector;
use data_dir::Store;
use running::{AtApi, Running};

/// How long a check may take.
pub const CHECK_MAX: Duration = Duration::from_secs(5);
/// How long one connection to another agent may take, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What the checks have in common.
struct Subject {
    config: Config,
    /// The node's name: configured, or kept in the data directory.
    id: Option<String>,
    /// What has the store open.
    store: Store,
    /// What answers where the API should be.
    at_api: AtApi,
    /// How other agents are reached; `None` where there is no secret to do so.
    connector: Option<Connector>,
}

impl Subject {
    /// The agent of this configuration, if it runs and answers.
    fn own_agent(&self) -> Option<&Running> {
        match &self.at_api {
            AtApi::Agent(running) if running.is_of(&self.config, self.id.as_deref()) => {
                Some(running)
            }
            _ => None,
        }
    }

    /// Its process, by its own word or because it has the store open.
    fn own_pid(&self) -> Option<u32> {
        let told = self.own_agent().and_then(|running| running.process.pid);
        told.or_else(|| self.store.holder().map(|holder| holder.pid))
    }
}

/// Makes all checks. What cannot be looked at without a sound configuration is left out if there is none.
pub async fn examine(sources: &Sources) -> Report {
    let loaded = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => return Report::of(configuration::refused(&errors)),
    };
    let secret = loaded.peer_secret.read();
    let mut checks = vec![
        configuration::accepted(&loaded),
        configuration::secret(&loaded, &secret),
    ];
    let directory = loaded.config.node.data_dir.clone();
    let (identity, store) = blocking(move || {
        let identity = data_dir::identity(&directory);
        (identity, Store::look(&directory))
    })
    .await;
    let id = data_dir::id(&loaded.config, &identity);
    let known = secret.ok().flatten();
    let (connector, keys) = trust::examine(&loaded.config, known.as_ref(), id.as_deref());
    checks.extend(keys);
    let subject = Subject {
        at_api: running::ask(loaded.config.api.listen).await,
        config: loaded.config,
        id,
        store,
        connector,
    };
    checks.push(running::examine(
        &subject.at_api,
        &subject.config,
        subject.id.as_deref(),
    ));
    // First the ports alone: the check of the advertised address binds one of them again.
    let ports = limited("ports", ports::examine(&subject)).await;
    let (data, disk, app, seeds, advertised) = tokio::join!(
        limited("data directory", data_dir::examine(&subject, &identity)),
        limited("disk", disk::examine(&subject)),
        limited("app", app::examine(&subject)),
        limited("seeds", seeds::examine(&subject)),
        limited("advertised address", advertised::examine(&subject)),
    );
    let rest = [ports, data, disk, app, seeds, advertised];
    checks.extend(rest.into_iter().flatten());
    checks.push(clocks::examine(&subject));
    checks.push(limits::examine(&subject));
    checks.extend(hooks::examine(&subject));
    Report::of(checks)
}

/// What a check finds within its time.
async fn limited(name: &str, check: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    let found = timeout(CHECK_MAX, check).await;
    found.unwrap_or_else(|_| {
        let waited = humantime::format_duration(CHECK_MAX);
        vec![Check::unknown(
            name,
            format!("no result within {waited}; something that was asked does not answer"),
        )]
    })
}

/// Runs what waits for the operating system beside everything else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never cancelled, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
