//! From observations to members and events: a state machine without IO.
//!
//! The driver reads, every now and then, what chitchat knows of each incarnation
//! of each node, and passes it in with the time. The view decides which
//! incarnation counts, compares with what it concluded before, and gives out the
//! members and the events that lead from the old view to the new. Nothing in it
//! can fail. Its rules:
//!
//! - A node appears when it is live and its metadata is complete. One that is
//!   known by hearsay only (it died before we came) appears as failed or left
//!   once it has been silent for `introduce_after`.
//! - Of several incarnations the highest live one counts, else the highest.
//! - While removals are held, nobody becomes failed, and nobody disappears.
//! - What is gone from the observations is failed, and after `forget_after`
//!   forgotten.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::event::{Event, EventKind};
use crate::heartbeat::{Moment, Silence};
use crate::identity::Incarnation;
use crate::member::{Member, MemberState, Members};
use crate::metadata::Metadata;
use crate::name::NodeId;

/// One incarnation of one node, complete with metadata.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) peer: SocketAddr,
    pub(crate) metadata: Arc<Metadata>,
    /// What the failure detector says.
    pub(crate) live: bool,
    pub(crate) silence: Option<Silence>,
    pub(crate) is_self: bool,
}

/// What one observation round led to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    /// Whether anything but ages and phi differs from the round before.
    pub(crate) changed: bool,
}

/// The members as concluded so far.
#[derive(Debug)]
pub(crate) struct View {
    known: BTreeMap<NodeId, Known>,
    /// Incarnations that were never live, and since when they are watched.
    hearsay: HashMap<(NodeId, Incarnation), Instant>,
    introduce_after: Duration,
    forget_after: Duration,
}

#[derive(Debug)]
struct Known {
    member: Member,
    since: Instant,
}

impl View {
    pub(crate) fn new(introduce_after: Duration, forget_after: Duration) -> View {
        View {
            known: BTreeMap::new(),
            hearsay: HashMap::new(),
            introduce_after,
            forget_after,
        }
    }

    /// Takes in everything that is observed now. `held` holds removals back.
    pub(crate) fn observe(
        &mut self,
        observations: Vec<Observation>,
        held: bool,
        now: Moment,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let counting = self.choose(observations, now.instant);
        let absent: Vec<NodeId> = self
            .known
            .keys()
            .filter(|id| !counting.contains_key(*id))
            .cloned()
            .collect();
        for (id, observation) in counting {
            match self.known.get_mut(&id) {
                Some(known) => known.take(observation, held, now, &mut outcome),
                None => {
                    let known = Known::introduce(observation, now, &mut outcome);
                    self.known.insert(id, known);
                }
            }
        }
        if !held {
            for id in absent {
                self.miss(&id, now, &mut outcome);
            }
        }
        outcome
    }

    /// The members now.
    pub(crate) fn members(&self) -> Members {
        Members::from_ordered(
            self.known
                .values()
                .map(|known| known.member.clone())
                .collect(),
        )
    }

    /// For each node the incarnation that counts. Hearsay that has not been
    /// watched for long enough is left out.
    fn choose(
        &mut self,
        observations: Vec<Observation>,
        now: Instant,
    ) -> BTreeMap<NodeId, Observation> {
        let mut hearsay = HashMap::new();
        let mut counting: BTreeMap<NodeId, Observation> = BTreeMap::new();
        for observation in observations {
            if !observation.live && !self.is_known(&observation) {
                let key = (observation.id.clone(), observation.incarnation);
                let since = self.hearsay.get(&key).copied().unwrap_or(now);
                hearsay.insert(key, since);
                if now.saturating_duration_since(since) < self.introduce_after {
                    continue;
                }
            }
            let rank = |observation: &Observation| (observation.live, observation.incarnation);
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
        known.is_some_and(|known| known.member.incarnation == observation.incarnation)
    }

    /// A known member that chitchat no longer has.
    fn miss(&mut self, id: &NodeId, now: Moment, outcome: &mut Outcome) {
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        if known.member.state.is_running() {
            let from = known.enter(MemberState::Failed, now);
            let kind = EventKind::Failed {
                from,
                heartbeat_age: known.member.heartbeat_age,
                phi: known.member.phi,
            };
            outcome.push(known.event(kind, now.wall));
        } else if now.instant.saturating_duration_since(known.since) >= self.forget_after {
            outcome.push(known.event(EventKind::Forgotten, now.wall));
            self.known.remove(id);
        }
    }
}

impl Known {
    fn introduce(observation: Observation, now: Moment, outcome: &mut Outcome) -> Known {
        let state = MemberState::concluded(observation.metadata.announced, observation.live);
        let member = Member {
            id: observation.id,
            incarnation: observation.incarnation,
            state,
            since: now.wall,
            peer: observation.peer,
            metadata: observation.metadata,
            heartbeat_age: observation.silence.map(|silence| silence.age),
            phi: observation.silence.and_then(|silence| silence.phi),
            is_self: observation.is_self,
        };
        let known = Known {
            member,
            since: now.instant,
        };
        outcome.changed = true;
        if state.is_running() {
            outcome.push(known.event(EventKind::Joined { state }, now.wall));
        }
        known
    }

    fn take(&mut self, observation: Observation, held: bool, now: Moment, outcome: &mut Outcome) {
        self.member.heartbeat_age = observation.silence.map(|silence| silence.age);
        self.member.phi = observation.silence.and_then(|silence| silence.phi);

        let previous = self.member.incarnation;
        let restarted = previous != observation.incarnation;
        let updated = differs_beside_state(&self.member.metadata, &observation.metadata)
            || self.member.peer != observation.peer;
        let announced = self.member.metadata.announced != observation.metadata.announced;
        self.member.incarnation = observation.incarnation;
        self.member.peer = observation.peer;
        self.member.metadata = observation.metadata;
        outcome.changed |= restarted || updated || announced;

        let from = self.member.state;
        let to = MemberState::concluded(self.member.metadata.announced, observation.live);
        if held && from.is_running() && !observation.live {
            return;
        }
        let away = now.instant.saturating_duration_since(self.since);
        let kind = match (from.is_running(), to.is_running()) {
            (true, true) if restarted => Some(EventKind::Restarted {
                previous,
                state: to,
            }),
            (true, true) if from != to => Some(EventKind::StateChanged { from, to }),
            (false, true) => Some(EventKind::Returned { from, to, away }),
            (_, false) if from != to => Some(match to {
                MemberState::Left => EventKind::Left { from },
                _ => EventKind::Failed {
                    from,
                    heartbeat_age: self.member.heartbeat_age,
                    phi: self.member.phi,
                },
            }),
            _ => None,
        };
        if from != to || restarted {
            self.enter(to, now);
        }
        if let Some(kind) = kind {
            outcome.push(self.event(kind, now.wall));
        }
        if updated && !restarted {
            outcome.push(self.event(EventKind::Updated, now.wall));
        }
    }

    /// Enters a state; returns the one before.
    fn enter(&mut self, state: MemberState, now: Moment) -> MemberState {
        self.member.since = now.wall;
        self.since = now.instant;
        std::mem::replace(&mut self.member.state, state)
    }

    fn event(&self, kind: EventKind, at: SystemTime) -> Event {
        Event {
            at,
            id: self.member.id.clone(),
            incarnation: self.member.incarnation,
            kind,
        }
    }
}

impl Outcome {
    fn push(&mut self, event: Event) {
        self.events.push(event);
        self.changed = true;
    }
}

fn differs_beside_state(a: &Metadata, b: &Metadata) -> bool {
    let stateless = |metadata: &Metadata| Metadata {
        announced: crate::metadata::AnnouncedState::Joining,
        ..metadata.clone()
    };
    a != b && stateless(a) != stateless(b)
}

#[cfg(test)]
mod tests;
