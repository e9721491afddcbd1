//! Health as Basic Server reports it, and the switch that makes it ill.
//!
//! `PUT /control/health {"status":false,"delay":"30s"}` changes what the whole
//! process answers from then on: 503 instead of 200, and, since the original
//! hangs when its database hangs, after how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::routes::Server;

/// How the process feels at the moment.
pub(crate) struct Health(Mutex<Condition>);

#[derive(Clone, Copy)]
struct Condition {
    healthy: bool,
    delay: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(Condition {
            healthy: true,
            delay: Duration::ZERO,
        }))
    }
}

impl Health {
    fn condition(&self) -> Condition {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, condition: Condition) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }
}

/// The order to become ill or well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    status: bool,
    #[serde(default)]
    delay: Option<String>,
}

pub(crate) async fn health(State(server): State<Arc<Server>>) -> (StatusCode, Json<Value>) {
    let condition = server.health.condition();
    tokio::time::sleep(condition.delay).await;
    let status = match condition.healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report(condition.healthy, SystemTime::now())))
}

pub(crate) async fn control(
    State(server): State<Arc<Server>>,
    Json(order): Json<Order>,
) -> Result<StatusCode, (StatusCode, Json<Value>)> {
    let delay = match order.delay.as_deref().map(humantime::parse_duration) {
        None => Duration::ZERO,
        Some(Ok(delay)) => delay,
        Some(Err(error)) => {
            let error = format!("delay: {error}; write it as 200ms or 3s");
            return Err((StatusCode::BAD_REQUEST, Json(json!({ "error": error }))));
        }
    };
    server.health.set(Condition {
        healthy: order.status,
        delay,
    });
    Ok(StatusCode::NO_CONTENT)
}

fn report(healthy: bool, now: SystemTime) -> Value {
    json!({
        "status": healthy,
        "timestamp": humantime::format_rfc3339_seconds(now).to_string(),
        "version": "1.0.0",
        "mode": "basic",
        "checks": {
            "database": { "status": healthy, "type": "mysql" },
            "cache": { "status": true, "type": "redis", "enabled": true },
            "consul": { "status": false, "enabled": false },
            "cluster": { "status": false, "enabled": false },
        },
        "services": { "basic_server": "running", "mode": "standalone" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_every_field_of_the_original() {
        let report = report(true, SystemTime::UNIX_EPOCH);
        assert_eq!(report["status"], true);
        assert_eq!(report["timestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(report["checks"]["database"]["type"], "mysql");
        assert_eq!(report["services"]["basic_server"], "running");
    }
}
