//! Tasks: data to be brought to nodes that are named, in the author's own JSON (`ClusterSyncTask`).
//!
//! A task is accepted once it is on disk here, waits by priority, and is carried out: its data becomes a document of
//! the replicated store, and then the nodes that it names are waited for until each has that on its disk. In go
//! requests, the members, and what the replica knows of its peers' disks; out come writes, one record a task in
//! `agent.tasks`, and [`Statistics`].
//!
//! - [`task`]: a request in the author's JSON, and what it means. [`timestamp`]: its moments.
//! - [`queue`]: which task is next, and which no longer fits in. [`retry`]: whether and when to try again, for whatever
//!   is delivered. [`standing`]: which targets have it. [`board`]: all tasks of this node. These are pure.
//! - [`record`]: a task as it is kept and shown. [`front`]: the door: submit, see. `refusal`: why not. `targets`: for which
//!   nodes.
//! - `runner`, `attempt`, `confirm`: carrying out.
//!
//! **What is promised.** A task that was answered with 202 survives `kill -9`: its data lies in `agent.task-data` until
//! one commit turns it into the document and notes so in the task's record. So it takes effect exactly once, whenever
//! the agent dies; after a restart the agent goes on with what it finds. While this node cannot write, its tasks wait
//! without using up retries.
//!
//! **Why the data waits too**, and is not written at once: a priority means nothing to data that is on its way
//! already. Only `workers` tasks are under way at a time, so that what is urgent finds the line to the peers free.
//! Tasks about one document keep their order whatever their priorities, or the older data would win; a task lends its
//! priority to those before it.
//!
//! **What can fail.** A request can be refused, and nothing has changed. A task whose targets do not confirm in time,
//! or are known to be down, is tried again, and in the end failed; its data is written all the same and reaches them
//! when they return. A target that was removed, and data that the store refuses, fail it at once. Only the node that
//! accepted a task carries it out; the others show its record.

mod attempt;
pub mod board;
mod confirm;
pub mod front;
pub mod queue;
pub mod record;
mod refusal;
pub mod retry;
mod runner;
pub mod standing;
mod statistics;
mod targets;
pub mod task;
pub mod timestamp;

pub use front::{Submitted, SyncTasks};
pub use record::{Status, TaskView};
pub use refusal::SubmitError;
pub use statistics::{Statistics, TargetCounts};
pub use task::{Task, TaskError};
