//! What the probe of the app finds becomes metadata: every node's proxy learns it.

use std::time::{SystemTime, UNIX_EPOCH};

use basic_balancer::probe::AppHealth;
use basic_membership::Cluster;
use tokio::sync::watch;
use tracing::warn;

/// Announces the health of the app as it changes.
pub async fn announce(cluster: Cluster, mut health: watch::Receiver<AppHealth>) {
    loop {
        let found = health.borrow_and_update().clone();
        let reason = found.last_error.as_deref().filter(|_| !found.is_healthy());
        let since_ms = millis(found.since);
        let announced = cluster.set_metadata(|metadata| {
            metadata
                .app
                .set_health(found.is_healthy(), since_ms, reason);
        });
        if let Err(error) = announced.await {
            warn!(%error, "the health of the app could not be announced");
        }
        if health.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Milliseconds since 1970.
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
