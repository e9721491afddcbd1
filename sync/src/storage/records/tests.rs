use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::document::Amount;

fn origin() -> impl Strategy<Value = Origin> {
    (any::<[u8; 16]>(), any::<u64>()).prop_map(|(replica, epoch)| Origin {
        replica: ReplicaId(replica),
        epoch: Epoch(epoch),
    })
}

fn part() -> impl Strategy<Value = (Part, Option<Bytes>)> {
    let value = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..24));
    let bytes = |value: Option<Vec<u8>>| value.map(Bytes::from);
    let dot = (origin(), any::<u64>()).prop_map(|(origin, seq)| Dot { origin, seq });
    prop_oneof![
        value().prop_map(move |value| (Part::Root, bytes(value))),
        ("[a-z梁]{0,20}", value())
            .prop_map(move |(name, value)| { (Part::Field(name.into()), bytes(value)) }),
        (origin(), any::<i64>()).prop_map(|(origin, total)| {
            (Part::Tally(origin), Some(Amount { seq: 1, total }.encode()))
        }),
        (origin(), any::<i64>(), any::<u64>()).prop_map(|(origin, total, seq)| {
            (Part::Reset(origin), Some(Amount { seq, total }.encode()))
        }),
        Just((Part::Set, Some(Bytes::new()))),
        (dot, any::<u16>(), value()).prop_map(move |(dot, index, value)| {
            (Part::Element(Tag { dot, index }), bytes(value))
        }),
        value().prop_map(move |value| (Part::Expiry, bytes(value))),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let parts = proptest::collection::vec(part(), 1..4);
    (any::<u64>(), origin(), any::<u64>(), parts).prop_map(|(clock, origin, seq, parts)| {
        let parts: BTreeMap<Part, Option<Bytes>> = parts.into_iter().collect();
        let parts = parts.into_iter();
        Write {
            version: Version {
                clock: Timestamp(clock),
                dot: Dot { origin, seq },
            },
            parts: parts
                .map(|(part, value)| PartWrite { part, value })
                .collect(),
        }
    })
}

fn entry() -> impl Strategy<Value = EntryRecord> {
    (proptest::collection::vec(write(), 1..5), any::<u64>()).prop_map(|(writes, position)| {
        let mut document = Document::default();
        for write in &writes {
            document.merge(write);
        }
        EntryRecord {
            expired: document.expires_at().is_some() && position % 2 == 0,
            document,
            position,
        }
    })
}

proptest! {
    #[test]
    fn records_survive_their_bytes(entry in entry(), name in "[a-z梁]{1,20}") {
        prop_assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry.clone());
        let key = Key::new(Collection::new("users").unwrap(), &name).unwrap();
        prop_assert_eq!(decode_key(&encode_key(&key)).unwrap(), key.clone());
        let past = encode_past(&encode_key(&key), &entry);
        prop_assert_eq!(decode_past(&past).unwrap(), (encode_key(&key), entry.clone()));
        let Dot { origin, seq } = entry.document.version().unwrap().dot;
        prop_assert_eq!(decode_dots_row(&encode_dots_row(origin, seq)).unwrap(), (origin, seq));
    }

    #[test]
    fn any_bytes_decode_or_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        let _ = decode_entry(&bytes);
        let _ = decode_past(&bytes);
        let _ = decode_set(&bytes);
        let _ = decode_key(&bytes);
        let _ = decode_dots_row(&bytes);
        let _ = decode_origin(Table::Meta, &bytes);
    }

    #[test]
    fn a_damaged_entry_decodes_or_is_refused_without_a_panic(
        entry in entry(), at in any::<proptest::sample::Index>(), bit in 0..8_u8, cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = encode_entry(&entry);
        let length = bytes.len();
        bytes[at.index(length)] ^= 1 << bit;
        let _ = decode_entry(&bytes);
        let _ = decode_entry(&bytes[..cut.index(length)]);
    }
}

fn version() -> Version {
    let origin = Origin {
        replica: ReplicaId([0xab; 16]),
        epoch: Epoch(2),
    };
    Version {
        clock: Timestamp(1),
        dot: Dot { origin, seq: 3 },
    }
}

fn head(kind: u8) -> Vec<u8> {
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 1];
    expected.extend([0xab; 16]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 4]);
    expected.push(kind);
    expected
}

#[test]
fn the_bytes_of_a_plain_entry_are_those_of_format_1() {
    let document = Document::of_root(version(), Some(Bytes::from_static(b"{}")));
    let bytes = encode_entry(&EntryRecord {
        document,
        position: 4,
        expired: false,
    });
    assert_eq!(bytes, [head(1), b"{}".to_vec()].concat());
}

#[test]
fn the_bytes_of_an_entry_of_parts_are_as_drawn() {
    let field = PartWrite {
        part: Part::Field("a".into()),
        value: Some(Bytes::from_static(b"7")),
    };
    let parts = vec![field];
    let document = Document::from_writes(vec![Write {
        version: version(),
        parts,
    }])
    .unwrap();
    let bytes = encode_entry(&EntryRecord {
        document,
        position: 4,
        expired: false,
    });
    let mut expected = head(2);
    expected.extend_from_slice(&head(0)[..40]);
    expected.extend([0, 0, 0, 1, 1, 0, 1, b'a', 1, 0, 0, 0, 1, b'7']);
    assert_eq!(bytes, expected);
}
