//! The gossip thread: one task owns the state of membership.
//!
//! [`Driver`] is that task. It runs on a thread and a runtime of its own, so
//! that nothing the agent does can delay a heartbeat; chitchat's task runs beside
//! it. What can happen to it are the arms of one `select!`: its tick, news from
//! chitchat, a silence that becomes too long, changed metadata of this node,
//! decisions of operators, changed keys, a resolved seed, a command, and the end of
//! chitchat. It reads chitchat's state, lets [`View`] conclude, and publishes. If
//! chitchat panics, which no message should bring about, the driver says so and
//! starts it again under a new incarnation; the members stay as they were until
//! they were heard again or had time to be.

use std::collections::HashSet;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::diagnostics::IdentityConflict;
use crate::diagnostics::journal::{Journal, Observed};
use crate::directive::Directives;
use crate::event::{Event, EventKind};
use crate::heartbeat::Moment;
use crate::leave::{LeaveReport, Rollcall};
use crate::member::Members;
use crate::metadata::{AnnouncedState, Metadata};
use crate::name::NodeId;
use crate::roster::Roster;
use crate::seeds::{self, Seeds};
use crate::stall::StallGuard;
use crate::transport::endpoint::Endpoint;
use crate::transport::keyring::{KeyId, Keyring};
use crate::view::{Observation, Patience, Settings, View};

mod memory;
mod neighbourhood;
mod protocol;
mod restart;

use memory::Memory;
use neighbourhood::Neighbourhood;
use protocol::Protocol;

/// What this node wants to announce. Each change raises the revision.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) metadata: Metadata,
    pub(crate) revision: u64,
    /// Set once, by a leave; the announced state is then the driver's.
    pub(crate) leaving: bool,
}

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Leave in order, then stop.
    Leave(oneshot::Sender<LeaveReport>),
    /// Stop without a word.
    Stop,
}

/// What the driver publishes, read by any number of handles, and the decisions
/// that these hand in.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) members: ArcSwap<Members>,
    pub(crate) changes: watch::Sender<Arc<Members>>,
    pub(crate) conflict: watch::Sender<Option<IdentityConflict>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) directives: watch::Sender<Arc<Directives>>,
    roster: Mutex<Roster>,
}

impl Shared {
    pub(crate) fn new(journal: Arc<Journal>) -> Shared {
        Shared {
            members: ArcSwap::default(),
            changes: watch::channel(Arc::default()).0,
            conflict: watch::channel(None).0,
            journal,
            directives: watch::channel(Arc::default()).0,
            roster: Mutex::default(),
        }
    }

    /// Locked for a moment at a time, never while waiting.
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ends of the channels that the driver holds.
pub(crate) struct DriverChannels {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) desired: watch::Sender<Desired>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

/// See the module.
pub(crate) struct Driver {
    config: Config,
    seeds: Seeds,
    endpoint: Arc<Endpoint>,
    protocol: Protocol,
    view: View,
    stall: StallGuard,
    relearn_until: Instant,
    neighbourhood: Neighbourhood,
    memory: Memory,
    renounced: Option<Instant>,
    /// When to look at the silent ones again, if no tick comes first.
    look_at: Option<Instant>,

    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    desired: watch::Sender<Desired>,
    desired_changes: watch::Receiver<Desired>,
    applied: watch::Sender<u64>,
    commands: mpsc::Receiver<Command>,
    directives: watch::Receiver<Arc<Directives>>,
    keys: watch::Receiver<Vec<KeyId>>,
    resolved: mpsc::Receiver<Vec<SocketAddr>>,
}

/// Why the driver's loop ended.
enum End {
    Leave(oneshot::Sender<LeaveReport>),
    Stop,
}

impl Driver {
    /// Starts chitchat and everything around it.
    pub(crate) async fn start(
        config: Config,
        seeds: Seeds,
        endpoint: Arc<Endpoint>,
        keyring: &Keyring,
        channels: DriverChannels,
    ) -> anyhow::Result<Driver> {
        let now = Instant::now();
        let desired_changes = channels.desired.subscribe();
        let metadata = desired_changes.borrow().metadata.clone();
        let protocol = Protocol::start(
            &config,
            seeds.addresses.clone(),
            &metadata,
            Arc::clone(&endpoint),
            Arc::clone(&channels.shared.journal),
        );
        let protocol = protocol.await?;
        let neighbourhood = Neighbourhood::new(now);
        let (found, resolved) = mpsc::channel(4);
        for name in &seeds.names {
            tokio::spawn(seeds::resolve(
                name.clone(),
                Arc::clone(&channels.shared.journal),
                neighbourhood.alone(),
                found.clone(),
            ));
        }
        let memory = Memory::open(
            config.roster.clone(),
            config.cluster.clone(),
            Arc::clone(&channels.shared),
        );
        let mut keys = keyring.watch();
        // What was installed since the metadata was made is announced too.
        keys.mark_changed();
        let patience = Patience {
            phi_threshold: config.phi_threshold,
            silence_min: config.gossip_interval * SILENT_ROUNDS_MIN,
        };
        let mut driver = Driver {
            view: View::new(Settings {
                patience,
                introduce_after: config.max_interval,
                forget_after: config.dead_node_grace,
            }),
            stall: StallGuard::new(
                tick_period(&config),
                config.stall_threshold.min(patience.silence_min / 2),
                config.stall_hold,
                Instant::now(),
            ),
            config,
            seeds,
            endpoint,
            protocol,
            relearn_until: now,
            neighbourhood,
            memory,
            renounced: None,
            look_at: None,
            directives: channels.shared.directives.subscribe(),
            keys,
            shared: channels.shared,
            events: channels.events,
            desired: channels.desired,
            desired_changes,
            applied: channels.applied,
            commands: channels.commands,
            resolved,
        };
        driver.observe().await;
        Ok(driver)
    }

    /// Runs until it is told to leave or to stop, or nobody is left to tell it.
    pub(crate) async fn run(mut self) {
        let end = self.serve().await;
        let report = match &end {
            End::Leave(_) => Some(self.leave().await),
            End::Stop => None,
        };
        if let Err(error) = self.protocol.shut_down().await {
            debug!(
                error = format!("{error:#}"),
                "gossip had failed before it was stopped"
            );
        }
        self.memory.finish(Instant::now()).await;
        if let (End::Leave(reply), Some(report)) = (end, report) {
            // Nobody may be waiting any more; the leave happened all the same.
            let _ = reply.send(report);
        }
    }

    async fn serve(&mut self) -> End {
        let mut tick = interval(tick_period(&self.config));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = self.protocol.news();
            tokio::select! {
                due = tick.tick() => {
                    read_first(due).await;
                    self.note_tick();
                    self.observe().await;
                    self.remember().await;
                    if let Some(reason) = self.reason_to_renounce().await
                        && self.renounce(reason).await.is_none()
                    {
                        return End::Stop;
                    }
                }
                () = news.notified() => self.observe().await,
                due = at(self.look_at) => {
                    read_first(due).await;
                    self.observe().await;
                }
                Ok(()) = self.desired_changes.changed() => {
                    self.announce().await;
                }
                Ok(()) = self.directives.changed() => self.observe().await,
                Ok(()) = self.keys.changed() => self.show_keys(),
                Some(addresses) = self.resolved.recv() => self.greet(&addresses),
                command = self.commands.recv() => match command {
                    Some(Command::Leave(reply)) => return End::Leave(reply),
                    Some(Command::Stop) | None => return End::Stop,
                },
                () = self.protocol.ended() => {
                    if self.restart(None).await.is_none() {
                        return End::Stop;
                    }
                }
            }
        }
    }

    fn note_tick(&mut self) {
        if let Some(delay) = self.stall.tick(Instant::now()) {
            let hold = self.config.stall_hold;
            warn!(
                ?delay,
                ?hold,
                "this process stalled; failures are held back"
            );
        }
    }

    /// Reads chitchat's state, concludes, publishes.
    async fn observe(&mut self) {
        let now = Moment::now();
        let mut observations = self.protocol.observe(now.instant).await;
        self.look_at = self.view.judge(&mut observations, now.instant);
        self.note_neighbourhood(&observations, now);
        let held = self.stall.holds(now.instant) || now.instant < self.relearn_until;
        let directives = Arc::clone(&self.directives.borrow_and_update());
        let outcome = self.view.observe(observations, &directives, held, now);
        let members = Arc::new(self.view.members());
        self.memory.note(&members, &directives, now);
        self.shared.members.store(Arc::clone(&members));
        if outcome.changed {
            self.shared.changes.send_replace(members);
        }
        for event in outcome.events {
            self.publish(event);
        }
    }

    /// What an operator wants to know though nothing changed.
    fn note_neighbourhood(&mut self, observations: &[Observation], now: Moment) {
        let seeds = &self.seeds.addresses;
        let observed = self
            .neighbourhood
            .observe(observations, seeds, &self.endpoint, now);
        if let Some(conflict) = self.neighbourhood.new_conflict(&observed) {
            self.publish(self.own_event(EventKind::IdentityConflict {
                other: conflict.incarnation,
                address: conflict.address,
            }));
        }
        let rival = |conflict: &Option<IdentityConflict>| {
            conflict
                .as_ref()
                .map(|rival| (rival.incarnation, rival.address))
        };
        self.shared.conflict.send_if_modified(|before| {
            let changed = rival(before) != rival(&observed.identity_conflict);
            before.clone_from(&observed.identity_conflict);
            changed
        });
        let (tick_delay, tick_delay_max) = self.stall.delays();
        self.shared.journal.set_observed(Observed {
            tick_delay,
            tick_delay_max,
            removals_held: self.stall.holds(now.instant),
            roster_problem: self.memory.problem(),
            ..observed
        });
    }

    /// Keeps the roster on disk, and speaks to those in it who are missing.
    async fn remember(&mut self) {
        let now = Instant::now();
        let members = self.shared.members.load_full();
        if let Some(address) = self.memory.call(&members, now) {
            self.protocol.greet(address);
        }
        self.memory.keep(now).await;
    }

    /// Announces which keys are installed here.
    fn show_keys(&mut self) {
        let keys = self.keys.borrow_and_update().clone();
        self.desired.send_if_modified(|desired| {
            let changed = !desired.leaving && desired.metadata.keys != keys;
            if changed {
                desired.metadata.keys = keys;
                desired.revision += 1;
            }
            changed
        });
    }

    /// Writes what this node wants to announce, spreads it at once, and shows it
    /// here. Returns the version that a peer must hold to know it.
    async fn announce(&mut self) -> u64 {
        let Desired {
            metadata, revision, ..
        } = self.desired_changes.borrow_and_update().clone();
        let version = match self.protocol.announce(&metadata).await {
            Ok(version) => version,
            Err(error) => unreachable!("checked before it became the desired state: {error}"),
        };
        for (_, peer) in self.live_peers() {
            self.protocol.greet(peer);
        }
        self.observe().await;
        self.applied.send_replace(revision);
        version
    }

    /// Speaks to the addresses of a seed that are not members yet.
    fn greet(&self, addresses: &[SocketAddr]) {
        let known: HashSet<SocketAddr> = self.live_peers().map(|(_, peer)| peer).collect();
        for address in addresses {
            if *address != self.config.advertise && !known.contains(address) {
                self.protocol.greet(*address);
            }
        }
    }

    fn live_peers(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> + use<> {
        let members = self.shared.members.load_full();
        let peers: Vec<_> = members
            .iter()
            .filter(|member| !member.is_self && member.is_present())
            .map(|member| (member.id.clone(), member.peer))
            .collect();
        peers.into_iter()
    }

    /// Announces the two last states, each until all live peers have confirmed it.
    async fn leave(&mut self) -> LeaveReport {
        let started = Instant::now();
        self.spread(AnnouncedState::Leaving).await;
        let report = self
            .spread(AnnouncedState::Left)
            .await
            .report(started.elapsed());
        info!(
            informed = report.informed.len(),
            unconfirmed = ?report.unconfirmed,
            took = ?report.took,
            "left the cluster"
        );
        report
    }

    async fn spread(&mut self, announced: AnnouncedState) -> Rollcall {
        let deadline = Instant::now() + self.config.leave_timeout;
        let mut rollcall = Rollcall::new(self.live_peers());
        self.desired.send_modify(|desired| {
            desired.metadata.announced = announced;
            desired.revision += 1;
            desired.leaving = true;
        });
        let version = self.announce().await;
        loop {
            {
                let screen = self.endpoint.screen();
                rollcall.confirm(|peer| screen.confirmed(peer) >= version);
            }
            if rollcall.is_complete() || Instant::now() >= deadline {
                return rollcall;
            }
            sleep(rollcall.pause()).await;
            for peer in rollcall.waiting() {
                self.protocol.greet(peer);
            }
            self.note_tick();
            self.observe().await;
        }
    }

    fn own_event(&self, kind: EventKind) -> Event {
        Event {
            at: SystemTime::now(),
            id: self.config.identity.id.clone(),
            incarnation: self.config.identity.incarnation,
            kind,
        }
    }

    fn publish(&self, event: Event) {
        // The agent logs the events that it reads from the stream.
        debug!(?event, "membership changed");
        // Fails only while nobody listens.
        let _ = self.events.send(event);
    }
}

/// Rounds of gossip that a node has to be silent before it can be called failed:
/// at the default interval 1.2 s, which a stall of 0.7 s and a round on each side
/// of it do not reach.
const SILENT_ROUNDS_MIN: u32 = 6;

/// Twice for each round of gossip, so that half a round is lost at most.
fn tick_period(config: &Config) -> Duration {
    config.gossip_interval / 2
}

/// Waits for that moment and returns it; for ever without one.
async fn at(moment: Option<Instant>) -> Instant {
    match moment {
        Some(moment) => {
            sleep_until(moment).await;
            moment
        }
        None => pending().await,
    }
}

/// After a stall of this process, too short to hold anything back, lets chitchat
/// read what arrived meanwhile before anybody is judged by its absence.
async fn read_first(due: Instant) {
    if due.elapsed() >= LATE_MIN {
        sleep(READING_TIME).await;
    }
}

const LATE_MIN: Duration = Duration::from_millis(20);
/// A full socket is read within less.
const READING_TIME: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
