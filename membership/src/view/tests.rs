//! What the view concludes, without a network and without waiting.

use proptest::prelude::*;

use super::*;
use crate::metadata::AnnouncedState;

const SECOND: Duration = Duration::from_secs(1);
const INTRODUCE_AFTER: Duration = Duration::from_secs(2);
const FORGET_AFTER: Duration = Duration::from_secs(900);

/// A view and a clock that the test moves.
struct World {
    view: View,
    now: Moment,
}

impl World {
    fn new() -> World {
        World {
            view: View::new(INTRODUCE_AFTER, FORGET_AFTER),
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
        let outcome = self.view.observe(observations.to_vec(), held, self.now);
        assert!(outcome.changed || outcome.events.is_empty());
        outcome.events.into_iter().map(|event| event.kind).collect()
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
        silence: Some(Silence {
            age: SECOND,
            phi: Some(9.0),
        }),
        is_self: false,
    }
}

fn live(id: &str, incarnation: u64) -> Observation {
    node(id, incarnation, AnnouncedState::Active, true)
}

fn dead(id: &str, incarnation: u64) -> Observation {
    node(id, incarnation, AnnouncedState::Active, false)
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
        heartbeat_age: Some(SECOND),
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
fn a_hold_keeps_the_silent_in_place_and_ends() {
    let mut world = World::new();
    world.observe(&[live("n1", 1), live("n2", 1)]);
    assert_eq!(world.observe_held(&[dead("n1", 1)], true), []);
    assert_eq!(world.state("n1"), Some(MemberState::Active));
    assert_eq!(
        world.state("n2"),
        Some(MemberState::Active),
        "absent, and held too"
    );
    assert_eq!(world.observe(&[live("n1", 1), live("n2", 1)]), []);
    assert_eq!(world.observe(&[dead("n1", 1)]).len(), 2);
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
        },
        EventKind::Updated,
    ];
    assert_eq!(world.observe(&[other]), expected);
}

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let states = prop::sample::select(vec![
        AnnouncedState::Joining,
        AnnouncedState::Active,
        AnnouncedState::Leaving,
        AnnouncedState::Left,
    ]);
    let one = (
        prop::sample::select(vec!["n1", "n2"]),
        1u64..4,
        states,
        any::<bool>(),
    )
        .prop_map(|(id, incarnation, announced, live)| node(id, incarnation, announced, live));
    prop::collection::vec(one, 0..5)
}

proptest! {
    /// A reader of the stream knows what a reader of the snapshot knows.
    #[test]
    fn the_events_add_up_to_the_view(
        rounds in prop::collection::vec((observations(), any::<bool>(), 0u64..1000), 1..30),
    ) {
        let mut world = World::new();
        let mut followed: BTreeMap<NodeId, MemberState> = BTreeMap::new();
        for (observations, held, pause) in rounds {
            world.pass(Duration::from_secs(pause));
            let outcome = world.view.observe(observations, held, world.now);
            for event in outcome.events {
                let before = followed.get(&event.id).copied();
                match event.kind {
                    EventKind::Joined { state } => {
                        prop_assert_eq!(followed.insert(event.id, state), None);
                    }
                    EventKind::Restarted { state, .. } => {
                        prop_assert!(before.is_some_and(MemberState::is_running));
                        followed.insert(event.id, state);
                    }
                    EventKind::StateChanged { from, to } | EventKind::Returned { from, to, .. } => {
                        // A member may have been listed, silently, as failed or left.
                        prop_assert!(before == Some(from) || !from.is_running());
                        followed.insert(event.id, to);
                    }
                    EventKind::Failed { from, .. } => {
                        prop_assert!(before == Some(from) || !from.is_running());
                        followed.insert(event.id, MemberState::Failed);
                    }
                    EventKind::Left { from } => {
                        prop_assert!(before == Some(from) || !from.is_running());
                        followed.insert(event.id, MemberState::Left);
                    }
                    EventKind::Forgotten => {
                        followed.remove(&event.id);
                    }
                    EventKind::Updated
                    | EventKind::IdentityConflict { .. }
                    | EventKind::GossipRestarted { .. } => {}
                }
            }
            for member in &world.view.members() {
                match followed.get(&member.id) {
                    Some(state) => prop_assert_eq!(*state, member.state),
                    None => prop_assert!(!member.state.is_running()),
                }
            }
        }
    }
}
