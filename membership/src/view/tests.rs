//! What the view concludes, without a network and without waiting.

use super::*;
use crate::directive::{Directive, JoinMark};
use crate::event::{Cause, EventKind};
use crate::member::MemberState;
use crate::metadata::AnnouncedState;

mod calmness;
mod laws;

const SECOND: Duration = Duration::from_secs(1);
const INTRODUCE_AFTER: Duration = Duration::from_secs(2);
const FORGET_AFTER: Duration = Duration::from_secs(900);
const PHI_THRESHOLD: f64 = 8.0;
const SILENCE_MIN: Duration = SECOND;
/// Between heartbeats.
const MEAN: Duration = Duration::from_millis(250);

/// A view, the decisions in force, and a clock that the test moves.
struct World {
    view: View,
    directives: Directives,
    now: Moment,
}

impl World {
    fn new() -> World {
        World {
            view: View::new(Settings {
                patience: Patience {
                    phi_threshold: PHI_THRESHOLD,
                    silence_min: SILENCE_MIN,
                },
                introduce_after: INTRODUCE_AFTER,
                forget_after: FORGET_AFTER,
            }),
            directives: Directives::new(),
            now: Moment::now(),
        }
    }

    fn pass(&mut self, by: Duration) {
        self.now = Moment {
            instant: self.now.instant + by,
            wall: self.now.wall + by,
        };
    }

    fn observe(&mut self, observations: &[Observation]) -> Vec<EventKind> {
        self.observe_held(observations, false)
    }

    fn observe_held(&mut self, observations: &[Observation], held: bool) -> Vec<EventKind> {
        let mut observations = observations.to_vec();
        self.view.judge(&mut observations, self.now.instant);
        let outcome = self
            .view
            .observe(observations, &self.directives, held, self.now);
        assert!(outcome.changed || outcome.events.is_empty());
        outcome.events.into_iter().map(|event| event.kind).collect()
    }

    /// Decides about `n1`.
    fn decide(&mut self, directive: Directive) {
        self.directives = Directives::from([("n1".parse().unwrap(), directive)]);
    }

    fn state(&self, id: &str) -> Option<MemberState> {
        self.view
            .members()
            .find(&id.parse().unwrap())
            .map(|member| member.state)
    }
}

fn node(id: &str, incarnation: u64, announced: AnnouncedState, live: bool) -> Observation {
    Observation {
        id: id.parse().unwrap(),
        incarnation: Incarnation(incarnation),
        peer: ([127, 0, 0, 1], 9400).into(),
        metadata: Arc::new(Metadata {
            announced,
            ..Metadata::new(1)
        }),
        live,
        silence: Some(silence(if live { 1.0 } else { 9.0 })),
        clock_offset: None,
        is_self: false,
    }
}

/// A live node whose last heartbeat is that many mean intervals ago.
fn overdue(phi: f64) -> Observation {
    Observation {
        silence: Some(silence(phi)),
        ..live("n1", 1)
    }
}

/// That many mean intervals.
fn silence(phi: f64) -> Silence {
    Silence {
        age: MEAN.mul_f64(phi),
        interval_mean: Some(MEAN),
    }
}

fn live(id: &str, incarnation: u64) -> Observation {
    node(id, incarnation, AnnouncedState::Active, true)
}

fn dead(id: &str, incarnation: u64) -> Observation {
    node(id, incarnation, AnnouncedState::Active, false)
}

#[test]
fn a_short_silence_is_a_doubt_whatever_phi_is() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    let mut silent = dead("n1", 1);
    silent.silence = Some(Silence {
        age: SILENCE_MIN - Duration::from_millis(1),
        interval_mean: Some(SILENCE_MIN / 9),
    });
    let events = world.observe(&[silent]);
    assert!(
        matches!(events[..], [EventKind::Suspected { .. }]),
        "{events:?}"
    );
    let events = world.observe(&[dead("n1", 1)]);
    assert!(
        matches!(events[..], [EventKind::Failed { .. }]),
        "{events:?}"
    );
}

#[test]
fn a_silence_is_too_long_at_a_moment_that_the_view_knows_beforehand() {
    // Phi decides about one whose heartbeats are rare, six rounds about another; and
    // they alone where chitchat has found it dead already.
    for (mean, live, limit) in [
        (MEAN, true, 8 * MEAN),
        (MEAN / 10, true, SILENCE_MIN),
        (MEAN / 10, false, SILENCE_MIN),
        (MEAN, false, SILENCE_MIN),
    ] {
        let mut world = World::new();
        let heard = |age, live| Observation {
            silence: Some(Silence {
                age,
                interval_mean: Some(mean),
            }),
            live,
            ..self::live("n1", 1)
        };
        let mut round = |age, live| {
            let mut observations = [heard(age, live), self::live("n2", 1)];
            world.observe(&observations);
            let look_at = world.view.judge(&mut observations, world.now.instant);
            (look_at.map(|at| at - world.now.instant), world.state("n1"))
        };
        assert_eq!(round(Duration::ZERO, true).1, Some(MemberState::Active));
        for left in [mean / 4, Duration::from_nanos(1)] {
            let suspect = Some(MemberState::Suspect);
            assert_eq!(round(limit - left, live), (Some(left), suspect));
        }
        // chitchat has not looked yet, or has found it dead before; n2 is awaited.
        let failed = Some(MemberState::Failed);
        assert_eq!(round(limit, live), (Some(7 * MEAN), failed));
        assert_eq!(round(Duration::ZERO, true).1, Some(MemberState::Active));
    }
}

#[test]
fn a_node_joins_fails_and_returns_with_evidence() {
    let mut world = World::new();
    let joined = world.observe(&[live("n1", 1)]);
    assert_eq!(
        joined,
        [EventKind::Joined {
            state: MemberState::Active
        }]
    );
    assert_eq!(world.observe(&[live("n1", 1)]), []);
    let failed = EventKind::Failed {
        from: MemberState::Active,
        heartbeat_age: Some(9 * MEAN),
        phi: Some(9.0),
    };
    assert_eq!(world.observe(&[dead("n1", 1)]), [failed]);
    world.pass(5 * SECOND);
    let returned = EventKind::Returned {
        from: MemberState::Failed,
        to: MemberState::Active,
        away: 5 * SECOND,
    };
    assert_eq!(world.observe(&[live("n1", 1)]), [returned]);
}

#[test]
fn a_node_that_announced_leaving_is_left_and_never_failed() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    let changed = world.observe(&[node("n1", 1, AnnouncedState::Leaving, true)]);
    let expected = EventKind::StateChanged {
        from: MemberState::Active,
        to: MemberState::Leaving,
        cause: Cause::Announced,
    };
    assert_eq!(changed, [expected]);
    let left = world.observe(&[node("n1", 1, AnnouncedState::Leaving, false)]);
    assert_eq!(
        left,
        [EventKind::Left {
            from: MemberState::Leaving
        }]
    );
    assert_eq!(
        world.observe(&[node("n1", 1, AnnouncedState::Left, false)]),
        []
    );
    assert_eq!(world.state("n1"), Some(MemberState::Left));
}

#[test]
fn a_restart_that_nobody_missed_is_no_failure() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    assert_eq!(
        world.observe(&[live("n1", 1), dead("n1", 2)]),
        [],
        "not yet heard"
    );
    let restarted = EventKind::Restarted {
        previous: Incarnation(1),
        state: MemberState::Active,
    };
    assert_eq!(world.observe(&[live("n1", 1), live("n1", 2)]), [restarted]);
    assert_eq!(world.observe(&[dead("n1", 1), live("n1", 2)]), []);
}

#[test]
fn a_later_life_that_is_over_does_not_make_a_short_silence_a_failure() {
    let mut world = World::new();
    let over = Observation {
        silence: Some(silence(1000.0)),
        ..dead("n1", 2)
    };
    world.observe(&[live("n1", 1), over.clone()]);
    let quiet = Observation {
        silence: Some(silence(1.0)),
        ..dead("n1", 1)
    };
    let events = world.observe(&[quiet, over]);
    assert!(
        matches!(events[..], [EventKind::Suspected { .. }]),
        "{events:?}"
    );
}

#[test]
fn who_outlived_another_with_its_id_fails_when_it_dies_though_the_other_had_left() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.observe(&[live("n1", 1), live("n1", 2)]);
    let left = node("n1", 2, AnnouncedState::Left, false);
    world.observe(&[live("n1", 1), left.clone()]);
    assert_eq!(world.state("n1"), Some(MemberState::Active));
    let events = world.observe(&[dead("n1", 1), left]);
    assert!(
        matches!(events[..], [EventKind::Failed { .. }]),
        "{events:?}"
    );
}

#[test]
fn an_invented_higher_incarnation_does_not_displace_a_live_node() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.observe(&[live("n1", 1), dead("n1", 99)]);
    world.pass(10 * SECOND);
    assert_eq!(world.observe(&[live("n1", 1), dead("n1", 99)]), []);
    let member = world
        .view
        .members()
        .find(&"n1".parse().unwrap())
        .cloned()
        .unwrap();
    assert_eq!(member.incarnation, Incarnation(1));
}

#[test]
fn a_node_that_died_before_we_came_is_listed_after_a_while_and_without_alarm() {
    let mut world = World::new();
    assert_eq!(world.observe(&[dead("n1", 1)]), []);
    assert_eq!(world.state("n1"), None);
    world.pass(INTRODUCE_AFTER);
    assert_eq!(world.observe(&[dead("n1", 1)]), []);
    assert_eq!(world.state("n1"), Some(MemberState::Failed));
}

#[test]
fn a_hold_turns_silence_into_doubt_and_ends() {
    let mut world = World::new();
    world.observe(&[live("n1", 1), live("n2", 1)]);
    let suspected = world.observe_held(&[dead("n1", 1)], true);
    let doubt = |phi| EventKind::Suspected {
        from: MemberState::Active,
        heartbeat_age: Some(MEAN.mul_f64(phi)),
        phi: Some(phi),
        held: true,
    };
    assert_eq!(
        suspected,
        [doubt(9.0), doubt(1.0)],
        "n2 is absent, and held too"
    );
    assert_eq!(world.observe_held(&[dead("n1", 1)], true), []);
    let back = EventKind::StateChanged {
        from: MemberState::Suspect,
        to: MemberState::Active,
        cause: Cause::Heard,
    };
    let both = [live("n1", 1), live("n2", 1)];
    assert_eq!(world.observe(&both), [back.clone(), back]);
    assert_eq!(world.observe(&[dead("n1", 1)]).len(), 2);
    assert_eq!(world.state("n1"), Some(MemberState::Failed));
    assert_eq!(world.state("n2"), Some(MemberState::Failed));
}

#[test]
fn a_doubt_begins_late_ends_early_and_is_told_once() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    assert_eq!(world.observe(&[overdue(5.9)]), []);
    let suspected = EventKind::Suspected {
        from: MemberState::Active,
        heartbeat_age: Some(6 * MEAN),
        phi: Some(6.0),
        held: false,
    };
    assert_eq!(world.observe(&[overdue(6.0)]), [suspected]);
    for phi in [7.9, 4.0, 5.9, 6.5] {
        assert_eq!(world.observe(&[overdue(phi)]), [], "{phi}");
    }
    let back = EventKind::StateChanged {
        from: MemberState::Suspect,
        to: MemberState::Active,
        cause: Cause::Heard,
    };
    assert_eq!(world.observe(&[overdue(3.9)]), [back]);
    world.observe(&[overdue(7.0)]);
    let failed = world.observe(&[dead("n1", 1)]);
    assert!(
        matches!(
            failed[..],
            [EventKind::Failed {
                from: MemberState::Suspect,
                ..
            }]
        ),
        "{failed:?}"
    );
}

#[test]
fn a_doubt_about_a_life_that_is_over_is_dropped() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.observe(&[overdue(7.0)]);
    let restarted = EventKind::Restarted {
        previous: Incarnation(1),
        state: MemberState::Active,
    };
    assert_eq!(world.observe(&[live("n1", 2)]), [restarted]);
}

#[test]
fn a_drained_node_goes_to_maintenance_and_comes_back_drained() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.decide(Directive {
        drain: true,
        ..Directive::default()
    });
    let drained = EventKind::StateChanged {
        from: MemberState::Active,
        to: MemberState::Draining,
        cause: Cause::Operator,
    };
    assert_eq!(world.observe(&[live("n1", 1)]), [drained]);
    assert_eq!(
        world.observe(&[overdue(7.0)]),
        [],
        "not given back its traffic by doubt"
    );
    let away = EventKind::StateChanged {
        from: MemberState::Draining,
        to: MemberState::Maintenance,
        cause: Cause::Heard,
    };
    assert_eq!(world.observe(&[dead("n1", 1)]), [away]);
    world.pass(2 * FORGET_AFTER);
    assert_eq!(
        world.observe(&[]),
        [],
        "nobody forgets who is away on purpose"
    );
    let back = EventKind::Returned {
        from: MemberState::Maintenance,
        to: MemberState::Draining,
        away: 2 * FORGET_AFTER,
    };
    assert_eq!(world.observe(&[live("n1", 2)]), [back]);
    world.directives.clear();
    let undrained = EventKind::StateChanged {
        from: MemberState::Draining,
        to: MemberState::Active,
        cause: Cause::Operator,
    };
    assert_eq!(world.observe(&[live("n1", 2)]), [undrained]);
}

#[test]
fn a_node_that_an_operator_called_failed_stays_so_until_the_operator_revives_it() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.decide(Directive {
        failed: true,
        ..Directive::default()
    });
    let failed = EventKind::StateChanged {
        from: MemberState::Active,
        to: MemberState::Failed,
        cause: Cause::Operator,
    };
    assert_eq!(world.observe(&[live("n1", 1)]), [failed]);
    assert!(
        world
            .view
            .members()
            .iter()
            .all(|member| member.live && member.is_present())
    );
    for observation in [dead("n1", 1), live("n1", 1), live("n1", 2)] {
        assert_eq!(world.observe(&[observation]), []);
    }
    world.directives.clear();
    let revived = EventKind::StateChanged {
        from: MemberState::Failed,
        to: MemberState::Active,
        cause: Cause::Operator,
    };
    assert_eq!(world.observe(&[live("n1", 2)]), [revived]);
}

#[test]
fn a_removed_node_stays_removed_in_every_life_until_it_joins_again() {
    let mut world = World::new();
    let joined = |incarnation, mark| {
        let mut observation = live("n1", incarnation);
        Arc::make_mut(&mut observation.metadata).joined = JoinMark(mark);
        observation
    };
    world.observe(&[joined(1, 50)]);
    world.decide(Directive {
        removed: Some(JoinMark(50)),
        ..Directive::default()
    });
    let removed = EventKind::Removed {
        from: MemberState::Active,
    };
    assert_eq!(world.observe(&[joined(1, 50)]), [removed]);
    world.pass(SECOND);
    let silent = Observation {
        live: false,
        ..joined(3, 49)
    };
    for observation in [joined(2, 50), joined(3, 49), silent, joined(4, 50)] {
        assert_eq!(world.observe(&[observation]), []);
        assert_eq!(world.state("n1"), Some(MemberState::Removed));
    }
    let back = EventKind::Returned {
        from: MemberState::Removed,
        to: MemberState::Active,
        away: SECOND,
    };
    assert_eq!(world.observe(&[joined(5, 51)]), [back]);
}

#[test]
fn a_decision_about_a_stranger_waits_for_it_and_its_weight_is_used() {
    let mut world = World::new();
    world.decide(Directive {
        failed: true,
        weight: Some(7),
        ..Directive::default()
    });
    assert_eq!(world.observe(&[]), []);
    assert_eq!(
        world.observe(&[live("n1", 1)]),
        [],
        "it appears as it is decided"
    );
    assert_eq!(world.state("n1"), Some(MemberState::Failed));
    let members = world.view.members();
    assert_eq!(
        members
            .iter()
            .map(crate::Member::weight)
            .collect::<Vec<_>>(),
        [7]
    );
}

#[test]
fn a_hold_does_not_delay_a_leave() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    let left = world.observe_held(&[node("n1", 1, AnnouncedState::Left, true)], true);
    assert_eq!(
        left,
        [EventKind::Left {
            from: MemberState::Active
        }]
    );
}

#[test]
fn what_is_gone_for_long_is_forgotten() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    world.observe(&[dead("n1", 1)]);
    world.pass(FORGET_AFTER - SECOND);
    assert_eq!(world.observe(&[]), []);
    world.pass(SECOND);
    assert_eq!(world.observe(&[]), [EventKind::Forgotten]);
    assert_eq!(world.state("n1"), None);
}

#[test]
fn a_change_of_metadata_is_one_event_and_a_change_of_state_another() {
    let mut world = World::new();
    world.observe(&[live("n1", 1)]);
    let mut other = node("n1", 1, AnnouncedState::Draining, true);
    Arc::make_mut(&mut other.metadata).weight = 7;
    let expected = [
        EventKind::StateChanged {
            from: MemberState::Active,
            to: MemberState::Draining,
            cause: Cause::Announced,
        },
        EventKind::Updated,
    ];
    assert_eq!(world.observe(&[other]), expected);
}
