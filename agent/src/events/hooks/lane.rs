//! One hook with what waits for it: a delivery at a time, in order.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::{debug, warn};

use super::command::{CommandError, CommandHook};
use super::payload::Payload;
use super::queue::Queue;
use super::statistics::{Counters, HookStatus};
use super::webhook::{Webhook, WebhookError};
use super::{Job, QUEUE_MAX};

/// Of every so many dropped events one is logged.
const DROPPED_LOGGED: u64 = 100;

/// What is told of events.
pub(super) enum Hook {
    Command(CommandHook),
    Webhook(Webhook),
}

/// A hook, its queue and its counters.
pub(super) struct Lane {
    hook: Hook,
    queue: Queue<Job>,
    counters: Mutex<Counters>,
}

/// Why an event could not be delivered.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("the event has no JSON form")]
    Encode(#[from] serde_json::Error),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

impl Hook {
    fn name(&self) -> &'static str {
        match self {
            Hook::Command(_) => "command",
            Hook::Webhook(_) => "webhook",
        }
    }

    fn target(&self) -> String {
        match self {
            Hook::Command(command) => command.program(),
            Hook::Webhook(webhook) => webhook.target(),
        }
    }
}

impl Lane {
    pub(super) fn new(hook: Hook) -> Self {
        Self {
            hook,
            queue: Queue::new(QUEUE_MAX),
            counters: Mutex::default(),
        }
    }

    pub(super) fn push(&self, job: Job) {
        if self.queue.push(job).is_some() {
            self.count_dropped();
        }
    }

    pub(super) fn count_dropped(&self) {
        let mut counters = self.counters();
        counters.dropped += 1;
        counters.last_dropped = Some(SystemTime::now());
        let dropped = counters.dropped;
        drop(counters);
        if dropped % DROPPED_LOGGED == 1 {
            warn!(
                hook = self.hook.name(),
                dropped,
                "too many events wait for the hook; the oldest are dropped for it, and stay in the journal"
            );
        }
    }

    pub(super) async fn run(&self) {
        loop {
            let job = self.queue.next().await;
            let delivered = self.deliver(&job).await;
            let hook = self.hook.name();
            let event = job.record.id;
            let mut counters = self.counters();
            match delivered {
                Ok(()) => {
                    counters.delivered += 1;
                    counters.last_delivered = Some(SystemTime::now());
                    debug!(hook, %event, "the hook was told of an event");
                }
                Err(error) => {
                    let reason = chain(&error);
                    warn!(hook, %event, kind = %job.record.fact.kind, reason, "the hook could not be told of an event");
                    counters.failed += 1;
                    counters.last_failed = Some(SystemTime::now());
                    counters.last_error = Some(reason);
                }
            }
        }
    }

    pub(super) fn status(&self) -> HookStatus {
        let waiting = self.queue.len();
        let counters = self.counters();
        HookStatus {
            hook: self.hook.name(),
            target: self.hook.target(),
            delivered: counters.delivered,
            failed: counters.failed,
            retried: counters.retried,
            dropped: counters.dropped,
            waiting,
            last_error: counters.last_error.clone(),
            last_delivered: counters.last_delivered,
            last_failed: counters.last_failed,
            last_dropped: counters.last_dropped,
        }
    }

    async fn deliver(&self, job: &Job) -> Result<(), DeliveryError> {
        let payload = Payload::of(&job.record)?;
        match &self.hook {
            Hook::Command(command) => command.deliver(&payload).await?,
            Hook::Webhook(webhook) => {
                let retried = |error: &WebhookError| {
                    let mut counters = self.counters();
                    counters.retried += 1;
                    counters.last_error = Some(chain(error));
                };
                webhook.deliver(&payload, retried).await?;
            }
        }
        Ok(())
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
