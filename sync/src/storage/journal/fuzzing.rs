//! What must hold of the decoders of the journal; see [`crate::fuzzing`].

use super::layers::Batch;
use super::segment::{self, HEADER_BYTES, Header};

/// The bytes of a journal segment, and of a record's body.
///
/// Nobody can make bytes that bear a keyed checksum, so the input is tried both as it is
/// and as the body of a record whose checksum is right; and it says where a segment that
/// was sound is damaged.
pub fn segment(bytes: &[u8]) {
    whole(bytes);
    let Some(changes) = body(bytes) else { return };
    let header = Header {
        id: 1,
        before_length: 0,
        key: [7; 32],
    };
    let mut segment = header.encode();
    let mut ends = vec![HEADER_BYTES];
    for seq in 1..=2 {
        let mut record = Vec::new();
        segment::encode_record(&header.key, seq, &changes, &mut record)
            .expect("what one record held fits another");
        segment.extend(record);
        ends.push(segment.len());
    }
    assert_eq!(read(&segment), ends, "records in their order");
    damaged(&segment, &ends, bytes);
}

/// A segment as it may be found on a disk.
fn whole(bytes: &[u8]) {
    if let Some(header) = Header::decode(bytes) {
        assert!(header.encode().starts_with(&bytes[..76]));
        for end in read(bytes) {
            assert!(end >= HEADER_BYTES);
        }
    }
    segment::has_record_after(&[7; 32], bytes, 0, 0);
}

/// A record's body, which must read the same from the record that its changes make.
fn body(bytes: &[u8]) -> Option<Batch> {
    let mut changes = Batch::default();
    segment::replay(bytes, &mut changes)?;
    let key = [7; 32];
    let mut record = Vec::new();
    segment::encode_record(&key, 9, &changes, &mut record).ok()?;
    let found = segment::record_at(&key, &record, 0).expect("a record is sound");
    assert_eq!((found.seq, found.end), (9, record.len()));
    let mut again = Batch::default();
    segment::replay(found.body, &mut again).expect("what was encoded makes sense");
    assert!(again.iter().eq(changes.iter()));
    Some(changes)
}

/// Flips a bit somewhere: what lies before it is read, what holds it is not.
fn damaged(segment: &[u8], ends: &[usize], by: &[u8]) {
    let place = by
        .iter()
        .fold(0, |sum: usize, byte| sum * 31 % 65_521 + usize::from(*byte));
    let at = HEADER_BYTES + place % (segment.len() - HEADER_BYTES);
    let mut damaged = segment.to_vec();
    damaged[at] ^= 1 << (place % 8);
    let found = read(&damaged);
    let before = ends.iter().filter(|end| **end <= at).count();
    assert!(found.len() >= before && ends.starts_with(&found));
    // The bytes between a record's end and the next multiple of 16 mean nothing.
    let in_padding = ends.iter().any(|end| (at + 1..at + 16).contains(end));
    assert!(
        in_padding || found.len() == before,
        "damage at {at} was not noticed"
    );
}

/// Where the header and each sound record end, up to the first that is not.
fn read(segment: &[u8]) -> Vec<usize> {
    let mut ends = vec![HEADER_BYTES];
    let Some(header) = Header::decode(segment) else {
        return ends;
    };
    while let Some(at) = ends.last()
        && let Some(record) = segment::record_at(&header.key, segment, *at)
    {
        assert!(record.end > *at, "a record ends after it begins");
        ends.push(record.end);
    }
    ends
}
