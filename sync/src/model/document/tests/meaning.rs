//! What comes of operations at the same time: nothing acknowledged is lost without
//! having been seen by whoever overwrote or deleted it.

use std::collections::BTreeMap;

use super::*;

/// An operation on a counter or a set.
#[derive(Clone, Debug)]
enum Op {
    Add(usize, i64),
    Remove(usize, i64),
    Put(usize, i64),
    Delete(usize),
    Send(usize, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = || 0..NODES;
    let op = prop_oneof![
        4 => (node(), -3i64..4).prop_map(|(node, n)| Op::Add(node, n)),
        2 => (node(), -3i64..4).prop_map(|(node, n)| Op::Remove(node, n)),
        1 => (node(), -3i64..4).prop_map(|(node, n)| Op::Put(node, n)),
        1 => node().prop_map(Op::Delete),
        4 => (node(), node()).prop_map(|(from, to)| Op::Send(from, to)),
    ];
    prop::collection::vec(op, 0..40)
}

/// What a node knows, as a list of events: each addition, and which were taken back.
#[derive(Clone, Default)]
struct Known {
    added: BTreeMap<u32, i64>,
    gone: BTreeSet<u32>,
}

impl Known {
    fn live(&self) -> impl Iterator<Item = (u32, i64)> {
        let live = self.added.iter().filter(|(id, _)| !self.gone.contains(id));
        live.map(|(id, n)| (*id, *n))
    }

    fn take_back(&mut self, which: impl Fn(i64) -> bool) {
        let gone: Vec<u32> = self
            .live()
            .filter(|(_, n)| which(*n))
            .map(|(id, _)| id)
            .collect();
        self.gone.extend(gone);
    }

    fn join(&mut self, other: &Known) {
        self.added.extend(&other.added);
        self.gone.extend(&other.gone);
    }
}

/// Runs the model and the documents side by side, and then brings all together.
fn check_against_events(
    ops: &[Op],
    step: impl Fn(&mut World, &mut Known, u32, &Op),
    agree: impl Fn(&World, usize, &Known) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut known = vec![Known::default(); NODES];
    let meet = (0..NODES).flat_map(|a| (0..NODES).map(move |b| Op::Send(a, b)));
    let meet: Vec<Op> = meet.collect();
    for (id, op) in (0u32..).zip(ops.iter().chain(&meet).chain(&meet)) {
        match *op {
            Op::Send(from, to) => {
                world.send(from, to);
                let from = known[from].clone();
                known[to].join(&from);
            }
            Op::Add(node, _) | Op::Remove(node, _) | Op::Put(node, _) | Op::Delete(node) => {
                step(&mut world, &mut known[node], id, op);
            }
        }
        for (node, known) in known.iter().enumerate() {
            agree(&world, node, known)?;
        }
    }
    prop_assert_eq!(&world.nodes[0].doc, &world.nodes[1].doc);
    prop_assert_eq!(&world.nodes[0].doc, &world.nodes[2].doc);
    Ok(())
}

fn count(world: &mut World, known: &mut Known, id: u32, op: &Op) {
    match *op {
        Op::Add(node, n) | Op::Remove(node, n) => {
            world.patch(node, Merge::Counter, &format!(r#"{{"add":{n}}}"#));
            known.added.insert(id, n);
        }
        Op::Put(node, n) => {
            let sum: i64 = known.live().map(|(_, n)| n).sum();
            world.put(node, Merge::Counter, &n.to_string());
            known.added.insert(id, n - sum);
        }
        Op::Delete(node) => {
            world.delete(node, Merge::Counter);
            known.take_back(|_| true);
        }
        Op::Send(..) => {}
    }
}

fn change(world: &mut World, known: &mut Known, id: u32, op: &Op) {
    match *op {
        Op::Add(node, n) => {
            world.patch(node, Merge::Set, &format!(r#"{{"add":[{n}]}}"#));
            known.take_back(|other| other == n);
            known.added.insert(id, n);
        }
        Op::Remove(node, n) => {
            world.patch(node, Merge::Set, &format!(r#"{{"remove":[{n}]}}"#));
            known.take_back(|other| other == n);
        }
        Op::Put(node, n) => {
            world.put(node, Merge::Set, &format!("[{n}]"));
            known.take_back(|other| other != n);
            if known.live().next().is_none() {
                known.added.insert(id, n);
            }
        }
        Op::Delete(node) => {
            world.delete(node, Merge::Set);
            known.take_back(|_| true);
        }
        Op::Send(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_counter_is_the_sum_of_the_additions_that_no_deletion_has_seen(ops in ops()) {
        check_against_events(&ops, count, |world, node, known| {
            let sum: i64 = known.live().map(|(_, n)| n).sum();
            let expected = known.live().next().map_or("nothing".to_owned(), |_| sum.to_string());
            prop_assert_eq!(world.read(node), expected);
            Ok(())
        })?;
    }

    #[test]
    fn a_set_holds_the_additions_that_no_removal_has_seen(ops in ops()) {
        check_against_events(&ops, change, |world, node, known| {
            let live: BTreeSet<i64> = known.live().map(|(_, n)| n).collect();
            let value = world.nodes[node].doc.value(world.now_ms);
            let read: Vec<i64> = value.map_or(vec![], |text| serde_json::from_slice(&text).unwrap());
            prop_assert_eq!(read.len(), live.len());
            prop_assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), live);
            Ok(())
        })?;
    }
}

#[test]
fn an_addition_wins_over_a_removal_at_the_same_time() {
    let mut world = World::new();
    world.put(0, Merge::Set, r#"["x","y"]"#);
    world.settle();
    world.patch(0, Merge::Set, r#"{"add":["x"]}"#);
    world.patch(1, Merge::Set, r#"{"remove":["x"]}"#);
    world.delete(2, Merge::Set);
    assert_eq!(world.outcome(), r#"["x"]"#);
    world.patch(1, Merge::Set, r#"{"remove":["x"]}"#);
    assert_eq!(world.outcome(), "[]");
    world.delete(1, Merge::Set);
    assert_eq!(world.outcome(), "nothing");
}

#[test]
fn deletions_of_a_counter_at_the_same_time_take_it_off_once() {
    let mut world = World::new();
    world.patch(0, Merge::Counter, r#"{"add":10}"#);
    world.settle();
    world.delete(1, Merge::Counter);
    world.delete(2, Merge::Counter);
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    assert_eq!(world.outcome(), "1");
}

#[test]
fn a_counter_that_began_as_a_document_counts_on_from_it() {
    let mut world = World::new();
    world.put(0, Merge::Lww, "100");
    world.settle();
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    world.patch(1, Merge::Counter, r#"{"add":2}"#);
    world.delete(2, Merge::Counter);
    assert_eq!(world.outcome(), "3");
    world.put(1, Merge::Counter, "50");
    assert_eq!(world.outcome(), "50");
}

#[test]
fn a_whole_document_over_a_counter_takes_off_what_was_counted() {
    let mut world = World::new();
    world.patch(0, Merge::Counter, r#"{"add":7}"#);
    world.settle();
    world.put(1, Merge::Lww, "1");
    assert_eq!(world.outcome(), "1");
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    assert_eq!(world.outcome(), "2");
}

#[test]
fn an_origin_that_lost_its_tally_with_a_tombstone_counts_anew() {
    let mut world = World::new();
    world.patch(0, Merge::Counter, r#"{"add":100}"#);
    world.settle();
    world.delete(1, Merge::Counter);
    world.settle();
    // Node 0 has collected the tombstone; the others have not yet.
    world.nodes[0].doc = Document::default();
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    world.settle();
    for node in 0..NODES {
        assert_eq!(world.read(node), "1", "node {node}");
    }
}

#[test]
fn a_list_that_was_written_as_a_whole_becomes_a_set() {
    let mut world = World::new();
    world.put(0, Merge::Lww, r#"[2, 1, {"b": 1, "a": 2}, 1]"#);
    world.settle();
    world.patch(0, Merge::Set, r#"{"add":[3],"remove":[2]}"#);
    assert_eq!(world.outcome(), r#"[1,3,{"a":2,"b":1}]"#);
}

#[test]
fn writes_to_different_fields_at_the_same_time_both_last() {
    let mut world = World::new();
    world.put(0, Merge::Fields, r#"{"b":1,"a":1,"c":1}"#);
    world.settle();
    world.put(0, Merge::Fields, r#"{"b":2,"a":1,"c":1}"#);
    world.put(1, Merge::Fields, r#"{"b":1,"a":1.0}"#);
    world.patch(2, Merge::Fields, r#"{"d":{"x":1,"y":null}}"#);
    assert_eq!(world.outcome(), r#"{"a":1.0,"b":2,"d":{"x":1}}"#);
}

#[test]
fn a_deletion_beats_older_fields_only() {
    let mut world = World::new();
    world.put(0, Merge::Fields, r#"{"a":1,"b":1}"#);
    world.settle();
    world.patch(0, Merge::Fields, r#"{"a":2}"#);
    world.now_ms += 100;
    world.delete(1, Merge::Fields);
    world.now_ms += 100;
    world.patch(2, Merge::Fields, r#"{"b":3}"#);
    assert_eq!(world.outcome(), r#"{"b":3}"#);
}

#[test]
fn a_put_that_changes_nothing_overwrites_as_little_as_it_can() {
    let mut world = World::new();
    world.put(0, Merge::Fields, r#"{"a":1,"b":1}"#);
    world.settle();
    world.patch(1, Merge::Fields, r#"{"b":2}"#);
    world.put(0, Merge::Fields, r#"{"b":1,"a":1}"#);
    world.now_ms += 100;
    world.put(2, Merge::Fields, r#"{"a":1,"b":1}"#);
    assert_eq!(world.outcome(), r#"{"a":1,"b":2}"#);
    // The same for a document whose fields were all removed.
    world.put(0, Merge::Fields, "{}");
    world.settle();
    world.patch(1, Merge::Fields, r#"{"b":2}"#);
    world.now_ms += 100;
    world.put(2, Merge::Fields, "{}");
    assert_eq!(world.outcome(), r#"{"b":2}"#);
}

#[test]
fn the_root_keeps_its_order_and_new_fields_come_after_it() {
    let mut world = World::new();
    world.put(0, Merge::Lww, r#"{ "z": 1.10, "a": 1 }"#);
    assert_eq!(world.outcome(), r#"{ "z": 1.10, "a": 1 }"#);
    world.patch(0, Merge::Fields, r#"{"y":1,"a":2,"b":1}"#);
    assert_eq!(world.outcome(), r#"{"z":1.10,"a":2,"b":1,"y":1}"#);
}

#[test]
fn an_addition_that_a_deletion_had_not_seen_comes_out_under_it() {
    let mut world = World::new();
    world.patch(0, Merge::Counter, r#"{"add":1}"#);
    world.now_ms += 100;
    world.put(1, Merge::Lww, "[1]");
    world.delete(1, Merge::Lww);
    assert_eq!(world.nodes[1].doc.kind(), Kind::Plain);
    assert_eq!(world.outcome(), "1");
    assert_eq!(world.nodes[1].doc.kind(), Kind::Counter);
    world.put(1, Merge::Lww, "[1]");
    assert_eq!(world.nodes[1].doc.kind(), Kind::Plain);
    world.patch(1, Merge::Set, "{}");
    assert_eq!(world.nodes[1].doc.kind(), Kind::Set);
}

#[test]
fn an_element_that_is_added_again_stands_on_one_addition() {
    let mut world = World::new();
    for _ in 0..3 {
        world.patch(0, Merge::Set, r#"{"add":["x"]}"#);
    }
    let elements = world.nodes[0].doc.elements(world.now_ms);
    assert_eq!(elements[&bytes(r#""x""#)].len(), 1);
    world.put(0, Merge::Set, r#"["x"]"#);
    assert_eq!(world.nodes[0].doc.elements(world.now_ms), elements);
}
