//! A stand-in for Basic Server: one ordinary HTTP server with its own data.
//!
//! It answers the routes of Basic Server that matter to a cluster (health,
//! register, login, users, the author's cluster status), and a few more by
//! which a test sees what reached it: `/whoami`, `/echo`, `/count`. Faults are
//! asked for request by request, with headers (`switches`), or for the process
//! through `/control/health`. Data lives in memory and dies with the process.
//!
//! It knows nothing of agents: no line here replicates, gossips or balances,
//! which is what makes it a fair subject for the claim that a server need not
//! change to be clustered. It fails to start only if it cannot bind its port.

mod accounts;
mod bodies;
mod connection;
mod counts;
mod health;
mod routes;
mod switches;

use std::future::IntoFuture;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::connection::{AbortableListener, ConnectionHandle};

/// How long running requests may take to finish after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A stand-in for Basic Server, for tests and demonstrations.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Port to listen on; 0 picks a free one and prints it [default: $SERVER_PORT, else 8080]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on [default: $SERVER_HOST, else 127.0.0.1]
    #[arg(long)]
    host: Option<IpAddr>,
}

impl Arguments {
    /// Flags first, then the environment variables of the original server.
    fn address(&self) -> anyhow::Result<SocketAddr> {
        let port = match self.port {
            Some(port) => port,
            None => from_environment("SERVER_PORT")?.unwrap_or(8080),
        };
        let host = match self.host {
            Some(host) => host,
            None => from_environment("SERVER_HOST")?.unwrap_or(IpAddr::from([127, 0, 0, 1])),
        };
        Ok(SocketAddr::new(host, port))
    }
}

fn from_environment<T>(name: &str) -> anyhow::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map(Some)
            .with_context(|| format!("{name}={text} cannot be used")),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(name.to_owned()),
    }
}

// One thread is plenty for a stand-in, and keeps three of them small.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = Arguments::parse().address()?;
    let listener = AbortableListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener
        .address()
        .context("cannot tell the address it listens on")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;

    // Standard output may be closed by whoever started it: no reason to fail.
    let _ = writeln!(std::io::stdout(), "listening on http://{address}");

    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = routes::router(address);
    let serving = axum::serve(
        listener,
        router.into_make_service_with_connect_info::<ConnectionHandle>(),
    )
    .with_graceful_shutdown(async {
        let _ = stopped.await;
    })
    .into_future();
    tokio::pin!(serving);

    tokio::select! {
        served = &mut serving => return served.context("cannot serve any longer"),
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for SIGINT")?,
    }
    drop(stopping);
    match tokio::time::timeout(SHUTDOWN_GRACE, serving).await {
        Ok(served) => served.context("cannot finish its last requests"),
        Err(_) => Ok(()),
    }
}
