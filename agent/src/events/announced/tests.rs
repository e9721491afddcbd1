//! What is news about a member's server and keys, and what is not.

use std::sync::Arc;

use basic_membership::{Directive, Incarnation, MemberState, Metadata};

use super::*;

fn member(announce: impl FnOnce(&mut Metadata)) -> Member {
    let mut metadata = Metadata::new(1);
    announce(&mut metadata);
    Member {
        id: "n2".parse().unwrap(),
        incarnation: Incarnation(3),
        state: MemberState::Active,
        since: SystemTime::UNIX_EPOCH,
        peer: "10.0.0.2:9400".parse().unwrap(),
        metadata: Arc::new(metadata),
        heartbeat_age: None,
        phi: None,
        is_self: false,
        live: true,
        directive: Directive::default(),
        clock_offset: None,
    }
}

fn app(healthy: bool, reason: Option<&str>) -> Member {
    member(|metadata| metadata.app.set_health(healthy, 0, reason))
}

fn keys(keys: &[u32]) -> Member {
    let text = |key: &u32| format!("{key:08x}").parse().unwrap();
    member(|metadata| metadata.keys = keys.iter().map(text).collect())
}

/// The kinds of facts that each view brings.
fn kinds(views: &[Member]) -> Vec<Option<Kind>> {
    let mut announced = Announced::default();
    let observe = |member| {
        let facts = announced.observe([member], SystemTime::UNIX_EPOCH);
        assert!(facts.len() <= 1, "{facts:?}");
        facts.first().map(|fact| fact.kind)
    };
    views.iter().map(observe).collect()
}

#[test]
fn a_server_that_falls_ill_and_recovers_is_told_once_each() {
    let ill = || app(false, Some("connection refused"));
    assert_eq!(
        kinds(&[app(true, None), ill(), ill(), app(true, None)]),
        [None, Some(Kind::AppUnhealthy), None, Some(Kind::AppHealthy)]
    );
    let mut announced = Announced::default();
    let facts = announced.observe([&ill()], SystemTime::UNIX_EPOCH);
    assert_eq!(
        facts[0].message,
        "the server of n2 is unhealthy: connection refused"
    );
    assert_eq!(
        facts[0].evidence.reason.as_deref(),
        Some("connection refused")
    );
}

#[test]
fn a_node_that_restarts_and_has_not_been_probed_yet_is_no_news() {
    let unknown = || app(false, None);
    assert_eq!(
        kinds(&[unknown(), app(true, None), unknown(), app(true, None)]),
        [None; 4]
    );
    let ill = app(false, Some("500"));
    assert_eq!(
        kinds(&[ill, unknown(), app(true, None)]),
        [Some(Kind::AppUnhealthy), None, Some(Kind::AppHealthy)]
    );
}

#[test]
fn a_rotation_of_keys_is_told_step_by_step() {
    let rotated = Some(Kind::KeysChanged);
    assert_eq!(
        kinds(&[
            keys(&[1]),
            keys(&[1, 2]),
            keys(&[2, 1]),
            keys(&[2]),
            keys(&[2])
        ]),
        [None, rotated, rotated, rotated, None]
    );
}

#[test]
fn a_member_that_is_forgotten_begins_anew() {
    let mut announced = Announced::default();
    let ill = app(false, Some("500"));
    assert_eq!(announced.observe([&ill], SystemTime::UNIX_EPOCH).len(), 1);
    assert_eq!(announced.observe([], SystemTime::UNIX_EPOCH), []);
    assert_eq!(announced.observe([&ill], SystemTime::UNIX_EPOCH).len(), 1);
}
