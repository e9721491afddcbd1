//! Documents that end by themselves.

use super::*;

/// Lets the time pass, and every clock see it.
fn pass(world: &mut World, ms: u64) -> u64 {
    world.now_ms += ms;
    let wall_ms = world.now_ms;
    let tick = |node: &mut Node| node.clock.tick(wall_ms + node.skew_ms, u64::MAX).millis();
    world.nodes.iter_mut().map(tick).min().unwrap()
}

fn put_for(world: &mut World, merge: Merge, text: &str, ttl_ms: u64) {
    let action = Action::Put(bytes(text));
    world.act(0, merge, &action, Some(ttl_ms)).unwrap();
    world.settle();
}

#[test]
fn what_expired_does_not_shine_through_what_is_written_over_it() {
    for (merge, before, patch, after) in [
        (Merge::Lww, r#"{"a":1}"#, r#"{"b":2}"#, r#"{"b":2}"#),
        (Merge::Fields, r#"{"a":1}"#, r#"{"b":2}"#, r#"{"b":2}"#),
        (Merge::Counter, "5", r#"{"add":1}"#, "1"),
        (Merge::Set, "[1]", r#"{"add":[2]}"#, "[2]"),
    ] {
        let mut world = World::new();
        put_for(&mut world, merge, before, 50);
        assert_eq!(world.outcome(), before);
        pass(&mut world, 100);
        assert_eq!(world.outcome(), "nothing");
        world.patch(1, merge, patch);
        assert_eq!(world.outcome(), after);
        world.now_ms += 1_000_000;
        assert_eq!(world.outcome(), after, "it has no expiry any more");
    }
}

#[test]
fn additions_at_the_same_time_to_an_expired_counter_add_up() {
    let mut world = World::new();
    put_for(&mut world, Merge::Counter, "5", 50);
    pass(&mut world, 100);
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    world.patch(1, Merge::Counter, r#"{"add":2}"#);
    assert_eq!(world.outcome(), "3");
}

#[test]
fn a_patch_keeps_the_expiry_and_a_put_without_one_ends_it() {
    for merge in [Merge::Lww, Merge::Fields] {
        let mut world = World::new();
        put_for(&mut world, merge, r#"{"a":1}"#, 50);
        world.patch(0, merge, r#"{"b":2}"#);
        let expires_at = world.nodes[0].doc.expires_at();
        assert_eq!(expires_at, Some(1_050));
        assert!(!world.nodes[0].doc.is_expired(1_049));
        assert!(world.nodes[0].doc.is_expired(1_050));
        world.put(0, merge, r#"{"a":1}"#);
        assert_eq!(world.nodes[0].doc.expires_at(), None);
    }
}

#[test]
fn a_moment_that_is_over_ends_the_document_at_once() {
    let mut world = World::new();
    let action = Action::Put(bytes("1"));
    world.nodes[0].clock = HybridClock::resume(Timestamp::from_millis(5_000));
    let dot = Dot {
        origin: origin(0),
        seq: 1,
    };
    let context = Context {
        now_ms: 5_000,
        dated_ms: 5_000,
        dot,
        expires_at: Some(4_000),
    };
    let parts = plan(Merge::Lww, &action, &Document::default(), context).unwrap();
    let clock = Timestamp::from_millis(5_000);
    let mut doc = Document::default();
    doc.merge(&Write {
        version: Version { clock, dot },
        parts,
    });
    assert_eq!(doc.value(5_000), None);
}

#[test]
fn what_was_written_late_without_knowing_of_the_expiry_is_kept() {
    let mut world = World::new();
    world.put(0, Merge::Set, "[1]");
    world.settle();
    let action = Action::Patch(bytes(r#"{"add":[2]}"#));
    world.act(0, Merge::Set, &action, Some(50)).unwrap();
    pass(&mut world, 100);
    world.patch(1, Merge::Set, r#"{"add":[3]}"#);
    assert_eq!(world.outcome(), "[3]");
    world.patch(2, Merge::Set, r#"{"add":[4]}"#);
    assert_eq!(world.outcome(), "[3,4]");
}

/// Over a document that bears a date far ahead the date of a write says nothing about when it
/// was made.
#[test]
fn what_is_added_to_a_live_document_under_a_date_after_its_expiry_expires_with_it() {
    for (merge, put, patch, sum) in [
        (Merge::Lww, r#"{"a":1}"#, r#"{"b":2}"#, r#"{"a":1,"b":2}"#),
        (
            Merge::Fields,
            r#"{"a":1}"#,
            r#"{"b":2}"#,
            r#"{"a":1,"b":2}"#,
        ),
        (Merge::Counter, "1", r#"{"add":2}"#, "3"),
        (Merge::Set, "[1]", r#"{"add":[2]}"#, "[1,2]"),
    ] {
        let mut doc = Document::default();
        let mut write = |seq, action, dated_ms, expires_at| {
            let dot = Dot {
                origin: origin(0),
                seq,
            };
            let context = Context {
                now_ms: 5_000,
                dated_ms,
                dot,
                expires_at,
            };
            let parts = plan(merge, &action, &doc, context).unwrap();
            let clock = Timestamp::from_millis(dated_ms);
            let version = Version { clock, dot };
            doc.merge(&Write { version, parts });
        };
        write(1, Action::Put(bytes(put)), 60_000, Some(6_000));
        write(2, Action::Patch(bytes(patch)), 60_001, None);
        assert_eq!(doc.expires_at(), Some(6_000), "{merge}");
        assert_eq!(doc.value(5_999), Some(bytes(sum)), "{merge}");
        assert_eq!(doc.value(6_000), None, "{merge}");
    }
}

/// Why values of expired documents are not dropped: a node that had done so would not have
/// what a write brings back that was made in time and came late.
#[test]
fn what_was_put_off_in_time_brings_back_what_had_expired() {
    let mut world = World::new();
    put_for(&mut world, Merge::Fields, r#"{"a":1}"#, 50);
    let action = Action::Patch(bytes(r#"{"b":2}"#));
    world
        .act(1, Merge::Fields, &action, Some(1_000_000))
        .unwrap();
    let now_ms = pass(&mut world, 100);
    let mut dropped = world.nodes[0].doc.clone();
    assert!(dropped.is_tombstone(now_ms));
    for part in dropped.writes.iter_mut().flat_map(|write| &mut write.parts) {
        if part.part != Part::Expiry {
            part.value = None;
        }
    }
    assert_eq!(world.outcome(), r#"{"a":1,"b":2}"#);
    for write in world.nodes[1].doc.writes() {
        dropped.merge(write);
    }
    assert_eq!(dropped.fingerprint(), world.nodes[0].doc.fingerprint());
    assert_eq!(
        shown(dropped.value(now_ms)),
        r#"{"b":2}"#,
        "and nobody would notice"
    );
}

proptest! {
    #[test]
    fn what_is_gone_stays_so_until_something_is_written(steps in steps(24)) {
        let mut world = World::new();
        world.run(&steps);
        for node in &world.nodes {
            let gone: Vec<bool> = (1_000..1_200).map(|now_ms| node.doc.is_tombstone(now_ms)).collect();
            prop_assert!(gone.is_sorted(), "{:?}", node.doc);
            prop_assert_eq!(gone.last().copied(), Some(node.doc.value(1_199).is_none()));
        }
    }
}
