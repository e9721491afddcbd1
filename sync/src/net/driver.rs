//! The thread that owns the replica and the store's only writer.
//!
//! A loop: wait for a command or the replica's deadline, take what else has arrived, write
//! it all as one transaction, push its writes to the peers, make it durable, then reply,
//! then send the rest. While the disk works, the next batch gathers: that is the whole of
//! group commit. And the disks of the peers work at the same time: a write is on theirs
//! after one sync and a hop, not two.
//!
//! When the store fails, the writes of the batch are answered so, the replica goes
//! back to what is on disk, and the thread goes on: a full disk refuses writes, and
//! accepts them again when there is room. While the store does not answer at all, the
//! thread stands still, and [`Disk`] tells those who wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::disk::Disk;
use super::hub::EndHub;
use super::links::Links;
use super::ring::Ring;
use crate::codec;
use crate::model::{Delta, Frontier, PeerId, VersionVector};
use crate::protocol::{
    AckTarget, Decide, Input, Message, Now, Operation, Output, Replica, RequestId, Status, TakeIn,
    TakenIn, WriteReceipt, WriteRefused, WriteRequest, finish, serve, stage,
};
use crate::storage::mending::{Mend, Mended};
use crate::storage::{Storage, StoreError};

/// Commands taken in by one commit at most.
const BATCH_MAX: usize = 1024;
/// How often the status is published at most.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// How long the thread waits after the store has failed and could not be read again.
const RELOAD_PAUSE: Duration = Duration::from_millis(200);

/// What a caller gets for a write, or for a part of a backup.
pub(super) type Reply<T> = oneshot::Sender<Result<T, WriteRefused>>;

/// What a caller gets for its pieces of work; an error says why nothing was done.
pub(super) type MendReply = oneshot::Sender<Result<Vec<Mended>, String>>;

/// Something for the driver to do. A permit, where there is one, is given back when
/// the command is done: it bounds the bytes that wait.
pub(super) enum Command {
    Write {
        operations: Vec<Operation>,
        acks: AckTarget,
        acks_timeout: Duration,
        reply: Reply<WriteReceipt>,
        permit: OwnedSemaphorePermit,
    },
    TakeIn {
        changes: Vec<Delta>,
        claim: Option<VersionVector>,
        reply: Reply<TakenIn>,
        permit: OwnedSemaphorePermit,
    },
    Message {
        peer: PeerId,
        message: Message,
        permit: OwnedSemaphorePermit,
    },
    Mend {
        work: Vec<Mend>,
        reply: MendReply,
    },
    Decide {
        numbers: Vec<u64>,
        write: bool,
        reply: Reply<WriteReceipt>,
        permit: OwnedSemaphorePermit,
    },
    GiveUp(PeerId),
    LinkUp(PeerId),
    LinkDown(PeerId),
    Peers(Vec<PeerId>),
    /// Publish the status as it is after everything that has arrived before.
    Publish(oneshot::Sender<()>),
    /// Finish what has arrived before, then stop.
    Stop,
}

pub(super) struct Driver {
    pub(super) replica: Replica,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) links: Arc<Links>,
    pub(super) ring: Arc<Ring>,
    pub(super) status: watch::Sender<Arc<Status>>,
    pub(super) hub: EndHub,
    pub(super) reached: watch::Sender<Frontier>,
    pub(super) disk: Arc<Disk>,
    pub(super) began: Instant,
}

/// What the loop carries from turn to turn.
struct Turn {
    replies: HashMap<RequestId, Reply<WriteReceipt>>,
    mending: HashMap<RequestId, MendReply>,
    taken_replies: HashMap<RequestId, Reply<TakenIn>>,
    next_request: u64,
    /// Inputs of a failed commit that nobody would send again.
    again: Vec<Input>,
    /// The replica could not be read back after a failure.
    broken: bool,
    published: Instant,
    /// Something has happened since.
    unpublished: bool,
}

/// One batch: inputs for the replica, and the permits they hold until they are done.
#[derive(Default)]
struct Batch {
    inputs: Vec<Input>,
    permits: Vec<OwnedSemaphorePermit>,
    writes: Vec<RequestId>,
    mends: Vec<RequestId>,
    published: Vec<oneshot::Sender<()>>,
    stop: bool,
}

impl Driver {
    /// Runs until told to stop. Blocks the thread it is called on.
    pub(super) async fn run(mut self) {
        let mut turn = Turn {
            replies: HashMap::new(),
            mending: HashMap::new(),
            taken_replies: HashMap::new(),
            next_request: 0,
            again: Vec::new(),
            broken: false,
            published: Instant::now(),
            unpublished: false,
        };
        loop {
            let mut batch = self.gather(&mut turn).await;
            let stop = batch.stop;
            self.turn(&mut turn, &mut batch).await;
            if stop {
                break;
            }
            // The connections live on this thread too: what was just said goes out, and
            // what has come in meanwhile joins the next batch.
            tokio::task::yield_now().await;
        }
        self.publish(&mut turn);
    }

    /// Waits for something to do and takes all there is, up to [`BATCH_MAX`].
    async fn gather(&mut self, turn: &mut Turn) -> Batch {
        let mut batch = Batch {
            inputs: std::mem::take(&mut turn.again),
            ..Batch::default()
        };
        let elapsed = self.began.elapsed();
        let status_due = turn.published.duration_since(self.began) + STATUS_INTERVAL;
        let mut deadline = self.replica.next_deadline();
        if turn.unpublished {
            deadline = deadline.min(status_due);
        }
        if turn.broken {
            deadline = elapsed + RELOAD_PAUSE;
        }
        match timeout(deadline.saturating_sub(elapsed), self.commands.recv()).await {
            Ok(Some(command)) => {
                turn.unpublished = true;
                turn.take(command, &mut batch);
            }
            Ok(None) => batch.stop = true,
            Err(_) => {}
        }
        while batch.inputs.len() < BATCH_MAX && !batch.stop {
            match self.commands.try_recv() {
                Ok(command) => turn.take(command, &mut batch),
                Err(_) => break,
            }
        }
        batch.inputs.push(Input::Tick);
        batch
    }

    async fn turn(&mut self, turn: &mut Turn, batch: &mut Batch) {
        if turn.broken {
            let disk = self.disk.clone();
            match disk.within(|| self.replica.reload(&*self.storage)) {
                Ok(()) => turn.broken = false,
                Err(error) => {
                    turn.again = std::mem::take(&mut batch.inputs);
                    turn.again.retain(is_about_a_link);
                    return self.failed(turn, batch, &error);
                }
            }
        }
        let inputs = std::mem::take(&mut batch.inputs);
        let about_links = inputs
            .iter()
            .filter(|input| is_about_a_link(input))
            .cloned()
            .collect();
        let now = self.now();
        let disk = self.disk.clone();
        let head_before = self.replica.feed().head;
        let watched = self.hub.0.is_watched();
        self.replica.collect_changes(watched);
        let staged = disk.within(|| stage(&mut self.replica, &*self.storage, now, inputs));
        let outcome = match staged {
            Ok(early) => {
                if !early.is_empty() {
                    for output in early {
                        self.output(turn, output);
                    }
                    // The connections live on this thread, which is about to wait.
                    tokio::task::yield_now().await;
                }
                disk.within(|| finish(&mut self.replica, &*self.storage, now))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(outputs) => {
                let changes = self.replica.take_changes();
                let head = self.replica.feed().head;
                // What writes nothing proves nothing.
                if head > head_before {
                    if disk.works() {
                        info!("the store works again; writes are accepted");
                    }
                    match watched {
                        true => self.hub.0.tell(changes, head),
                        false => self.hub.0.tell_head(head),
                    }
                }
                self.tell_reached();
                for output in outputs {
                    self.output(turn, output);
                }
                match disk.within(|| serve(&mut self.replica, &*self.storage)) {
                    Ok(outputs) => outputs
                        .into_iter()
                        .for_each(|output| self.output(turn, output)),
                    Err(error) => {
                        warn!(error = %chain(&error), "a snapshot for a peer cannot be read; it will ask again");
                    }
                }
            }
            Err(error) => {
                turn.again = about_links;
                turn.broken = disk.within(|| self.replica.reload(&*self.storage)).is_err();
                self.failed(turn, batch, &error);
            }
        }
        if turn.published.elapsed() >= STATUS_INTERVAL || !batch.published.is_empty() {
            self.publish(turn);
        }
        for published in batch.published.drain(..) {
            // Who asked may have gone away.
            let _ = published.send(());
        }
    }

    fn failed(&self, turn: &mut Turn, batch: &Batch, error: &StoreError) {
        if self.disk.failed(error) {
            error!(error = %chain(error), "the store failed; writes are refused until it works again");
        }
        for id in &batch.writes {
            if let Some(reply) = turn.replies.remove(id) {
                // The caller may have gone away.
                let _ = reply.send(Err(WriteRefused::from(error)));
            }
            if let Some(reply) = turn.taken_replies.remove(id) {
                let _ = reply.send(Err(WriteRefused::from(error)));
            }
        }
        for id in &batch.mends {
            if let Some(reply) = turn.mending.remove(id) {
                let _ = reply.send(Err(chain(error)));
            }
        }
    }

    fn output(&self, turn: &mut Turn, output: Output) {
        match output {
            Output::Reply(id, result) => {
                if let Some(reply) = turn.replies.remove(&id) {
                    let _ = reply.send(result);
                }
            }
            Output::Mended(id, outcomes) => {
                if let Some(reply) = turn.mending.remove(&id) {
                    let _ = reply.send(Ok(outcomes));
                }
            }
            Output::TakenIn(id, taken) => {
                if let Some(reply) = turn.taken_replies.remove(&id) {
                    let _ = reply.send(taken);
                }
            }
            Output::Send(peer, message) => self.links.send(&peer, message),
            Output::Broadcast(message) => self.ring.push(codec::encode_message(&message)),
            Output::Multicast(peers, message) => self.links.send_all(&peers, &message),
        }
    }

    fn publish(&self, turn: &mut Turn) {
        turn.published = Instant::now();
        turn.unpublished = false;
        let status = Arc::new(self.replica.status());
        self.tell_of_dates(&status);
        self.status.send_if_modified(|published| {
            let changed = **published != *status;
            *published = status;
            changed
        });
    }

    /// Before the replies, so that who has the answer to a write need not wait for it.
    fn tell_reached(&mut self) {
        let advanced = self.replica.take_advanced();
        if !advanced.is_empty() {
            self.reached.send_if_modified(|reached| {
                let further = advanced.into_iter().map(|dot| reached.note(dot));
                further.fold(false, |any, one| any | one)
            });
        }
    }

    /// Says once who writes with dates far ahead.
    fn tell_of_dates(&self, status: &Status) {
        let published = self.status.borrow();
        let is_known = |origin| published.dated_ahead.iter().any(|one| one.origin == origin);
        for one in &status.dated_ahead {
            if !is_known(one.origin) {
                warn!(origin = %one.origin, date_ms = one.latest.millis(), key = ?one.key, "a write came with a date far ahead of this node's clock; it was taken in, and no clock follows it");
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: super::wall_ms(),
            elapsed: self.began.elapsed(),
        }
    }
}

impl Turn {
    fn take(&mut self, command: Command, batch: &mut Batch) {
        let input = match command {
            Command::Write {
                operations,
                acks,
                acks_timeout,
                reply,
                permit,
            } => {
                let id = self.request(batch, permit);
                self.replies.insert(id, reply);
                Input::Write(WriteRequest {
                    id,
                    operations,
                    acks,
                    acks_timeout,
                })
            }
            Command::TakeIn {
                changes,
                claim,
                reply,
                permit,
            } => {
                let id = self.request(batch, permit);
                self.taken_replies.insert(id, reply);
                Input::TakeIn(TakeIn { id, changes, claim })
            }
            Command::Message {
                peer,
                message,
                permit,
            } => {
                batch.permits.push(permit);
                Input::Message(peer, message)
            }
            Command::Mend { work, reply } => {
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.mending.insert(id, reply);
                batch.mends.push(id);
                Input::Mend(id, work)
            }
            Command::Decide {
                numbers,
                write,
                reply,
                permit,
            } => {
                let id = self.request(batch, permit);
                self.replies.insert(id, reply);
                Input::Decide(Decide { id, numbers, write })
            }
            Command::GiveUp(node) => Input::GiveUp(node),
            Command::LinkUp(peer) => Input::LinkUp(peer),
            Command::LinkDown(peer) => Input::LinkDown(peer),
            Command::Peers(peers) => Input::Peers(peers),
            Command::Publish(published) => {
                batch.published.push(published);
                return;
            }
            Command::Stop => {
                // Nobody will acknowledge what still waits for peers.
                batch.inputs.push(Input::Settle);
                batch.stop = true;
                return;
            }
        };
        batch.inputs.push(input);
    }

    /// A number for something that is to be answered.
    fn request(&mut self, batch: &mut Batch, permit: OwnedSemaphorePermit) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        batch.writes.push(id);
        batch.permits.push(permit);
        id
    }
}

fn is_about_a_link(input: &Input) -> bool {
    matches!(
        input,
        Input::LinkUp(_) | Input::LinkDown(_) | Input::Peers(_)
    )
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
