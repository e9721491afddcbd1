//! The dot index of what a snapshot has brought, made afterwards.
//!
//! A snapshot comes in the order of the keys, and the dot index is in the order of the
//! writes, [`chunks::CHUNK`] of them to a row. To index each document as it comes would read,
//! write and journal another row for each: most of the price of a bootstrap. So documents are
//! taken over without it. The dots of many are gathered as they come, then sorted, and each of
//! their rows is written once for all of them. (Databases load indexes so, too: all rows
//! first, then the sorted index.)
//!
//! Until that is done the store says after which key documents are not indexed
//! ([`Settlement::unindexed`](crate::storage::Settlement)): nothing of a snapshot is claimed,
//! pulls are not served, no backup is begun. The other tables are complete at all times. A
//! write whose dot is not in the index yet, and that is taken in a second time, is taken for
//! known; therefore what is not indexed outlives the snapshot that brought it, and a restart.
//!
//! Writes come in meanwhile. They index themselves; what they take the place of, and was
//! gathered, is taken out again ([`Indexing::note`]). Anything else that happens (a failed
//! commit, a repair, a snapshot that begins elsewhere) forgets what was gathered: then the
//! documents after the last key that is known to be indexed are read once more, when no more
//! of them come.
//!
//! Memory: [`Config::index_bytes`](super::Config::index_bytes).

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::settle::STEP_BYTES;
use super::{Message, Now, Output, Replica};
use crate::model::document::Document;
use crate::model::{Dot, Key, Origin, Seq};
use crate::storage::chunks::{self, row_of};
use crate::storage::{StoreError, Table, Unindexed, Writer, records, rows_after};

/// A dot that was gathered, or taken out again; of several of the same the last counts.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    seq: Seq,
    /// Place of its origin in [`Indexing::origins`].
    origin: u32,
    /// How many came before it.
    order: u32,
    /// Place of its key in [`Indexing::keys`]; no key is empty.
    at: u32,
    length: u16,
}

impl Gathered {
    fn place(&self) -> (u32, Seq) {
        (self.origin, self.seq)
    }

    /// The row of the index that it belongs into.
    fn row(&self) -> (u32, u64) {
        (self.origin, row_of(self.seq))
    }
}

/// Dots that have been gathered, and are on their way into the index.
#[derive(Debug)]
pub(super) struct Indexing {
    /// The last document whose dots were gathered.
    upto: Option<Key>,
    /// There is none after it.
    complete: bool,
    origins: BTreeMap<Origin, u32>,
    /// The same, each at its place.
    by_place: Vec<Origin>,
    /// In the order in which they came; sorted once they are being written.
    dots: Vec<Gathered>,
    /// The keys of documents, one after the other.
    keys: Vec<u8>,
    /// What was gathered is being written: from this one on.
    writing: Option<usize>,
    /// Memory for each of the two lists, taken once: to let them grow would copy them again
    /// and again.
    list_bytes: usize,
}

impl Indexing {
    fn after(upto: Option<Key>, bytes_max: usize) -> Self {
        let list_bytes = bytes_max / 2;
        Self {
            upto,
            complete: false,
            origins: BTreeMap::new(),
            by_place: Vec::new(),
            dots: Vec::with_capacity(list_bytes / size_of::<Gathered>()),
            keys: Vec::with_capacity(list_bytes),
            writing: None,
            list_bytes,
        }
    }

    /// Goes on after what was written.
    fn go_on(&mut self) {
        self.dots.clear();
        self.keys.clear();
        self.writing = None;
    }

    /// A document has taken the place of another.
    pub(super) fn note(&mut self, before: &Document, after: &Document) {
        for write in before.writes() {
            let dot = write.version.dot;
            if !after.writes().iter().any(|one| one.version.dot == dot) {
                self.take_out(dot);
            }
        }
    }

    fn take_out(&mut self, dot: Dot) {
        // Of an origin of which nothing was gathered there is nothing to take out.
        let Some(origin) = self.origins.get(&dot.origin).copied() else {
            return;
        };
        let out = Gathered {
            seq: dot.seq,
            origin,
            order: self.next_order(),
            at: 0,
            length: 0,
        };
        let Some(next) = self.writing else {
            self.dots.push(out);
            self.write_if_full();
            return;
        };
        let left = &mut self.dots[next..];
        let first = left.partition_point(|one| one.place() < out.place());
        let same = left[first..].iter_mut();
        same.take_while(|one| one.place() == out.place())
            .for_each(|one| *one = out);
    }

    /// Gathers the dots of a document.
    fn gather(&mut self, key: &[u8], document: &Document) {
        debug_assert!(self.writing.is_none(), "what is being written is sorted");
        let at = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        // A key is at most 64 + 1 + 512 bytes.
        let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.keys.extend_from_slice(key);
        for write in document.writes() {
            let Dot { origin, seq } = write.version.dot;
            let gathered = Gathered {
                seq,
                origin: self.place_of(origin),
                order: self.next_order(),
                at,
                length,
            };
            self.dots.push(gathered);
        }
    }

    fn next_order(&self) -> u32 {
        u32::try_from(self.dots.len()).unwrap_or(u32::MAX)
    }

    fn place_of(&mut self, origin: Origin) -> u32 {
        *self.origins.entry(origin).or_insert_with(|| {
            self.by_place.push(origin);
            u32::try_from(self.by_place.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// All documents up to here were gathered; without a key, all that there are.
    fn gathered_upto(&mut self, upto: Option<Key>) {
        match upto {
            Some(upto) => self.upto = Some(upto),
            None => self.complete = true,
        }
        self.write_if_full();
    }

    fn write_if_full(&mut self) {
        let longest = self.keys.len().max(size_of_val(self.dots.as_slice()));
        if self.writing.is_none() && (self.complete || longest >= self.list_bytes) {
            self.dots
                .sort_unstable_by_key(|one| (one.place(), one.order));
            self.writing = Some(0);
        }
    }

    /// Whether more documents are to wait until what was gathered is written.
    fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Takes all that belongs into the next row: which row that is, and which dots.
    fn next_row(&mut self) -> Option<(Origin, u64, Range<usize>)> {
        let begin = self.writing?;
        let (origin, row) = self.dots.get(begin)?.row();
        let left = self.dots[begin..].iter();
        let end = begin + left.take_while(|one| one.row() == (origin, row)).count();
        self.writing = Some(end);
        let origin = self.by_place.get(usize::try_from(origin).ok()?)?;
        Some((*origin, row, begin..end))
    }

    /// Sets what belongs into a row, of which nothing else is changed.
    fn fill_row(&self, dots: Range<usize>, row: &mut Vec<u8>) {
        let dots = &self.dots[dots];
        row.reserve(dots.iter().map(|dot| chunks::item_bytes(dot.length)).sum());
        let mut dots = dots.iter().peekable();
        while let Some(dot) = dots.next() {
            let again = dots.peek().is_some_and(|next| next.seq == dot.seq);
            let at = usize::try_from(dot.at).unwrap_or(usize::MAX);
            let key = self.keys.get(at..).unwrap_or_default();
            let key = key.get(..usize::from(dot.length)).unwrap_or_default();
            if !again && !key.is_empty() {
                chunks::set(row, dot.seq, key);
            }
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
        let goes_on = |one: &Indexing| {
            let gathers = !one.complete && !one.is_writing();
            gathers && one.upto.as_ref() == after
        };
        if !self.indexing.as_ref().is_some_and(goes_on) {
            let unindexed = self.settled.unindexed.as_ref();
            let all = unindexed.is_some_and(|known| known.after.as_ref() == after);
            self.indexing = all.then(|| self.indexing_after(after.cloned()));
        }
        // What they have still to read is not all there to be found any more.
        for pull in std::mem::take(&mut self.serving) {
            let session = pull.session;
            let busy = Message::Busy { session };
            self.messages.push(Output::Send(pull.peer, busy));
        }
    }

    fn indexing_after(&self, after: Option<Key>) -> Indexing {
        Indexing::after(after, self.config.index_bytes)
    }

    /// A document is as it stays of a range that is taken over, and not indexed.
    pub(super) fn gather_taken(&mut self, key: &Key, document: &Document) {
        if let Some(indexing) = &mut self.indexing {
            indexing.gather(&records::encode_key(key), document);
        }
    }

    /// All documents of a range were taken over.
    pub(super) fn gathered_upto(&mut self, upto: Option<&Key>) {
        if let Some(indexing) = &mut self.indexing {
            indexing.gathered_upto(upto.cloned());
        }
    }

    /// Whether what was gathered is to be written, before more is taken over.
    pub(super) fn index_is_full(&self) -> bool {
        self.indexing.as_ref().is_some_and(Indexing::is_writing)
    }

    /// Whether what was taken over is to be indexed now: once there is enough of it, or no
    /// more comes. Or it is, and has still to be claimed.
    pub(super) fn indexes(&self) -> bool {
        let pull = self.pulling.as_ref().filter(|pull| pull.snapshot);
        let has_ended = pull.is_some_and(|pull| pull.last.is_some());
        let is_due = pull.is_none() || self.index_is_full();
        has_ended || self.settled.unindexed.is_some() && is_due
    }

    /// Indexes the next of what was taken over.
    pub(super) fn index_on(&mut self, now: Now, writer: &mut dyn Writer) -> Result<(), StoreError> {
        let Some(unindexed) = &self.settled.unindexed else {
            return Ok(());
        };
        if let Some(pull) = &mut self.pulling
            && pull.snapshot
        {
            pull.deadline = now.elapsed + self.config.pull_timeout;
        }
        let after = unindexed.after.clone();
        let kept = self.indexing.take();
        let mut indexing = kept.unwrap_or_else(|| self.indexing_after(after));
        if !indexing.is_writing() {
            self.gather(&mut indexing, writer)?;
            self.indexing = Some(indexing);
            return Ok(());
        }
        for _ in 0..self.config.chunk_changes.div_ceil(4) {
            let Some((origin, row, dots)) = indexing.next_row() else {
                self.settled.dirty = true;
                self.settled.unindexed = match indexing.complete {
                    true => None,
                    false => Some(Unindexed {
                        after: indexing.upto.clone(),
                    }),
                };
                if !indexing.complete {
                    indexing.go_on();
                    self.indexing = Some(indexing);
                }
                return Ok(());
            };
            let row = records::encode_dots_row(origin, row);
            writer.change(Table::Dots, &row, &mut |row| {
                indexing.fill_row(dots.clone(), row);
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
                indexing.gather(&records::encode_key(&key), &record.document);
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
        let upto = indexing.upto.clone().filter(|_| full);
        indexing.gathered_upto(upto);
        Ok(())
    }
}
