//! The gossip thread: one task owns the state of membership.
//!
//! [`Driver`] is that task. It runs on a thread and a runtime of its own, so
//! that nothing the agent does can delay a heartbeat; chitchat's task runs beside
//! it. What can happen to it are the arms of one `select!`: its tick, news from
//! chitchat, changed metadata of this node, a resolved seed, a command, and the
//! end of chitchat. It reads chitchat's state, lets [`View`] conclude, and
//! publishes. If chitchat panics, which no message should bring about, the
//! driver says so and starts it again under a new incarnation; the members stay
//! as they were until they were heard again or had time to be.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::diagnostics::journal::{Journal, Observed};
use crate::event::{Event, EventKind};
use crate::heartbeat::Moment;
use crate::identity::Incarnation;
use crate::leave::{LeaveReport, Rollcall};
use crate::member::Members;
use crate::metadata::{AnnouncedState, Metadata};
use crate::name::NodeId;
use crate::seeds::{self, Seeds};
use crate::stall::StallGuard;
use crate::transport::endpoint::Endpoint;
use crate::view::{Observation, View};

mod protocol;

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

/// What the driver publishes; read by any number of handles.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) members: ArcSwap<Members>,
    pub(crate) changes: watch::Sender<Arc<Members>>,
    pub(crate) journal: Arc<Journal>,
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
    started: Instant,
    relearn_until: Instant,
    silent_seeds: BTreeSet<SocketAddr>,
    rival: Option<Incarnation>,
    renounced: Option<Instant>,

    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    desired: watch::Sender<Desired>,
    desired_changes: watch::Receiver<Desired>,
    applied: watch::Sender<u64>,
    commands: mpsc::Receiver<Command>,
    alone: watch::Sender<bool>,
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
        let (alone, alone_changes) = watch::channel(true);
        let (found, resolved) = mpsc::channel(4);
        for name in &seeds.names {
            tokio::spawn(seeds::resolve(
                name.clone(),
                alone_changes.clone(),
                found.clone(),
            ));
        }
        let mut driver = Driver {
            view: View::new(config.max_interval, config.dead_node_grace),
            stall: StallGuard::new(
                tick_period(&config),
                config.stall_threshold,
                config.stall_hold,
                Instant::now(),
            ),
            config,
            seeds,
            endpoint,
            protocol,
            started: now,
            relearn_until: now,
            silent_seeds: BTreeSet::new(),
            rival: None,
            renounced: None,
            shared: channels.shared,
            events: channels.events,
            desired: channels.desired,
            desired_changes,
            applied: channels.applied,
            commands: channels.commands,
            alone,
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
                _ = tick.tick() => {
                    self.note_tick();
                    self.observe().await;
                    if self.is_forged().await && self.renounce().await.is_none() {
                        return End::Stop;
                    }
                }
                () = news.notified() => self.observe().await,
                Ok(()) = self.desired_changes.changed() => {
                    self.announce().await;
                }
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
        let observations = self.protocol.observe(now.instant).await;
        self.note_neighbourhood(&observations, now.instant);
        let held = self.stall.holds(now.instant) || now.instant < self.relearn_until;
        let outcome = self.view.observe(observations, held, now);
        let members = Arc::new(self.view.members());
        self.shared.members.store(Arc::clone(&members));
        if outcome.changed {
            self.shared.changes.send_replace(members);
        }
        for event in outcome.events {
            self.publish(event);
        }
    }

    /// Whether this node is alone, which seeds are silent, whether its id is
    /// used by another: what an operator wants to know though nothing changed.
    fn note_neighbourhood(&mut self, observations: &[Observation], now: Instant) {
        let alone = !observations.iter().any(|node| node.live && !node.is_self);
        self.alone
            .send_if_modified(|before| std::mem::replace(before, alone) != alone);
        self.note_silent_seeds(observations, now);
        let conflict = self.endpoint.screen().rival(now);
        let rival = conflict.as_ref().map(|conflict| conflict.incarnation);
        if let Some(conflict) = conflict.as_ref().filter(|_| rival != self.rival) {
            self.publish(self.own_event(EventKind::IdentityConflict {
                other: conflict.incarnation,
                address: conflict.address,
            }));
        }
        self.rival = rival;
        let (tick_delay, tick_delay_max) = self.stall.delays();
        self.shared.journal.set_observed(Observed {
            tick_delay,
            tick_delay_max,
            removals_held: self.stall.holds(now),
            silent_seeds: self.silent_seeds.iter().copied().collect(),
            identity_conflict: conflict,
        });
    }

    fn note_silent_seeds(&mut self, observations: &[Observation], now: Instant) {
        if now.saturating_duration_since(self.started) < SEED_PATIENCE {
            return;
        }
        let members: HashSet<SocketAddr> = observations.iter().map(|node| node.peer).collect();
        let screen = self.endpoint.screen();
        let answers = |seed: &SocketAddr| members.contains(seed) || screen.heard_from(*seed);
        let silent = self.seeds.addresses.iter().filter(|seed| !answers(seed));
        let silent: BTreeSet<SocketAddr> = silent.copied().collect();
        for seed in silent.difference(&self.silent_seeds) {
            warn!(
                %seed,
                "no agent answers at this seed: it is down, cannot be reached, or uses another \
                 peer secret"
            );
        }
        drop(screen);
        self.silent_seeds = silent;
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
            .filter(|member| !member.is_self && member.state.is_running())
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

    /// Whether a peer holds state of this node that this node never announced:
    /// a faulty peer made it up, and others pass it on.
    async fn is_forged(&mut self) -> bool {
        let rested = self
            .renounced
            .is_none_or(|at| at.elapsed() >= RENOUNCE_INTERVAL);
        let claim = self.endpoint.screen().newest_claim();
        rested && claim > self.protocol.own_version().await
    }

    /// Gives up an incarnation whose state was forged. Nobody believes the forgery
    /// of a life that is over.
    async fn renounce(&mut self) -> Option<()> {
        self.renounced = Some(Instant::now());
        self.protocol.end().await;
        let reason = "a peer holds state of this node that this node never announced";
        self.restart(Some(reason.to_owned())).await
    }

    /// Starts chitchat again, under a new incarnation, after it has ended. `None`
    /// if meanwhile nobody wants it any more.
    async fn restart(&mut self, reason: Option<String>) -> Option<()> {
        self.shared
            .journal
            .count(|counters| counters.gossip_restarts += 1);
        let mut pause = RESTART_PAUSE_MIN;
        let started = loop {
            self.pause_unless_stopped(pause).await?;
            pause = (pause * 2).min(RESTART_PAUSE_MAX);
            match self.start_again().await {
                Ok(started) => break started,
                Err(error) => {
                    error!(
                        error = format!("{error:#}"),
                        "gossip was not started; trying on"
                    );
                }
            }
        };
        let ended = std::mem::replace(&mut self.protocol, started)
            .shut_down()
            .await;
        let reason = match (reason, ended) {
            (Some(reason), _) => reason,
            (None, Ok(())) => "it ended by itself".to_owned(),
            (None, Err(error)) => format!("{error:#}"),
        };
        self.stall.resume(Instant::now());
        self.relearn_until = Instant::now() + RELEARN_TIME;
        self.publish(self.own_event(EventKind::GossipRestarted { reason }));
        Some(())
    }

    async fn start_again(&mut self) -> anyhow::Result<Protocol> {
        self.config.identity.advance(SystemTime::now())?;
        let own = self.config.identity.chitchat_id(self.config.advertise);
        self.endpoint.screen().renew(own);
        let mut seeds = self.seeds.addresses.clone();
        seeds.extend(self.live_peers().map(|(_, peer)| peer));
        let Desired {
            metadata, revision, ..
        } = self.desired_changes.borrow_and_update().clone();
        let protocol = Protocol::start(
            &self.config,
            seeds,
            &metadata,
            Arc::clone(&self.endpoint),
            Arc::clone(&self.shared.journal),
        );
        let protocol = protocol.await?;
        self.applied.send_replace(revision);
        Ok(protocol)
    }

    async fn pause_unless_stopped(&mut self, pause: Duration) -> Option<()> {
        tokio::select! {
            () = sleep(pause) => Some(()),
            // A leave cannot be told to anybody now; its reply is dropped unsent.
            _ = self.commands.recv() => None,
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

/// Twice for each round of gossip, so that half a round is lost at most.
fn tick_period(config: &Config) -> Duration {
    config.gossip_interval / 2
}

/// A seed that has not answered for this long is told about.
const SEED_PATIENCE: Duration = Duration::from_secs(5);
/// An incarnation is not given up more often: who forges once can forge again.
const RENOUNCE_INTERVAL: Duration = Duration::from_secs(30);
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(50);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a restarted protocol may take to hear of everybody again.
const RELEARN_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
