//! From observations to members and events: a state machine without IO.
//!
//! The driver reads, every now and then, what chitchat knows of each incarnation
//! of each node, and passes it in with the operators' decisions and the time.
//! The view decides which incarnation counts, compares with what it concluded
//! before, and gives out the members and the events that lead from the old view
//! to the new. Nothing in it can fail. Its rules:
//!
//! - A node appears when it is live and its metadata is complete. One that is
//!   known by hearsay only (it died before we came) appears as failed or left
//!   once it has been silent for `introduce_after`.
//! - Of several incarnations the highest live one counts, else the one that
//!   counted before, else the highest: another process with the same id, whose life
//!   was a later one and is over, says nothing about the node that outlived it.
//! - A node is failed when phi has passed the threshold *and* it was silent for
//!   `silence_min`, six rounds of gossip; a shorter silence is a doubt. chitchat
//!   judges phi once a round, half a round late on average and a whole one at
//!   worst; so the view judges it too, and either of the two is believed. It says
//!   when the next silence will be too long, so that nobody has to look often
//!   ([`View::judge`]).
//! - While removals are held, nobody becomes failed, and nobody appears or
//!   disappears for being silent.
//! - What is gone from the observations is silent, and after `forget_after`
//!   forgotten, unless an operator knows it to be away.
//! - Each change of a state is one event. One that never lived here, or that an
//!   operator keeps out, appears without.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::ClockOffset;
use crate::directive::Directives;
use crate::event::Event;
use crate::heartbeat::{Moment, Silence};
use crate::identity::Incarnation;
use crate::member::Members;
use crate::metadata::Metadata;
use crate::name::NodeId;

pub(crate) mod contest;
mod known;

use known::{Known, Round};

/// One incarnation of one node, complete with metadata.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) peer: SocketAddr,
    pub(crate) metadata: Arc<Metadata>,
    /// What chitchat's failure detector says, up to a round old, until the view
    /// has judged it.
    pub(crate) live: bool,
    pub(crate) silence: Option<Silence>,
    pub(crate) clock_offset: Option<ClockOffset>,
    pub(crate) is_self: bool,
}

/// What one observation round led to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    /// Whether anything but ages, phi and clocks differs from the round before.
    pub(crate) changed: bool,
}

/// The members as concluded so far.
#[derive(Debug)]
pub(crate) struct View {
    known: BTreeMap<NodeId, Known>,
    /// Incarnations that were never live, and since when they are watched.
    hearsay: HashMap<(NodeId, Incarnation), Instant>,
    settings: Settings,
}

/// The times and limits of a [`View`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) patience: Patience,
    pub(crate) introduce_after: Duration,
    pub(crate) forget_after: Duration,
}

/// How long a node may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Above it a node is dead to the failure detector; a part of it is doubt.
    pub(crate) phi_threshold: f64,
    /// A shorter silence is a doubt, whatever phi is: where heartbeats come often,
    /// a stall that is nobody's failure already makes many mean intervals.
    pub(crate) silence_min: Duration,
}

impl Patience {
    /// The age at which a silence is too long; `None` where only chitchat can
    /// tell, because no interval was measured yet.
    fn limit(&self, observation: &Observation) -> Option<Duration> {
        if !observation.live {
            return Some(self.silence_min);
        }
        let mean = observation.silence?.interval_mean?;
        Some(mean.mul_f64(self.phi_threshold).max(self.silence_min))
    }
}

impl View {
    pub(crate) fn new(settings: Settings) -> View {
        View {
            known: BTreeMap::new(),
            hearsay: HashMap::new(),
            settings,
        }
    }

    /// Calls those dead whose silence is too long by now, whether chitchat has
    /// looked or not. Returns when the first of the others will be, if nothing is
    /// heard of it until then.
    pub(crate) fn judge(&self, observations: &mut [Observation], now: Instant) -> Option<Instant> {
        let mut look_at = None;
        for observation in observations {
            let limit = self.settings.patience.limit(observation);
            let Some((silence, limit)) = observation.silence.zip(limit) else {
                continue;
            };
            let left = limit.saturating_sub(silence.age);
            if left.is_zero() {
                observation.live = false;
            } else {
                let due = now.checked_add(left);
                look_at = look_at.into_iter().chain(due).min();
            }
        }
        look_at
    }

    /// Takes in everything that is observed, judged and decided now. `held` holds
    /// removals back.
    pub(crate) fn observe(
        &mut self,
        observations: Vec<Observation>,
        directives: &Directives,
        held: bool,
        now: Moment,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut counting = self.choose(observations, held, now.instant);
        let Settings {
            patience,
            forget_after,
            ..
        } = self.settings;
        let round = |id: &NodeId| Round {
            directive: directives.get(id).copied().unwrap_or_default(),
            held,
            now,
            patience,
        };
        self.known.retain(|id, known| match counting.remove(id) {
            Some(observation) => {
                known.take(observation, &round(id), &mut outcome);
                true
            }
            None => known.miss(&round(id), forget_after, &mut outcome),
        });
        for (id, observation) in counting {
            let known = Known::introduce(observation, &round(&id), &mut outcome);
            self.known.insert(id, known);
        }
        outcome
    }

    /// The members now.
    pub(crate) fn members(&self) -> Members {
        let members = self.known.values().map(Known::member);
        Members::from_ordered(members.cloned().collect())
    }

    /// For each node the incarnation that counts. Hearsay that has not been
    /// watched for long enough is left out, and during a hold all of it.
    fn choose(
        &mut self,
        observations: Vec<Observation>,
        held: bool,
        now: Instant,
    ) -> BTreeMap<NodeId, Observation> {
        let mut hearsay = HashMap::new();
        let mut counting: BTreeMap<NodeId, Observation> = BTreeMap::new();
        for observation in observations {
            if !observation.live && !self.is_known(&observation) {
                let key = (observation.id.clone(), observation.incarnation);
                let since = self.hearsay.get(&key).copied().unwrap_or(now);
                hearsay.insert(key, since);
                if held || now.saturating_duration_since(since) < self.settings.introduce_after {
                    continue;
                }
            }
            // The address only makes the order of what is read irrelevant.
            let rank = |one: &Observation| {
                let counted_before = !one.live && self.is_known(one);
                (one.live, counted_before, one.incarnation, one.peer)
            };
            match counting.get(&observation.id) {
                Some(best) if rank(best) >= rank(&observation) => {}
                _ => drop(counting.insert(observation.id.clone(), observation)),
            }
        }
        self.hearsay = hearsay;
        counting
    }

    fn is_known(&self, observation: &Observation) -> bool {
        let known = self.known.get(&observation.id);
        known.is_some_and(|known| known.member().incarnation == observation.incarnation)
    }
}

impl Outcome {
    fn push(&mut self, event: Event) {
        self.events.push(event);
        self.changed = true;
    }
}

#[cfg(test)]
mod tests;
