//! The door: a task is checked, stored here, and queued; and all of them can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use basic_membership::{Cluster, NodeId};
use basic_sync::model::document::Merge;
use basic_sync::net::{Handle, WriteError};
use basic_sync::protocol::{Condition, WriteRefused};
use tokio::sync::Notify;
use tracing::info;

use super::attempt;
use super::board::{Board, Counts, FINISHED_MAX};
use super::record::{Record, Status, Target, TaskView, Told, moment};
use super::refusal::SubmitError;
use super::runner;
use super::statistics::Statistics;
use super::targets;
use super::task::{Task, new_id};
use crate::config::{CollectionSettings, Config, SyncConfig};
use crate::records::{Batch, RecordError, Records, System};

/// The tasks of this agent. Clones share them.
#[derive(Clone)]
pub struct SyncTasks(pub(super) Arc<Shared>);

/// What the door and the workers have in common.
pub(super) struct Shared {
    pub(super) records: Records,
    pub(super) replica: Handle,
    pub(super) cluster: Cluster,
    pub(super) own: NodeId,
    pub(super) config: SyncConfig,
    collections: BTreeMap<String, CollectionSettings>,
    pub(super) began: Instant,
    board: Mutex<Board>,
    /// There may be something to do.
    pub(super) wake: Notify,
}

/// A request that was taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// The task is on disk here, and will be carried out.
    New(TaskView),
    /// It was taken before; nothing has changed.
    Known(TaskView),
}

impl fmt::Debug for SyncTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncTasks").finish_non_exhaustive()
    }
}

impl SyncTasks {
    /// Finds the tasks that this node has in its store, and returns the task that carries them out, for as long as the
    /// agent runs and once the node has caught up with the others.
    ///
    /// # Errors
    /// [`RecordError`]: the store cannot be read.
    pub fn open(
        config: &Config,
        cluster: Cluster,
        replica: Handle,
        records: Records,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), RecordError> {
        let mut board = Board::new(config.sync.queue_max.into(), FINISHED_MAX);
        let own = cluster.identity().id.clone();
        let found = runner::find(&mut board, &records, &own)?;
        if found > 0 {
            info!(tasks = found, "tasks of an earlier life go on");
        }
        let tasks = Self(Arc::new(Shared {
            records,
            replica,
            cluster,
            own,
            config: config.sync.clone(),
            collections: config.collections.clone(),
            began: Instant::now(),
            board: Mutex::new(board),
            wake: Notify::new(),
        }));
        let running = runner::run(tasks.0.clone());
        Ok((tasks, running))
    }

    /// Accepts a task: returns when it is on disk here. One with the id and the contents of another is that one. Given
    /// up half-way, it goes on all the same, so that nothing is stored that nobody carries out.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, task: Task) -> Result<Submitted, SubmitError> {
        let shared = self.0.clone();
        match tokio::spawn(async move { shared.submit(task).await }).await {
            Ok(submitted) => submitted,
            // It runs on this runtime, which ends with the process.
            Err(error) if error.is_cancelled() => {
                Err(RecordError::Write(WriteError::Unknown).into())
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// A task, also one that another node carries out, as far as is known here.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn get(&self, id: &str) -> Result<Option<TaskView>, RecordError> {
        let own = self.0.board().view(id);
        match own {
            Some(view) => Ok(Some(view)),
            None => self
                .0
                .stored(id)
                .map(|record| record.map(|record| shown(id, record))),
        }
    }

    /// The newest tasks of this node first, at most so many, of one status or of all.
    pub fn list(&self, status: Option<Status>, limit: usize) -> Vec<TaskView> {
        self.0.board().list(status, limit)
    }

    /// What has become of this node's tasks since its start.
    pub fn statistics(&self) -> Statistics {
        self.0.board().statistics()
    }

    /// How many there are now.
    pub fn counts(&self) -> Counts {
        self.0.board().counts()
    }
}

impl Shared {
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn submit(&self, task: Task) -> Result<Submitted, SubmitError> {
        let id = match &task.id {
            Some(id) => id.clone(),
            None => fresh_id()?,
        };
        if let Some(known) = self.known(&id, &task.fingerprint)? {
            return Ok(known);
        }
        self.check(&task)?;
        let targets = targets::targets(&self.cluster, &task.targets)?;
        let priority = task.priority;
        let number = self.board().hold(priority)?;
        let document = task.document.clone();
        let data = task.data.clone();
        let fingerprint = task.fingerprint.clone();
        let record = self.record(number, task, targets);
        let stored = match batch(&id, &record, data) {
            Ok(batch) => self.records.commit(batch).await,
            Err(error) => Err(error),
        };
        match stored {
            Err(error) if !attempt::may_be_done(&error) => {
                self.board().let_go(priority);
                return self.lost_the_race(&id, &fingerprint, error);
            }
            stored => {
                // What may be stored is looked for before anything is done about it.
                self.board()
                    .accept(id.as_str().into(), record.clone(), document);
                self.wake.notify_one();
                stored?;
            }
        }
        Ok(Submitted::New(shown(&id, record)))
    }

    /// The task with this id, if there is one that says the same.
    fn known(&self, id: &str, fingerprint: &str) -> Result<Option<Submitted>, SubmitError> {
        let own = {
            let board = self.board();
            board.view(id).zip(board.record(id).cloned())
        };
        let found = match own {
            Some((view, record)) => Some((view, record.fingerprint)),
            None => self
                .stored(id)?
                .map(|record| (shown(id, record.clone()), record.fingerprint)),
        };
        match found {
            None => Ok(None),
            Some((view, known)) if known == fingerprint => Ok(Some(Submitted::Known(view))),
            Some(_) => Err(SubmitError::OtherContents(id.to_owned())),
        }
    }

    /// A task was not stored: because another request with its id was faster, or for some other reason.
    fn lost_the_race(
        &self,
        id: &str,
        fingerprint: &str,
        error: RecordError,
    ) -> Result<Submitted, SubmitError> {
        let taken = matches!(
            &error,
            RecordError::Write(WriteError::Refused(WriteRefused::ConditionFailed { .. }))
        );
        match taken
            .then(|| self.known(id, fingerprint))
            .transpose()?
            .flatten()
        {
            Some(known) => Ok(known),
            None => Err(error.into()),
        }
    }

    fn stored(&self, id: &str) -> Result<Option<Record>, RecordError> {
        self.records.get(System::Tasks, id)
    }

    /// Whether the collection will take the data.
    fn check(&self, task: &Task) -> Result<(), SubmitError> {
        let collection = task.document.collection().as_str();
        let settings = self
            .collections
            .get(collection)
            .cloned()
            .unwrap_or_default();
        let merge = match settings.merge {
            Merge::Lww | Merge::Fields => None,
            Merge::Counter => Some("counter"),
            Merge::Set => Some("set"),
        };
        let collection = collection.to_owned();
        if let Some(merge) = merge {
            return Err(SubmitError::Merge { collection, merge });
        }
        let (bytes, most) = (task.data.len(), settings.document_max.as_u64());
        match u64::try_from(bytes).is_ok_and(|bytes| bytes <= most) {
            true => Ok(()),
            false => Err(SubmitError::TooLarge {
                collection,
                bytes,
                most,
            }),
        }
    }

    fn record(&self, number: u64, task: Task, targets: BTreeSet<String>) -> Record {
        let targets = targets.into_iter().map(|name| (name, Target::waiting()));
        Record {
            number,
            fingerprint: task.fingerprint,
            told: Told {
                status: Status::Queued,
                node: self.own.to_string(),
                source_node: task.source,
                target_nodes: task.targets,
                data_type: task.data_type,
                priority: task.priority,
                timestamp: task.timestamp,
                collection: task.document.collection().to_string(),
                key: task.document.name().to_owned(),
                version: None,
                attempts: 0,
                accepted_at: moment(SystemTime::now()),
                written_at: None,
                finished_at: None,
                targets: targets.collect(),
                error: None,
            },
        }
    }
}

/// What stores a task: its record, if there is none yet, and its data.
fn batch(id: &str, record: &Record, data: bytes::Bytes) -> Result<Batch, RecordError> {
    let batch = Batch::default().put_if(System::Tasks, id, record, Condition::Absent)?;
    Ok(batch.put_text(System::TaskData, id, data)?)
}

fn shown(id: &str, record: Record) -> TaskView {
    TaskView {
        task_id: id.to_owned(),
        told: record.told,
        next_attempt_at: None,
    }
}

fn fresh_id() -> Result<String, SubmitError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|_| SubmitError::Random)?;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(new_id(
        u64::try_from(since.as_millis()).unwrap_or_default(),
        random,
    ))
}
