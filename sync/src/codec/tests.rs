use proptest::prelude::*;

use super::*;

fn origin() -> impl Strategy<Value = Origin> {
    (any::<[u8; 16]>(), any::<u64>()).prop_map(|(replica, epoch)| Origin {
        replica: ReplicaId(replica),
        epoch: Epoch(epoch),
    })
}

fn change() -> impl Strategy<Value = Change> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64));
    (
        "[a-z]{1,8}",
        "[a-z梁 ]{1,12}",
        any::<u64>(),
        origin(),
        1u64..=crate::model::SEQ_MAX,
        value,
    )
        .prop_map(|(collection, name, clock, origin, seq, value)| {
            let key = Key::new(Collection::new(&collection).unwrap(), &name).unwrap();
            let version = Version {
                clock: Timestamp(clock),
                dot: Dot { origin, seq },
            };
            Change {
                key,
                entry: Entry {
                    version,
                    value: value.map(Bytes::from),
                },
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
    let changes = || proptest::collection::vec(change(), 0..6);
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
    ]
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

/// The bytes that version 1 of the protocol has promised. If this test fails, the
/// protocol has changed and needs a new number.
#[test]
fn the_bytes_of_protocol_1_are_as_promised() {
    let origin = Origin {
        replica: ReplicaId([0x11; 16]),
        epoch: Epoch(3),
    };
    let key = Key::new(Collection::new("users").unwrap(), "u1").unwrap();
    let version = Version {
        clock: Timestamp(9),
        dot: Dot { origin, seq: 4 },
    };
    let entry = Entry {
        version,
        value: Some(Bytes::from_static(b"{}")),
    };
    let push = Message::Push {
        changes: vec![Change { key, entry }],
    };
    let mut expected = vec![0, 0, 0, 35, 1, 0, 1, 5];
    expected.extend(b"users");
    expected.extend([2, b'u', b'1', 9]);
    expected.extend([0x11; 16]);
    expected.extend([3, 4, 1, 2, b'{', b'}']);
    assert_eq!(encode_message(&push).as_ref(), expected);

    let hello = Hello {
        protocol: 1,
        cluster: "c".into(),
        node: "n1".into(),
        lane: Lane::Bulk,
    };
    assert_eq!(
        encode_hello(&hello).as_ref(),
        [0, 0, 0, 8, 1, 1, 1, b'c', 2, b'n', b'1', 1]
    );
}
