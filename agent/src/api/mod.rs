//! The HTTP API: all routes in one place, one file for each subject.
//!
//! A handler takes what it needs out of the request, makes one call, and maps the
//! result. Every error is a `problem::Problem` (RFC 9457) with a `detail` that a
//! person can act on; what is behind a 500 goes to the log. Before any handler,
//! `guard` turns away what a browser on some other page, or another name for this
//! address, might send.

mod author;
mod backup;
mod batch;
mod data;
mod events;
mod exported;
mod extract;
mod findings;
mod guard;
mod history;
mod keys;
mod members;
mod metrics;
mod operations;
mod patience;
mod problem;
mod reachable;
mod room;
mod server;
mod servers;
mod sessions;
mod status;
mod sync;
mod sync_tasks;
mod verify;
mod vitals;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post, put};
use basic_balancer::Balancer;
use basic_balancer::metrics::ProxyMetrics;
use basic_balancer::probe::AppHealth;
use basic_membership::Cluster;
use basic_sync::net::Handle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::events::Events;
use crate::keys::Keys;
use crate::operations::Operations;
use crate::peer_port::Statistics;
use crate::records::Records;
use crate::servers::Registry;
use crate::sync_tasks::SyncTasks;
use crate::wiring::clock::ClockGuard;

pub(crate) use backup::MEDIA_TYPE as BACKUP_TYPE;

/// What the handlers see of the agent.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// The membership.
    pub cluster: Cluster,
    /// The data.
    pub replica: Handle,
    /// The endpoints.
    pub balancer: Balancer,
    /// What the proxy has counted.
    pub proxy: Arc<ProxyMetrics>,
    /// Where the proxy listens.
    pub proxy_address: SocketAddr,
    /// What the probe of the app finds.
    pub app_health: tokio::sync::watch::Receiver<AppHealth>,
    /// What the peer port has counted.
    pub peer_port: Arc<Statistics>,
    /// What has happened.
    pub events: Events,
    /// The keys of the cluster.
    pub keys: Keys,
    /// The agents' own records.
    pub records: Records,
    /// What operators decide about nodes.
    pub operations: Operations,
    /// Keeps writes back while this node's clock is ahead.
    pub clock: ClockGuard,
    /// The servers without an agent.
    pub registry: Registry,
    /// The tasks that it was given.
    pub sync_tasks: SyncTasks,
    /// Asks the agent to leave and stop.
    pub stop: tokio::sync::watch::Sender<bool>,
    /// When the agent started.
    pub began: Instant,
    /// Room for backups and restores.
    pub transfers: Arc<Semaphore>,
}

/// Room for the backups and restores that may be under way at once.
pub fn transfers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(backup::TRANSFERS_MAX))
}

/// The state of the API. Clones share it.
#[derive(Clone, Debug)]
pub struct Api(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: Parts,
    watches: room::Watches,
}

impl Api {
    /// Around the parts of a running agent.
    pub fn new(parts: Parts) -> Self {
        let watches = room::Watches::new(parts.config.api.watches_max.into());
        Self(Arc::new(Shared { parts, watches }))
    }

    fn watches(&self) -> &room::Watches {
        &self.0.watches
    }
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// Serves the API until `closed` says that the agent stops.
pub async fn serve(listener: TcpListener, api: Api, closed: tokio::sync::watch::Receiver<bool>) {
    server::serve(listener, routes(api), closed).await;
}

fn routes(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(status::alive))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/status", get(status::status))
        .route("/v1/members", get(members::list).post(servers::register))
        .route(
            "/v1/members/{id}",
            get(members::one).delete(operations::remove),
        )
        .route("/v1/members/{id}/{action}", post(operations::decide))
        .route("/v1/members/{id}/weight", put(operations::weight))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/rotate", post(keys::rotate))
        .route("/v1/keys/{id}/retire", post(keys::retire))
        .route("/v1/audit", get(operations::audit))
        .route("/api/v1/cluster/status", get(author::status))
        .route("/api/v1/cluster/nodes", get(author::list))
        .route("/v1/data:batch", post(batch::write))
        .route("/v1/data/{collection}", get(data::list))
        .route(
            "/v1/data/{collection}/{key}",
            get(data::get)
                .put(data::put)
                .patch(data::patch)
                .delete(data::delete),
        )
        .route("/v1/data/{collection}/{key}/history", get(history::list))
        .route("/v1/events", get(events::events))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/restore", post(backup::restore))
        .route("/v1/sync/peers", get(sync::peers))
        .route("/v1/sync/stats", get(sync::stats))
        .route(
            "/v1/sync/exported",
            get(exported::list).post(exported::decide),
        )
        .route(
            "/v1/sync/tasks",
            get(sync_tasks::list).post(sync_tasks::submit),
        )
        .route("/v1/sync/tasks/{id}", get(sync_tasks::get))
        .route(
            "/v1/sync/verify",
            get(verify::progress).post(verify::verify),
        )
        .route("/v1/sync/repair", post(verify::repair))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), guard::check))
        .with_state(api)
}
