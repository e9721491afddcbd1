use proptest::prelude::*;

use super::*;
use crate::model::PeerId;
use crate::model::document::Amount;
use crate::protocol::{Census, Counted, Have, TreeMessage};

fn origin() -> impl Strategy<Value = Origin> {
    (any::<[u8; 16]>(), any::<u64>()).prop_map(|(replica, epoch)| Origin {
        replica: ReplicaId(replica),
        epoch: Epoch(epoch),
    })
}

fn parts() -> impl Strategy<Value = (Part, Option<Bytes>)> {
    let text =
        proptest::option::of("[a-z]{0,9}".prop_map(|text| Bytes::from(format!("\"{text}\""))));
    let moment = proptest::option::of(any::<u64>());
    let moment = moment.prop_map(|ms| ms.map(|ms| Bytes::copy_from_slice(&ms.to_be_bytes())));
    prop_oneof![
        text.clone().prop_map(|text| (Part::Root, text)),
        ("[a-z]{0,9}", text).prop_map(|(name, text)| (Part::Field(name.into()), text)),
        (origin(), any::<i64>()).prop_map(|(origin, total)| {
            (Part::Reset(origin), Some(Amount { seq: 1, total }.encode()))
        }),
        Just((Part::Set, Some(Bytes::new()))),
        (origin(), any::<u64>(), any::<u16>()).prop_map(|(origin, seq, index)| {
            let dot = Dot { origin, seq };
            (Part::Element(Tag { dot, index }), None)
        }),
        moment.prop_map(|moment| (Part::Expiry, moment)),
    ]
}

fn delta() -> impl Strategy<Value = Delta> {
    let parts = proptest::collection::vec(self::parts(), 1..5);
    (
        "[a-z]{1,8}",
        "[a-z梁 ]{1,12}",
        0..=Timestamp::LAST.0,
        origin(),
        1u64..=crate::model::SEQ_MAX,
        parts,
    )
        .prop_map(|(collection, name, clock, origin, seq, parts)| {
            let key = Key::new(Collection::new(&collection).unwrap(), &name).unwrap();
            let version = Version {
                clock: Timestamp(clock),
                dot: Dot { origin, seq },
            };
            let parts: std::collections::BTreeMap<Part, Option<Bytes>> =
                parts.into_iter().collect();
            let parts = parts.into_iter();
            let parts = parts.map(|(part, value)| PartWrite { part, value });
            let parts = parts.collect();
            Delta {
                key,
                write: Write { version, parts },
            }
        })
}

fn vector() -> impl Strategy<Value = VersionVector> {
    let range = (1u64..1000, 0u64..50).prop_map(|(first, len)| SeqRange {
        first,
        last: first + len,
    });
    proptest::collection::vec((origin(), range), 0..8).prop_map(|ranges| {
        let mut vector = VersionVector::default();
        ranges
            .into_iter()
            .for_each(|(origin, range)| vector.insert_range(origin, range));
        vector
    })
}

fn message() -> impl Strategy<Value = Message> {
    let changes = || proptest::collection::vec(delta(), 0..6);
    prop_oneof![
        changes().prop_map(|changes| Message::Push { changes }),
        (origin(), vector()).prop_map(|(origin, vector)| Message::Vector { origin, vector }),
        (origin(), any::<u64>()).prop_map(|(origin, upto)| Message::Ack { origin, upto }),
        (any::<u64>(), vector())
            .prop_map(|(session, vector)| Message::PullRequest { session, vector }),
        (
            any::<u64>(),
            any::<u64>(),
            changes(),
            proptest::option::of(vector())
        )
            .prop_map(
                |(session, index, changes, claim)| Message::PullChunk(PullChunk {
                    session,
                    index,
                    changes,
                    claim
                })
            ),
        any::<u64>().prop_map(|session| Message::PullMore { session }),
        any::<u64>().prop_map(|session| Message::Busy { session }),
        standing(),
        (any::<u64>(), proptest::option::of(key()), line()).prop_map(|(session, after, line)| {
            Message::SnapshotRequest {
                session,
                after,
                line,
            }
        }),
        snapshot_chunk(),
        tree_message().prop_map(Message::Tree),
    ]
}

fn tree_message() -> impl Strategy<Value = TreeMessage> {
    let counts = any::<[u64; 4]>();
    let answers = proptest::collection::vec(("[a-z]{0,9}", any::<u64>()), 0..6);
    let answers = answers.prop_map(|answers| {
        let answers = answers.into_iter();
        let answers = answers.map(|(name, upto)| (PeerId::new(&name), upto));
        answers.collect()
    });
    prop_oneof![
        proptest::collection::vec(delta(), 0..6)
            .prop_map(|changes| TreeMessage::Forward { changes }),
        (origin(), counts, vector()).prop_map(|(origin, [life, after, upto, heard], vector)| {
            TreeMessage::Have(Have {
                origin,
                life,
                after,
                upto,
                heard,
                vector,
            })
        }),
        Just(TreeMessage::Prune),
        Just(TreeMessage::Gone),
        vector().prop_map(|wanted| TreeMessage::Graft { wanted }),
        (origin(), any::<u64>(), any::<u64>()).prop_map(|(origin, upto, round)| {
            TreeMessage::RollCall {
                origin,
                upto,
                round,
            }
        }),
        (origin(), any::<Option<u64>>(), answers).prop_map(|(origin, own, others)| {
            TreeMessage::Present {
                origin,
                own,
                others,
            }
        }),
        census().prop_map(|census| TreeMessage::Census(Box::new(census))),
    ]
}

fn census() -> impl Strategy<Value = Census> {
    let lines = proptest::collection::btree_map(any::<[u8; 16]>(), any::<[bool; 3]>(), 0..6);
    let floor = 0..=Timestamp::LAST.0;
    (any::<u64>(), floor, vector(), vector(), lines).prop_map(
        |(number, floor, all, some, lines)| {
            let line = |(replica, [counted, here, fenced]): ([u8; 16], [bool; 3])| {
                let line = Counted {
                    counted,
                    here,
                    fenced,
                };
                (ReplicaId(replica), line)
            };
            Census {
                number,
                floor: Timestamp(floor),
                all,
                some,
                lines: lines.into_iter().map(line).collect(),
            }
        },
    )
}

fn key() -> impl Strategy<Value = Key> {
    ("[a-z]{1,8}", "[a-z梁 ]{1,12}").prop_map(|(collection, name)| {
        Key::new(Collection::new(&collection).unwrap(), &name).unwrap()
    })
}

fn line() -> impl Strategy<Value = RosterLine> {
    let born = 0..=Timestamp::LAST.0;
    (any::<[u8; 16]>(), "[a-z梁]{0,9}", any::<bool>(), born).prop_map(
        |(replica, name, fenced, born)| RosterLine {
            replica: ReplicaId(replica),
            name: PeerId::new(&name),
            fenced,
            born: Timestamp(born),
            // It is for each replica itself to know.
            absent_ms: 0,
        },
    )
}

fn roster() -> impl Strategy<Value = Vec<RosterLine>> {
    proptest::collection::vec(line(), 0..5)
}

fn standing() -> impl Strategy<Value = Message> {
    let dates = (any::<u64>(), 0..=Timestamp::LAST.0);
    (origin(), vector(), dates, vector(), any::<bool>(), roster()).prop_map(
        |(origin, vector, (wall_ms, floor), horizon, sound, roster)| {
            Message::Standing(Box::new(Standing {
                origin,
                vector,
                wall_ms,
                floor: Timestamp(floor),
                horizon,
                sound,
                roster,
            }))
        },
    )
}

fn snapshot_chunk() -> impl Strategy<Value = Message> {
    let documents = proptest::collection::btree_map(key(), (delta(), delta()), 0..4);
    let documents = documents.prop_map(|documents| {
        let documents = documents.into_iter().map(|(key, (first, second))| {
            let mut writes = vec![first.write, second.write];
            writes.sort_by_key(|write| write.version);
            writes.dedup_by_key(|write| write.version);
            (key, writes)
        });
        documents.collect()
    });
    let range = (proptest::option::of(key()), proptest::option::of(key()));
    let end = proptest::option::of((vector(), roster()));
    let numbers = (any::<u64>(), any::<u64>(), 0..=Timestamp::LAST.0);
    (numbers, range, documents, vector(), vector(), end).prop_map(
        |((session, index, floor), (after, upto), documents, vector, claim, end)| {
            Message::SnapshotChunk(Box::new(SnapshotChunk {
                session,
                index,
                after,
                upto,
                documents,
                vector,
                claim,
                floor: Timestamp(floor),
                end,
            }))
        },
    )
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(message in message()) {
        let frame = encode_message(&message);
        let length = frame_length(frame[..4].try_into().unwrap(), FRAME_BYTES_MAX).unwrap();
        prop_assert_eq!(length, frame.len() - LENGTH_BYTES);
        prop_assert_eq!(decode_message(&frame[LENGTH_BYTES..]).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode_message(&bytes);
        let _ = decode_hello(&bytes);
        let mut framed = vec![CODEC_BINCODE];
        framed.extend(&bytes);
        let _ = decode_message(&framed);
        let _ = decode_hello(&framed);
    }

    #[test]
    fn a_damaged_message_is_a_message_or_an_error_and_never_a_panic(
        message in message(), at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<proptest::sample::Index>(),
    ) {
        let mut frame = encode_message(&message).to_vec();
        let length = frame.len();
        frame[at.index(length)] ^= 1 << bit;
        let _ = decode_message(&frame[LENGTH_BYTES..]);
        let cut = LENGTH_BYTES + cut.index(length - LENGTH_BYTES);
        let _ = decode_message(&frame[LENGTH_BYTES..cut]);
    }
}

#[test]
fn a_count_that_the_frame_cannot_hold_is_refused_before_it_is_allocated() {
    // Push with 2^62 changes.
    let mut frame = vec![CODEC_BINCODE, 0, 253];
    frame.extend((1u64 << 62).to_le_bytes());
    assert!(matches!(decode_message(&frame), Err(DecodeError::Body(_))));
}

#[test]
fn a_date_after_the_last_is_refused() {
    let part = PartWrite {
        part: Part::Root,
        value: None,
    };
    let origin = Origin {
        replica: ReplicaId([1; 16]),
        epoch: Epoch(1),
    };
    let push = |clock| {
        let version = Version {
            clock,
            dot: Dot { origin, seq: 1 },
        };
        let key = Key::new(Collection::new("users").unwrap(), "u1").unwrap();
        let parts = vec![part.clone()];
        let write = Write { version, parts };
        let changes = vec![Delta { key, write }];
        let frame = encode_message(&Message::Push { changes });
        decode_message(&frame[LENGTH_BYTES..]).map(drop)
    };
    assert_eq!(push(Timestamp::LAST), Ok(()));
    let refused = push(Timestamp::LAST.successor());
    assert!(matches!(refused, Err(DecodeError::Unsound(_))));
}

#[test]
fn trailing_bytes_unknown_codecs_and_wrong_lengths_are_refused() {
    let mut frame = encode_message(&Message::PullMore { session: 7 }).to_vec();
    frame.push(0);
    assert_eq!(
        decode_message(&frame[LENGTH_BYTES..]),
        Err(DecodeError::Trailing(1))
    );
    assert_eq!(decode_message(&[9, 0]), Err(DecodeError::Codec(9)));
    assert!(frame_length([0, 0, 0, 0], 10).is_err());
    assert!(frame_length([0, 0, 0, 11], 10).is_err());
    assert_eq!(frame_length([0, 0, 0, 10], 10), Ok(10));
}

/// The bytes that version 2 of the protocol has promised. If this test fails, the
/// protocol has changed and needs a new number.
#[test]
fn the_bytes_of_protocol_2_are_as_promised() {
    let origin = Origin {
        replica: ReplicaId([0x11; 16]),
        epoch: Epoch(3),
    };
    let key = Key::new(Collection::new("users").unwrap(), "u1").unwrap();
    let version = Version {
        clock: Timestamp(9),
        dot: Dot { origin, seq: 4 },
    };
    let part = |part, value: &'static [u8]| PartWrite {
        part,
        value: Some(Bytes::from_static(value)),
    };
    let parts = vec![part(Part::Root, b"{}"), part(Part::Field("a".into()), b"1")];
    let write = Write { version, parts };
    let push = Message::Push {
        changes: vec![Delta { key, write }],
    };
    let mut expected = vec![0, 0, 0, 43, 1, 0, 1, 5];
    expected.extend(b"users");
    expected.extend([2, b'u', b'1', 9]);
    expected.extend([0x11; 16]);
    expected.extend([3, 4, 2, 0, 1, 2, b'{', b'}', 1, 1, b'a', 1, 1, b'1']);
    assert_eq!(encode_message(&push).as_ref(), expected);

    let hello = Hello {
        protocol: 2,
        cluster: "c".into(),
        node: "n1".into(),
        lane: Lane::Bulk,
    };
    assert_eq!(
        encode_hello(&hello).as_ref(),
        [0, 0, 0, 8, 1, 2, 1, b'c', 2, b'n', b'1', 1]
    );
}

/// A frame of this body, length and codec before it.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[CODEC_BINCODE], &body].concat()
}

#[test]
fn the_bytes_about_what_is_settled_are_as_promised() {
    let origin = Origin {
        replica: ReplicaId([0x11; 16]),
        epoch: Epoch(3),
    };
    let mut vector = VersionVector::default();
    vector.insert_range(origin, SeqRange { first: 1, last: 4 });
    let line = RosterLine {
        replica: ReplicaId([0x22; 16]),
        name: PeerId::new("n1"),
        fenced: false,
        born: Timestamp(5),
        absent_ms: 0,
    };
    let key = Key::new(Collection::new("users").unwrap(), "u1").unwrap();
    let dot = Dot { origin, seq: 4 };
    let part = |part, value: &'static [u8]| PartWrite {
        part,
        value: Some(Bytes::from_static(value)),
    };
    let write = Write {
        version: Version {
            clock: Timestamp(9),
            dot,
        },
        parts: vec![part(Part::Root, b"{}"), part(Part::Field("a".into()), b"1")],
    };

    let origin_bytes = [&[0x11; 16][..], &[3]].concat();
    let vector_bytes = [&[1][..], &origin_bytes, &[1, 1, 4]].concat();
    let line_bytes = [&[0x22; 16][..], &[2, b'n', b'1', 0, 5]].concat();
    let key_bytes = b"\x05users\x02u1";
    let document = [
        &key_bytes[..],
        &[9],
        &origin_bytes,
        &[4, 2, 0, 1, 2, b'{', b'}', 1, 1, b'a', 1, 1, b'1'],
    ];
    let document = document.concat();

    let standing = Message::Standing(Box::new(Standing {
        origin,
        vector: vector.clone(),
        wall_ms: 9,
        floor: Timestamp(7),
        horizon: VersionVector::default(),
        sound: true,
        roster: vec![line.clone()],
    }));
    let expected = framed(&[
        &[7],
        &origin_bytes,
        &vector_bytes,
        &[9, 7, 0, 1, 1],
        &line_bytes,
    ]);
    assert_eq!(encode_message(&standing).as_ref(), expected);

    let request = Message::SnapshotRequest {
        session: 6,
        after: Some(key.clone()),
        line: line.clone(),
    };
    let expected = framed(&[&[8, 6, 1], key_bytes, &line_bytes]);
    assert_eq!(encode_message(&request).as_ref(), expected);

    let chunk = Message::SnapshotChunk(Box::new(SnapshotChunk {
        session: 6,
        index: 2,
        after: None,
        upto: Some(key.clone()),
        documents: vec![(key, vec![write])],
        vector: vector.clone(),
        claim: vector,
        floor: Timestamp(7),
        end: Some((VersionVector::default(), vec![line])),
    }));
    let expected = framed(&[
        &[9, 6, 2, 0, 1],
        key_bytes,
        &[1],
        &document,
        &vector_bytes,
        &vector_bytes,
        &[7, 1, 0, 1],
        &line_bytes,
    ]);
    assert_eq!(encode_message(&chunk).as_ref(), expected);
}
