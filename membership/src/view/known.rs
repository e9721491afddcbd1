//! One member between two rounds: its state, the doubt about it, its events.
//!
//! [`Known`] takes in what is observed of its node, or that nothing is, together
//! with the operators' decisions, and concludes the next state by the rule of
//! [`MemberState::concluded`]. What it adds to that rule is memory: a doubt ends
//! later than it begins, a silence during a hold is a doubt and no failure, and
//! each change of the state becomes one event with its cause.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Observation, Outcome, Patience};
use crate::directive::Directive;
use crate::event::{Cause, Event, EventKind};
use crate::heartbeat::{Moment, Silence};
use crate::identity::Incarnation;
use crate::member::{Life, Member, MemberState};
use crate::metadata::{AnnouncedState, Metadata};

/// A doubt begins at this part of the phi threshold.
const DOUBT_BEGINS: f64 = 0.75;
/// It ends below this one, so that it does not come and go.
const DOUBT_ENDS: f64 = 0.5;

/// A member and what was concluded of it.
#[derive(Debug)]
pub(super) struct Known {
    member: Member,
    life: Life,
    /// When its state began.
    since: Instant,
}

/// What holds in one round, beside what is observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) directive: Directive,
    pub(super) held: bool,
    pub(super) now: Moment,
    pub(super) patience: Patience,
}

/// What differs from the round before, beside the state.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    /// The incarnation before, where it was another.
    restarted: Option<Incarnation>,
    announced: bool,
}

impl Known {
    /// A node that was not known before.
    pub(super) fn introduce(
        observation: Observation,
        round: &Round,
        outcome: &mut Outcome,
    ) -> Known {
        let life = if observation.live {
            Life::Heard
        } else {
            Life::Silent
        };
        let metadata = observation.metadata;
        let state = MemberState::concluded(&metadata, life, &round.directive);
        let member = Member {
            id: observation.id,
            incarnation: observation.incarnation,
            state,
            since: round.now.wall,
            peer: observation.peer,
            metadata,
            heartbeat_age: observation.silence.map(|silence| silence.age),
            phi: observation.silence.and_then(|silence| silence.phi()),
            live: observation.live,
            directive: round.directive,
            clock_offset: observation.clock_offset,
            is_self: observation.is_self,
        };
        let known = Known {
            member,
            life,
            since: round.now.instant,
        };
        outcome.changed = true;
        if state.is_running() {
            outcome.push(known.event(EventKind::Joined { state }, round.now.wall));
        }
        known
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// Takes in what is observed of the incarnation that counts.
    pub(super) fn take(&mut self, observation: Observation, round: &Round, outcome: &mut Outcome) {
        let silence = observation.silence;
        self.member.heartbeat_age = silence.map(|silence| silence.age);
        self.member.phi = silence.and_then(|silence| silence.phi());
        self.member.clock_offset = observation.clock_offset;

        let previous = self.member.incarnation;
        let restarted = previous != observation.incarnation;
        let updated = differs_beside_state(&self.member.metadata, &observation.metadata)
            || self.member.peer != observation.peer;
        let announced = self.member.metadata.announced != observation.metadata.announced;
        outcome.changed |= restarted || updated || announced;
        self.member.incarnation = observation.incarnation;
        self.member.peer = observation.peer;
        self.member.metadata = observation.metadata;

        if restarted {
            // The doubt was about a life that is over.
            self.life = match self.life {
                Life::Doubted => Life::Heard,
                life => life,
            };
        }
        self.life = self.life_now(observation.live, silence, round);
        let change = Change {
            restarted: restarted.then_some(previous),
            announced,
        };
        self.conclude(observation.live, change, round, outcome);
        if updated && !restarted {
            outcome.push(self.event(EventKind::Updated, round.now.wall));
        }
    }

    /// Takes in that chitchat no longer has it. False once it is forgotten.
    pub(super) fn miss(
        &mut self,
        round: &Round,
        forget_after: Duration,
        outcome: &mut Outcome,
    ) -> bool {
        self.life = self.life_now(false, None, round);
        self.conclude(false, Change::default(), round, outcome);
        let away = round.now.instant.saturating_duration_since(self.since);
        let forgettable =
            !self.member.state.is_running() && self.member.state != MemberState::Maintenance;
        if round.held || !forgettable || away < forget_after {
            return true;
        }
        outcome.push(self.event(EventKind::Forgotten, round.now.wall));
        false
    }

    fn life_now(&self, live: bool, silence: Option<Silence>, round: &Round) -> Life {
        let part = match self.life {
            Life::Doubted => DOUBT_ENDS,
            Life::Heard | Life::Silent => DOUBT_BEGINS,
        };
        let phi = silence.and_then(|silence| silence.phi());
        let too_short = silence.is_some_and(|silence| silence.age < round.patience.silence_min);
        match (live, self.life) {
            (true, _) if phi.is_some_and(|phi| phi >= part * round.patience.phi_threshold) => {
                Life::Doubted
            }
            (true, _) => Life::Heard,
            (false, Life::Heard | Life::Doubted) if round.held || too_short => Life::Doubted,
            (false, _) => Life::Silent,
        }
    }

    fn conclude(&mut self, live: bool, change: Change, round: &Round, outcome: &mut Outcome) {
        let directed = self.member.directive != round.directive;
        let missed = self.life == Life::Silent;
        outcome.changed |= directed || self.member.live == missed;
        self.member.live = !missed;
        self.member.directive = round.directive;

        let from = self.member.state;
        let concluded = MemberState::concluded(&self.member.metadata, self.life, &round.directive);
        let detected = concluded == MemberState::Failed && !round.directive.failed;
        let to = if round.held && detected {
            from
        } else {
            concluded
        };
        let cause = if directed {
            Cause::Operator
        } else if change.announced {
            Cause::Announced
        } else {
            Cause::Heard
        };
        let kind = match (from.is_running(), to.is_running()) {
            (true, true) if let Some(previous) = change.restarted => EventKind::Restarted {
                previous,
                state: to,
            },
            _ if from == to => return,
            (_, true) if to == MemberState::Suspect && from.is_running() => EventKind::Suspected {
                from,
                heartbeat_age: self.member.heartbeat_age,
                phi: self.member.phi,
                held: round.held && !live,
            },
            (false, true) if cause != Cause::Operator => EventKind::Returned {
                from,
                to,
                away: round.now.instant.saturating_duration_since(self.since),
            },
            _ if to == MemberState::Removed => EventKind::Removed { from },
            _ if to == MemberState::Left => EventKind::Left { from },
            _ if to == MemberState::Failed && detected => EventKind::Failed {
                from,
                heartbeat_age: self.member.heartbeat_age,
                phi: self.member.phi,
            },
            _ => EventKind::StateChanged { from, to, cause },
        };
        self.member.state = to;
        self.member.since = round.now.wall;
        self.since = round.now.instant;
        outcome.push(self.event(kind, round.now.wall));
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

fn differs_beside_state(a: &Metadata, b: &Metadata) -> bool {
    let stateless = |metadata: &Metadata| Metadata {
        announced: AnnouncedState::Joining,
        ..metadata.clone()
    };
    a != b && stateless(a) != stateless(b)
}
