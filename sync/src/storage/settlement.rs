//! What a replica knows about what is settled (`protocol/settle.rs`): six values in `meta`.
//!
//! | key | value |
//! |---|---|
//! | `roster` | a replica after the other: its id 16 bytes, fenced u8 (0 or 1), born u64, absent u64 in ms, length of its name u16, the name |
//! | `floor` | u64, a timestamp |
//! | `heard` | u64, a timestamp; absent where it is 0 |
//! | `horizon` | an origin after the other: origin 24, count u32 of ranges, first and last u64 of each |
//! | `fill` | 0 or 1 u8: nothing is taken from this replica until it is done; length u16 and key as in `entries`, up to which it is done; the claim, drawn as `horizon` |
//! | `unindexed` | a key as in `entries`, or nothing: documents after it may be missing in the dot index |

use super::records::{self, Cursor};
use super::{Reader, StoreError, Table, Writer};
use crate::model::{Key, PeerId, ReplicaId, SeqRange, Timestamp, VersionVector};

const ROSTER: &[u8] = b"roster";
const FLOOR: &[u8] = b"floor";
const HEARD: &[u8] = b"heard";
const HORIZON: &[u8] = b"horizon";
const FILL: &[u8] = b"fill";
const UNINDEXED: &[u8] = b"unindexed";

/// A replica of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterLine {
    /// Which.
    pub replica: ReplicaId,
    /// The node that has, or had, it.
    pub name: PeerId,
    /// It was given up: nothing is taken from it any more.
    pub fenced: bool,
    /// It has no write of its own from before.
    pub born: Timestamp,
    /// For how long it has not been heard of, while most others were, in milliseconds.
    pub absent_ms: u64,
}

/// A snapshot that is being taken over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    /// Whether others must not take anything from this replica until it is done.
    pub needed: bool,
    /// How far it has come, once any of it is taken over.
    pub done: Option<FillDone>,
}

/// What is taken over of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FillDone {
    /// Up to which key.
    pub upto: Key,
    /// What all can claim who served any of it. That may be nothing, and is then not the
    /// same as if nobody had served any.
    pub claim: VersionVector,
}

impl Fill {
    /// The key after which it goes on.
    pub fn after(&self) -> Option<&Key> {
        self.done.as_ref().map(|done| &done.upto)
    }
}

/// What a snapshot has brought and is not in the dot index yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unindexed {
    /// Documents after this key, or all.
    pub after: Option<Key>,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settlement {
    /// The replicas of the cluster.
    pub roster: Vec<RosterLine>,
    /// No write of this replica is dated up to here but those that it has made.
    pub floor: Timestamp,
    /// While nothing is taken from this replica: the latest floor that it has heard of.
    pub heard: Timestamp,
    /// What everyone had when something was last let go of.
    pub horizon: VersionVector,
    /// The snapshot that is being taken over.
    pub fill: Option<Fill>,
    /// What is not in the dot index yet.
    pub unindexed: Option<Unindexed>,
}

/// Reads all of it.
///
/// # Errors
/// [`StoreError`].
pub fn settlement(reader: &dyn Reader) -> Result<Settlement, StoreError> {
    let bytes = reader.get(Table::Meta, ROSTER)?.unwrap_or_default();
    let mut cursor = Cursor::new(Table::Meta, &bytes);
    let mut roster = Vec::new();
    while !cursor.is_at_end() {
        let replica = ReplicaId(cursor.array()?);
        let fenced = cursor.array()? == [1];
        let (born, absent_ms) = (Timestamp(cursor.u64()?), cursor.u64()?);
        let length = usize::from(cursor.u16()?);
        let name = std::str::from_utf8(cursor.take(length)?);
        let name = name.map_err(|_| cursor.damaged("a name is not UTF-8"))?;
        roster.push(RosterLine {
            replica,
            name: PeerId::new(name),
            fenced,
            born,
            absent_ms,
        });
    }
    let date = |key| match reader.get(Table::Meta, key)? {
        Some(bytes) => Cursor::new(Table::Meta, &bytes).u64().map(Timestamp),
        None => Ok(Timestamp(0)),
    };
    let (floor, heard) = (date(FLOOR)?, date(HEARD)?);
    let bytes = reader.get(Table::Meta, HORIZON)?.unwrap_or_default();
    let horizon = decode_vector(&mut Cursor::new(Table::Meta, &bytes))?;
    let fill = match reader.get(Table::Meta, FILL)? {
        Some(bytes) => Some(decode_fill(&bytes)?),
        None => None,
    };
    let unindexed = unindexed(reader)?;
    Ok(Settlement {
        roster,
        floor,
        heard,
        horizon,
        fill,
        unindexed,
    })
}

/// What is not in the dot index yet.
///
/// # Errors
/// [`StoreError`].
pub fn unindexed(reader: &dyn Reader) -> Result<Option<Unindexed>, StoreError> {
    let after = match reader.get(Table::Meta, UNINDEXED)?.as_deref() {
        None => return Ok(None),
        Some([]) => None,
        Some(key) => Some(records::decode_key(key)?),
    };
    Ok(Some(Unindexed { after }))
}

/// Writes all of it.
///
/// # Errors
/// [`StoreError`].
pub fn set_settlement(writer: &mut dyn Writer, all: &Settlement) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for line in &all.roster {
        bytes.extend(line.replica.0);
        bytes.push(u8::from(line.fenced));
        bytes.extend(line.born.0.to_be_bytes());
        bytes.extend(line.absent_ms.to_be_bytes());
        put_short(&mut bytes, line.name.as_str().as_bytes());
    }
    writer.insert(Table::Meta, ROSTER, &bytes)?;
    writer.insert(Table::Meta, FLOOR, &all.floor.0.to_be_bytes())?;
    match all.heard {
        Timestamp(0) => writer.remove(Table::Meta, HEARD)?,
        Timestamp(heard) => writer.insert(Table::Meta, HEARD, &heard.to_be_bytes())?,
    }
    let mut bytes = Vec::new();
    put_vector(&mut bytes, &all.horizon);
    writer.insert(Table::Meta, HORIZON, &bytes)?;
    match &all.unindexed {
        Some(Unindexed { after }) => {
            let after = after.as_ref().map(records::encode_key);
            writer.insert(Table::Meta, UNINDEXED, &after.unwrap_or_default())?;
        }
        None => writer.remove(Table::Meta, UNINDEXED)?,
    }
    let Some(fill) = &all.fill else {
        return writer.remove(Table::Meta, FILL);
    };
    let mut bytes = vec![u8::from(fill.needed)];
    let after = fill.after().map(records::encode_key);
    put_short(&mut bytes, &after.unwrap_or_default());
    if let Some(done) = &fill.done {
        put_vector(&mut bytes, &done.claim);
    }
    writer.insert(Table::Meta, FILL, &bytes)
}

fn decode_fill(bytes: &[u8]) -> Result<Fill, StoreError> {
    let mut cursor = Cursor::new(Table::Meta, bytes);
    let needed = cursor.array()? == [1];
    let length = usize::from(cursor.u16()?);
    let key = cursor.take(length)?;
    let done = match key {
        [] => None,
        key => Some(FillDone {
            upto: records::decode_key(key)?,
            claim: decode_vector(&mut cursor)?,
        }),
    };
    Ok(Fill { needed, done })
}

/// Names and keys are shorter than that.
fn put_short(bytes: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.extend(&text[..usize::from(length)]);
}

fn put_vector(bytes: &mut Vec<u8>, vector: &VersionVector) {
    for (origin, set) in vector.iter() {
        bytes.extend(records::encode_origin(origin));
        let count = u32::try_from(set.ranges().count()).unwrap_or(u32::MAX);
        bytes.extend(count.to_be_bytes());
        for range in set.ranges() {
            bytes.extend(range.first.to_be_bytes());
            bytes.extend(range.last.to_be_bytes());
        }
    }
}

fn decode_vector(cursor: &mut Cursor<'_>) -> Result<VersionVector, StoreError> {
    let mut vector = VersionVector::default();
    while !cursor.is_at_end() {
        let origin = cursor.origin()?;
        let count = u32::from_be_bytes(cursor.array()?);
        for _ in 0..count {
            let range = SeqRange::checked(cursor.u64()?, cursor.u64()?);
            let range = range.ok_or(cursor.damaged("a range of numbers is wrong"))?;
            vector.insert_range(origin, range);
        }
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::super::{Finish, MemoryStorage, Storage, read};
    use super::*;
    use crate::model::{Collection, Dot, Epoch, Origin};

    fn settled() -> Settlement {
        let origin = Origin {
            replica: ReplicaId([7; 16]),
            epoch: Epoch(1),
        };
        let mut horizon = VersionVector::default();
        for seq in [1, 2, 5] {
            horizon.insert(Dot { origin, seq });
        }
        Settlement {
            roster: vec![RosterLine {
                replica: origin.replica,
                name: PeerId::new("n1"),
                fenced: true,
                born: Timestamp(3),
                absent_ms: 4,
            }],
            floor: Timestamp(9),
            heard: Timestamp(11),
            fill: Some(Fill {
                needed: true,
                done: Some(FillDone {
                    upto: key(),
                    claim: horizon.clone(),
                }),
            }),
            horizon,
            unindexed: Some(Unindexed { after: Some(key()) }),
        }
    }

    fn key() -> Key {
        Key::new(Collection::new("users").unwrap(), "u1").unwrap()
    }

    #[test]
    fn what_is_settled_is_read_as_it_was_written() {
        let storage = MemoryStorage::default();
        assert_eq!(read(&storage, settlement).unwrap(), Settlement::default());
        let without_fill = Settlement {
            heard: Timestamp(0),
            fill: None,
            unindexed: None,
            ..settled()
        };
        let empty_fill = Settlement {
            fill: Some(Fill::default()),
            unindexed: Some(Unindexed::default()),
            ..settled()
        };
        // Some of it was taken over, and nothing can be claimed of it.
        let claims_nothing = Settlement {
            fill: Some(Fill {
                needed: false,
                done: Some(FillDone {
                    upto: key(),
                    claim: VersionVector::default(),
                }),
            }),
            ..settled()
        };
        for all in [settled(), empty_fill, claims_nothing, without_fill] {
            let set = storage.write(&mut |writer| {
                set_settlement(writer, &all)?;
                Ok(Finish::Commit)
            });
            set.unwrap();
            assert_eq!(read(&storage, settlement).unwrap(), all);
        }
    }
}
