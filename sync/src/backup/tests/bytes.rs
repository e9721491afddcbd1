//! Every change of a backup's bytes is told, and none of them costs more than a frame.

use proptest::prelude::*;

use super::super::frame::{HEADER_BYTES, Kind};
use super::*;

fn secret() -> BackupKey {
    BackupKey::derive("a secret of thirty-two characters")
}

/// A backup of a few writes.
fn small() -> Vec<u8> {
    let mut node = Node::new(1);
    node.put("u1", "梁鑫");
    node.put("u2", "first");
    node.put("u2", "second");
    node.delete("u1");
    node.backed_up()
}

/// Where each frame begins and ends.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = HEADER_BYTES;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 5..at + 9].try_into().unwrap());
        let end = at + 9 + length as usize + 32;
        frames.push(at..end);
        at = end;
    }
    frames
}

#[test]
fn what_is_read_is_what_was_written_sealed_or_not() {
    let plain = small();
    let items = items(&plain, None).unwrap();
    let Item::Manifest(manifest) = &items[0] else {
        panic!("{items:?}");
    };
    assert_eq!((manifest.cluster.as_str(), manifest.began_ms), ("c1", 5));
    let Item::End(totals) = items.last().unwrap() else {
        panic!("{items:?}");
    };
    assert_eq!(
        (totals.writes, totals.deletions, totals.ended_ms),
        (2, 1, 9)
    );
    let sealed = sealed(&plain, &secret());
    assert_eq!(super::items(&sealed, Some(&secret())).unwrap(), items);
    let contains = |text: &str| sealed.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(!contains("c1") && !contains("second"));
}

#[test]
fn every_bit_that_is_flipped_is_told() {
    let plain = small();
    let sealed = sealed(&plain, &secret());
    for (bytes, key) in [(&plain, None), (&sealed, Some(secret()))] {
        let frames = frames(bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let error = items(&changed, key.as_ref()).unwrap_err();
            let frame = frames.iter().position(|frame| frame.contains(&at));
            let told = match (&error, frame) {
                (BackupError::NotABackup, None) => at < 8,
                (BackupError::Header, None) => at >= 8,
                // A length that is too long, of the last frames: the file ends before.
                (BackupError::Cut { frame, .. }, Some(is)) => *frame as usize == is,
                (BackupError::Damaged { frame, .. }, Some(is)) => *frame as usize == is,
                (BackupError::Order { frame, .. }, Some(is)) => *frame as usize == is,
                _ => false,
            };
            assert!(
                told,
                "byte {at} of {}, frame {frame:?}: {error}",
                bytes.len()
            );
        }
    }
}

#[test]
fn every_cut_is_told() {
    let plain = small();
    let sealed = sealed(&plain, &secret());
    for (bytes, key) in [(&plain, None), (&sealed, Some(secret()))] {
        for length in 0..bytes.len() {
            let error = items(&bytes[..length], key.as_ref()).unwrap_err();
            match error {
                BackupError::NotABackup => assert_eq!(length, 0),
                BackupError::Cut { at, .. } => assert_eq!(at, length as u64),
                other => panic!("{length}: {other}"),
            }
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        let error = items(&longer, key.as_ref()).unwrap_err();
        let at = bytes.len() as u64;
        assert_eq!(error, BackupError::Trailing { at });
    }
}

#[test]
fn frames_that_are_missing_doubled_swapped_or_of_another_file_are_told() {
    let plain = small();
    let other = {
        let mut node = Node::new(2);
        node.put("u9", "other");
        node.backed_up()
    };
    let sealed_one = sealed(&plain, &secret());
    // Of the same contents, under the same key.
    let sealed_two = sealed(&plain, &secret());
    for (bytes, other, key) in [
        (&plain, &other, None),
        (&sealed_one, &sealed_two, Some(secret())),
    ] {
        let at = frames(bytes);
        let theirs = frames(other);
        let frame = |n: usize| &bytes[at[n].clone()];
        let begin = &bytes[..at[1].start];
        let end = &bytes[at[2].start..];
        let cases = [
            ("missing", [begin, end].concat()),
            ("doubled", [begin, frame(1), frame(1), end].concat()),
            (
                "swapped",
                [begin, frame(2), frame(1), &bytes[at[3].start..]].concat(),
            ),
            ("foreign", [begin, &other[theirs[1].clone()], end].concat()),
        ];
        for (case, bytes) in cases {
            let error = items(&bytes, key.as_ref()).unwrap_err();
            let told = match case {
                "foreign" => matches!(error, BackupError::Damaged { frame: 1, .. }),
                _ => matches!(error, BackupError::Order { .. }),
            };
            assert!(told, "{case}: {error}");
        }
    }
}

#[test]
fn who_has_no_key_can_make_no_frame() {
    let plain = small();
    let theirs = sealed(
        &plain,
        &BackupKey::derive("another secret of some characters"),
    );
    let ours = sealed(&plain, &secret());
    // Numbers and checksums as they should be, over a body of another key.
    let body = &theirs[frames(&theirs)[0].clone()];
    let body = &body[..body.len() - 32];
    let checksum = blake3::hash(&[&ours[HEADER_BYTES - 32..HEADER_BYTES], body].concat());
    let forged = [&ours[..HEADER_BYTES], body, checksum.as_bytes()].concat();
    let error = items(&forged, Some(&secret())).unwrap_err();
    assert!(
        matches!(error, BackupError::Forged { frame: 0, .. }),
        "{error}"
    );
}

#[test]
fn keys_that_are_wrong_missing_or_too_many_are_told() {
    let plain = small();
    let sealed = sealed(&plain, &secret());
    let other = BackupKey::derive("another secret of some characters");
    assert_eq!(items(&sealed, Some(&other)), Err(BackupError::WrongKey));
    assert_eq!(items(&sealed, None), Err(BackupError::KeyNeeded));
    let unneeded = Err(BackupError::KeyNotNeeded);
    assert_eq!(items(&plain, Some(&secret())), unneeded);
    assert!(!format!("{:?}", secret()).contains("secret of"));
}

#[test]
fn other_files_and_later_formats_are_told_apart() {
    let other = items(b"\x1f\x8b a compressed file of another program", None);
    assert_eq!(other, Err(BackupError::NotABackup));
    let mut later = small();
    later[9] = 2;
    let sum = blake3::hash(&later[..HEADER_BYTES - 32]);
    later[HEADER_BYTES - 32..HEADER_BYTES].copy_from_slice(sum.as_bytes());
    let found = 2;
    assert_eq!(items(&later, None), Err(BackupError::TooNew { found }));
}

#[test]
fn a_bomb_is_no_larger_than_a_frame() {
    // By its length: it is told before the bytes come.
    let mut long = small();
    long.truncate(HEADER_BYTES);
    long.extend([0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
    let at = HEADER_BYTES as u64;
    let damaged = BackupError::Damaged { frame: 0, at };
    assert_eq!(items(&long, None), Err(damaged));
    // By its compression.
    let mut sealer = Sealer::plain();
    let mut bomb = sealer.header().to_vec();
    let packed = zstd::bulk::compress(&vec![b' '; 64 << 20], 19).unwrap();
    bomb.extend(sealer.frame(Kind::Manifest, &packed).unwrap());
    let error = items(&bomb, None).unwrap_err();
    assert!(
        matches!(error, BackupError::Content { frame: 0, .. }),
        "{error}"
    );
}

#[test]
fn frames_in_an_order_that_makes_no_sense_are_told() {
    let manifest = br#"{"cluster":"c1"}"#.as_slice();
    let one = br#"{"writes":1}"#.as_slice();
    let none = b"{}".as_slice();
    let empty = b"".as_slice();
    for frames in [
        vec![(Kind::Writes, empty)],
        vec![(Kind::Manifest, manifest), (Kind::Manifest, manifest)],
        // Of all collections, and without a claim.
        vec![(Kind::Manifest, manifest), (Kind::End, none)],
        vec![
            (Kind::Manifest, manifest),
            (Kind::Claim, empty),
            (Kind::Writes, empty),
        ],
        vec![
            (Kind::Manifest, manifest),
            (Kind::Claim, empty),
            (Kind::End, one),
        ],
    ] {
        let mut sealer = Sealer::plain();
        let mut bytes = sealer.header().to_vec();
        for (kind, content) in frames {
            bytes.extend(sealer.content(kind, content).unwrap());
        }
        let error = items(&bytes, None).unwrap_err();
        assert!(matches!(error, BackupError::Content { .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, whole: bool) {
        let bytes = match whole {
            true => bytes,
            false => [&small()[..HEADER_BYTES], &bytes].concat(),
        };
        prop_assert!(items(&bytes, None).is_err());
    }

    #[test]
    fn any_content_is_refused_or_makes_sense(content: Vec<u8>, kind in 1..=3_u8) {
        let mut sealer = Sealer::plain();
        let mut bytes = sealer.header().to_vec();
        if kind > 1 {
            bytes.extend(sealer.content(Kind::Manifest, b"{}").unwrap());
        }
        let kind = [Kind::Manifest, Kind::Writes, Kind::Claim][usize::from(kind) - 1];
        bytes.extend(sealer.content(kind, &content).unwrap());
        prop_assert!(items(&bytes, None).is_err(), "it has no end");
    }
}
