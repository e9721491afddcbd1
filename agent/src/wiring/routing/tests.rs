//! Who takes requests, state by state.

use std::sync::Arc;
use std::time::SystemTime;

use basic_membership::{Directive, Incarnation, Metadata};

use super::*;

/// A member in this state that announces itself as a node in that state does, with a healthy app.
pub(super) fn member(state: MemberState, announced: AnnouncedState) -> Member {
    let mut metadata = Metadata::new(1);
    metadata.announced = announced;
    metadata.app.healthy = true;
    Member {
        id: "n1".parse().unwrap(),
        incarnation: Incarnation(1),
        state,
        since: SystemTime::UNIX_EPOCH,
        peer: "10.0.0.1:9400".parse().unwrap(),
        metadata: Arc::new(metadata),
        heartbeat_age: None,
        phi: None,
        is_self: false,
        live: true,
        directive: Directive::default(),
        clock_offset: None,
    }
}

#[test]
fn a_node_takes_requests_according_to_its_state() {
    use Admission::{Accepting, Draining, Refusing};
    use AnnouncedState as A;
    use MemberState as S;
    for (state, announced, expected) in [
        (S::Joining, A::Joining, Some(Refusing(Refusal::CatchingUp))),
        (
            S::CatchingUp,
            A::CatchingUp,
            Some(Refusing(Refusal::CatchingUp)),
        ),
        (S::Active, A::Active, Some(Accepting)),
        (S::Draining, A::Draining, Some(Draining)),
        (S::Leaving, A::Leaving, Some(Draining)),
        (S::Left, A::Left, None),
        (S::Failed, A::Active, Some(Refusing(Refusal::Unreachable))),
        (
            S::Maintenance,
            A::Active,
            Some(Refusing(Refusal::Administrative)),
        ),
        (S::Removed, A::Active, None),
    ] {
        assert_eq!(admission(&member(state, announced)), expected, "{state}");
    }
}

#[test]
fn doubt_about_a_node_changes_nothing_of_what_it_announces() {
    use AnnouncedState as A;
    for (announced, expected) in [
        (A::Active, Admission::Accepting),
        (A::Draining, Admission::Draining),
        (A::CatchingUp, Admission::Refusing(Refusal::CatchingUp)),
    ] {
        let suspect = member(MemberState::Suspect, announced);
        assert_eq!(admission(&suspect), Some(expected), "{announced:?}");
    }
}

#[test]
fn an_operator_takes_a_node_out_whatever_it_announces() {
    let mut drained = member(MemberState::Draining, AnnouncedState::Active);
    drained.directive.drain = true;
    assert_eq!(admission(&drained), Some(Admission::Draining));
    // Never as a last resort either: its data is old.
    Arc::make_mut(&mut drained.metadata).announced = AnnouncedState::CatchingUp;
    assert_eq!(
        admission(&drained),
        Some(Admission::Refusing(Refusal::CatchingUp))
    );

    // Doubted as well.
    let mut doubted = member(MemberState::Suspect, AnnouncedState::Active);
    doubted.directive.drain = true;
    assert_eq!(admission(&doubted), Some(Admission::Draining));

    let mut failed = member(MemberState::Failed, AnnouncedState::Active);
    failed.directive.failed = true;
    assert_eq!(
        admission(&failed),
        Some(Admission::Refusing(Refusal::Administrative))
    );
}

#[test]
fn an_active_node_needs_a_healthy_app_and_a_weight() {
    let mut unhealthy = member(MemberState::Active, AnnouncedState::Active);
    Arc::make_mut(&mut unhealthy.metadata).app.healthy = false;
    assert_eq!(
        admission(&unhealthy),
        Some(Admission::Refusing(Refusal::Unhealthy))
    );

    let mut idle = member(MemberState::Active, AnnouncedState::Active);
    Arc::make_mut(&mut idle.metadata).weight = 0;
    assert_eq!(
        admission(&idle),
        Some(Admission::Refusing(Refusal::Administrative))
    );
    // The operator's word counts for more than the node's.
    idle.directive.weight = Some(10);
    assert_eq!(admission(&idle), Some(Admission::Accepting));
}
