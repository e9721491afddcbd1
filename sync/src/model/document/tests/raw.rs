//! Writes that no plan would make, and bytes that nobody should send.

use super::*;

/// Few versions and few parts, so that they meet often.
pub(super) fn raw_writes() -> impl Strategy<Value = Vec<Write>> {
    let part = (0u8..10, 0u8..3, 1u64..6, 0i64..20);
    let parts = prop::collection::vec(part, 1..6);
    let write = (0u64..5, 0u8..3, 1u64..9, parts).prop_map(|(ms, replica, seq, parts)| {
        let dot = Dot {
            origin: origin(replica),
            seq,
        };
        let clock = Timestamp::from_millis(ms);
        let version = Version { clock, dot };
        let mut parts: Vec<PartWrite> = parts
            .into_iter()
            .map(|(sort, other, seen, total)| raw_part(&version, sort, other, seen, total))
            .collect();
        parts.sort_by(|a, b| a.part.cmp(&b.part));
        parts.dedup_by(|a, b| a.part == b.part);
        Write { version, parts }
    });
    prop::collection::vec(write, 1..16).prop_map(|mut writes| {
        // A dot means one write.
        let mut dots = BTreeSet::new();
        writes.retain(|write| dots.insert(write.version.dot));
        writes
    })
}

fn raw_part(version: &Version, sort: u8, other: u8, seen: u64, total: i64) -> PartWrite {
    let amount = |seq| Some(Amount { seq, total }.encode());
    let text = Some(bytes(&total.to_string()));
    let own = Tag {
        dot: version.dot,
        index: u16::from(other),
    };
    let foreign = Dot {
        origin: origin(other),
        seq: seen,
    };
    let (part, value) = match sort {
        0 => (Part::Root, text),
        1 => (Part::Root, None),
        2 | 3 => (
            Part::Field(["a", "b", "c"][usize::from(other)].into()),
            text.filter(|_| sort == 2),
        ),
        4 => (
            Part::Tally(version.dot.origin),
            amount(seen.min(version.dot.seq)),
        ),
        5 => (Part::Reset(origin(other)), amount(seen)),
        6 => (Part::Set, (total % 2 == 0).then(Bytes::new)),
        7 => (Part::Element(own), text),
        8 => (
            Part::Element(Tag {
                dot: foreign,
                index: 0,
            }),
            None,
        ),
        _ => (
            Part::Expiry,
            (total > 3).then(|| bytes_of(total.unsigned_abs())),
        ),
    };
    PartWrite { part, value }
}

fn bytes_of(ms: u64) -> Bytes {
    Bytes::copy_from_slice(&ms.to_be_bytes())
}

/// The same writes with values that mean nothing.
fn garbled() -> impl Strategy<Value = Vec<Write>> {
    let junk = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "[\\[\\]{}\",:0-9a-f\\\\u ]{0,16}".prop_map(String::into_bytes),
        prop::sample::select(BODIES).prop_map(|text| text.as_bytes().to_vec()),
    ];
    let junk = prop::collection::vec(prop::option::of(junk), 64);
    (raw_writes(), junk).prop_map(|(mut writes, junk)| {
        let mut junk = junk.into_iter().cycle();
        for part in writes.iter_mut().flat_map(|write| &mut write.parts) {
            part.value = junk.next().flatten().map(Bytes::from);
        }
        writes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_is_checked_can_be_read_as_json(writes in raw_writes(), garbled in garbled(), now in 0u64..20) {
        let mut doc = Document::default();
        for write in &writes {
            write.check().unwrap();
            doc.merge(write);
        }
        for write in garbled.iter().filter(|write| write.check().is_ok()) {
            doc.merge(write);
        }
        let value = doc.value(now);
        prop_assert_eq!(value.is_none(), doc.is_tombstone(now));
        if let Some(text) = value {
            serde_json::from_slice::<Value>(&text).unwrap();
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        garbled in garbled(),
        body in prop::collection::vec(any::<u8>(), 0..40),
        text in "[\\[\\]{}\",:0-9adelmorv\\\\u ]{0,24}",
        now in 0u64..20,
    ) {
        let mut doc = Document::default();
        for write in &garbled {
            let _ = write.check();
            doc.merge(write);
        }
        doc.value(now);
        doc.revision();
        doc.weight();
        let mut bodies: Vec<Bytes> = BODIES.iter().map(|text| bytes(text)).collect();
        bodies.extend([Bytes::from(body), bytes(&text)]);
        let dot = Dot { origin: origin(1), seq: 9 };
        let context = Context { now_ms: now, dated_ms: now, dot, expires_at: None };
        for body in bodies {
            for merge in [Merge::Lww, Merge::Fields, Merge::Counter, Merge::Set] {
                for action in [Action::Put(body.clone()), Action::Patch(body.clone()), Action::Delete] {
                    let _ = plan(merge, &action, &doc, context);
                }
            }
        }
        doc.collect(Timestamp::from_millis(now), &|_| true);
        doc.value(now);
    }
}

#[test]
fn writes_that_break_the_rules_are_refused() {
    let dot = |replica| Dot {
        origin: origin(replica),
        seq: 5,
    };
    let version = Version {
        clock: Timestamp(1),
        dot: dot(0),
    };
    let check = |parts: Vec<(Part, Option<&[u8]>)>| {
        let parts = parts.into_iter().map(|(part, value)| PartWrite {
            part,
            value: value.map(Bytes::copy_from_slice),
        });
        let parts = parts.collect();
        Write { version, parts }.check()
    };
    let amount = |seq| Amount { seq, total: 1 }.encode();
    let tag = |replica| {
        Part::Element(Tag {
            dot: dot(replica),
            index: 0,
        })
    };
    let field = |len: usize| Part::Field("f".repeat(len).into());
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));

    use InvalidWrite as Bad;
    assert!(matches!(check(vec![]), Err(Bad::Empty)));
    assert!(matches!(
        check(vec![(Part::Set, None), (Part::Root, None)]),
        Err(Bad::Order)
    ));
    assert!(matches!(
        check(vec![(Part::Root, None), (Part::Root, None)]),
        Err(Bad::Order)
    ));
    assert!(matches!(
        check(vec![(field(513), None)]),
        Err(Bad::FieldName(513))
    ));
    assert!(matches!(
        check(vec![(Part::Root, Some(b"{"))]),
        Err(Bad::Json(_))
    ));
    assert!(matches!(
        check(vec![(field(1), Some(b"\"\\ud800\""))]),
        Err(Bad::Json(_))
    ));
    assert!(matches!(
        check(vec![(field(1), Some(deep.as_bytes()))]),
        Err(Bad::Json(_))
    ));
    assert!(matches!(
        check(vec![(tag(0), Some(b""))]),
        Err(Bad::Json(_))
    ));
    assert!(matches!(
        check(vec![(tag(1), Some(b"1"))]),
        Err(Bad::Foreign)
    ));
    assert!(matches!(
        check(vec![(Part::Tally(origin(1)), Some(&amount(1)))]),
        Err(Bad::Foreign)
    ));
    assert!(matches!(
        check(vec![(Part::Tally(origin(0)), Some(&amount(6)))]),
        Err(Bad::Seq)
    ));
    assert!(matches!(
        check(vec![(Part::Reset(origin(1)), Some(&amount(0)))]),
        Err(Bad::Seq)
    ));
    assert!(matches!(
        check(vec![(Part::Reset(origin(1)), None)]),
        Err(Bad::Length)
    ));
    assert!(matches!(
        check(vec![(Part::Set, Some(b"x"))]),
        Err(Bad::Length)
    ));
    assert!(matches!(
        check(vec![(Part::Expiry, Some(b"x"))]),
        Err(Bad::Length)
    ));
    check(vec![
        (Part::Root, Some(deep.as_bytes())),
        (field(512), None),
        (Part::Tally(origin(0)), Some(&amount(5))),
        (Part::Reset(origin(1)), Some(&amount(9))),
        (Part::Set, Some(b"")),
        (tag(0), Some(b"[1]")),
        (tag(1), None),
        (Part::Expiry, Some(&[0; 8])),
    ])
    .unwrap();
}
