//! The dot index of what a snapshot has brought, made afterwards.
//!
//! A snapshot comes in the order of the keys, and the dot index is in the order of the
//! writes, [`CHUNK`] of them to a row. To index each document as it comes would read, write
//! and journal another row for each: most of the price of a bootstrap. So documents are taken over without it, and when all have come they are read
//! once more: the dots of many are gathered and sorted, and each of their rows is written
//! once for all of them. (Databases load indexes so, too: all rows first, then the sorted
//! index.)
//!
//! Until that is done the store says so ([`Settlement::unindexed`](crate::storage::Settlement)):
//! nothing of it is claimed, pulls are not served, no backup is begun. The other tables
//! are complete at all times. A write whose dot is not in the index yet, and that is taken
//! in a second time, is taken for known; therefore what is not indexed outlives the snapshot
//! that brought it, and a restart.
//!
//! Writes come in meanwhile. They index themselves; what they take the place of, and was
//! gathered, is taken out again ([`Indexing::note`]). Anything else that happens (a failed
//! commit, a repair, more of a snapshot) begins again at the last key that is known to be
//! indexed.
//!
//! Memory: [`Config::index_bytes`](super::Config::index_bytes).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::settle::STEP_BYTES;
use super::{Message, Output, Replica};
use crate::model::document::Document;
use crate::model::{Dot, Key, Origin, Seq};
use crate::storage::chunks::{self, CHUNK, row_of};
use crate::storage::{StoreError, Table, Unindexed, Writer, records, rows_after};

/// What a dot takes in memory besides its key, about.
const DOT_BYTES: usize = 48;

/// Writes of one origin, each with the key of its document.
type Dots = BTreeMap<Seq, Box<[u8]>>;

/// Dots that have been gathered, and are on their way into the index.
#[derive(Debug, Default)]
pub(super) struct Indexing {
    /// The last document whose dots were gathered.
    upto: Option<Key>,
    /// There is none after it.
    complete: bool,
    dots: BTreeMap<Origin, Dots>,
    bytes: usize,
    /// What was gathered is being written.
    writing: bool,
}

impl Indexing {
    /// A document has taken the place of another.
    pub(super) fn note(&mut self, before: &Document, after: &Document) {
        for write in before.writes() {
            let dot = write.version.dot;
            if !after.writes().iter().any(|one| one.version.dot == dot)
                && let Some(dots) = self.dots.get_mut(&dot.origin)
            {
                dots.remove(&dot.seq);
            }
        }
    }

    fn gather(&mut self, dot: Dot, key: &[u8]) {
        let dots = self.dots.entry(dot.origin).or_default();
        dots.insert(dot.seq, key.into());
        self.bytes += DOT_BYTES + key.len();
    }

    /// Takes all that belongs into the first row.
    fn first_row(&mut self) -> Option<(Origin, u64, Dots)> {
        loop {
            let mut origin = self.dots.first_entry()?;
            let dots = origin.get_mut();
            let Some((first, _)) = dots.first_key_value() else {
                origin.remove();
                continue;
            };
            let row = row_of(*first);
            let later = dots.split_off(&(row + 1).saturating_mul(CHUNK));
            let first = std::mem::replace(dots, later);
            return Some((*origin.key(), row, first));
        }
    }
}

impl Replica {
    /// Documents after this key are taken over without the dot index.
    pub(super) fn leave_unindexed(&mut self, after: Option<&Key>) {
        let known = self.settled.unindexed.as_ref();
        if known.is_none_or(|known| known.after.as_ref() > after) {
            let after = after.cloned();
            self.settled.unindexed = Some(Unindexed { after });
            self.settled.dirty = true;
        }
        self.indexing = None;
        // What they have still to read is not all there to be found any more.
        for pull in std::mem::take(&mut self.serving) {
            let session = pull.session;
            let busy = Message::Busy { session };
            self.messages.push(Output::Send(pull.peer, busy));
        }
    }

    /// Whether what was taken over is to be indexed now: not while more of it comes.
    pub(super) fn indexes(&self) -> bool {
        let ends = self
            .pulling
            .as_ref()
            .is_none_or(|pull| !pull.snapshot || pull.last.is_some());
        self.settled.unindexed.is_some() && ends
    }

    /// Indexes the next of what was taken over.
    pub(super) fn index_on(&mut self, writer: &mut dyn Writer) -> Result<(), StoreError> {
        let Some(unindexed) = &self.settled.unindexed else {
            return Ok(());
        };
        let mut indexing = self.indexing.take().unwrap_or_else(|| Indexing {
            upto: unindexed.after.clone(),
            ..Indexing::default()
        });
        if !indexing.writing {
            self.gather(&mut indexing, writer)?;
            self.indexing = Some(indexing);
            return Ok(());
        }
        for _ in 0..self.config.chunk_changes.div_ceil(4) {
            let Some((origin, row, dots)) = indexing.first_row() else {
                self.settled.unindexed = match indexing.complete {
                    true => None,
                    false => Some(Unindexed {
                        after: indexing.upto,
                    }),
                };
                self.settled.dirty = true;
                return Ok(());
            };
            let row = records::encode_dots_row(origin, row);
            writer.change(Table::Dots, &row, &mut |row| {
                for (seq, key) in &dots {
                    chunks::set(row, *seq, key);
                }
            })?;
            self.changed = true;
        }
        self.indexing = Some(indexing);
        Ok(())
    }

    /// Gathers the dots of the next documents.
    fn gather(&self, indexing: &mut Indexing, writer: &dyn Writer) -> Result<(), StoreError> {
        let after = indexing.upto.clone();
        let (mut seen, mut bytes) = (0, 0);
        let mut full = false;
        rows_after(writer, after.as_ref(), None, &mut |key, record| {
            // What is damaged is for `verify` to find.
            if let Ok(record) = record {
                let row = records::encode_key(&key);
                for write in record.document.writes() {
                    indexing.gather(write.version.dot, &row);
                }
                bytes += record.document.weight();
            }
            seen += 1;
            indexing.upto = Some(key);
            full = seen >= self.config.chunk_changes || bytes >= STEP_BYTES;
            match full {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        indexing.complete = !full;
        indexing.writing = indexing.complete || indexing.bytes >= self.config.index_bytes;
        Ok(())
    }
}
