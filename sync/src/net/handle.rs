//! What callers hold: writes, reads, watches, peers, status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::arrival::{self, WaitError};
use super::disk::{Disk, DiskStatus, Stuck};
use super::driver::{Command, Driver, Reply};
use super::hub::{EndHub, Hub};
use super::incoming::{Greeting, Incoming};
use super::lag::PeerLag;
use super::links::{LinkStatus, Links, Peer};
use super::ring::Ring;
use super::verify::{Desk, Report, Verifier, VerifyError, VerifyOptions, VerifyProgress};
use super::watch::{Cursor, Snapshot, Watch, WatchError};
use super::{Connector, Stream, wall_ms};
use crate::backup::{About, Backup, BackupFailed};
use crate::model::{Collection, Delta, Entry, Frontier, Key, PeerId, ReplicaId, VersionVector};
use crate::protocol::{
    AckTarget, Config, Mesh, Now, Operation, Policies, Replica, Status, TakenIn, WriteReceipt,
    WriteRefused,
};
use crate::storage::history::{self, Keep, Kept};
use crate::storage::state::{self, Page};
use crate::storage::{self, Exported, Storage, StoreError};

/// Bytes counted for a write besides its keys and documents.
const WRITE_OVERHEAD_BYTES: usize = 256;
/// Bytes of a page of writes that were taken out, about.
const EXPORTED_BYTES_MAX: usize = 1024 * 1024;

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster it belongs to; peers of another are refused.
    pub cluster: String,
    /// This node's name, as in its certificate.
    pub node: String,
    /// Bounds and intervals of the replica.
    pub protocol: Config,
    /// Bytes of pushes kept for slow peers.
    pub ring_bytes_max: usize,
    /// Commands that may wait for the driver.
    pub commands_max: usize,
    /// Bytes of writes that may wait to be committed, and as many of messages; at least
    /// twice the largest frame.
    pub pending_bytes_max: usize,
    /// How long a commit may take before the disk counts as stuck: then writes are
    /// answered with an error instead of waiting for it.
    pub disk_patience: Duration,
}

impl Options {
    /// The defaults for a node of a cluster.
    pub fn new(cluster: &str, node: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            protocol: Config::default(),
            ring_bytes_max: 64 * 1024 * 1024,
            commands_max: 4096,
            pending_bytes_max: 64 * 1024 * 1024,
            disk_patience: Duration::from_secs(5),
        }
    }
}

/// A replica could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random(getrandom::Error),
    /// The system gave no thread or timer.
    #[error("the replication thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A write was not done, or it is not known whether it was.
#[derive(Debug, Error)]
pub enum WriteError {
    /// It was refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
    /// Writes are held back on this node, for this reason; nothing changed.
    #[error("{0}")]
    HeldBack(Arc<str>),
    /// The disk does not answer; nothing changed.
    #[error(
        "the disk of this node has not answered for {0:.1?}; nothing was changed, and nothing is written here until it answers"
    )]
    DiskStuck(Duration),
    /// The disk does not answer: whether the write was done is not known.
    #[error(
        "the disk of this node has not answered for {0:.1?}; the write may or may not have been done"
    )]
    Unanswered(Duration),
    /// The replica is stopping; nothing changed.
    #[error("this node is stopping and takes no more writes; write on another node")]
    Stopped,
    /// The replica stopped before it answered: whether the write was done is not known.
    #[error("this node stopped before it could answer; the write may or may not have been done")]
    Unknown,
}

/// A read failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The store failed.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

/// Starts a replica on a store, on a thread of its own on which the connections to its
/// peers live too.
///
/// # Errors
/// [`StartError`].
pub fn start(
    storage: Arc<dyn Storage>,
    mut options: Options,
    connector: Arc<dyn Connector>,
) -> Result<Handle, StartError> {
    options.protocol.name = PeerId::new(&options.node);
    let (name, mesh) = (options.protocol.name.clone(), options.protocol.mesh);
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(StartError::Random)?;
    let (identity, seed) = random.split_at(16);
    let identity = ReplicaId(identity.try_into().unwrap_or_default());
    let seed = u64::from_be_bytes(seed.try_into().unwrap_or_default());
    let began = Instant::now();
    let now = Now {
        wall_ms: wall_ms(),
        elapsed: began.elapsed(),
    };
    let policies = Arc::new(options.protocol.policies.clone());
    let protocol = Config {
        name: PeerId::new(&options.node),
        ..options.protocol
    };
    let replica = Replica::open(&*storage, protocol, identity, now, seed)?;

    let (commands, commands_taken) = mpsc::channel(options.commands_max);
    let (status, status_seen) = watch::channel(Arc::new(replica.status()));
    let hub = Hub::new(replica.feed().head);
    let (reached, reached_seen) = watch::channel(Frontier::of_vector(&replica.status().vector));
    let ring = Ring::new(options.ring_bytes_max);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let greeting = Greeting {
        cluster: options.cluster,
        node: options.node,
    };
    let desk = Desk::new(storage.clone(), commands.clone());
    let verifier = Verifier::new(desk.clone(), connector.clone(), greeting.clone());
    let links = Arc::new(Links::new(
        greeting.clone(),
        connector,
        commands.clone(),
        ring.clone(),
        runtime.handle().clone(),
    ));
    let pending_bytes = Arc::new(Semaphore::new(options.pending_bytes_max));
    let disk = Arc::new(Disk::new(options.disk_patience));
    let driver = Driver {
        replica,
        storage: storage.clone(),
        commands: commands_taken,
        links: links.clone(),
        ring,
        status,
        hub: EndHub(hub.clone()),
        reached,
        disk: disk.clone(),
        began,
    };
    let connections = runtime.handle().clone();
    std::thread::Builder::new()
        .name("replication".to_owned())
        .spawn(move || runtime.block_on(driver.run()))
        .map_err(StartError::Thread)?;
    let incoming = Incoming {
        greeting,
        commands: commands.clone(),
        links: links.clone(),
        desk,
        // A pool of their own, so that slow peers do not hold up clients.
        pending_bytes: Arc::new(Semaphore::new(options.pending_bytes_max)),
    };
    Ok(Handle {
        storage,
        commands,
        pending_bytes,
        pending_bytes_max: options.pending_bytes_max,
        links,
        incoming,
        verifier,
        connections,
        status: status_seen,
        hub,
        reached: reached_seen,
        policies,
        name,
        mesh,
        began,
        disk,
        sealed: Arc::new(AtomicBool::new(false)),
        held_back: Arc::default(),
    })
}

/// A running replica. Clones share it.
#[derive(Clone)]
pub struct Handle {
    storage: Arc<dyn Storage>,
    commands: mpsc::Sender<Command>,
    pending_bytes: Arc<Semaphore>,
    pending_bytes_max: usize,
    links: Arc<Links>,
    incoming: Incoming,
    verifier: Verifier,
    /// The runtime of the replica's thread.
    connections: tokio::runtime::Handle,
    status: watch::Receiver<Arc<Status>>,
    hub: Arc<Hub>,
    /// What is here without a gap.
    reached: watch::Receiver<Frontier>,
    /// How the documents of each collection are kept.
    policies: Arc<Policies>,
    /// This node.
    name: PeerId,
    mesh: Mesh,
    /// From when on the replica counts its time.
    began: Instant,
    disk: Arc<Disk>,
    sealed: Arc<AtomicBool>,
    /// Why no writes are taken for the time being, by who said so.
    held_back: Arc<RwLock<BTreeMap<&'static str, Arc<str>>>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Writes: all operations or none. Returns when they are durable here and, as far
    /// as `acks` asks for it and `acks_timeout` allows, on peers. When too many bytes
    /// are waiting for the disk, it waits for room first. It does not wait for a disk
    /// that is stuck.
    ///
    /// # Errors
    /// [`WriteError`], which says whether anything can have changed.
    pub async fn write(
        &self,
        operations: Vec<Operation>,
        acks: AckTarget,
        acks_timeout: Duration,
    ) -> Result<WriteReceipt, WriteError> {
        if self.sealed.load(Ordering::SeqCst) {
            return Err(WriteError::Stopped);
        }
        if let Some(reason) = self.writes_refused() {
            return Err(WriteError::HeldBack(reason));
        }
        let bytes = operations.iter().map(Operation::weight).sum();
        self.submit(bytes, |reply, permit| Command::Write {
            operations,
            acks,
            acks_timeout,
            reply,
            permit,
        })
        .await
    }

    /// Hands a command to the driver, as soon as there is room for its bytes, and waits for
    /// the answer; but for neither while the disk is stuck. Where it is given up before the
    /// command is handed over, the driver never sees it.
    async fn submit<T>(
        &self,
        bytes: usize,
        command: impl FnOnce(Reply<T>, OwnedSemaphorePermit) -> Command,
    ) -> Result<T, WriteError> {
        let accepted = async {
            let permit = self.room(bytes + WRITE_OVERHEAD_BYTES).await?;
            let (reply, replied) = oneshot::channel();
            let sent = self.commands.send(command(reply, permit)).await;
            sent.map_err(|_| WriteError::Stopped)?;
            Ok::<_, WriteError>(replied)
        };
        let replied = match self.disk.unless_stuck(accepted).await {
            Ok(accepted) => accepted?,
            Err(Stuck(waited)) => return Err(WriteError::DiskStuck(waited)),
        };
        match self.disk.unless_stuck(replied).await {
            Ok(reply) => Ok(reply.map_err(|_| WriteError::Unknown)??),
            Err(Stuck(waited)) => Err(WriteError::Unanswered(waited)),
        }
    }

    /// Waits until so many more bytes may wait for the disk.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, WriteError> {
        // A write above the bound would wait forever; the replica refuses it.
        let permits = u32::try_from(bytes.min(self.pending_bytes_max)).unwrap_or(u32::MAX);
        let permit = self.pending_bytes.clone().acquire_many_owned(permits).await;
        permit.map_err(|_| WriteError::Stopped)
    }

    /// Takes in a part of a backup, as if a peer had sent it, and with the last one what the
    /// backup claims to have. Returns when it is durable here; the peers come for it by
    /// themselves.
    ///
    /// # Errors
    /// [`WriteError`]; a part may be taken in again, whatever became of it.
    pub async fn take_in(
        &self,
        changes: Vec<Delta>,
        claim: Option<VersionVector>,
    ) -> Result<TakenIn, WriteError> {
        if self.sealed.load(Ordering::SeqCst) {
            return Err(WriteError::Stopped);
        }
        let bytes = changes.iter().map(Delta::weight).sum();
        self.submit(bytes, |reply, permit| Command::TakeIn {
            changes,
            claim,
            reply,
            permit,
        })
        .await
    }

    /// Decides about writes that were taken out and kept aside, by their numbers: makes them
    /// again as new writes, each as the merge rule of its collection wants it, or not, and
    /// forgets them. All of it is done, and durable here, or nothing.
    ///
    /// # Errors
    /// [`WriteError`]; what is decided about already is [`WriteRefused::NotExported`].
    pub async fn decide(&self, numbers: Vec<u64>, write: bool) -> Result<WriteReceipt, WriteError> {
        if self.sealed.load(Ordering::SeqCst) {
            return Err(WriteError::Stopped);
        }
        if let Some(reason) = self.writes_refused().filter(|_| write) {
            return Err(WriteError::HeldBack(reason));
        }
        // They are read from the disk, one by one.
        self.submit(0, |reply, permit| Command::Decide {
            numbers,
            write,
            reply,
            permit,
        })
        .await
    }

    /// The writes that were taken out and kept aside, from a number on: at most `most`, about
    /// a megabyte of them; and whether there are more.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn exported(&self, from: u64, most: usize) -> Result<(Vec<Exported>, bool), ReadError> {
        Ok(storage::read(&*self.storage, |reader| {
            storage::exported_page(reader, from, most, EXPORTED_BYTES_MAX)
        })?)
    }

    /// How many writes were taken out and kept aside, and wait for a decision.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn exported_count(&self) -> Result<u64, ReadError> {
        Ok(storage::read(&*self.storage, storage::exported_count)?)
    }

    /// Up to which key a snapshot has been taken over that is under way; `None` where none is,
    /// or none has come yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn filled_to(&self) -> Result<Option<Key>, ReadError> {
        let settlement = storage::read(&*self.storage, storage::settlement)?;
        Ok(settlement.fill.and_then(|fill| fill.after().cloned()))
    }

    /// Gives up the replicas of a node that an operator has removed: nothing is taken from
    /// them any more, and nobody waits for them. All others are told. It is done when
    /// [`Handle::status`] says so; one that was lost with a failed disk must be asked again.
    pub async fn give_up(&self, node: PeerId) {
        // A stopped driver gives nobody up.
        let _ = self.commands.send(Command::GiveUp(node)).await;
    }

    /// Begins a backup of what is here. Its pieces are read one by one, and each reading
    /// blocks.
    ///
    /// # Errors
    /// [`BackupFailed::Store`], [`BackupFailed::Filling`].
    pub fn backup(&self, about: About) -> Result<Backup, BackupFailed> {
        Backup::begin(self.storage.clone(), about, wall_ms())
    }

    /// Waits until this node has everything up to `wanted`, but no longer than `limit`;
    /// what nobody has any more is not waited for below a write that is here. What is read
    /// afterwards shows what was wanted, or what came after it.
    ///
    /// # Errors
    /// [`WaitError`] says what is lacking.
    pub async fn wait_for(&self, wanted: &Frontier, limit: Duration) -> Result<(), WaitError> {
        let (reached, status) = (self.reached.clone(), self.status.clone());
        arrival::wait_for(wanted, reached, status, limit).await
    }

    /// What this node holds for a key; deleted ones as tombstones.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.entry_noting(key, &mut Frontier::default())
    }

    /// The same, and notes in `seen` the writes that the answer rests on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry_noting(&self, key: &Key, seen: &mut Frontier) -> Result<Option<Entry>, ReadError> {
        let record = storage::read(&*self.storage, |reader| state::entry(reader, key))?;
        Ok(record.and_then(|record| {
            record.document.note_writes(seen);
            Entry::of(&record.document, wall_ms())
        }))
    }

    /// Which older versions of a collection's documents this node keeps.
    pub fn keeps(&self, collection: &Collection) -> Keep {
        self.policies.of(collection).history
    }

    /// The versions of a document that this node went through and has kept, the newest
    /// first; none if it was never written.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn history(&self, key: &Key) -> Result<Vec<Kept>, ReadError> {
        let keep = self.keeps(key.collection());
        Ok(storage::read(&*self.storage, |reader| {
            history::versions(reader, key, keep, wall_ms())
        })?)
    }

    /// A page of a collection's documents, in order of their keys.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn documents(
        &self,
        collection: &Collection,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        Ok(storage::read(&*self.storage, |reader| {
            state::documents(reader, collection, prefix, after, limit, wall_ms())
        })?)
    }

    /// Watches changes, of one collection or all, of keys with a prefix: those after
    /// `from`, or without it those from now on.
    ///
    /// # Errors
    /// [`WatchError::Gone`] when the changes after `from` are no longer kept here.
    pub fn watch(
        &self,
        collection: Option<Collection>,
        prefix: &str,
        from: Option<Cursor>,
    ) -> Result<Watch, WatchError> {
        let replica = self.status.borrow().origin.replica;
        let ends = storage::read(&*self.storage, state::feed_ends)?;
        let cursor = from.unwrap_or(Cursor {
            replica,
            position: ends.head,
        });
        if cursor.replica != replica || !(ends.floor..=ends.head).contains(&cursor.position) {
            return Err(WatchError::Gone);
        }
        Ok(Watch::begin(
            self.storage.clone(),
            self.hub.clone(),
            cursor,
            collection,
            prefix.to_owned(),
        ))
    }

    /// All documents, of one collection or all, of keys with a prefix, and a watch that goes
    /// on from before the first of them is read.
    ///
    /// # Errors
    /// [`WatchError::Store`].
    pub fn snapshot(
        &self,
        collection: Option<Collection>,
        prefix: &str,
    ) -> Result<(Snapshot, Watch), WatchError> {
        let watch = self.watch(collection.clone(), prefix, None)?;
        let storage = self.storage.clone();
        let snapshot = Snapshot::begin(storage, collection, prefix.to_owned());
        Ok((snapshot, watch))
    }

    /// The cursor before the first change that this node keeps.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn first_cursor(&self) -> Result<Cursor, ReadError> {
        let replica = self.status.borrow().origin.replica;
        let ends = storage::read(&*self.storage, state::feed_ends)?;
        Ok(Cursor {
            replica,
            position: ends.floor,
        })
    }

    /// The runtime on the replica's own thread. Connections of peers are best accepted and
    /// served on it: what arrives there is taken in, and what is said goes out, without
    /// waking another thread. It ends with the replica.
    pub fn connections(&self) -> &tokio::runtime::Handle {
        &self.connections
    }

    /// Makes these the peers to replicate with. Beyond a full mesh, this node links only to
    /// its neighbours among them.
    pub async fn set_peers(&self, peers: Vec<Peer>) {
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id.clone()).collect();
        let near = self.mesh.neighbours(&self.name, &ids);
        let ended = self.links.set_peers(peers, &near);
        let down = ended.into_iter().map(Command::LinkDown);
        for command in down.chain([Command::Peers(ids)]) {
            // A stopped driver has no peers.
            let _ = self.commands.send(command).await;
        }
    }

    /// Serves a connection that a peer has opened; `peer` is the name that its
    /// certificate carries. Returns when the connection ends.
    pub async fn serve(&self, stream: Box<dyn Stream>, peer: PeerId) {
        self.incoming.clone().serve(stream, peer).await;
    }

    /// Compares what this node and all its peers hold, and mends it where that is asked. The
    /// report names the nodes that did not take part.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn verify(&self, options: VerifyOptions) -> Result<Report, VerifyError> {
        self.verifier.run(self.links.peers(), options).await
    }

    /// How far the comparison has come that is under way from this node, if one is.
    pub fn verify_progress(&self) -> Option<VerifyProgress> {
        self.verifier.progress()
    }

    /// The replica's state, as it changes.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// How far the peers are behind, and this node behind them; by name.
    pub fn lags(&self) -> Vec<PeerLag> {
        let status = self.status.borrow().clone();
        PeerLag::all(&status, self.links(), self.began.elapsed())
    }

    /// How the disk of the store does.
    pub fn disk(&self) -> DiskStatus {
        self.disk.status()
    }

    /// How the connections to the peers stand.
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links.statuses()
    }

    /// Takes no writes until [`Handle::allow_writes`] for the same `holder`: those that come
    /// from now on end with [`WriteError::HeldBack`] and this reason, a sentence without its
    /// full stop for whoever writes. Reads and replication go on. Several holders may hold
    /// writes back at once; one that does so already gives a new reason.
    pub fn refuse_writes(&self, holder: &'static str, reason: &str) {
        let mut held_back = self
            .held_back
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        held_back.insert(holder, reason.into());
    }

    /// As far as `holder` is concerned, writes are taken again.
    pub fn allow_writes(&self, holder: &str) {
        let mut held_back = self
            .held_back
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        held_back.remove(holder);
    }

    /// Why no writes are taken for the time being, if so: all reasons in one line.
    pub fn writes_refused(&self) -> Option<Arc<str>> {
        let held_back = self
            .held_back
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut reasons = held_back.values();
        let first = reasons.next()?;
        Some(reasons.fold(first.clone(), |all, reason| {
            format!("{all}; and {reason}").into()
        }))
    }

    /// Takes no more writes, for good: later ones end with [`WriteError::Stopped`]. Reads
    /// go on.
    pub fn end_writes(&self) {
        self.sealed.store(true, Ordering::SeqCst);
    }

    /// Waits until every linked peer has all of this node's writes on disk, but no
    /// longer than `limit`; whether they are on at least one peer's and on all linked
    /// ones'. A node that knows no peer has nothing to wait for.
    pub async fn flush(&self, limit: Duration) -> bool {
        let delivered = |status: &Arc<Status>| {
            let mut linked = status.peers.iter().filter(|peer| peer.linked).peekable();
            let reachable = linked.peek().is_some() || status.peers.is_empty();
            reachable && linked.all(|peer| peer.unacknowledged == 0)
        };
        let flush = async {
            self.refresh_status().await;
            self.status.clone().wait_for(delivered).await.ok().map(drop)
        };
        matches!(timeout(limit, flush).await, Ok(Some(())))
    }

    /// Makes [`Handle::status`] show all that the replica knows now; by itself it may be
    /// 50 ms late. A stopped replica has nothing to add.
    pub async fn refresh_status(&self) {
        let (published, ready) = oneshot::channel();
        if self
            .commands
            .send(Command::Publish(published))
            .await
            .is_ok()
        {
            let _ = ready.await;
        }
    }

    /// Waits until the replica has stopped, for whatever reason.
    pub async fn stopped(&self) {
        // The driver holds the other end for as long as it runs.
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }

    /// Finishes what has been asked for, ends all connections, and stops.
    pub async fn shutdown(&self) {
        self.end_writes();
        let _ = self.commands.send(Command::Stop).await;
        self.stopped().await;
        self.links.set_peers(Vec::new(), &BTreeSet::new());
        self.pending_bytes.close();
    }
}
