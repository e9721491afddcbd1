//! The front door: join a cluster, look at it, speak to it, leave it.
//!
//! [`Cluster`] is a handle that clones cheaply; all clones speak to the one
//! gossip thread, which [`Cluster::join`] starts. Reading (members, events,
//! diagnostics) never waits for that thread. When the last handle is dropped the
//! thread stops without a word, which to the others is a crash: an agent that
//! stops in order calls [`Cluster::leave`].

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::config::Config;
use crate::diagnostics::journal::Journal;
use crate::diagnostics::{Diagnostics, IdentityConflict};
use crate::directive::Directives;
use crate::error::{JoinError, LeaveError, MetadataError};
use crate::event::{EVENTS_BUFFERED, Event, EventStream};
use crate::gossip::{Command, Desired, Driver, DriverChannels, Shared};
use crate::heartbeat::HeartbeatTable;
use crate::identity::Identity;
use crate::leave::LeaveReport;
use crate::member::Members;
use crate::metadata::Metadata;
use crate::roster::RosterEntry;
use crate::seeds::Seeds;
use crate::transport::datagrams::{Datagrams, canonical};
use crate::transport::endpoint::{Endpoint, EndpointConfig};
use crate::transport::keyring::Keyring;
use crate::transport::large_frames::LargeFrameLink;

/// A handle to this node's membership in its cluster.
#[derive(Clone)]
pub struct Cluster {
    identity: Identity,
    keyring: Keyring,
    shared: Arc<Shared>,
    events: broadcast::WeakSender<Event>,
    desired: watch::Sender<Desired>,
    applied: watch::Receiver<u64>,
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<()>,
}

impl Cluster {
    /// Starts gossip on `socket`, which is bound already, and announces
    /// `metadata`. Returns when this node is a member of its own cluster; others
    /// appear as they are found.
    ///
    /// `link` carries frames that are too large for a datagram; without it they
    /// go as datagrams that the network may cut.
    ///
    /// # Errors
    /// [`JoinError`]; nothing runs then.
    pub async fn join(
        config: Config,
        keyring: Keyring,
        socket: UdpSocket,
        metadata: Metadata,
        link: Option<LargeFrameLink>,
    ) -> Result<Cluster, JoinError> {
        let failed = |what| move |source| JoinError::Start { what, source };
        let (cluster, start, running) = Cluster::prepare(config, keyring, metadata, link)?;
        socket
            .set_nonblocking(true)
            .map_err(failed("making the socket non-blocking"))?;
        let gossip = GossipThread { start, socket };
        let (ready, started) = oneshot::channel();
        thread::Builder::new()
            .name("basic-gossip".to_owned())
            .spawn(move || {
                gossip.run(ready);
                // Dropped last: by then the socket is closed.
                drop(running);
            })
            .map_err(failed("starting the gossip thread"))?;
        match started.await {
            Ok(Ok(())) => Ok(cluster),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(JoinError::Protocol {
                reason: "the gossip thread ended".to_owned(),
            }),
        }
    }

    /// Joins on the runtime and the clock of a test instead of a thread of its
    /// own.
    #[cfg(test)]
    pub(crate) async fn join_here(
        config: Config,
        keyring: Keyring,
        datagrams: impl Datagrams,
        metadata: Metadata,
        link: Option<LargeFrameLink>,
    ) -> Result<Cluster, JoinError> {
        let (cluster, start, running) = Cluster::prepare(config, keyring, metadata, link)?;
        let driver = start.driver(datagrams).await?;
        tokio::spawn(async move {
            driver.run().await;
            drop(running);
        });
        Ok(cluster)
    }

    /// Checks everything that can be checked, and makes the handle and what moves
    /// to the gossip thread. When the third is dropped, gossip has stopped.
    fn prepare(
        config: Config,
        keyring: Keyring,
        metadata: Metadata,
        link: Option<LargeFrameLink>,
    ) -> Result<(Cluster, Start, watch::Sender<()>), JoinError> {
        let config = Config {
            advertise: canonical(config.advertise),
            ..config
        };
        config.check()?;
        metadata.check().map_err(JoinError::Metadata)?;
        let seeds = Seeds::parse(&config.seeds)?;
        let journal = Arc::new(Journal::default());
        let shared = Arc::new(Shared::new(Arc::clone(&journal)));
        let (events, _) = broadcast::channel(EVENTS_BUFFERED);
        let (desired, _) = watch::channel(Desired {
            metadata: Metadata {
                joined: config.identity.joined,
                keys: keyring.installed(),
                ..metadata
            },
            revision: 0,
            leaving: false,
        });
        let (applied, applied_changes) = watch::channel(0);
        let (commands, command_queue) = mpsc::channel(COMMANDS_BUFFERED);
        let (running, ended) = watch::channel(());

        let cluster = Cluster {
            identity: config.identity.clone(),
            keyring: keyring.clone(),
            shared: Arc::clone(&shared),
            events: events.downgrade(),
            desired: desired.clone(),
            applied: applied_changes,
            commands,
            ended,
        };
        let channels = DriverChannels {
            shared,
            events,
            desired,
            applied,
            commands: command_queue,
        };
        let endpoint = EndpointConfig {
            cluster: config.cluster.clone(),
            keyring,
            identity: config.identity.clone(),
            advertise: config.advertise,
            heartbeats: HeartbeatTable::new(config.initial_interval, config.max_interval),
            link,
            journal,
        };
        let start = Start {
            config,
            seeds,
            endpoint,
            channels,
        };
        Ok((cluster, start, running))
    }

    /// Who this node is. The incarnation is the one it joined with; a restart of
    /// the gossip protocol brings a higher one, which [`Cluster::members`] shows.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The keys of gossip, to rotate them.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The members as of the last tick, with current ages and phi values.
    pub fn members(&self) -> Arc<Members> {
        self.shared.members.load_full()
    }

    /// Follows the members; wakes at each change other than of ages and phi
    /// values, and always shows the latest.
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.shared.changes.subscribe()
    }

    /// The events from now on.
    pub fn events(&self) -> EventStream {
        match self.events.upgrade() {
            Some(sender) => EventStream::new(sender.subscribe()),
            // Gossip has stopped: a stream that ends at once.
            None => EventStream::new(broadcast::channel(1).1),
        }
    }

    /// Changes what this node announces. Returns when the change shows in
    /// [`Cluster::members`] of this node and is on its way to the others. Only
    /// the keys that differ are gossiped.
    ///
    /// # Errors
    /// [`MetadataError`]; the announced metadata is then as before.
    pub async fn set_metadata(
        &self,
        change: impl FnOnce(&mut Metadata),
    ) -> Result<(), MetadataError> {
        let mut outcome = Err(MetadataError::Stopped);
        self.desired.send_if_modified(|desired| {
            if desired.leaving {
                return false;
            }
            let mut next = desired.metadata.clone();
            change(&mut next);
            // These two are this crate's to say.
            next.joined = desired.metadata.joined;
            next.keys.clone_from(&desired.metadata.keys);
            let changed = next != desired.metadata;
            outcome = next.check().map(|()| desired.revision + u64::from(changed));
            if outcome.is_ok() && changed {
                desired.metadata = next;
                desired.revision += 1;
            }
            outcome.is_ok() && changed
        });
        let revision = outcome?;
        let mut applied = self.applied.clone();
        match applied.wait_for(|applied| *applied >= revision).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MetadataError::Stopped),
        }
    }

    /// What this node announces.
    pub fn metadata(&self) -> Metadata {
        self.desired.borrow().metadata.clone()
    }

    /// What was counted, refused and noticed.
    pub fn diagnostics(&self) -> Diagnostics {
        self.shared.journal.snapshot()
    }

    /// Puts the operators' decisions in force here: these, and no others. Returns
    /// at once; the members follow within the same round of gossip. What is the
    /// same as before changes nothing. May be called at any time; a decision about
    /// a node that is not known yet waits for it.
    ///
    /// Where a decision removes this very node, [`Cluster::members`] shows it as
    /// [`MemberState::Removed`](crate::MemberState::Removed), and nothing else
    /// happens here: to leave and to stop is the caller's part.
    pub fn set_directives(&self, directives: Directives) {
        self.shared.directives.send_if_modified(|before| {
            let changed = **before != directives;
            if changed {
                *before = Arc::new(directives);
            }
            changed
        });
    }

    /// The decisions in force.
    pub fn directives(&self) -> Arc<Directives> {
        Arc::clone(&self.shared.directives.borrow())
    }

    /// Every member ever seen and not removed, in the order of their ids, also
    /// those that gossip has forgotten; this node among them.
    pub fn roster(&self) -> Vec<RosterEntry> {
        self.shared.roster().iter().cloned().collect()
    }

    /// Whether another living process announces this node's id, and where its
    /// frames come from. Shows the present: `None` again once the other has been
    /// silent for a while. Wakes when another process takes its place, or none.
    pub fn identity_conflict(&self) -> watch::Receiver<Option<IdentityConflict>> {
        self.shared.conflict.subscribe()
    }

    /// Leaves the cluster: announces `leaving` and then `left` to every live
    /// peer at once, waits for each of the two, up to
    /// [`Config::leave_timeout`](crate::Config::leave_timeout), until all have
    /// confirmed, and stops.
    ///
    /// # Errors
    /// [`LeaveError::Stopped`].
    pub async fn leave(&self) -> Result<LeaveReport, LeaveError> {
        let (reply, report) = oneshot::channel();
        let sent = self.commands.send(Command::Leave(reply)).await;
        sent.map_err(|_| LeaveError::Stopped)?;
        let report = report.await.map_err(|_| LeaveError::Stopped);
        self.stopped().await;
        report
    }

    /// Stops without a word; to the others it looks like a crash.
    pub async fn stop(&self) {
        // A closed queue means that it is stopping or has stopped.
        let _ = self.commands.send(Command::Stop).await;
        self.stopped().await;
    }

    /// Waits until gossip has stopped, for whatever reason, and its socket is
    /// closed.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.identity.id)
            .field("members", &self.members().len())
            .finish_non_exhaustive()
    }
}

/// Commands that wait; there are three callers at most.
const COMMANDS_BUFFERED: usize = 8;

/// What gossip is started with, but the network.
struct Start {
    config: Config,
    seeds: Seeds,
    endpoint: EndpointConfig,
    channels: DriverChannels,
}

impl Start {
    async fn driver(self, datagrams: impl Datagrams) -> Result<Driver, JoinError> {
        let keyring = self.endpoint.keyring.clone();
        let endpoint = Arc::new(Endpoint::new(datagrams, self.endpoint));
        Driver::start(self.config, self.seeds, endpoint, &keyring, self.channels)
            .await
            .map_err(|error| JoinError::Protocol {
                reason: format!("{error:#}"),
            })
    }
}

/// Everything that moves to the gossip thread.
struct GossipThread {
    start: Start,
    socket: UdpSocket,
}

impl GossipThread {
    fn run(self, ready: oneshot::Sender<Result<(), JoinError>>) {
        let failed = |what| move |source: io::Error| JoinError::Start { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("starting the gossip runtime"));
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match self.start().await {
                Ok(driver) => {
                    if ready.send(Ok(())).is_ok() {
                        driver.run().await;
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        // A name that is being resolved must not delay the end.
        runtime.shutdown_background();
    }

    async fn start(self) -> Result<Driver, JoinError> {
        let udp =
            tokio::net::UdpSocket::from_std(self.socket).map_err(|source| JoinError::Start {
                what: "handing the socket to the runtime",
                source,
            })?;
        self.start.driver(udp).await
    }
}

#[cfg(test)]
mod tests;
