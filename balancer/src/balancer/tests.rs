//! The laws of picking: exact turns, fail open, each endpoint once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::endpoint::Refusal;

const ANSWERED: Outcome<'_> = Outcome::Answered {
    waited: Duration::from_millis(3),
};

fn endpoint(index: usize, admission: Admission) -> Endpoint {
    Endpoint {
        id: EndpointId::new(format!("n{index}")),
        target: SocketAddr::from(([127, 0, 0, 1], 1_000)),
        weight: 100,
        local: index == 0,
        admission,
    }
}

fn balancer(admissions: &[Admission]) -> Balancer {
    let balancer = Balancer::new(Config::default());
    let endpoints = admissions
        .iter()
        .enumerate()
        .map(|(i, a)| endpoint(i, *a))
        .collect();
    balancer.set_endpoints(endpoints);
    balancer
}

fn pick(balancer: &Balancer, now: Instant) -> Option<String> {
    balancer
        .next_attempt(now, &[])
        .map(|picked| picked.id().to_string())
}

fn eject(balancer: &Balancer, now: Instant, id: &str) {
    for _ in 0..100 {
        let picked = balancer.next_attempt(now, &[]).unwrap();
        if picked.id().as_str() == id {
            balancer.record(
                now,
                &picked,
                Outcome::Failed(FailureKind::Connect, "refused"),
            );
        }
    }
}

const ACCEPTING: Admission = Admission::Accepting;
const UNHEALTHY: Admission = Admission::Refusing(Refusal::Unhealthy);
const OUT: Admission = Admission::Refusing(Refusal::Administrative);

#[test]
fn without_endpoints_there_is_nothing_to_pick() {
    assert_eq!(pick(&balancer(&[]), Instant::now()), None);
}

#[test]
fn only_endpoints_that_accept_are_picked_while_there_is_one() {
    let balancer = balancer(&[UNHEALTHY, ACCEPTING, Admission::Draining, OUT]);
    let now = Instant::now();
    for _ in 0..20 {
        assert_eq!(pick(&balancer, now).as_deref(), Some("n1"));
    }
}

#[test]
fn when_all_are_unhealthy_all_are_picked() {
    let balancer = balancer(&[UNHEALTHY, UNHEALTHY]);
    let now = Instant::now();
    let picks: Vec<_> = (0..4).map(|_| pick(&balancer, now).unwrap()).collect();
    assert_eq!(
        picks.iter().filter(|id| *id == "n0").count(),
        2,
        "{picks:?}"
    );
}

#[test]
fn when_all_are_ejected_all_are_picked() {
    let balancer = balancer(&[ACCEPTING, ACCEPTING]);
    let now = Instant::now();
    eject(&balancer, now, "n0");
    assert_eq!(pick(&balancer, now).as_deref(), Some("n1"));
    eject(&balancer, now, "n1");
    let picks: Vec<_> = (0..4).map(|_| pick(&balancer, now).unwrap()).collect();
    assert!(
        picks.contains(&"n0".to_owned()) && picks.contains(&"n1".to_owned()),
        "{picks:?}"
    );
}

#[test]
fn an_endpoint_that_an_operator_took_out_is_never_picked() {
    let out = balancer(&[OUT, Admission::Refusing(Refusal::CatchingUp)]);
    assert_eq!(pick(&out, Instant::now()), None);
}

#[test]
fn after_the_good_ones_are_tried_the_ejected_one_is() {
    let balancer = balancer(&[ACCEPTING, ACCEPTING]);
    let now = Instant::now();
    eject(&balancer, now, "n0");
    let second = balancer.next_attempt(now, &["n1".into()]).unwrap();
    assert_eq!(second.id().as_str(), "n0");
    assert!(
        balancer
            .next_attempt(now, &["n1".into(), "n0".into()])
            .is_none()
    );
}

#[test]
fn an_answer_ends_the_ejection() {
    let balancer = balancer(&[ACCEPTING]);
    let now = Instant::now();
    eject(&balancer, now, "n0");
    assert!(balancer.snapshot(now)[0].ejected_for.is_some());
    let picked = balancer.next_attempt(now, &[]).unwrap();
    balancer.record(now, &picked, ANSWERED);
    let known = balancer.snapshot(now).remove(0);
    assert!(known.in_rotation());
    assert_eq!(
        (known.answered, known.waited),
        (1, Duration::from_millis(3))
    );
}

#[test]
fn failures_other_than_connecting_do_not_eject() {
    let balancer = balancer(&[ACCEPTING]);
    let now = Instant::now();
    for kind in [
        FailureKind::Reset,
        FailureKind::Timeout,
        FailureKind::Malformed,
    ] {
        for _ in 0..10 {
            let picked = balancer.next_attempt(now, &[]).unwrap();
            balancer.record(now, &picked, Outcome::Failed(kind, "x"));
        }
    }
    assert!(balancer.snapshot(now)[0].in_rotation());
    assert_eq!(balancer.snapshot(now)[0].failures, 30);
}

#[test]
fn a_pick_is_in_flight_until_it_is_dropped_even_if_its_endpoint_left() {
    let balancer = balancer(&[ACCEPTING]);
    let now = Instant::now();
    let picked = balancer.next_attempt(now, &[]).unwrap();
    assert_eq!(balancer.snapshot(now)[0].in_flight, 1);
    balancer.set_endpoints(vec![]);
    balancer.record(now, &picked, ANSWERED);
    drop(picked);
    assert!(balancer.snapshot(now).is_empty());
}

fn any_admission() -> impl Strategy<Value = Admission> {
    prop_oneof![
        Just(ACCEPTING),
        Just(Admission::Draining),
        Just(UNHEALTHY),
        Just(Admission::Refusing(Refusal::Unreachable)),
        Just(Admission::Refusing(Refusal::CatchingUp)),
        Just(OUT),
    ]
}

proptest! {
    /// TESTING, invariant 10, for every mix of admissions and every history of failures.
    #[test]
    fn something_is_picked_whenever_something_may_be(
        admissions in prop::collection::vec(any_admission(), 0..8),
        outcomes in prop::collection::vec((any::<bool>(), 0u64..2_000), 0..100),
    ) {
        let balancer = balancer(&admissions);
        let usable = admissions.iter().any(|admission| admission.is_last_resort());
        let mut now = Instant::now();
        for (answers, wait) in outcomes {
            now += Duration::from_millis(wait);
            let picked = balancer.next_attempt(now, &[]);
            prop_assert_eq!(picked.is_some(), usable);
            if let Some(picked) = picked {
                let failed = Outcome::Failed(FailureKind::Connect, "refused");
                balancer.record(now, &picked, if answers { ANSWERED } else { failed });
            }
        }
    }

    #[test]
    fn a_request_tries_each_usable_endpoint_exactly_once(
        admissions in prop::collection::vec(any_admission(), 0..8),
    ) {
        let balancer = balancer(&admissions);
        let now = Instant::now();
        let mut tried = Vec::new();
        while let Some(picked) = balancer.next_attempt(now, &tried) {
            prop_assert!(!tried.contains(picked.id()));
            tried.push(picked.id().clone());
        }
        let usable = admissions.iter().filter(|admission| admission.is_last_resort()).count();
        prop_assert_eq!(tried.len(), usable);
    }

    #[test]
    fn a_steady_table_is_spread_to_within_one(
        accepting in 1usize..10,
        refusing in 0usize..5,
        window in 1usize..300,
    ) {
        let admissions = [vec![ACCEPTING; accepting], vec![OUT; refusing]].concat();
        let balancer = balancer(&admissions);
        let now = Instant::now();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for _ in 0..window {
            *counts.entry(pick(&balancer, now).unwrap()).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0);
        let least = if counts.len() < accepting { 0 } else { *counts.values().min().unwrap() };
        prop_assert!(most - least <= 1, "{:?}", counts);
    }
}
