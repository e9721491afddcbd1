//! Questions and answers survive the wire, and garbage does not pass.

use proptest::prelude::*;

use super::*;
use crate::codec::LENGTH_BYTES;
use crate::model::document::Part;
use crate::model::{Epoch, Origin, ReplicaId, VersionVector};

fn dot(seq: u64) -> Dot {
    let origin = Origin {
        replica: ReplicaId([7; 16]),
        epoch: Epoch(3),
    };
    Dot { origin, seq }
}

fn document(clock: u64, value: &'static [u8]) -> Document {
    let version = Version {
        clock: Timestamp(clock),
        dot: dot(9),
    };
    let field = PartWrite {
        part: Part::Field("name".into()),
        value: Some(Bytes::from_static(value)),
    };
    let parts = vec![field];
    Document::from_writes(vec![Write { version, parts }]).unwrap()
}

fn replace(document: Document) -> Request {
    let mend = Mend::Replace {
        key: Bytes::from_static(b"users\0u1"),
        expected: Digest::from_bytes(&[5; 32]),
        document,
    };
    let others = [
        Mend::Entry {
            key: Bytes::from_static(b"k"),
        },
        Mend::Dot {
            dot: dot(1),
            key: Bytes::new(),
        },
        Mend::Feed { position: 8 },
        Mend::Sum {
            id: 1,
            begin: true,
            settle: false,
        },
    ];
    Request::Mend {
        work: [mend].into_iter().chain(others).collect(),
    }
}

fn requests() -> Vec<Request> {
    let key = Bytes::from_static(b"users\0u1");
    vec![
        Request::Digests {
            from: Bytes::new(),
            bounds: vec![key.clone(), Bytes::from_static(b"v")],
            to_end: true,
        },
        Request::Items {
            from: key.clone(),
            to: None,
        },
        Request::Documents {
            keys: vec![key.clone()],
        },
        Request::Check {
            from: Place {
                stage: Stage::Feed,
                row: key,
            },
        },
        replace(document(4, b"1")),
    ]
}

fn answers() -> Vec<Answer> {
    let key = Bytes::from_static(b"users\0\xff");
    let digest = Digest::from_bytes(&[200; 32]);
    let mut vector = VersionVector::default();
    vector.insert(dot(4));
    let held = Held {
        digest,
        // Not sound, and told all the same: it lies on a disk somewhere.
        content: Content::Document(document(u64::MAX, b"{")),
        loose: vec![dot(0)],
    };
    let damaged = Held {
        content: Content::Damaged,
        ..Held::default()
    };
    let fault = Fault {
        kind: FaultKind::FeedHole,
        key: key.clone(),
        dot: Some(dot(2)),
        position: 7,
    };
    vec![
        Answer::Digests(vec![RangeDigest {
            sum: digest,
            count: 3,
        }]),
        Answer::Items {
            items: vec![Item {
                key: key.clone(),
                content: digest,
            }],
            more: true,
        },
        Answer::Documents {
            vector,
            held: vec![held, damaged, Held::default()],
        },
        Answer::Checked {
            rows: 12,
            faults: vec![fault],
            next: Some(Place {
                stage: Stage::Dots,
                row: key,
            }),
        },
        Answer::Mended(vec![Mended::Done, Mended::Changed, Mended::WasWrong]),
        Answer::Busy,
        Answer::Failed("the disk failed".to_owned()),
    ]
}

#[test]
fn every_question_and_answer_comes_out_as_it_went_in() {
    for request in requests() {
        let frame = encode_request(&request);
        assert_eq!(decode_request(&frame[LENGTH_BYTES..]).unwrap(), request);
    }
    for answer in answers() {
        let frame = encode_answer(&answer);
        assert_eq!(decode_answer(&frame[LENGTH_BYTES..]).unwrap(), answer);
    }
}

#[test]
fn the_bytes_are_as_promised() {
    let keys = vec![Bytes::from_static(b"k")];
    let documents = encode_request(&Request::Documents { keys });
    assert_eq!(documents[..], [0, 0, 0, 5, 1, 2, 1, 1, b'k']);
    let items = encode_request(&Request::Items {
        from: Bytes::new(),
        to: Some(Bytes::from_static(b"z")),
    });
    assert_eq!(items[..], [0, 0, 0, 6, 1, 1, 0, 1, 1, b'z']);
    let feed = Mend::Feed { position: 7 };
    let mend = encode_request(&Request::Mend { work: vec![feed] });
    assert_eq!(mend[..], [0, 0, 0, 5, 1, 4, 1, 3, 7]);
    assert_eq!(encode_answer(&Answer::Busy)[..], [0, 0, 0, 2, 1, 5]);
    let mended = Answer::Mended(vec![Mended::Done, Mended::Lost]);
    assert_eq!(encode_answer(&mended)[..], [0, 0, 0, 5, 1, 4, 2, 0, 4]);
}

#[test]
fn what_a_node_is_to_hold_must_be_sound() {
    for unsound in [document(4, b"{"), document(u64::MAX, b"1")] {
        let frame = encode_request(&replace(unsound));
        let refused = decode_request(&frame[LENGTH_BYTES..]).unwrap_err();
        assert!(matches!(refused, DecodeError::Unsound(_)), "{refused}");
    }
    let keys = vec![Bytes::from_static(b"k"); KEYS_MAX + 1];
    let frame = encode_request(&Request::Documents { keys });
    assert!(decode_request(&frame[LENGTH_BYTES..]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode_request(&noise);
        let _ = decode_answer(&noise);
        let frames: Vec<Bytes> = requests().iter().map(encode_request)
            .chain(answers().iter().map(encode_answer)).collect();
        let mut frame = frames[which.index(frames.len())][LENGTH_BYTES..].to_vec();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = decode_request(&frame);
        let _ = decode_answer(&frame);
        frame.truncate(at);
        prop_assert!(decode_request(&frame).is_err() || decode_answer(&frame).is_err());
    }
}
