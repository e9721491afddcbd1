//! Whether a store's own tables say the same: every write of every document is in the dot
//! index and in the version vector, its last change in the feed; and every row of index and
//! feed points to a document that has what it says.
//!
//! Stretch by stretch, each in one snapshot: within a snapshot all must agree, because one
//! transaction changes them all. The digest that the store keeps is checked elsewhere, since
//! it takes all documents at one moment (`protocol/mending.rs`).

use std::ops::ControlFlow;

use bytes::Bytes;

use super::survey::STRETCH_BYTES;
use crate::model::document::Document;
use crate::model::{Dot, VersionVector};
use crate::storage::chunks::{CHUNK, Chunk, row_of};
use crate::storage::mending::Mend;
use crate::storage::state::{self, FeedEnds, each};
use crate::storage::{self, Reader, StoreError, Table, Unindexed, records};

/// Look-ups of one stretch, about.
const LOOKS_MAX: usize = 256;
/// Faults told of one stretch at most; those that are left over are found again once these
/// are mended.
pub const FAULTS_MAX: usize = 256;

/// Where a check goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// In which table.
    pub stage: Stage,
    /// From which row on.
    pub row: Bytes,
}

/// The tables in the order in which they are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// Documents: what index, vector and feed say of them.
    #[default]
    Entries,
    /// The dot index: what the documents say of it.
    Dots,
    /// The feed: the same, and that no position is missing.
    Feed,
}

/// Something wrong in a store's own tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// About which key of `entries`; empty where about none.
    pub key: Bytes,
    /// About which write.
    pub dot: Option<Dot>,
    /// About which position of the feed; 0 where about none.
    pub position: u64,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// A key that is no name of a document.
    KeyUnreadable,
    /// A document that cannot be decoded.
    EntryUnreadable,
    /// A write of a document is not in the index.
    DotMissing,
    /// The index has a write that the document has nothing of.
    DotStray,
    /// A write of a document is not in the version vector.
    VectorLacks,
    /// A document's last change is not in the feed.
    FeedMissing,
    /// The feed has a last change that is not the document's.
    FeedStray,
    /// A position of the feed has neither a document nor a past one.
    FeedHole,
    /// A row of the index or of the feed cannot be decoded.
    RowUnreadable,
    /// The digest that the store keeps is not that of its documents.
    Digest,
}

impl Fault {
    /// What mends it, if anything short of a backup does.
    pub fn remedy(&self) -> Option<Mend> {
        let key = self.key.clone();
        match (self.kind, self.dot) {
            (FaultKind::DotMissing | FaultKind::VectorLacks | FaultKind::FeedMissing, _) => {
                Some(Mend::Entry { key })
            }
            (FaultKind::DotStray | FaultKind::RowUnreadable, Some(dot)) => {
                Some(Mend::Dot { dot, key })
            }
            (FaultKind::FeedStray | FaultKind::FeedHole | FaultKind::RowUnreadable, None)
                if self.position > 0 =>
            {
                Some(Mend::Feed {
                    position: self.position,
                })
            }
            _ => None,
        }
    }
}

/// Whether the index says that this write has a say in this key.
///
/// # Errors
/// [`StoreError`].
pub fn names(reader: &dyn Reader, dot: Dot, key: &[u8]) -> Result<bool, StoreError> {
    let row = row_of(dot.seq);
    let bytes = reader.get(Table::Dots, &records::encode_dots_row(dot.origin, row))?;
    let bytes = bytes.unwrap_or_default();
    let found = Chunk::new(Table::Dots, row, &bytes)
        .map_while(Result::ok)
        .find(|(seq, _)| *seq == dot.seq);
    Ok(found.is_some_and(|(_, named)| named == key))
}

/// Whether the feed says that this position is the last change of this key.
///
/// # Errors
/// [`StoreError`].
pub fn is_last(reader: &dyn Reader, position: u64, key: &[u8]) -> Result<bool, StoreError> {
    Ok(last_at(reader, position)?.is_some_and(|named| named == key))
}

/// The key whose last change the feed says that this position is.
///
/// # Errors
/// [`StoreError`].
pub fn last_at(reader: &dyn Reader, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let row = row_of(position);
    let bytes = reader.get(Table::Feed, &row.to_be_bytes())?;
    let bytes = bytes.unwrap_or_default();
    let found = Chunk::new(Table::Feed, row, &bytes)
        .map_while(Result::ok)
        .find(|(found, _)| *found == position);
    Ok(found.map(|(_, named)| named.to_vec()))
}

/// What a stretch came to.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Rows that were looked at.
    pub rows: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Where to go on.
    pub next: Option<Place>,
}

/// Checks a stretch of one table.
///
/// # Errors
/// [`StoreError`].
pub fn check(reader: &dyn Reader, from: &Place) -> Result<Checked, StoreError> {
    let settled = storage::settlement(reader)?;
    let mut check = Check {
        reader,
        vector: state::vector(reader)?,
        fills: settled.fill.is_some(),
        unindexed: settled.unindexed,
        ends: state::feed_ends(reader)?,
        faults: Vec::new(),
        rows: 0,
        looks: 0,
    };
    let next = match from.stage {
        Stage::Entries => check
            .walk(Table::Entries, from, Check::entry)?
            .unwrap_or_else(|| Place::begin(Stage::Dots)),
        Stage::Dots => check
            .walk(Table::Dots, from, Check::dots)?
            .unwrap_or_else(|| Place::begin(Stage::Feed)),
        Stage::Feed => {
            let next = check.feed(&from.row)?;
            return Ok(check.done(next));
        }
    };
    Ok(check.done(Some(next)))
}

impl Place {
    fn begin(stage: Stage) -> Self {
        Self {
            stage,
            row: Bytes::new(),
        }
    }
}

struct Check<'r> {
    reader: &'r dyn Reader,
    vector: VersionVector,
    /// A snapshot is being taken over.
    fills: bool,
    unindexed: Option<Unindexed>,
    ends: FeedEnds,
    faults: Vec<Fault>,
    rows: usize,
    looks: usize,
}

impl Check<'_> {
    /// Looks at the rows of a table, as many as make a stretch; where to go on.
    fn walk(
        &mut self,
        table: Table,
        from: &Place,
        look: impl Fn(&mut Self, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<Option<Place>, StoreError> {
        let (mut bytes, mut next) = (0, None);
        each(self.reader, table, &from.row, None, |key, row| {
            if self.is_full() || bytes >= STRETCH_BYTES {
                let row = Bytes::copy_from_slice(key);
                let stage = from.stage;
                next = Some(Place { stage, row });
                return Ok(ControlFlow::Break(()));
            }
            self.rows += 1;
            self.looks += 1;
            bytes += key.len() + row.len();
            look(self, key, row)?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(next)
    }

    fn is_full(&self) -> bool {
        self.looks >= LOOKS_MAX || self.faults.len() >= FAULTS_MAX
    }

    fn done(self, next: Option<Place>) -> Checked {
        Checked {
            rows: u64::try_from(self.rows).unwrap_or(u64::MAX),
            faults: self.faults,
            next,
        }
    }

    fn found(&mut self, kind: FaultKind, key: &[u8], dot: Option<Dot>, position: u64) {
        self.faults.push(Fault {
            kind,
            key: Bytes::copy_from_slice(key),
            dot,
            position,
        });
    }

    fn entry(&mut self, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        let Ok(name) = records::decode_key(key) else {
            self.found(FaultKind::KeyUnreadable, key, None, 0);
            return Ok(());
        };
        let Ok(record) = records::decode_entry(row) else {
            self.found(FaultKind::EntryUnreadable, key, None, 0);
            return Ok(());
        };
        // What a snapshot has just brought is not indexed yet, and not claimed before all of
        // it is.
        let is_to_be_indexed = |one: &Unindexed| Some(&name) > one.after.as_ref();
        let indexed = !self.unindexed.as_ref().is_some_and(is_to_be_indexed);
        for write in record.document.writes().iter().filter(|_| indexed) {
            self.looks += 1;
            let dot = write.version.dot;
            if !names(self.reader, dot, key)? {
                self.found(FaultKind::DotMissing, key, Some(dot), 0);
            }
            if !self.fills && !self.vector.contains(dot) {
                self.found(FaultKind::VectorLacks, key, Some(dot), 0);
            }
        }
        let position = record.position;
        let is_there = position <= self.ends.floor
            || (position <= self.ends.head && is_last(self.reader, position, key)?);
        if !is_there {
            self.found(FaultKind::FeedMissing, key, None, position);
        }
        Ok(())
    }

    fn dots(&mut self, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        let Ok((origin, number)) = records::decode_dots_row(key) else {
            self.found(FaultKind::RowUnreadable, key, None, 0);
            return Ok(());
        };
        for item in Chunk::new(Table::Dots, number, row) {
            let Ok((seq, named)) = item else {
                let seq = number.saturating_mul(CHUNK).max(1);
                self.found(FaultKind::RowUnreadable, &[], Some(Dot { origin, seq }), 0);
                break;
            };
            self.looks += 1;
            let dot = Dot { origin, seq };
            let document = self.document(named)?;
            if !document.is_some_and(|(document, _)| has(&document, dot)) {
                self.found(FaultKind::DotStray, named, Some(dot), 0);
            }
        }
        Ok(())
    }

    /// Looks at the rows of the feed by number, since one may be missing; where to go on.
    fn feed(&mut self, from: &[u8]) -> Result<Option<Place>, StoreError> {
        let FeedEnds { head, floor, .. } = self.ends;
        let from = from.try_into().map_or(0, u64::from_be_bytes);
        for number in from.max(row_of(floor + 1))..=row_of(head) {
            if self.is_full() {
                let row = Bytes::copy_from_slice(&number.to_be_bytes());
                let stage = Stage::Feed;
                return Ok(Some(Place { stage, row }));
            }
            self.rows += 1;
            self.looks += 1;
            self.feed_row(number)?;
        }
        Ok(None)
    }

    fn feed_row(&mut self, number: u64) -> Result<(), StoreError> {
        let row = self.reader.get(Table::Feed, &number.to_be_bytes())?;
        let row = row.unwrap_or_default();
        let first = (number * CHUNK).max(self.ends.floor + 1);
        let last = (number * CHUNK + CHUNK - 1).min(self.ends.head);
        let mut live = Vec::new();
        for item in Chunk::new(Table::Feed, number, &row) {
            let Ok((position, named)) = item else {
                self.found(FaultKind::RowUnreadable, &[], None, first);
                break;
            };
            self.looks += 1;
            live.push(position);
            let document = self.document(named)?;
            let is_kept = (first..=last).contains(&position);
            if is_kept && document.is_none_or(|(_, at)| at != position) {
                self.found(FaultKind::FeedStray, named, None, position);
            }
        }
        for position in first..=last {
            let past = || self.reader.get(Table::Past, &position.to_be_bytes());
            self.looks += 1;
            if !live.contains(&position) && past()?.is_none() {
                self.found(FaultKind::FeedHole, &[], None, position);
            }
        }
        Ok(())
    }

    fn document(&self, key: &[u8]) -> Result<Option<(Document, u64)>, StoreError> {
        let row = self.reader.get(Table::Entries, key)?;
        let record = row.and_then(|row| records::decode_entry(&row).ok());
        Ok(record.map(|record| (record.document, record.position)))
    }
}

/// Whether a document has anything of a write.
pub fn has(document: &Document, dot: Dot) -> bool {
    let mut writes = document.writes().iter();
    writes.any(|write| write.version.dot == dot)
}
