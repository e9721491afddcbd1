//! Connections that this node opens: one task a peer and lane.
//!
//! The live lane is always up: it connects, greets, says so to the replica (which
//! answers with its vector), and then sends what is queued for the peer and what
//! comes on the ring. The bulk lane connects when there is something to send and
//! hangs up when there has been nothing for a while.
//!
//! Attempts that fail come at growing distances. A peer that was away and opens its own
//! connection shows that it is back, and is tried at once: until both directions are up, it
//! lacks what is written here.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::driver::Command;
use super::incoming::{Greeting, read_hello};
use super::ring::{Next, Reader, Ring};
use super::{Connector, Stream};
use crate::codec::{self, Hello, Lane, PROTOCOL};
use crate::model::PeerId;
use crate::protocol::Message;

/// Messages queued for one peer and lane at most. A pull has a few chunks under way;
/// vectors and acknowledgements make good for those that are dropped.
const QUEUE_MAX: usize = 64;
/// Pauses between attempts to connect: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connection that has lasted so long was a good one: the next attempt comes soon.
const LASTED: Duration = Duration::from_secs(5);
/// A connection that takes no bytes for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A bulk connection without work for so long is closed.
const BULK_IDLE: Duration = Duration::from_secs(30);

/// A peer to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name; the certificate that it shows must carry it.
    pub id: PeerId,
    /// Where its agent listens for peers.
    pub address: SocketAddr,
}

/// How the connection to a peer stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// Who.
    pub peer: Peer,
    /// Whether the live lane is up.
    pub up: bool,
    /// Since when it is, or is not.
    pub since: SystemTime,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// Frames that the peer was too slow for; it got their contents by a pull.
    pub frames_lost: u64,
    /// What waits to be sent to it.
    pub queued: Queued,
}

/// What waits to be sent to a peer. What its kernel and ours hold is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// Messages: chunks of pulls, vectors, acknowledgements.
    pub messages: usize,
    /// Bytes of writes that are pushed live.
    pub ring_bytes: u64,
}

/// All connections that this node opens.
pub(super) struct Links {
    /// All peers, by name; beyond a full mesh, most of them are not linked to.
    peers: Mutex<Vec<Peer>>,
    links: Mutex<HashMap<PeerId, Link>>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    greeting: Greeting,
    connector: Arc<dyn Connector>,
    commands: mpsc::Sender<Command>,
    ring: Arc<Ring>,
    runtime: tokio::runtime::Handle,
}

struct Link {
    live: mpsc::Sender<Message>,
    bulk: mpsc::Sender<Message>,
    status: Arc<Mutex<LinkStatus>>,
    /// By which the ring knows the live lane.
    reader: Arc<AtomicU64>,
    /// The peer can be reached again.
    back: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Links {
    pub(super) fn new(
        greeting: Greeting,
        connector: Arc<dyn Connector>,
        commands: mpsc::Sender<Command>,
        ring: Arc<Ring>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let shared = Shared {
            greeting,
            connector,
            commands,
            ring,
            runtime,
        };
        Self {
            peers: Mutex::default(),
            links: Mutex::default(),
            shared,
        }
    }

    /// Queues a message for a peer. A full queue or an unknown peer drops it.
    pub(super) fn send(&self, peer: &PeerId, message: Message) {
        let links = self.lock();
        let Some(link) = links.get(peer) else { return };
        let queue = match message {
            Message::PullChunk(_) | Message::SnapshotChunk(_) => &link.bulk,
            _ => &link.live,
        };
        if queue.try_send(message).is_err() {
            debug!(%peer, "a message was dropped: the queue is full");
        }
    }

    /// Queues a message for each of these peers.
    pub(super) fn send_all(&self, peers: &[PeerId], message: &Message) {
        for peer in peers {
            self.send(peer, message.clone());
        }
    }

    /// Makes `peers` the peers, and those of them that are `near` the ones to connect to.
    /// Returns those whose connection was ended: they are gone, or no longer near, or have
    /// moved.
    pub(super) fn set_peers(&self, mut peers: Vec<Peer>, near: &BTreeSet<PeerId>) -> Vec<PeerId> {
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        lock(&self.peers).clone_from(&peers);
        peers.retain(|peer| near.contains(&peer.id));
        let mut links = self.lock();
        let mut ended = Vec::new();
        links.retain(|id, link| {
            let stays = peers.contains(&lock(&link.status).peer);
            if !stays {
                ended.push(id.clone());
            }
            stays
        });
        for peer in peers {
            links
                .entry(peer.id.clone())
                .or_insert_with(|| Link::open(&self.shared, peer));
        }
        ended
    }

    /// All peers, by name.
    pub(super) fn peers(&self) -> Vec<Peer> {
        lock(&self.peers).clone()
    }

    /// The peer has opened a connection to this node. The pause before the next attempt to
    /// connect to it ends, if there is one.
    pub(super) fn is_back(&self, peer: &PeerId) {
        if let Some(link) = self.lock().get(peer) {
            // Kept, so that an attempt that is failing just now does not miss it. At worst it
            // ends a later pause, the shortest aside.
            link.back.notify_one();
        }
    }

    pub(super) fn statuses(&self) -> Vec<LinkStatus> {
        let ring = &self.shared.ring;
        let mut statuses: Vec<LinkStatus> = self
            .lock()
            .values()
            .map(|link| LinkStatus {
                queued: link.queued(ring),
                ..lock(&link.status).clone()
            })
            .collect();
        statuses.sort_by(|a, b| a.peer.id.cmp(&b.peer.id));
        statuses
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Link>> {
        lock(&self.links)
    }
}

impl Link {
    fn open(shared: &Shared, peer: Peer) -> Self {
        let (live, live_queue) = mpsc::channel(QUEUE_MAX);
        let (bulk, bulk_queue) = mpsc::channel(QUEUE_MAX);
        let status = Arc::new(Mutex::new(LinkStatus {
            peer: peer.clone(),
            up: false,
            since: SystemTime::now(),
            last_error: None,
            frames_lost: 0,
            queued: Queued::default(),
        }));
        // No reader has this number.
        let reader = Arc::new(AtomicU64::new(u64::MAX));
        let back = Arc::new(Notify::new());
        let task = LinkTask {
            shared: shared.clone(),
            peer,
            status: status.clone(),
            reader: reader.clone(),
            back: back.clone(),
        };
        let bulk_task = LinkTask {
            shared: shared.clone(),
            peer: task.peer.clone(),
            status: status.clone(),
            reader: reader.clone(),
            back: back.clone(),
        };
        let tasks = [
            shared.runtime.spawn(task.run_live(live_queue)),
            shared.runtime.spawn(bulk_task.run_bulk(bulk_queue)),
        ];
        Self {
            live,
            bulk,
            status,
            reader,
            back,
            tasks,
        }
    }

    fn queued(&self, ring: &Ring) -> Queued {
        let lanes = [&self.live, &self.bulk].into_iter();
        Queued {
            messages: lanes.map(|lane| QUEUE_MAX - lane.capacity()).sum(),
            ring_bytes: ring.waiting_for(self.reader.load(Ordering::Relaxed)),
        }
    }
}

struct LinkTask {
    shared: Shared,
    peer: Peer,
    status: Arc<Mutex<LinkStatus>>,
    reader: Arc<AtomicU64>,
    back: Arc<Notify>,
}

impl LinkTask {
    /// Keeps the live lane up for as long as the peer is one of ours.
    async fn run_live(self, mut queue: mpsc::Receiver<Message>) {
        let mut pause = RETRY_MIN;
        loop {
            match self.connect(Lane::Live).await {
                Ok((reader, writer)) => {
                    let began = Instant::now();
                    let ended = self.live(reader, writer, &mut queue).await;
                    if began.elapsed() >= LASTED {
                        pause = RETRY_MIN;
                    }
                    self.note_down(&ended);
                    if self
                        .shared
                        .commands
                        .send(Command::LinkDown(self.peer.id.clone()))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                Err(error) => self.note_down(&error),
            }
            // What was queued for the old connection is void.
            while queue.try_recv().is_ok() {}
            // However often it comes back.
            sleep(jittered(RETRY_MIN)).await;
            pause = match timeout(jittered(pause - RETRY_MIN), self.back.notified()).await {
                Ok(()) => RETRY_MIN,
                Err(_) => (pause * 2).min(RETRY_MAX),
            };
        }
    }

    /// Sends until the connection fails; says why it did.
    async fn live(
        &self,
        mut reader: ReadHalf<Box<dyn Stream>>,
        writer: WriteHalf<Box<dyn Stream>>,
        queue: &mut mpsc::Receiver<Message>,
    ) -> io::Error {
        let mut ring = self.shared.ring.subscribe();
        self.reader.store(ring.id(), Ordering::Relaxed);
        {
            let mut status = lock(&self.status);
            status.up = true;
            status.since = SystemTime::now();
            status.last_error = None;
        }
        info!(peer = %self.peer.id, address = %self.peer.address, "replication link is up");
        if self
            .shared
            .commands
            .send(Command::LinkUp(self.peer.id.clone()))
            .await
            .is_err()
        {
            return io::Error::other("the replica has stopped");
        }
        let mut writer = BufWriter::with_capacity(16 * 1024, writer);
        let mut unexpected = [0; 1];
        loop {
            let outcome = tokio::select! {
                message = queue.recv() => match message {
                    Some(message) => self.send(&mut writer, &codec::encode_message(&message)).await,
                    None => return io::Error::other("the peer is no longer one of ours"),
                },
                more = ring.changed() => match more {
                    true => self.send_ring(&mut writer, &ring, queue).await,
                    false => return io::Error::other("the replica has stopped"),
                },
                read = reader.read(&mut unexpected) => Err(match read {
                    Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "the peer hung up"),
                    Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "the peer spoke out of turn"),
                    Err(error) => error,
                }),
            };
            // Flush when nothing else is ready to be sent.
            let idle = queue.is_empty() && !ring.has_changed();
            let outcome = match outcome {
                Ok(()) if idle => within(SEND_TIMEOUT, writer.flush()).await,
                other => other,
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn send_ring(
        &self,
        writer: &mut BufWriter<WriteHalf<Box<dyn Stream>>>,
        ring: &Reader,
        queue: &mut mpsc::Receiver<Message>,
    ) -> io::Result<()> {
        loop {
            // A long backlog must not hold up acknowledgements and pulls.
            if let Ok(message) = queue.try_recv() {
                self.send(writer, &codec::encode_message(&message)).await?;
            }
            match ring.next() {
                Next::Frame(frame) => self.send(writer, &frame).await?,
                Next::Lost(frames) => {
                    warn!(peer = %self.peer.id, frames, "the peer is too slow for the live stream; it will pull");
                    lock(&self.status).frames_lost += frames;
                }
                Next::Empty => return Ok(()),
            }
        }
    }

    async fn send(
        &self,
        writer: &mut BufWriter<WriteHalf<Box<dyn Stream>>>,
        frame: &Bytes,
    ) -> io::Result<()> {
        within(SEND_TIMEOUT, writer.write_all(frame)).await
    }

    /// Sends the chunks of pulls, over a connection that is there while there are any.
    async fn run_bulk(self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.recv().await {
            let (_reader, writer) = match self.connect(Lane::Bulk).await {
                Ok(halves) => halves,
                Err(error) => {
                    debug!(peer = %self.peer.id, %error, "a pull cannot be answered: no bulk connection");
                    // The asker gives the session up and asks again.
                    while queue.try_recv().is_ok() {}
                    continue;
                }
            };
            let mut writer = BufWriter::with_capacity(64 * 1024, writer);
            let mut next = Some(first);
            while let Some(message) = next {
                let sent = self
                    .send(&mut writer, &codec::encode_message(&message))
                    .await;
                let flushed = match sent {
                    Ok(()) if queue.is_empty() => within(SEND_TIMEOUT, writer.flush()).await,
                    other => other,
                };
                if let Err(error) = flushed {
                    debug!(peer = %self.peer.id, %error, "the bulk connection failed");
                    break;
                }
                next = timeout(BULK_IDLE, queue.recv()).await.ok().flatten();
            }
            let _ = timeout(SEND_TIMEOUT, writer.shutdown()).await;
        }
    }

    /// Connects and greets.
    async fn connect(
        &self,
        lane: Lane,
    ) -> io::Result<(ReadHalf<Box<dyn Stream>>, WriteHalf<Box<dyn Stream>>)> {
        let stream = self.shared.connector.connect(&self.peer).await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let Greeting { cluster, node } = self.shared.greeting.clone();
        let hello = Hello {
            protocol: PROTOCOL,
            cluster,
            node,
            lane,
        };
        within(SEND_TIMEOUT, writer.write_all(&codec::encode_hello(&hello))).await?;
        within(SEND_TIMEOUT, writer.flush()).await?;
        let theirs = read_hello(&mut reader).await?;
        self.shared.greeting.check(&theirs, &self.peer.id)?;
        Ok((reader, writer))
    }

    fn note_down(&self, error: &io::Error) {
        let mut status = lock(&self.status);
        let text = super::driver::chain(error);
        let news = status.up || status.last_error.as_deref() != Some(text.as_str());
        if std::mem::replace(&mut status.up, false) {
            status.since = SystemTime::now();
        }
        if news {
            info!(peer = %self.peer.id, address = %self.peer.address, error = %text, "replication link is down");
        }
        status.last_error = Some(text);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes no more bytes",
        ))
    })
}

/// A pause between three quarters and five quarters of the given one, so that nodes
/// that failed together do not return together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without a random source the pause is just not varied.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(0.75 + f64::from(byte[0]) / 510.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Connecting;
    use super::*;

    /// A peer that is away, and the moments at which it was tried.
    struct Away(mpsc::UnboundedSender<tokio::time::Instant>);

    impl Connector for Away {
        fn connect<'c>(&'c self, _: &'c Peer) -> Connecting<'c> {
            let _ = self.0.send(tokio::time::Instant::now());
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_come_seldom_until_the_peer_shows_that_it_is_back() {
        let (tried, mut attempts) = mpsc::unbounded_channel();
        let greeting = Greeting {
            cluster: "c".to_owned(),
            node: "n1".to_owned(),
        };
        let links = Links::new(
            greeting,
            Arc::new(Away(tried)),
            mpsc::channel(8).0,
            Ring::new(1),
            tokio::runtime::Handle::current(),
        );
        let peer = Peer {
            id: PeerId::new("n2"),
            address: ([127, 0, 0, 1], 1).into(),
        };
        links.set_peers(vec![peer.clone()], &BTreeSet::from([peer.id.clone()]));
        let mut before = attempts.recv().await.unwrap();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let next = attempts.recv().await.unwrap();
            pauses.push(next - before);
            before = next;
        }
        let longest = RETRY_MAX.mul_f64(1.25) + Duration::from_millis(2);
        assert!(pauses.iter().all(|pause| *pause <= longest), "{pauses:?}");
        assert!(pauses[9] >= RETRY_MAX.mul_f64(0.7), "{pauses:?}");
        // It shows that again and again, and is tried as often, and no more often.
        for _ in 0..3 {
            sleep(Duration::from_millis(1)).await;
            links.is_back(&peer.id);
            links.is_back(&peer.id);
            let next = attempts.recv().await.unwrap();
            let pause = next - before;
            let shortest = RETRY_MIN.mul_f64(0.7);
            assert!(pause >= shortest && pause <= 2 * RETRY_MIN, "{pause:?}");
            before = next;
        }
        let after = attempts.recv().await.unwrap() - before;
        assert!(after <= 2 * RETRY_MIN, "they begin anew: {after:?}");
        let then = attempts.recv().await.unwrap() - before - after;
        assert!(then > after, "{then:?}");
    }
}
