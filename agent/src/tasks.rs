//! The background tasks of the agent, by name.
//!
//! A task runs for as long as the agent does. One that ends by itself, or panics, is
//! a defect: the agent says which one it was and stops in order, rather than going on
//! with a part missing.

use std::collections::HashMap;
use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};

/// A task that ended although the agent goes on.
#[derive(Debug, thiserror::Error)]
pub enum TaskEnded {
    /// It returned.
    #[error("the part \"{0}\" of the agent ended by itself; this is a defect, please report it")]
    Returned(&'static str),
    /// It panicked.
    #[error("the part \"{name}\" of the agent failed; this is a defect, please report it")]
    Panicked {
        /// Which task.
        name: &'static str,
        /// What it said.
        source: JoinError,
    },
}

/// The tasks that run now. They are ended when this is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Starts a task on another runtime, with which it may end.
    pub fn spawn_on(
        &mut self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.running.spawn_on(task, runtime).id();
        self.names.insert(id, name);
    }

    /// Waits until a task has ended. Without tasks it waits forever.
    pub async fn ended(&mut self) -> TaskEnded {
        let Some(ended) = self.running.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let name = self.names.remove(&id).unwrap_or("unknown");
        match ended {
            Ok(_) => TaskEnded::Returned(name),
            // Its runtime has ended.
            Err(error) if error.is_cancelled() => TaskEnded::Returned(name),
            Err(source) => TaskEnded::Panicked { name, source },
        }
    }

    /// Waits until the task with this name has ended; others may end before it.
    pub async fn until_ended(&mut self, name: &'static str) {
        while self.names.values().any(|running| *running == name) {
            self.ended().await;
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
        assert!(matches!(
            tasks.ended().await,
            TaskEnded::Panicked { name: "broken", .. }
        ));
        tasks.spawn("second", async {});
        tasks.until_ended("second").await;
        tasks.stop().await;
    }
}
