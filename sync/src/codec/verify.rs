//! Questions and answers of comparisons on the wire.

use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;

use super::{
    DecodeError, FRAME_BYTES_MAX, WireOrigin, WirePart, WireSet, decode, frame, vector_from_wire,
    vector_to_wire,
};
use crate::model::document::{Document, PartWrite, Write};
use crate::model::{Dot, SEQ_MAX, Timestamp, Version};
use crate::storage::mending::{Mend, Mended};
use crate::storage::state::Digest;
use crate::verify::indexes::{Place, Stage};
use crate::verify::message::{KEYS_MAX, RANGES_MAX};
use crate::verify::{Answer, Content, Fault, FaultKind, Held, Item, RangeDigest, Request};

/// Encodes a question as a whole frame.
pub fn encode_request(request: &Request) -> Bytes {
    frame(&WireRequest::from(request))
}

/// Decodes a question from a frame without its length.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &[u8]) -> Result<Request, DecodeError> {
    decode::<WireRequest<'_>, FRAME_BYTES_MAX>(frame)?.try_into()
}

/// Encodes an answer as a whole frame.
pub fn encode_answer(answer: &Answer) -> Bytes {
    frame(&WireAnswer::from(answer))
}

/// Decodes an answer from a frame without its length.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_answer(frame: &[u8]) -> Result<Answer, DecodeError> {
    decode::<WireAnswer<'_>, FRAME_BYTES_MAX>(frame)?.try_into()
}

#[derive(Encode, BorrowDecode)]
enum WireRequest<'f> {
    Digests {
        from: &'f [u8],
        bounds: Vec<&'f [u8]>,
        to_end: bool,
    },
    Items {
        from: &'f [u8],
        to: Option<&'f [u8]>,
    },
    Documents {
        keys: Vec<&'f [u8]>,
    },
    Check {
        stage: WireStage,
        row: &'f [u8],
    },
    Mend {
        work: Vec<WireMend<'f>>,
    },
}

#[derive(Encode, BorrowDecode)]
enum WireMend<'f> {
    Replace {
        key: &'f [u8],
        expected: [u8; 32],
        document: Vec<WireWrite<'f>>,
    },
    Entry {
        key: &'f [u8],
    },
    Dot {
        dot: WireDot,
        key: &'f [u8],
    },
    Feed {
        position: u64,
    },
    Sum {
        id: u64,
        begin: bool,
        settle: bool,
    },
}

#[derive(Encode, BorrowDecode)]
enum WireAnswer<'f> {
    Digests(Vec<WireRange>),
    Items {
        items: Vec<WireItem<'f>>,
        more: bool,
    },
    Documents {
        vector: Vec<WireSet>,
        held: Vec<WireHeld<'f>>,
    },
    Checked {
        rows: u64,
        faults: Vec<WireFault<'f>>,
        next: Option<(WireStage, &'f [u8])>,
    },
    Mended(Vec<WireMended>),
    Busy,
    Failed(&'f str),
}

#[derive(Encode, Decode)]
struct WireRange {
    sum: [u8; 32],
    count: u64,
}

#[derive(Encode, BorrowDecode)]
struct WireItem<'f> {
    key: &'f [u8],
    content: [u8; 32],
}

#[derive(Encode, BorrowDecode)]
struct WireHeld<'f> {
    digest: [u8; 32],
    content: WireContent<'f>,
    loose: Vec<WireDot>,
}

#[derive(Encode, BorrowDecode)]
enum WireContent<'f> {
    Nothing,
    Damaged,
    Document(Vec<WireWrite<'f>>),
}

#[derive(Encode, BorrowDecode)]
struct WireWrite<'f> {
    clock: u64,
    dot: WireDot,
    parts: Vec<WirePart<'f>>,
}

#[derive(Clone, Copy, Encode, Decode)]
struct WireDot {
    origin: WireOrigin,
    seq: u64,
}

#[derive(Encode, BorrowDecode)]
struct WireFault<'f> {
    kind: WireFaultKind,
    key: &'f [u8],
    dot: Option<WireDot>,
    position: u64,
}

#[derive(Encode, Decode)]
enum WireStage {
    Entries,
    Dots,
    Feed,
}

#[derive(Encode, Decode)]
enum WireFaultKind {
    KeyUnreadable,
    EntryUnreadable,
    DotMissing,
    DotStray,
    VectorLacks,
    FeedMissing,
    FeedStray,
    FeedHole,
    RowUnreadable,
    Digest,
}

#[derive(Encode, Decode)]
enum WireMended {
    Done,
    More,
    Changed,
    WasWrong,
    Lost,
}

/// Both ways between a type of ours without fields and its form on the wire.
macro_rules! same_names {
    ($ours:ty, $wire:ty, $($name:ident),+) => {
        impl From<$ours> for $wire {
            fn from(ours: $ours) -> Self {
                match ours {
                    $(<$ours>::$name => Self::$name,)+
                }
            }
        }

        impl From<$wire> for $ours {
            fn from(wire: $wire) -> Self {
                match wire {
                    $(<$wire>::$name => Self::$name,)+
                }
            }
        }
    };
}

same_names!(Stage, WireStage, Entries, Dots, Feed);
same_names!(Mended, WireMended, Done, More, Changed, WasWrong, Lost);
same_names!(
    FaultKind,
    WireFaultKind,
    KeyUnreadable,
    EntryUnreadable,
    DotMissing,
    DotStray,
    VectorLacks,
    FeedMissing,
    FeedStray,
    FeedHole,
    RowUnreadable,
    Digest
);

impl From<Dot> for WireDot {
    fn from(dot: Dot) -> Self {
        Self {
            origin: dot.origin.into(),
            seq: dot.seq,
        }
    }
}

/// Any number may stand in a damaged row, so none is refused here.
impl From<WireDot> for Dot {
    fn from(wire: WireDot) -> Self {
        Self {
            origin: wire.origin.into(),
            seq: wire.seq,
        }
    }
}

fn document_to_wire(document: &Document) -> Vec<WireWrite<'_>> {
    let mut wire = Vec::new();
    for Write { version, parts } in document.writes() {
        let mut write = WireWrite {
            clock: version.clock.0,
            dot: version.dot.into(),
            parts: Vec::with_capacity(parts.len()),
        };
        for one in parts {
            write.parts.push(WirePart {
                part: (&one.part).into(),
                value: one.value.as_deref(),
            });
        }
        wire.push(write);
    }
    wire
}

/// What a node holds is told as it is, sound or not, so long as it is a document.
fn document_from_wire(wire: Vec<WireWrite<'_>>) -> Result<Document, DecodeError> {
    let part = |wire: WirePart<'_>| PartWrite {
        part: wire.part.into(),
        value: wire.value.map(Bytes::copy_from_slice),
    };
    let write = |wire: WireWrite<'_>| Write {
        version: Version {
            clock: Timestamp(wire.clock),
            dot: wire.dot.into(),
        },
        parts: wire.parts.into_iter().map(part).collect(),
    };
    Document::from_writes(wire.into_iter().map(write).collect())
        .map_err(|_| DecodeError::Unsound("writes are not those of one document"))
}

/// What a node is to hold must be sound.
fn sound(document: &Document) -> Result<(), DecodeError> {
    for write in document.writes() {
        let Version { clock, dot } = write.version;
        if clock > Timestamp::LAST || !(1..=SEQ_MAX).contains(&dot.seq) {
            return Err(DecodeError::Unsound("a date or number is out of range"));
        }
        write
            .check()
            .map_err(|_| DecodeError::Unsound("a write breaks the rules for its parts"))?;
    }
    match document.is_empty() {
        true => Err(DecodeError::Unsound("a document says nothing")),
        false => Ok(()),
    }
}

impl<'f> From<&'f Request> for WireRequest<'f> {
    fn from(request: &'f Request) -> Self {
        match request {
            Request::Digests {
                from,
                bounds,
                to_end,
            } => Self::Digests {
                from,
                bounds: bounds.iter().map(|bound| bound.as_ref()).collect(),
                to_end: *to_end,
            },
            Request::Items { from, to } => Self::Items {
                from,
                to: to.as_deref(),
            },
            Request::Documents { keys } => Self::Documents {
                keys: keys.iter().map(|key| key.as_ref()).collect(),
            },
            Request::Check { from } => Self::Check {
                stage: from.stage.into(),
                row: &from.row,
            },
            Request::Mend { work } => Self::Mend {
                work: work.iter().map(WireMend::from).collect(),
            },
        }
    }
}

impl TryFrom<WireRequest<'_>> for Request {
    type Error = DecodeError;

    fn try_from(wire: WireRequest<'_>) -> Result<Self, DecodeError> {
        let bounded = |count: usize, most: usize| match count <= most {
            true => Ok(()),
            false => Err(DecodeError::Unsound("a question asks for too much at once")),
        };
        let copy = Bytes::copy_from_slice;
        Ok(match wire {
            WireRequest::Digests {
                from,
                bounds,
                to_end,
            } => {
                bounded(bounds.len(), RANGES_MAX)?;
                Self::Digests {
                    from: copy(from),
                    bounds: bounds.into_iter().map(copy).collect(),
                    to_end,
                }
            }
            WireRequest::Items { from, to } => Self::Items {
                from: copy(from),
                to: to.map(copy),
            },
            WireRequest::Documents { keys } => {
                bounded(keys.len(), KEYS_MAX)?;
                Self::Documents {
                    keys: keys.into_iter().map(copy).collect(),
                }
            }
            WireRequest::Check { stage, row } => Self::Check {
                from: Place {
                    stage: stage.into(),
                    row: copy(row),
                },
            },
            WireRequest::Mend { work } => {
                bounded(work.len(), KEYS_MAX)?;
                let work = work.into_iter().map(Mend::try_from);
                Self::Mend {
                    work: work.collect::<Result<_, _>>()?,
                }
            }
        })
    }
}

impl<'f> From<&'f Mend> for WireMend<'f> {
    fn from(mend: &'f Mend) -> Self {
        match mend {
            Mend::Replace {
                key,
                expected,
                document,
            } => Self::Replace {
                key,
                expected: expected.to_bytes(),
                document: document_to_wire(document),
            },
            Mend::Entry { key } => Self::Entry { key },
            Mend::Dot { dot, key } => Self::Dot {
                dot: (*dot).into(),
                key,
            },
            Mend::Feed { position } => Self::Feed {
                position: *position,
            },
            Mend::Sum { id, begin, settle } => Self::Sum {
                id: *id,
                begin: *begin,
                settle: *settle,
            },
        }
    }
}

impl TryFrom<WireMend<'_>> for Mend {
    type Error = DecodeError;

    fn try_from(wire: WireMend<'_>) -> Result<Self, DecodeError> {
        let copy = Bytes::copy_from_slice;
        Ok(match wire {
            WireMend::Replace {
                key,
                expected,
                document,
            } => {
                let document = document_from_wire(document)?;
                sound(&document)?;
                crate::storage::records::decode_key(key)
                    .map_err(|_| DecodeError::Unsound("a key breaks the rules for names"))?;
                Self::Replace {
                    key: copy(key),
                    expected: Digest::from_bytes(&expected),
                    document,
                }
            }
            WireMend::Entry { key } => Self::Entry { key: copy(key) },
            WireMend::Dot { dot, key } => Self::Dot {
                dot: dot.into(),
                key: copy(key),
            },
            WireMend::Feed { position } => Self::Feed { position },
            WireMend::Sum { id, begin, settle } => Self::Sum { id, begin, settle },
        })
    }
}

impl<'f> From<&'f Answer> for WireAnswer<'f> {
    fn from(answer: &'f Answer) -> Self {
        match answer {
            Answer::Digests(ranges) => {
                let range = |range: &RangeDigest| WireRange {
                    sum: range.sum.to_bytes(),
                    count: range.count,
                };
                Self::Digests(ranges.iter().map(range).collect())
            }
            Answer::Items { items, more } => {
                let item = |item: &'f Item| WireItem {
                    key: &item.key,
                    content: item.content.to_bytes(),
                };
                Self::Items {
                    items: items.iter().map(item).collect(),
                    more: *more,
                }
            }
            Answer::Documents { vector, held } => Self::Documents {
                vector: vector_to_wire(vector),
                held: held.iter().map(WireHeld::from).collect(),
            },
            Answer::Checked { rows, faults, next } => {
                let fault = |fault: &'f Fault| WireFault {
                    kind: fault.kind.into(),
                    key: &fault.key,
                    dot: fault.dot.map(WireDot::from),
                    position: fault.position,
                };
                let place = |place: &'f Place| (place.stage.into(), &*place.row);
                Self::Checked {
                    rows: *rows,
                    faults: faults.iter().map(fault).collect(),
                    next: next.as_ref().map(place),
                }
            }
            Answer::Mended(outcomes) => {
                Self::Mended(outcomes.iter().map(|one| (*one).into()).collect())
            }
            Answer::Busy => Self::Busy,
            Answer::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl TryFrom<WireAnswer<'_>> for Answer {
    type Error = DecodeError;

    fn try_from(wire: WireAnswer<'_>) -> Result<Self, DecodeError> {
        let copy = Bytes::copy_from_slice;
        Ok(match wire {
            WireAnswer::Digests(ranges) => {
                let range = |range: WireRange| RangeDigest {
                    sum: Digest::from_bytes(&range.sum),
                    count: range.count,
                };
                Self::Digests(ranges.into_iter().map(range).collect())
            }
            WireAnswer::Items { items, more } => {
                let item = |item: WireItem<'_>| Item {
                    key: copy(item.key),
                    content: Digest::from_bytes(&item.content),
                };
                Self::Items {
                    items: items.into_iter().map(item).collect(),
                    more,
                }
            }
            WireAnswer::Documents { vector, held } => Self::Documents {
                vector: vector_from_wire(vector)?,
                held: held
                    .into_iter()
                    .map(Held::try_from)
                    .collect::<Result<_, _>>()?,
            },
            WireAnswer::Checked { rows, faults, next } => {
                let fault = |fault: WireFault<'_>| Fault {
                    kind: fault.kind.into(),
                    key: copy(fault.key),
                    dot: fault.dot.map(Dot::from),
                    position: fault.position,
                };
                let place = |(stage, row): (WireStage, &[u8])| Place {
                    stage: stage.into(),
                    row: copy(row),
                };
                Self::Checked {
                    rows,
                    faults: faults.into_iter().map(fault).collect(),
                    next: next.map(place),
                }
            }
            WireAnswer::Mended(outcomes) => {
                Self::Mended(outcomes.into_iter().map(Mended::from).collect())
            }
            WireAnswer::Busy => Self::Busy,
            WireAnswer::Failed(reason) => Self::Failed(reason.to_owned()),
        })
    }
}

impl<'f> From<&'f Held> for WireHeld<'f> {
    fn from(held: &'f Held) -> Self {
        Self {
            digest: held.digest.to_bytes(),
            content: match &held.content {
                Content::Nothing => WireContent::Nothing,
                Content::Damaged => WireContent::Damaged,
                Content::Document(document) => WireContent::Document(document_to_wire(document)),
            },
            loose: held.loose.iter().map(|dot| (*dot).into()).collect(),
        }
    }
}

impl TryFrom<WireHeld<'_>> for Held {
    type Error = DecodeError;

    fn try_from(wire: WireHeld<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            digest: Digest::from_bytes(&wire.digest),
            content: match wire.content {
                WireContent::Nothing => Content::Nothing,
                WireContent::Damaged => Content::Damaged,
                WireContent::Document(writes) => Content::Document(document_from_wire(writes)?),
            },
            loose: wire.loose.into_iter().map(Dot::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
