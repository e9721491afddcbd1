//! Messages beyond the full mesh, as they are on the wire.

use bincode::{BorrowDecode, Decode, Encode};

use super::{
    DecodeError, WireDelta, WireOrigin, WireSet, changes_from_wire, date_from_wire,
    vector_from_wire, vector_to_wire,
};
use crate::model::{PeerId, ReplicaId};
use crate::protocol::{Census, Counted, Have, TreeMessage};

/// Longest name of a node, in bytes: as in its certificate.
const NAME_BYTES_MAX: usize = 512;

#[derive(Encode, BorrowDecode)]
pub(super) enum WireTree<'f> {
    Forward {
        changes: Vec<WireDelta<'f>>,
    },
    Have {
        origin: WireOrigin,
        life: u64,
        after: u64,
        upto: u64,
        heard: u64,
        vector: Vec<WireSet>,
    },
    Prune,
    Graft {
        wanted: Vec<WireSet>,
    },
    Gone,
    RollCall {
        origin: WireOrigin,
        upto: u64,
        round: u64,
    },
    Present {
        origin: WireOrigin,
        own: Option<u64>,
        others: Vec<WireAnswer<'f>>,
    },
    Census {
        number: u64,
        floor: u64,
        all: Vec<WireSet>,
        some: Vec<WireSet>,
        lines: Vec<WireCounted>,
    },
}

/// What a census says of a replica.
#[derive(Encode, Decode)]
pub(super) struct WireCounted {
    replica: [u8; 16],
    counted: bool,
    here: bool,
    fenced: bool,
}

/// Up to which a node has the writes that were asked about.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireAnswer<'f> {
    name: &'f str,
    upto: u64,
}

impl<'f> From<&'f TreeMessage> for WireTree<'f> {
    fn from(message: &'f TreeMessage) -> Self {
        match message {
            TreeMessage::Forward { changes } => Self::Forward {
                changes: changes.iter().map(WireDelta::from).collect(),
            },
            TreeMessage::Have(have) => Self::Have {
                origin: have.origin.into(),
                life: have.life,
                after: have.after,
                upto: have.upto,
                heard: have.heard,
                vector: vector_to_wire(&have.vector),
            },
            TreeMessage::Prune => Self::Prune,
            TreeMessage::Graft { wanted } => Self::Graft {
                wanted: vector_to_wire(wanted),
            },
            TreeMessage::Gone => Self::Gone,
            TreeMessage::RollCall {
                origin,
                upto,
                round,
            } => Self::RollCall {
                origin: (*origin).into(),
                upto: *upto,
                round: *round,
            },
            TreeMessage::Present {
                origin,
                own,
                others,
            } => Self::Present {
                origin: (*origin).into(),
                own: *own,
                others: others
                    .iter()
                    .map(|(name, upto)| WireAnswer {
                        name: name.as_str(),
                        upto: *upto,
                    })
                    .collect(),
            },
            TreeMessage::Census(census) => Self::Census {
                number: census.number,
                floor: census.floor.0,
                all: vector_to_wire(&census.all),
                some: vector_to_wire(&census.some),
                lines: census.lines.iter().map(counted_to_wire).collect(),
            },
        }
    }
}

impl TryFrom<WireTree<'_>> for TreeMessage {
    type Error = DecodeError;

    fn try_from(wire: WireTree<'_>) -> Result<Self, DecodeError> {
        Ok(match wire {
            WireTree::Forward { changes } => Self::Forward {
                changes: changes_from_wire(changes)?,
            },
            WireTree::Have {
                origin,
                life,
                after,
                upto,
                heard,
                vector,
            } => Self::Have(Have {
                origin: origin.into(),
                life,
                after,
                upto,
                heard,
                vector: vector_from_wire(vector)?,
            }),
            WireTree::Prune => Self::Prune,
            WireTree::Graft { wanted } => Self::Graft {
                wanted: vector_from_wire(wanted)?,
            },
            WireTree::Gone => Self::Gone,
            WireTree::RollCall {
                origin,
                upto,
                round,
            } => Self::RollCall {
                origin: origin.into(),
                upto,
                round,
            },
            WireTree::Present {
                origin,
                own,
                others,
            } => Self::Present {
                origin: origin.into(),
                own,
                others: others
                    .into_iter()
                    .map(answer_from_wire)
                    .collect::<Result<_, _>>()?,
            },
            WireTree::Census {
                number,
                floor,
                all,
                some,
                lines,
            } => Self::Census(Box::new(Census {
                number,
                floor: date_from_wire(floor)?,
                all: vector_from_wire(all)?,
                some: vector_from_wire(some)?,
                lines: lines.into_iter().map(counted_from_wire).collect(),
            })),
        })
    }
}

fn counted_to_wire((replica, line): (&ReplicaId, &Counted)) -> WireCounted {
    WireCounted {
        replica: replica.0,
        counted: line.counted,
        here: line.here,
        fenced: line.fenced,
    }
}

fn counted_from_wire(line: WireCounted) -> (ReplicaId, Counted) {
    let WireCounted {
        replica,
        counted,
        here,
        fenced,
    } = line;
    let line = Counted {
        counted,
        here,
        fenced,
    };
    (ReplicaId(replica), line)
}

fn answer_from_wire(answer: WireAnswer<'_>) -> Result<(PeerId, u64), DecodeError> {
    match answer.name.len() <= NAME_BYTES_MAX {
        true => Ok((PeerId::new(answer.name), answer.upto)),
        false => Err(DecodeError::Unsound("the name of a node is too long")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{decode_message, encode_message};
    use super::*;
    use crate::codec::LENGTH_BYTES;
    use crate::model::{Epoch, Origin, SeqRange, Timestamp, VersionVector};
    use crate::protocol::Message;

    const ORIGIN: Origin = Origin {
        replica: ReplicaId([0x11; 16]),
        epoch: Epoch(3),
    };

    /// The bytes of a message after its length and codec.
    fn body(message: TreeMessage) -> Vec<u8> {
        let frame = encode_message(&Message::Tree(message));
        frame[LENGTH_BYTES + 1..].to_vec()
    }

    fn with_origin(before: &[u8], after: &[u8]) -> Vec<u8> {
        [before, &[0x11; 16], &[3], after].concat()
    }

    #[test]
    fn the_bytes_are_as_promised() {
        let mut vector = VersionVector::default();
        vector.insert_range(ORIGIN, SeqRange { first: 1, last: 9 });
        let origin = ORIGIN;
        let have = Have {
            origin,
            life: 5,
            after: 6,
            upto: 7,
            heard: 8,
            vector: vector.clone(),
        };
        let set = with_origin(&[1], &[1, 1, 9]);
        let expected = [with_origin(&[10, 1], &[5, 6, 7, 8]), set.clone()].concat();
        assert_eq!(body(TreeMessage::Have(have)), expected);
        let graft = TreeMessage::Graft {
            wanted: vector.clone(),
        };
        assert_eq!(body(graft), [vec![10, 3], set.clone()].concat());
        assert_eq!(body(TreeMessage::Prune), [10, 2]);
        assert_eq!(body(TreeMessage::Gone), [10, 4]);
        let call = TreeMessage::RollCall {
            origin,
            upto: 4,
            round: 2,
        };
        assert_eq!(body(call), with_origin(&[10, 5], &[4, 2]));
        let present = TreeMessage::Present {
            origin,
            own: Some(4),
            others: vec![(PeerId::new("n2"), 6)],
        };
        let expected = with_origin(&[10, 6], &[1, 4, 1, 2, b'n', b'2', 6]);
        assert_eq!(body(present), expected);
        let line = |counted, here, fenced| Counted {
            counted,
            here,
            fenced,
        };
        let mut rest = VersionVector::default();
        rest.insert_range(
            ORIGIN,
            SeqRange {
                first: 10,
                last: 11,
            },
        );
        let census = TreeMessage::Census(Box::new(Census {
            number: 4,
            floor: Timestamp(5),
            all: vector,
            some: rest,
            lines: BTreeMap::from([
                (ReplicaId([0x11; 16]), line(true, true, false)),
                (ReplicaId([0x12; 16]), line(false, false, true)),
            ]),
        }));
        let lines = [&[2], &[0x11; 16][..], &[1, 1, 0], &[0x12; 16], &[0, 0, 1]].concat();
        let expected = [
            vec![10, 7, 4, 5],
            set,
            with_origin(&[1], &[1, 10, 11]),
            lines,
        ];
        assert_eq!(body(census), expected.concat());
        let nothing = TreeMessage::Forward {
            changes: Vec::new(),
        };
        assert_eq!(body(nothing), [10, 0, 0]);
    }

    #[test]
    fn a_name_longer_than_any_is_refused() {
        let present = |length| TreeMessage::Present {
            origin: ORIGIN,
            own: None,
            others: vec![(PeerId::new(&"n".repeat(length)), 6)],
        };
        let decoded = |length| {
            let frame = encode_message(&Message::Tree(present(length)));
            decode_message(&frame[LENGTH_BYTES..])
        };
        let message = Message::Tree(present(NAME_BYTES_MAX));
        assert_eq!(decoded(NAME_BYTES_MAX), Ok(message));
        let refused = decoded(NAME_BYTES_MAX + 1);
        assert!(matches!(refused, Err(DecodeError::Unsound(_))));
    }
}
