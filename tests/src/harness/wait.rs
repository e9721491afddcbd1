//! Waiting for a condition, never for a length of time.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is tried.
const INTERVAL: Duration = Duration::from_millis(20);

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {} for {awaited}: {last}", humantime::format_duration(*limit))]
pub struct WaitError {
    /// What was waited for.
    pub awaited: String,
    /// For how long at most.
    pub limit: Duration,
    /// Why the last try was not it.
    pub last: String,
}

/// Tries `condition` until it succeeds, and returns what it found.
///
/// An error of the condition means "not yet" and says why; the last one is in
/// the error when `limit` has passed, which is checked after each try, so that
/// there is always at least one, and a slow machine cannot skip it.
///
/// # Errors
/// When the condition did not succeed within `limit`.
pub async fn wait_until<T, E, F>(
    awaited: impl Into<String>,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T, WaitError>
where
    F: Future<Output = Result<T, E>>,
    E: fmt::Display,
{
    let start = Instant::now();
    loop {
        let not_yet = match condition().await {
            Ok(found) => return Ok(found),
            Err(not_yet) => not_yet,
        };
        if start.elapsed() >= limit {
            return Err(WaitError {
                awaited: awaited.into(),
                limit,
                last: not_yet.to_string(),
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_tried_until_it_holds() {
        let mut tries = 0;
        let found = wait_until("three tries", Duration::from_secs(60), || {
            tries += 1;
            std::future::ready(if tries == 3 {
                Ok(tries)
            } else {
                Err("too few")
            })
        })
        .await;
        assert_eq!(found.unwrap(), 3);
    }

    #[tokio::test]
    async fn the_last_reason_is_in_the_error() {
        let never = || std::future::ready(Err::<(), _>("the door is closed"));
        let error = wait_until("the door", Duration::ZERO, never)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 0s for the door: the door is closed"
        );
    }
}
