//! Letting go of settled deletions.

use super::*;

/// What happened so far is settled: everybody has it, and everybody's clock is past it.
fn settle_all(world: &mut World) -> (Timestamp, BTreeSet<Dot>) {
    world.settle();
    let dates = world.nodes.iter().map(|node| node.clock.last());
    let upto = dates.max().unwrap();
    world.now_ms = world.now_ms.max(upto.millis()) + 50;
    for node in &mut world.nodes {
        node.clock.tick(world.now_ms, u64::MAX);
    }
    let dots = world.writes.iter().map(|write| write.version.dot);
    let dots: BTreeSet<Dot> = dots.collect();
    for node in &mut world.nodes {
        node.had.extend(&dots);
    }
    (upto, dots)
}

fn live(document: &Document) -> BTreeSet<Dot> {
    let writes = document.writes().iter();
    writes.map(|write| write.version.dot).collect()
}

/// What is left once everything is settled.
fn at_the_end(document: &Document) -> Document {
    let mut document = document.clone();
    document.collect(Timestamp::LAST, &|_| true);
    document
}

/// Lets go, and checks that nothing else changes by it.
fn collect(document: &mut Document, upto: Timestamp, settled: &BTreeSet<Dot>) {
    let before = document.clone();
    let Collected { changed, died } = document.collect(upto, &|dot| settled.contains(&dot));
    assert_eq!(changed, *document != before);
    let dead: BTreeSet<Dot> = &live(&before) - &live(document);
    assert_eq!(died.into_iter().collect::<BTreeSet<_>>(), dead);
    for now_ms in [upto.millis(), upto.millis() + 30, u64::MAX] {
        assert_eq!(document.value(now_ms), before.value(now_ms), "{before:?}");
    }
    if !document.is_empty() {
        assert_eq!(document.version(), before.version());
    }
    let parts = document.writes().to_vec();
    assert_eq!(&Document::from_writes(parts).unwrap(), document);
    let again = document.collect(upto, &|dot| settled.contains(&dot));
    assert_eq!(again, Collected::default(), "once is enough");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Some nodes let go at once, some later, and they go on writing meanwhile.
    #[test]
    fn when_each_node_lets_go_makes_no_difference(
        before in steps(16),
        after in steps(16),
        early in prop::collection::vec(any::<bool>(), NODES),
    ) {
        let mut world = World::new();
        world.run(&before);
        let (first, settled) = settle_all(&mut world);
        for (node, early) in world.nodes.iter_mut().zip(early) {
            if early {
                collect(&mut node.doc, first, &settled);
            }
        }
        world.run(&after);
        let (second, all) = settle_all(&mut world);
        let mut whole = Document::default();
        for write in &world.writes {
            whole.merge(write);
        }
        let now_ms = world.now_ms;
        let seen = whole.value(now_ms);
        let end = at_the_end(&whole);
        for node in &mut world.nodes {
            prop_assert_eq!(&at_the_end(&node.doc), &end);
            prop_assert_eq!(node.doc.value(now_ms), seen.clone());
            collect(&mut node.doc, first, &settled);
        }
        collect(&mut whole, first, &settled);
        for node in &mut world.nodes {
            prop_assert_eq!(&node.doc, &whole);
            collect(&mut node.doc, second, &all);
        }
        collect(&mut whole, second, &all);
        for node in &world.nodes {
            prop_assert_eq!(&node.doc, &whole);
            prop_assert_eq!(node.doc.value(now_ms), seen.clone());
        }
        let expires = whole.expires_at().is_some_and(|at_ms| at_ms > second.millis());
        let buried = whole.burial(second.millis()).is_none() && !expires;
        if whole.value(second.millis()).is_none() && buried {
            prop_assert!(whole.is_empty(), "nothing stays of what is gone: {:?}", whole);
        }
    }
}

#[test]
fn elements_that_came_and_went_leave_nothing_behind() {
    let mut world = World::new();
    world.patch(0, Merge::Set, r#"{"add":[1]}"#);
    for _ in 0..10 {
        world.patch(0, Merge::Set, r#"{"add":[2]}"#);
        world.patch(0, Merge::Set, r#"{"remove":[2]}"#);
    }
    world.patch(0, Merge::Set, r#"{"add":[3]}"#);
    let (upto, settled) = settle_all(&mut world);
    let document = &mut world.nodes[0].doc;
    assert!(document.writes().len() > 10);
    collect(document, upto, &settled);
    assert_eq!(document.value(0), Some("[1,3]".into()));
    assert_eq!(document.writes().len(), 2);
}

#[test]
fn what_is_not_settled_stays() {
    let mut world = World::new();
    world.put(0, Merge::Lww, "1");
    world.act(0, Merge::Lww, &Action::Delete, None).unwrap();
    let (upto, settled) = settle_all(&mut world);
    let document = &mut world.nodes[0].doc;
    let version = document.version().unwrap();
    collect(document, Timestamp(version.clock.0 - 1), &settled);
    collect(document, upto, &BTreeSet::new());
    assert_eq!(document.version(), Some(version));
    collect(document, upto, &settled);
    assert!(document.is_empty());
}

#[test]
fn an_expired_counter_is_buried_and_then_gone() {
    let mut world = World::new();
    let count = Action::Patch(bytes(r#"{"add":3}"#));
    world.act(0, Merge::Counter, &count, Some(20)).unwrap();
    world.act(1, Merge::Counter, &count, Some(20)).unwrap();
    world.settle();
    assert_eq!(world.nodes[2].doc.burial(1_000), None, "it has not expired");
    world.now_ms += 1_000;
    let (upto, settled) = settle_all(&mut world);
    let mut document = world.nodes[2].doc.clone();
    collect(&mut document, upto, &settled);
    assert_eq!(document, world.nodes[2].doc);
    let (clock, parts) = document.burial(world.now_ms).unwrap();
    assert!(document.version().unwrap().clock < clock);
    let dot = Dot {
        origin: origin(2),
        seq: 1,
    };
    let version = Version { clock, dot };
    let write = Write { version, parts };
    write.check().unwrap();
    assert!(document.merge(&write).taken);
    assert_eq!(document.burial(world.now_ms), None);
    let settled = &settled | &BTreeSet::from([dot]);
    collect(&mut document, clock, &settled);
    assert!(document.is_empty());
}

/// Node 2 was away while the others let go of a deletion, and deletes what it still has.
#[test]
fn a_late_deletion_leaves_the_same_whether_an_earlier_one_is_still_remembered() {
    let mut world = World::new();
    let count = |world: &mut World, node| world.patch(node, Merge::Counter, r#"{"add":1}"#);
    count(&mut world, 0);
    world.send(0, 1);
    world.send(0, 2);
    count(&mut world, 0);
    world.send(0, 1);
    world.delete(1, Merge::Counter);
    world.send(1, 0);
    let away = world.nodes[2].doc.clone();
    let (upto, settled) = settle_all(&mut world);
    world.nodes[2].doc = away;
    count(&mut world, 1);
    world.send(1, 0);
    collect(&mut world.nodes[0].doc, upto, &settled);
    world.delete(2, Merge::Counter);
    world.send(2, 0);
    world.send(2, 1);
    let ends = [0, 1].map(|node: usize| at_the_end(&world.nodes[node].doc));
    assert_eq!(ends[0], ends[1]);
    assert_eq!(world.read(0), "1");
}
