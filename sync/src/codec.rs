//! Frames on the wire. The only module that names bincode.
//!
//! A frame is a length (u32, big-endian, of all that follows), a codec number (u8)
//! and a body. The codec number leaves room for a successor of bincode; peers that
//! do not know a number say so and part. The types that are encoded live here,
//! apart from those of [`crate::model`]: they are a promise to other versions of
//! this program, and the golden bytes in the tests hold us to it.
//!
//! Nothing is allocated by a peer's word: the length is checked before the body is
//! read, bincode gets a limit that follows from the length of the frame, text and
//! documents are borrowed from it, trailing bytes are refused, and no type is recursive.

mod tree;
mod verify;

use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;
use thiserror::Error;

use crate::model::document::{Part, PartWrite, Tag, Write};
use crate::model::{
    Collection, Delta, Dot, Epoch, Key, Origin, PeerId, ReplicaId, SeqRange, Timestamp, Version,
    VersionVector,
};
use crate::protocol::{Message, PullChunk, SnapshotChunk, Standing};
use crate::storage::RosterLine;

use self::tree::{WireAnswer, WireCounted, WireTree};
pub use verify::{decode_answer, decode_request, encode_answer, encode_request};

/// Largest frame, in bytes, without its length.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;
/// Largest first frame of a connection, in bytes: the peer is not known yet.
pub const HELLO_BYTES_MAX: usize = 1024;

/// The codec that this program speaks: bincode 2, standard configuration.
const CODEC_BINCODE: u8 = 1;
/// Room that every frame begins with.
const FRAME_MIN: usize = 64;
/// Version of the protocol between agents.
pub const PROTOCOL: u16 = 3;

/// A frame cannot be understood. It is the peer's fault; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// The length is out of bounds.
    #[error("a frame of {length} bytes; at most {most} are allowed")]
    Length {
        /// What was announced.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// The codec is not known here.
    #[error("the frame is in codec {0}, which this version does not know")]
    Codec(u8),
    /// The body is not what the codec says.
    #[error("the frame cannot be decoded: {0}")]
    Body(String),
    /// Something follows the body.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// A name or number in it breaks the rules.
    #[error("the message is not sound: {0}")]
    Unsound(&'static str),
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Lane {
    /// Pushes, vectors, acknowledgements: small and urgent.
    Live,
    /// The chunks of pulls, which must not stand in the way of the others.
    Bulk,
    /// Questions and answers about what a store holds (`verify`); unlike the others it
    /// carries both ways. Versions from before it do not answer its greeting.
    Verify,
}

/// The first frame of a connection, in both directions.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u16,
    /// The cluster that the sender belongs to.
    pub cluster: String,
    /// The sender's node name.
    pub node: String,
    /// What the connection is for; the answer repeats it.
    pub lane: Lane,
}

/// Encodes a greeting as a whole frame.
pub fn encode_hello(hello: &Hello) -> Bytes {
    frame(hello)
}

/// Decodes a greeting from a frame without its length.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_hello(frame: &[u8]) -> Result<Hello, DecodeError> {
    decode::<Hello, HELLO_BYTES_MAX>(frame)
}

/// Encodes a message as a whole frame.
pub fn encode_message(message: &Message) -> Bytes {
    let changes = match message {
        Message::Push { changes } => changes.as_slice(),
        Message::PullChunk(chunk) => &chunk.changes,
        _ => &[],
    };
    let bytes = changes.iter().map(Delta::weight).sum();
    frame_of_about(bytes, &WireMessage::from(message))
}

/// Decodes a message from a frame without its length.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_message(frame: &[u8]) -> Result<Message, DecodeError> {
    decode::<WireMessage<'_>, FRAME_BYTES_MAX>(frame)?.into_message(&Bytes::copy_from_slice)
}

/// The same; the documents of a snapshot share the memory of the frame, since they are
/// let go of together. What else comes may be kept, and must not keep a whole frame.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_message_of(frame: &Bytes) -> Result<Message, DecodeError> {
    let message = decode::<WireMessage<'_>, FRAME_BYTES_MAX>(frame)?;
    message.into_message(&|value| frame.slice_ref(value))
}

/// The length that a frame announces.
///
/// # Errors
/// [`DecodeError::Length`] when it is above `most` or too small to be a frame.
pub fn frame_length(bytes: [u8; LENGTH_BYTES], most: usize) -> Result<usize, DecodeError> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    if (2..=most).contains(&length) {
        Ok(length)
    } else {
        Err(DecodeError::Length { length, most })
    }
}

fn frame(body: &impl Encode) -> Bytes {
    frame_of_about(0, body)
}

/// A frame with room for so many bytes from the beginning, since making room again and
/// again costs more than the encoding.
fn frame_of_about(bytes: usize, body: &impl Encode) -> Bytes {
    let mut frame = Vec::with_capacity(FRAME_MIN + bytes);
    frame.extend_from_slice(&[0, 0, 0, 0, CODEC_BINCODE]);
    // A Vec takes any number of bytes.
    bincode::encode_into_std_write(body, &mut frame, bincode::config::standard())
        .expect("a message of ours can always be encoded");
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("a message of ours fits a frame");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.into()
}

fn decode<'f, T: BorrowDecode<'f, ()>, const BYTES_MAX: usize>(
    frame: &'f [u8],
) -> Result<T, DecodeError> {
    let (codec, body) = frame
        .split_first()
        .ok_or(DecodeError::Unsound("the frame is empty"))?;
    if *codec != CODEC_BINCODE {
        return Err(DecodeError::Codec(*codec));
    }
    if frame.len() > BYTES_MAX {
        let (length, most) = (frame.len(), BYTES_MAX);
        return Err(DecodeError::Length { length, most });
    }
    // A limit is a constant of its decoder, so there is one for each of some lengths.
    let (message, used) = match body.len().div_ceil(KIB) {
        0..=1 => decode_within::<T, { KIB * GROWTH_MAX }>(body),
        2..=4 => decode_within::<T, { 4 * KIB * GROWTH_MAX }>(body),
        5..=16 => decode_within::<T, { 16 * KIB * GROWTH_MAX }>(body),
        17..=64 => decode_within::<T, { 64 * KIB * GROWTH_MAX }>(body),
        _ => decode_within::<T, FRAME_BYTES_MAX>(body),
    }?;
    match body.len() - used {
        0 => Ok(message),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

/// How much larger than its bytes in a frame an element of a list is in memory, at most.
const GROWTH_MAX: usize = 32;
const KIB: usize = 1024;

/// Decodes with a bound on the memory for lists, each of which is taken at once, by the
/// count that stands before it.
fn decode_within<'f, T: BorrowDecode<'f, ()>, const LIST_BYTES_MAX: usize>(
    body: &'f [u8],
) -> Result<(T, usize), DecodeError> {
    let config = bincode::config::standard().with_limit::<LIST_BYTES_MAX>();
    bincode::borrow_decode_from_slice(body, config)
        .map_err(|error| DecodeError::Body(error.to_string()))
}

/// The fewest bytes of each element of a list: `(in a frame, in memory)`.
const ELEMENTS: [(usize, usize); 7] = [
    (24, size_of::<WireDelta<'_>>()),
    (19, size_of::<WireLine<'_>>()),
    (2, size_of::<WirePart<'_>>()),
    (18, size_of::<WireSet>()),
    (2, size_of::<(u64, u64)>()),
    (2, size_of::<WireAnswer<'_>>()),
    (19, size_of::<WireCounted>()),
];

const _: () = {
    let mut at = 0;
    while at < ELEMENTS.len() {
        let (in_frame, in_memory) = ELEMENTS[at];
        assert!(in_memory <= in_frame * GROWTH_MAX);
        at += 1;
    }
};

#[derive(Encode, BorrowDecode)]
enum WireMessage<'f> {
    Push {
        changes: Vec<WireDelta<'f>>,
    },
    Vector {
        origin: WireOrigin,
        vector: Vec<WireSet>,
    },
    Ack {
        origin: WireOrigin,
        upto: u64,
    },
    PullRequest {
        session: u64,
        vector: Vec<WireSet>,
    },
    PullChunk {
        session: u64,
        index: u64,
        changes: Vec<WireDelta<'f>>,
        claim: Option<Vec<WireSet>>,
    },
    PullMore {
        session: u64,
    },
    Busy {
        session: u64,
    },
    Standing {
        origin: WireOrigin,
        vector: Vec<WireSet>,
        wall_ms: u64,
        floor: u64,
        horizon: Vec<WireSet>,
        sound: bool,
        roster: Vec<WireLine<'f>>,
    },
    SnapshotRequest {
        session: u64,
        after: Option<WireKey<'f>>,
        line: WireLine<'f>,
    },
    SnapshotChunk {
        session: u64,
        index: u64,
        after: Option<WireKey<'f>>,
        upto: Option<WireKey<'f>>,
        documents: Vec<WireDelta<'f>>,
        vector: Vec<WireSet>,
        claim: Vec<WireSet>,
        floor: u64,
        end: Option<WireEnd<'f>>,
    },
    Tree(WireTree<'f>),
}

#[derive(Encode, BorrowDecode)]
struct WireEnd<'f> {
    horizon: Vec<WireSet>,
    roster: Vec<WireLine<'f>>,
}

#[derive(Encode, BorrowDecode)]
struct WireKey<'f> {
    collection: &'f str,
    name: &'f str,
}

#[derive(Encode, BorrowDecode)]
struct WireLine<'f> {
    replica: [u8; 16],
    name: &'f str,
    fenced: bool,
    born: u64,
}

#[derive(Encode, BorrowDecode)]
struct WireDelta<'f> {
    collection: &'f str,
    name: &'f str,
    clock: u64,
    origin: WireOrigin,
    seq: u64,
    parts: Vec<WirePart<'f>>,
}

#[derive(Encode, BorrowDecode)]
struct WirePart<'f> {
    part: WirePartName<'f>,
    value: Option<&'f [u8]>,
}

#[derive(Encode, BorrowDecode)]
enum WirePartName<'f> {
    Root,
    Field(&'f str),
    Tally(WireOrigin),
    Reset(WireOrigin),
    Set,
    Element {
        origin: WireOrigin,
        seq: u64,
        index: u16,
    },
    Expiry,
}

#[derive(Clone, Copy, Encode, Decode)]
struct WireOrigin {
    replica: [u8; 16],
    epoch: u64,
}

/// One origin's sequence numbers.
#[derive(Encode, Decode)]
struct WireSet {
    origin: WireOrigin,
    /// First and last of each range.
    ranges: Vec<(u64, u64)>,
}

impl From<Origin> for WireOrigin {
    fn from(origin: Origin) -> Self {
        Self {
            replica: origin.replica.0,
            epoch: origin.epoch.0,
        }
    }
}

impl From<WireOrigin> for Origin {
    fn from(wire: WireOrigin) -> Self {
        Self {
            replica: ReplicaId(wire.replica),
            epoch: Epoch(wire.epoch),
        }
    }
}

impl<'f> From<&'f Delta> for WireDelta<'f> {
    fn from(delta: &'f Delta) -> Self {
        Self::new(&delta.key, &delta.write)
    }
}

impl<'f> WireDelta<'f> {
    fn new(key: &'f Key, write: &'f Write) -> Self {
        let Version { clock, dot } = write.version;
        let part = |write: &'f PartWrite| WirePart {
            part: (&write.part).into(),
            value: write.value.as_deref(),
        };
        Self {
            collection: key.collection().as_str(),
            name: key.name(),
            clock: clock.0,
            origin: dot.origin.into(),
            seq: dot.seq,
            parts: write.parts.iter().map(part).collect(),
        }
    }
}

impl<'f> From<&'f Part> for WirePartName<'f> {
    fn from(part: &'f Part) -> Self {
        match part {
            Part::Root => Self::Root,
            Part::Field(name) => Self::Field(name),
            Part::Tally(origin) => Self::Tally((*origin).into()),
            Part::Reset(origin) => Self::Reset((*origin).into()),
            Part::Set => Self::Set,
            Part::Element(Tag { dot, index }) => Self::Element {
                origin: dot.origin.into(),
                seq: dot.seq,
                index: *index,
            },
            Part::Expiry => Self::Expiry,
        }
    }
}

impl From<WirePartName<'_>> for Part {
    fn from(wire: WirePartName<'_>) -> Self {
        match wire {
            WirePartName::Root => Self::Root,
            WirePartName::Field(name) => Self::Field(name.into()),
            WirePartName::Tally(origin) => Self::Tally(origin.into()),
            WirePartName::Reset(origin) => Self::Reset(origin.into()),
            WirePartName::Set => Self::Set,
            WirePartName::Element { origin, seq, index } => {
                let origin = origin.into();
                let dot = Dot { origin, seq };
                Self::Element(Tag { dot, index })
            }
            WirePartName::Expiry => Self::Expiry,
        }
    }
}

impl WireDelta<'_> {
    /// `before` may be of the same collection; `keep` makes bytes that outlive the frame.
    fn into_delta(
        self,
        before: Option<&Key>,
        keep: &dyn Fn(&[u8]) -> Bytes,
    ) -> Result<Delta, DecodeError> {
        let wire = self;
        let unsound = |_| DecodeError::Unsound("a key breaks the rules for names");
        let same = before.map(Key::collection);
        let collection = match same.filter(|one| one.as_str() == wire.collection) {
            Some(same) => same.clone(),
            None => Collection::new(wire.collection).map_err(unsound)?,
        };
        let key = Key::new(collection, wire.name).map_err(unsound)?;
        if SeqRange::checked(wire.seq, wire.seq).is_none() {
            return Err(DecodeError::Unsound("a sequence number is out of range"));
        }
        let clock = Timestamp(wire.clock);
        if clock > Timestamp::LAST {
            return Err(DecodeError::Unsound("a date is out of range"));
        }
        let dot = Dot {
            origin: wire.origin.into(),
            seq: wire.seq,
        };
        let part = |wire: WirePart<'_>| PartWrite {
            part: wire.part.into(),
            value: wire.value.map(keep),
        };
        let write = Write {
            version: Version { clock, dot },
            parts: wire.parts.into_iter().map(part).collect(),
        };
        let unsound = |_| DecodeError::Unsound("a write breaks the rules for its parts");
        write.check().map_err(unsound)?;
        Ok(Delta { key, write })
    }
}

/// Ranges that fit one frame, with room to spare: each takes at most 18 bytes, and each
/// origin at most 37.
const RANGES_MAX: usize = 64 * 1024;

/// A vector with more ranges than fit one frame is told in part. To claim less than one
/// has is safe: the rest comes again, and is recognised.
fn vector_to_wire(vector: &VersionVector) -> Vec<WireSet> {
    let mut room = RANGES_MAX;
    let mut wire = Vec::new();
    for (origin, set) in vector.iter() {
        let ranges: Vec<(u64, u64)> = set
            .ranges()
            .take(room)
            .map(|range| (range.first, range.last))
            .collect();
        room -= ranges.len();
        if !ranges.is_empty() {
            wire.push(WireSet {
                origin: origin.into(),
                ranges,
            });
        }
    }
    wire
}

fn changes_from_wire(wire: Vec<WireDelta<'_>>) -> Result<Vec<Delta>, DecodeError> {
    let mut changes: Vec<Delta> = Vec::with_capacity(wire.len());
    for delta in wire {
        let last = changes.last().map(|change| &change.key);
        changes.push(delta.into_delta(last, &Bytes::copy_from_slice)?);
    }
    Ok(changes)
}

fn vector_from_wire(wire: Vec<WireSet>) -> Result<VersionVector, DecodeError> {
    let mut vector = VersionVector::default();
    for set in wire {
        for (first, last) in set.ranges {
            let range = SeqRange::checked(first, last)
                .ok_or(DecodeError::Unsound("a range of sequence numbers is wrong"))?;
            vector.insert_range(set.origin.into(), range);
        }
    }
    Ok(vector)
}

impl<'f> WireMessage<'f> {
    fn standing(standing: &'f Standing) -> Self {
        Self::Standing {
            origin: standing.origin.into(),
            vector: vector_to_wire(&standing.vector),
            wall_ms: standing.wall_ms,
            floor: standing.floor.0,
            horizon: vector_to_wire(&standing.horizon),
            sound: standing.sound,
            roster: standing.roster.iter().map(WireLine::from).collect(),
        }
    }

    /// The writes of a document follow each other, each with its key.
    fn snapshot_chunk(chunk: &'f SnapshotChunk) -> Self {
        let documents = chunk.documents.iter().flat_map(|(key, writes)| {
            let delta = move |write| WireDelta::new(key, write);
            writes.iter().map(delta)
        });
        Self::SnapshotChunk {
            session: chunk.session,
            index: chunk.index,
            after: chunk.after.as_ref().map(WireKey::from),
            upto: chunk.upto.as_ref().map(WireKey::from),
            documents: documents.collect(),
            vector: vector_to_wire(&chunk.vector),
            claim: vector_to_wire(&chunk.claim),
            floor: chunk.floor.0,
            end: chunk.end.as_ref().map(|(horizon, roster)| WireEnd {
                horizon: vector_to_wire(horizon),
                roster: roster.iter().map(WireLine::from).collect(),
            }),
        }
    }
}

impl<'f> From<&'f Key> for WireKey<'f> {
    fn from(key: &'f Key) -> Self {
        Self {
            collection: key.collection().as_str(),
            name: key.name(),
        }
    }
}

impl TryFrom<WireKey<'_>> for Key {
    type Error = DecodeError;

    fn try_from(wire: WireKey<'_>) -> Result<Self, DecodeError> {
        let unsound = |_| DecodeError::Unsound("a key breaks the rules for names");
        let collection = Collection::new(wire.collection).map_err(unsound)?;
        Key::new(collection, wire.name).map_err(unsound)
    }
}

impl<'f> From<&'f RosterLine> for WireLine<'f> {
    fn from(line: &'f RosterLine) -> Self {
        Self {
            replica: line.replica.0,
            name: line.name.as_str(),
            fenced: line.fenced,
            born: line.born.0,
        }
    }
}

/// Longest name of a node in a roster, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Replicas in a roster at most.
const ROSTER_MAX: usize = 8192;

impl TryFrom<WireLine<'_>> for RosterLine {
    type Error = DecodeError;

    fn try_from(wire: WireLine<'_>) -> Result<Self, DecodeError> {
        if wire.name.len() > NAME_BYTES_MAX {
            return Err(DecodeError::Unsound("the name of a node is too long"));
        }
        Ok(Self {
            replica: ReplicaId(wire.replica),
            name: PeerId::new(wire.name),
            fenced: wire.fenced,
            born: date_from_wire(wire.born)?,
            absent_ms: 0,
        })
    }
}

fn date_from_wire(date: u64) -> Result<Timestamp, DecodeError> {
    let date = Timestamp(date);
    match date <= Timestamp::LAST {
        true => Ok(date),
        false => Err(DecodeError::Unsound("a date is out of range")),
    }
}

fn roster_from_wire(roster: Vec<WireLine<'_>>) -> Result<Vec<RosterLine>, DecodeError> {
    if roster.len() > ROSTER_MAX {
        return Err(DecodeError::Unsound("a roster is too long"));
    }
    roster.into_iter().map(RosterLine::try_from).collect()
}

fn end_from_wire(end: WireEnd<'_>) -> Result<(VersionVector, Vec<RosterLine>), DecodeError> {
    Ok((
        vector_from_wire(end.horizon)?,
        roster_from_wire(end.roster)?,
    ))
}

fn documents_from_wire(
    wire: Vec<WireDelta<'_>>,
    keep: &dyn Fn(&[u8]) -> Bytes,
) -> Result<Vec<(Key, Vec<Write>)>, DecodeError> {
    let mut documents: Vec<(Key, Vec<Write>)> = Vec::new();
    for delta in wire {
        let last = documents.last().map(|(key, _)| key);
        let Delta { key, write } = delta.into_delta(last, keep)?;
        match documents.last_mut() {
            Some((last, writes)) if *last == key => writes.push(write),
            Some((last, _)) if *last > key => {
                return Err(DecodeError::Unsound(
                    "the documents of a snapshot are out of order",
                ));
            }
            _ => documents.push((key, vec![write])),
        }
    }
    Ok(documents)
}

impl<'f> From<&'f Message> for WireMessage<'f> {
    fn from(message: &'f Message) -> Self {
        let changes = |changes: &'f [Delta]| changes.iter().map(WireDelta::from).collect();
        match message {
            Message::Push { changes: pushed } => Self::Push {
                changes: changes(pushed),
            },
            Message::Vector { origin, vector } => Self::Vector {
                origin: (*origin).into(),
                vector: vector_to_wire(vector),
            },
            Message::Ack { origin, upto } => Self::Ack {
                origin: (*origin).into(),
                upto: *upto,
            },
            Message::PullRequest { session, vector } => Self::PullRequest {
                session: *session,
                vector: vector_to_wire(vector),
            },
            Message::PullChunk(chunk) => Self::PullChunk {
                session: chunk.session,
                index: chunk.index,
                changes: changes(&chunk.changes),
                claim: chunk.claim.as_ref().map(vector_to_wire),
            },
            Message::PullMore { session } => Self::PullMore { session: *session },
            Message::Busy { session } => Self::Busy { session: *session },
            Message::Standing(standing) => Self::standing(standing),
            Message::SnapshotRequest {
                session,
                after,
                line,
            } => Self::SnapshotRequest {
                session: *session,
                after: after.as_ref().map(WireKey::from),
                line: line.into(),
            },
            Message::SnapshotChunk(chunk) => Self::snapshot_chunk(chunk),
            Message::Tree(message) => Self::Tree(message.into()),
        }
    }
}

impl WireMessage<'_> {
    /// `keep` makes bytes that outlive the frame, of the documents of a snapshot.
    fn into_message(self, keep: &dyn Fn(&[u8]) -> Bytes) -> Result<Message, DecodeError> {
        let changes = changes_from_wire;
        Ok(match self {
            Self::Push { changes: pushed } => Message::Push {
                changes: changes(pushed)?,
            },
            Self::Vector { origin, vector } => Message::Vector {
                origin: origin.into(),
                vector: vector_from_wire(vector)?,
            },
            Self::Ack { origin, upto } => Message::Ack {
                origin: origin.into(),
                upto,
            },
            Self::PullRequest { session, vector } => Message::PullRequest {
                session,
                vector: vector_from_wire(vector)?,
            },
            Self::PullChunk {
                session,
                index,
                changes: pulled,
                claim,
            } => Message::PullChunk(PullChunk {
                session,
                index,
                changes: changes(pulled)?,
                claim: claim.map(vector_from_wire).transpose()?,
            }),
            Self::PullMore { session } => Message::PullMore { session },
            Self::Busy { session } => Message::Busy { session },
            Self::Standing {
                origin,
                vector,
                wall_ms,
                floor,
                horizon,
                sound,
                roster,
            } => Message::Standing(Box::new(Standing {
                origin: origin.into(),
                vector: vector_from_wire(vector)?,
                wall_ms,
                floor: date_from_wire(floor)?,
                horizon: vector_from_wire(horizon)?,
                sound,
                roster: roster_from_wire(roster)?,
            })),
            Self::SnapshotRequest {
                session,
                after,
                line,
            } => Message::SnapshotRequest {
                session,
                after: after.map(Key::try_from).transpose()?,
                line: line.try_into()?,
            },
            Self::SnapshotChunk {
                session,
                index,
                after,
                upto,
                documents,
                vector,
                claim,
                floor,
                end,
            } => Message::SnapshotChunk(Box::new(SnapshotChunk {
                session,
                index,
                after: after.map(Key::try_from).transpose()?,
                upto: upto.map(Key::try_from).transpose()?,
                documents: documents_from_wire(documents, keep)?,
                vector: vector_from_wire(vector)?,
                claim: vector_from_wire(claim)?,
                floor: date_from_wire(floor)?,
                end: end.map(end_from_wire).transpose()?,
            })),
            Self::Tree(message) => Message::Tree(message.try_into()?),
        })
    }
}

#[cfg(test)]
mod tests;
