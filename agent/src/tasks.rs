//! The background tasks of the agent, by name.
//!
//! A task runs for as long as the agent does. One that ends by itself, or panics, is
//! a defect: the agent says which one it was and stops in order, rather than going on
//! with a part missing.

use std::future::Future;

use tokio::task::{JoinError, JoinSet};

/// A task that ended although the agent goes on.
#[derive(Debug, thiserror::Error)]
pub enum TaskEnded {
    /// It returned.
    #[error("the background task \"{0}\" ended by itself; this is a defect, please report it")]
    Returned(&'static str),
    /// It panicked.
    #[error("a background task failed; this is a defect, please report it")]
    Panicked(#[source] JoinError),
}

/// The tasks that run now. They are ended when this is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<&'static str>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until a task has ended. Without tasks it waits forever.
    pub async fn ended(&mut self) -> TaskEnded {
        loop {
            match self.running.join_next().await {
                Some(Ok(name)) => return TaskEnded::Returned(name),
                Some(Err(error)) if error.is_panic() => return TaskEnded::Panicked(error),
                Some(Err(_cancelled)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all tasks and waits until they are gone.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("forever", std::future::pending());
        tasks.spawn("short", async {});
        assert!(matches!(tasks.ended().await, TaskEnded::Returned("short")));
        tasks.spawn("broken", async { panic!("on purpose") });
        assert!(matches!(tasks.ended().await, TaskEnded::Panicked(_)));
        tasks.stop().await;
    }
}
