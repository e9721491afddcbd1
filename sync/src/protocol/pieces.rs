//! Documents that are larger than a frame, on their way in a snapshot.
//!
//! In: the writes of a document, or chunks as they come. Out: pieces that each fit a frame,
//! and chunks with whole documents. What can fail: pieces that do not belong together, or
//! more of them than anybody's document has; the snapshot is then asked for anew.

use super::SnapshotChunk;
use super::pull::Pulling;
use crate::model::Key;
use crate::model::document::{Document, Write};

/// Bytes of a document that is taken over in pieces, at most. It must be more than any
/// document has, or nobody could take over what comes after it; whoever has one holds it in
/// memory whenever it is read.
const PIECES_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The writes of a document of which more are to come.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    key: Key,
    writes: Vec<Write>,
    bytes: usize,
}

/// Divides the writes of a document into pieces that fit a frame, in their order. A write
/// always fits one.
pub(super) fn in_pieces(key: &Key, writes: Vec<Write>, bytes_max: usize) -> Vec<Vec<Write>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for write in writes {
        let weight = weight_of(key, &write);
        if bytes > 0 && bytes + weight > bytes_max {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += weight;
        if let Some(piece) = pieces.last_mut() {
            piece.push(write);
        }
    }
    pieces
}

/// What a write takes in a frame or in memory, whichever is more, about: each has its key.
pub(super) fn weight_of(key: &Key, write: &Write) -> usize {
    write.weight() + key.collection().as_str().len() + key.name().len() + 64
}

impl Pulling {
    /// Keeps a piece until the rest of its document comes, or puts the pieces before it into
    /// a chunk. `false` if they do not belong together, or become too much.
    pub(super) fn put_together(&mut self, chunk: &mut SnapshotChunk) -> bool {
        let before = self.pieces.take();
        let is_piece = chunk.is_piece();
        if before.is_none() && !is_piece {
            return true;
        }
        let Some((key, writes)) = chunk.documents.first_mut() else {
            return false;
        };
        let mut pieces = before.unwrap_or_else(|| Pieces {
            key: key.clone(),
            writes: Vec::new(),
            bytes: 0,
        });
        if pieces.key != *key {
            return false;
        }
        // As a document has them: what is made of other writes takes time by their square.
        let last = pieces.writes.last().map(|write| write.version);
        let ascend = writes.is_sorted_by(|a, b| a.version < b.version);
        let follow = writes.first().map(|write| write.version) > last;
        if !ascend || !follow {
            return false;
        }
        pieces.bytes += writes
            .iter()
            .map(|write| weight_of(key, write))
            .sum::<usize>();
        pieces.writes.append(writes);
        if pieces.bytes > PIECES_BYTES_MAX {
            return false;
        }
        match is_piece {
            true => self.pieces = Some(pieces),
            false if Document::are_whole(&pieces.writes).is_err() => return false,
            false => *writes = pieces.writes,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::model::document::{Part, PartWrite};
    use crate::model::{
        Collection, Dot, Epoch, Origin, PeerId, ReplicaId, Timestamp, Version, VersionVector,
    };

    fn key(name: &str) -> Key {
        Key::new(Collection::new("c").unwrap(), name).unwrap()
    }

    fn write(seq: u64, bytes: usize) -> Write {
        let origin = Origin {
            replica: ReplicaId([1; 16]),
            epoch: Epoch(1),
        };
        let version = Version {
            clock: Timestamp(seq),
            dot: Dot { origin, seq },
        };
        let value = Some(Bytes::from(vec![b'1'; bytes]));
        let part = Part::Field(seq.to_string().into());
        let parts = vec![PartWrite { part, value }];
        Write { version, parts }
    }

    fn chunk(name: &str, writes: Vec<Write>, is_piece: bool) -> SnapshotChunk {
        SnapshotChunk {
            session: 1,
            index: 0,
            after: None,
            upto: (!is_piece).then(|| key(name)),
            documents: vec![(key(name), writes)],
            vector: VersionVector::default(),
            claim: VersionVector::default(),
            floor: Timestamp(0),
            end: None,
        }
    }

    fn pulling() -> Pulling {
        Pulling {
            peer: PeerId::new("n1"),
            session: 1,
            next_index: 0,
            deadline: Duration::ZERO,
            snapshot: true,
            parts: VecDeque::new(),
            pieces: None,
            last: None,
        }
    }

    #[test]
    fn what_is_divided_is_put_together_again() {
        let writes: Vec<Write> = (1..20).map(|seq| write(seq, 300)).collect();
        for bytes_max in [1, 1_000, 2_000, 1_000_000] {
            let mut pieces = in_pieces(&key("k"), writes.clone(), bytes_max);
            let fits = |piece: &Vec<Write>| {
                let bytes: usize = piece.iter().map(|one| weight_of(&key("k"), one)).sum();
                piece.len() == 1 || bytes <= bytes_max
            };
            assert!(pieces.iter().all(fits), "{bytes_max}");
            let rest = pieces.pop().unwrap();
            let mut pull = pulling();
            for piece in pieces {
                assert!(pull.put_together(&mut chunk("k", piece, true)));
            }
            let mut last = chunk("k", rest, false);
            assert!(pull.put_together(&mut last));
            assert_eq!(last.documents, [(key("k"), writes.clone())]);
            assert!(pull.pieces.is_none());
            let mut other = chunk("l", vec![write(1, 1)], false);
            assert!(pull.put_together(&mut other));
            assert_eq!(other, chunk("l", vec![write(1, 1)], false));
        }
    }

    #[test]
    fn pieces_of_different_documents_and_too_many_are_refused() {
        for is_piece in [true, false] {
            let mut pull = pulling();
            assert!(pull.put_together(&mut chunk("k", vec![write(1, 9)], true)));
            assert!(!pull.put_together(&mut chunk("l", vec![write(2, 9)], is_piece)));
        }
        let mut pull = pulling();
        assert!(pull.put_together(&mut chunk("k", vec![write(1, 9)], true)));
        let mut nothing = chunk("k", Vec::new(), false);
        nothing.documents.clear();
        assert!(!pull.put_together(&mut nothing), "the rest never came");
        let mut pull = pulling();
        assert!(pull.put_together(&mut chunk("k", vec![write(1, 9)], true)));
        if let Some(pieces) = &mut pull.pieces {
            pieces.bytes = PIECES_BYTES_MAX - 1;
        }
        assert!(!pull.put_together(&mut chunk("k", vec![write(2, 9)], true)));
        assert!(pull.pieces.is_none());
    }

    #[test]
    fn pieces_that_are_no_document_together_are_refused() {
        for (first, second) in [
            (vec![write(2, 9)], vec![write(1, 9)]),
            (vec![write(1, 9)], vec![write(1, 9)]),
            (vec![write(1, 9)], vec![write(3, 9), write(2, 9)]),
            (vec![write(1, 9)], Vec::new()),
        ] {
            let mut pull = pulling();
            assert!(pull.put_together(&mut chunk("k", first, true)));
            assert!(!pull.put_together(&mut chunk("k", second, false)));
        }
        // Each of them is a document's, and both are not.
        let mut later = write(2, 9);
        later.parts = write(1, 9).parts;
        let mut pull = pulling();
        assert!(pull.put_together(&mut chunk("k", vec![write(1, 9)], true)));
        assert!(!pull.put_together(&mut chunk("k", vec![later], false)));
    }
}
