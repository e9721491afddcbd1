//! What the roster keeps, and for how long.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::directive::Directive;
use crate::metadata::Metadata;

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

pub(super) fn entry(id: &str, port: u16) -> RosterEntry {
    RosterEntry {
        id: id.parse().unwrap(),
        incarnation: Incarnation(1),
        joined: JoinMark(1),
        peer: ([127, 0, 0, 1], port).into(),
        first_seen: at(1),
        last_seen: Some(at(1)),
        last_state: MemberState::Active,
    }
}

/// Nodes with one port each, counted from 1.
pub(super) fn known(ids: &[&str]) -> Roster {
    Roster::from_entries((1..).zip(ids).map(|(port, id)| entry(id, port)))
}

pub(super) fn member(id: &str, port: u16, state: MemberState) -> Member {
    Member {
        id: id.parse().unwrap(),
        incarnation: Incarnation(1),
        state,
        since: UNIX_EPOCH,
        peer: ([127, 0, 0, 1], port).into(),
        metadata: Arc::new(Metadata {
            joined: JoinMark(1),
            ..Metadata::new(1)
        }),
        heartbeat_age: None,
        phi: None,
        live: state.is_running(),
        directive: Directive::default(),
        clock_offset: None,
        is_self: false,
    }
}

fn members(list: Vec<Member>) -> Members {
    Members::from_ordered(list)
}

fn decided(id: &str, directive: Directive) -> Directives {
    Directives::from([(id.parse().unwrap(), directive)])
}

#[test]
fn who_was_seen_once_stays_when_gossip_has_forgotten_it() {
    let mut roster = Roster::default();
    let none = Directives::new();
    let one = member("n1", 1, MemberState::Active);
    assert!(roster.note(&members(vec![one.clone()]), &none, at(1)));
    assert!(
        !roster.note(&members(vec![one]), &none, at(2)),
        "seen again, no news"
    );
    let dead = member("n1", 1, MemberState::Failed);
    assert!(roster.note(&members(vec![dead]), &none, at(3)));
    assert!(!roster.note(&members(Vec::new()), &none, at(4)));
    let entry = roster.iter().next().unwrap();
    assert_eq!((entry.first_seen, entry.last_seen), (at(1), Some(at(2))));
    assert_eq!(entry.last_state, MemberState::Failed);
}

#[test]
fn a_removal_takes_a_node_out_though_it_was_away_and_a_later_join_brings_it_in() {
    let mut roster = known(&["n1", "n2"]);
    let removal = Directive {
        removed: Some(JoinMark(1)),
        ..Directive::default()
    };
    let directives = decided("n2", removal);
    assert!(roster.note(&members(Vec::new()), &directives, at(2)));
    let removed = member("n2", 2, MemberState::Removed);
    assert!(!roster.note(&members(vec![removed]), &directives, at(3)));
    assert_eq!(roster, known(&["n1"]));
    let mut back = member("n2", 2, MemberState::Joining);
    Arc::make_mut(&mut back.metadata).joined = JoinMark(2);
    assert!(roster.note(&members(vec![back]), &directives, at(4)));
    assert_eq!(roster.iter().count(), 2);
}

#[test]
fn who_is_known_by_hearsay_was_never_seen_until_it_is_heard() {
    let mut roster = Roster::default();
    let none = Directives::new();
    let dead = member("n1", 1, MemberState::Failed);
    roster.note(&members(vec![dead]), &none, at(1));
    assert_eq!(roster.iter().next().unwrap().last_seen, None);
    let alive = member("n1", 1, MemberState::Active);
    roster.note(&members(vec![alive]), &none, at(2));
    assert_eq!(roster.iter().next().unwrap().last_seen, Some(at(2)));
}

#[test]
fn a_doubt_is_not_written_down() {
    let mut roster = known(&["n1"]);
    let suspect = member("n1", 1, MemberState::Suspect);
    assert!(!roster.note(&members(vec![suspect]), &Directives::new(), at(1)));
    assert_eq!(roster, known(&["n1"]));
}

#[test]
fn a_full_roster_gives_up_the_one_not_seen_for_longest() {
    let name = |n: usize| format!("n{n:04}");
    let entries = (0..ENTRIES_MAX).map(|n| RosterEntry {
        last_seen: Some(at(if n == 7 { 1 } else { 100 })),
        ..entry(&name(n), 1)
    });
    let mut roster = Roster::from_entries(entries);
    let newcomer = member("zz", 1, MemberState::Active);
    roster.note(&members(vec![newcomer]), &Directives::new(), at(200));
    assert_eq!(roster.iter().count(), ENTRIES_MAX);
    assert!(roster.iter().all(|entry| entry.id.as_str() != name(7)));
    assert!(roster.iter().any(|entry| entry.id.as_str() == "zz"));
}
