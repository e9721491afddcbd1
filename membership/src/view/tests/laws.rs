//! What holds for every sequence of observations and decisions.

use proptest::prelude::*;

use super::*;

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let states = prop::sample::select(vec![
        AnnouncedState::Joining,
        AnnouncedState::Active,
        AnnouncedState::Draining,
        AnnouncedState::Leaving,
        AnnouncedState::Left,
    ]);
    let one = (
        prop::sample::select(vec!["n1", "n2"]),
        1u64..4,
        states,
        any::<bool>(),
        0.0..8.0,
        0u64..3,
    )
        .prop_map(|(id, incarnation, announced, live, phi, joined)| {
            let mut one = node(id, incarnation, announced, live);
            one.silence = Some(silence(if live { phi } else { phi + 8.0 }));
            Arc::make_mut(&mut one.metadata).joined = JoinMark(joined);
            one
        });
    // One observation for each incarnation, as there is one state of each.
    prop::collection::vec(one, 0..5).prop_map(|many| {
        let mut once = BTreeMap::new();
        for one in many {
            once.insert((one.id.clone(), one.incarnation), one);
        }
        once.into_values().collect()
    })
}

fn directive() -> impl Strategy<Value = Directive> {
    let removed = prop::option::weighted(0.3, (0u64..3).prop_map(JoinMark));
    (any::<bool>(), prop::bool::weighted(0.3), removed).prop_map(|(drain, failed, removed)| {
        Directive {
            drain,
            failed,
            weight: None,
            removed,
        }
    })
}

fn directives() -> impl Strategy<Value = Directives> {
    let id = prop::sample::select(vec!["n1", "n2"]).prop_map(|id| id.parse().unwrap());
    prop::collection::btree_map(id, directive(), 0..3)
}

#[derive(Debug, Clone)]
struct RoundInput {
    observations: Vec<Observation>,
    directives: Directives,
    held: bool,
    pause: Duration,
}

fn rounds() -> impl Strategy<Value = Vec<RoundInput>> {
    let round = (observations(), directives(), any::<bool>(), 0u64..1000).prop_map(
        |(observations, directives, held, pause)| RoundInput {
            observations,
            directives,
            held,
            pause: Duration::from_secs(pause),
        },
    );
    prop::collection::vec(round, 1..30)
}

impl World {
    fn play(&mut self, round: RoundInput) -> Vec<Event> {
        self.pass(round.pause);
        self.directives = round.directives;
        self.view
            .observe(round.observations, &self.directives, round.held, self.now)
            .events
    }
}

/// The states before and after, for events that change the state.
fn transition(kind: &EventKind) -> Option<(Option<MemberState>, MemberState)> {
    Some(match *kind {
        EventKind::Joined { state } => (None, state),
        EventKind::Restarted { state, .. } => (None, state),
        EventKind::StateChanged { from, to, .. } | EventKind::Returned { from, to, .. } => {
            (Some(from), to)
        }
        EventKind::Suspected { from, .. } => (Some(from), MemberState::Suspect),
        EventKind::Removed { from } => (Some(from), MemberState::Removed),
        EventKind::Failed { from, .. } => (Some(from), MemberState::Failed),
        EventKind::Left { from } => (Some(from), MemberState::Left),
        EventKind::Updated
        | EventKind::Forgotten
        | EventKind::IdentityConflict { .. }
        | EventKind::GossipRestarted { .. } => return None,
    })
}

proptest! {
    /// A reader of the stream knows what a reader of the snapshot knows: each
    /// change of a state is one event and no more.
    #[test]
    fn the_events_add_up_to_the_view(rounds in rounds()) {
        let mut world = World::new();
        let mut before: BTreeMap<NodeId, MemberState> = BTreeMap::new();
        for round in rounds {
            let mut told: BTreeMap<NodeId, MemberState> = BTreeMap::new();
            for event in world.play(round) {
                match transition(&event.kind) {
                    Some((from, to)) => {
                        prop_assert!(from.is_none() || from == before.get(&event.id).copied());
                        prop_assert_eq!(told.insert(event.id, to), None, "two in one round");
                    }
                    None if event.kind == EventKind::Forgotten => drop(before.remove(&event.id)),
                    None => {}
                }
            }
            let now: BTreeMap<_, _> = world
                .view
                .members()
                .iter()
                .map(|member| (member.id.clone(), member.state))
                .collect();
            for (id, state) in &now {
                match (before.get(id), told.get(id)) {
                    (_, Some(told)) => prop_assert_eq!(told, state),
                    (Some(before), None) => prop_assert_eq!(before, state),
                    // Appeared without an event: it has never run here.
                    (None, None) => prop_assert!(!state.is_running()),
                }
            }
            prop_assert!(before.keys().all(|id| now.contains_key(id)));
            before = now;
        }
    }

    #[test]
    fn nothing_that_is_observed_lifts_what_an_operator_decided(rounds in rounds()) {
        let mut world = World::new();
        for round in rounds {
            world.play(round);
            for member in &world.view.members() {
                let directive = world.directives.get(&member.id).copied().unwrap_or_default();
                prop_assert_eq!(member.directive, directive);
                if directive.removes(member.metadata.joined) {
                    prop_assert_eq!(member.state, MemberState::Removed);
                } else if directive.failed {
                    prop_assert!(!member.state.is_running());
                } else if directive.drain {
                    let takes_traffic = [MemberState::Active, MemberState::Suspect];
                    prop_assert!(!takes_traffic.contains(&member.state));
                }
            }
        }
    }

    #[test]
    fn a_hold_lets_nobody_fail_but_by_an_operator(rounds in rounds()) {
        let mut world = World::new();
        for round in rounds {
            let held = round.held;
            for event in world.play(round) {
                if let Some((_, MemberState::Failed)) = transition(&event.kind).filter(|_| held) {
                    let decided = world.directives.get(&event.id);
                    prop_assert!(decided.is_some_and(|decided| decided.failed), "{event:?}");
                }
            }
        }
    }

    /// A doubt is never the last word.
    #[test]
    fn a_suspect_fails_or_comes_back_when_the_hold_is_over(rounds in rounds(), lives in any::<bool>()) {
        let mut world = World::new();
        for round in rounds {
            world.play(round);
        }
        let members = world.view.members();
        for suspect in members.iter().filter(|one| one.state == MemberState::Suspect) {
            let (id, incarnation) = (suspect.id.as_str(), suspect.incarnation.0);
            let mut last = node(id, incarnation, AnnouncedState::Active, lives);
            last.metadata = Arc::clone(&suspect.metadata);
            world.observe(&[last]);
            let expected = if lives { MemberState::Active } else { MemberState::Failed };
            prop_assert_eq!(world.state(id), Some(expected));
        }
    }

    #[test]
    fn the_order_in_which_incarnations_are_read_changes_nothing(rounds in rounds()) {
        let (mut one, mut other) = (World::new(), World::new());
        other.now = one.now;
        for round in rounds {
            let mut reversed = round.clone();
            reversed.observations.reverse();
            prop_assert_eq!(one.play(round), other.play(reversed));
            prop_assert_eq!(one.view.members(), other.view.members());
        }
    }
}
