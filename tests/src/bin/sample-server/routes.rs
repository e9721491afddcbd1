//! All routes of the stand-in server, and the state that they share.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{any, get, post, put};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};

use crate::accounts::{self, Accounts};
use crate::bodies;
use crate::counts::{self, Counts};
use crate::health::{self, Health};
use crate::switches;

/// What the handlers share; every part has its own lock.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) accounts: Accounts,
    pub(crate) counts: Counts,
    pub(crate) health: Health,
}

/// The whole server, for the address that it listens on.
pub(crate) fn router(address: SocketAddr) -> Router {
    let server = Arc::new(Server {
        address,
        accounts: Accounts::default(),
        counts: Counts::default(),
        health: Health::default(),
    });
    Router::new()
        // What Basic Server has.
        .route("/health", get(health::health))
        .route("/api/v1/auth/register", post(accounts::register))
        .route("/api/v1/auth/login", post(accounts::login))
        .route("/api/v1/users", get(accounts::users))
        .route("/api/v1/cluster/status", get(standalone))
        .route("/api/v1/cluster/nodes", get(standalone))
        // What tests look through.
        .route("/whoami", get(whoami))
        .route("/echo", any(bodies::echo))
        .route("/bytes/{length}", get(bodies::bytes))
        .route("/stream", get(bodies::stream))
        .route("/count", any(counts::count))
        .route("/count/{id}", get(counts::seen))
        .route("/counts", get(counts::totals).delete(counts::clear))
        .route("/control/health", put(health::control))
        .layer(middleware::from_fn(switches::apply))
        .with_state(server)
}

async fn whoami(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "port": server.address.port(), "pid": std::process::id() }))
}

/// What Basic Server says of its cluster when it runs alone.
async fn standalone() -> Json<Value> {
    Json(json!({ "enabled": false }))
}
