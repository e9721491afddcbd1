//! Merging is commutative, associative and idempotent, and says truly what it did.

use super::raw::raw_writes;
use super::*;

fn merged<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Document {
    let mut doc = Document::default();
    for write in writes {
        doc.merge(write);
    }
    doc
}

fn union(a: &Document, b: &Document) -> Document {
    merged(a.writes().iter().chain(b.writes()))
}

/// All that depends on the state alone is the same, and the state is a valid one.
fn check_same(a: &Document, b: &Document) -> Result<(), TestCaseError> {
    prop_assert_eq!(a, b);
    prop_assert_eq!(a.kind(), b.kind());
    prop_assert_eq!(a.revision(), b.revision());
    for now_ms in [0, 1_020, 1_060, 100_000] {
        prop_assert_eq!(a.value(now_ms), b.value(now_ms));
    }
    prop_assert_eq!(&Document::from_writes(a.writes().to_vec()).unwrap(), a);
    Ok(())
}

fn check_laws(
    writes: &[Write],
    picks: &[prop::sample::Index],
    sides: u64,
) -> Result<(), TestCaseError> {
    let whole = merged(writes);
    if writes.is_empty() {
        return Ok(());
    }
    // Any order, any repetition.
    let picked = picks.iter().map(|pick| pick.get(writes));
    check_same(&merged(picked.chain(writes.iter().rev())), &whole)?;
    // Any grouping: of each group only what is still alive travels on.
    let on = |bit: u64| {
        let side = writes.iter().enumerate();
        let side = side.filter(move |(at, _)| sides >> (at % 32) & 1 == bit);
        merged(side.map(|(_, write)| write))
    };
    let (a, b) = (on(0), on(1));
    check_same(&union(&a, &b), &whole)?;
    check_same(&union(&b, &a), &whole)?;
    check_same(&union(&whole, &a), &whole)?;
    // The same with groups that overlap.
    let overlap = merged(picks.iter().map(|pick| pick.get(writes)));
    check_same(
        &union(&union(&a, &overlap), &b),
        &union(&a, &union(&overlap, &b)),
    )?;
    check_same(&union(&whole, &whole), &whole)
}

/// A merge reports exactly what came and went.
fn check_reports(writes: &[Write], picks: &[prop::sample::Index]) -> Result<(), TestCaseError> {
    let mut doc = Document::default();
    let mut dots: BTreeSet<Dot> = BTreeSet::new();
    for write in picks.iter().map(|pick| pick.get(writes)) {
        let before = doc.clone();
        let Merged { taken, died } = doc.merge(write);
        prop_assert_eq!(taken, doc != before);
        if taken {
            dots.insert(write.version.dot);
        } else {
            prop_assert!(died.is_empty());
        }
        for dot in died {
            prop_assert!(dots.remove(&dot), "dies once, after it lived");
        }
        let live: Vec<Dot> = doc.writes().iter().map(|write| write.version.dot).collect();
        prop_assert_eq!(live.len(), dots.len());
        prop_assert_eq!(live.into_iter().collect::<BTreeSet<_>>(), dots.clone());
        prop_assert!(!doc.merge(write).taken);
    }
    Ok(())
}

fn picks() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn planned_writes_merge_by_the_laws(steps in steps(30), picks in picks(), sides: u64) {
        let mut world = World::new();
        world.run(&steps);
        check_laws(&world.writes, &picks, sides)?;
        let all = merged(&world.writes);
        world.settle();
        for node in &world.nodes {
            check_same(&node.doc, &all)?;
        }
    }

    #[test]
    fn any_writes_merge_by_the_laws(writes in raw_writes(), picks in picks(), sides: u64) {
        check_laws(&writes, &picks, sides)?;
    }

    #[test]
    fn a_merge_reports_what_came_and_what_died(
        steps in steps(30),
        raw in raw_writes(),
        picks in picks(),
    ) {
        let mut world = World::new();
        world.run(&steps);
        if !world.writes.is_empty() {
            check_reports(&world.writes, &picks)?;
        }
        check_reports(&raw, &picks)?;
    }

    #[test]
    fn states_that_differ_have_revisions_that_differ(raw in raw_writes(), sides: u64) {
        let side = raw.iter().enumerate().filter(|(at, _)| sides >> at & 1 == 0);
        let (a, b) = (merged(side.map(|(_, write)| write)), merged(&raw));
        prop_assert_eq!(a == b, a.revision() == b.revision());
        if let Some(revision) = b.revision() {
            prop_assert_eq!(revision.to_string().parse::<Revision>(), Ok(revision));
        }
    }

    #[test]
    fn any_text_parses_as_a_revision_or_is_refused(text in "[0-9a-f-]{0,90}|.{0,40}") {
        if let Ok(revision) = text.parse::<Revision>() {
            prop_assert_eq!(revision.to_string().parse::<Revision>(), Ok(revision));
        }
    }
}

#[test]
fn a_document_of_one_root_is_named_by_its_version_alone() {
    let mut world = World::new();
    world.put(0, Merge::Lww, "1");
    let doc = &world.nodes[0].doc;
    assert_eq!(
        doc.revision().unwrap().to_string(),
        doc.version().unwrap().to_string()
    );
    world.patch(0, Merge::Fields, r#"{"a":1}"#);
    assert!(world.nodes[0].doc.revision().unwrap().fingerprint.is_some());
}

#[test]
fn a_late_reset_that_saw_little_does_not_undo_one_that_saw_more() {
    let amount = |seq, total| Some(Amount { seq, total }.encode());
    let write = |replica, ms, part, value| Write {
        version: Version {
            clock: Timestamp::from_millis(ms),
            dot: Dot {
                origin: origin(replica),
                seq: 10,
            },
        },
        parts: vec![PartWrite { part, value }],
    };
    let writes = [
        write(0, 10, Part::Tally(origin(0)), amount(1, 100)),
        write(1, 20, Part::Reset(origin(0)), amount(10, 100)),
        write(2, 30, Part::Root, None),
        write(3, 40, Part::Reset(origin(0)), amount(3, 30)),
    ];
    let doc = merged(&writes);
    assert_eq!(doc, merged(writes.iter().rev()));
    assert_eq!(doc.value(0), None);
}

#[test]
fn writes_that_no_document_returned_are_refused() {
    let mut world = World::new();
    world.put(0, Merge::Fields, r#"{"a":1}"#);
    world.put(0, Merge::Fields, r#"{"a":2}"#);
    world.delete(0, Merge::Fields);
    let writes = world.writes.clone();
    let refused = |writes: &[&Write]| {
        Document::from_writes(writes.iter().map(|write| (*write).clone()).collect()).unwrap_err()
    };
    assert!(matches!(
        refused(&[&writes[1], &writes[0]]),
        InvalidDocument::Order
    ));
    assert!(matches!(
        refused(&[&writes[0], &writes[1]]),
        InvalidDocument::Beaten
    ));
    assert!(matches!(
        refused(&[&writes[1], &writes[2]]),
        InvalidDocument::Beaten
    ));
    let nothing = Write {
        version: writes[0].version,
        parts: vec![],
    };
    assert!(matches!(
        refused(&[&nothing]),
        InvalidDocument::Write(InvalidWrite::Empty)
    ));
}
