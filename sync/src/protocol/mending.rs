//! Putting the store right on demand (`verify`): documents in place of what their keys hold,
//! index and feed as the documents say, and the digest that is kept.
//!
//! It goes through the replica like any write, so that digest, index, feed, vector and
//! watchers stay one: but not by merging, which keeps what is there where the same write says
//! two things. What a mended document rests on is in from then on.
//!
//! **The digest** is right only as of one moment, and summing up a million documents takes
//! seconds. So the sum is made in steps between other inputs: keys before where it stands are
//! in it, and a change to one of them changes the sum as it changes the digest that is kept.
//! When the last key is in, the two must be equal. One sum at a time; a failed transaction
//! ends it.

use std::ops::ControlFlow;

use super::{Input, Now, Output, Replica, RequestId};
use crate::model::document::Document;
use crate::model::{Dot, Key};
use crate::storage::mending::{self, Mend, Mended};
use crate::storage::records::EntryRecord;
use crate::storage::state::{self, Digest, Merging, Stored};
use crate::storage::{StoreError, Table, Writer, records};

/// Documents that one step of a sum takes in.
const STEP_ROWS: usize = 512;
/// And about how many bytes.
const STEP_BYTES: usize = 1024 * 1024;

/// A sum under way.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    id: u64,
    /// The key with which it goes on.
    next: Vec<u8>,
    sum: Digest,
}

impl Sum {
    pub(super) fn note(&mut self, key: &[u8], before: Option<&Document>, after: &Document) {
        if key < self.next.as_slice() {
            if let Some(before) = before {
                self.sum.subtract(Digest::of(key, before));
            }
            if !after.is_empty() {
                self.sum.add(Digest::of(key, after));
            }
        }
    }
}

impl Replica {
    /// Does pieces of work in order.
    pub(super) fn mend(
        &mut self,
        now: Now,
        id: RequestId,
        work: Vec<Mend>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let mut outcomes = Vec::with_capacity(work.len());
        for one in work {
            outcomes.push(self.mend_one(now, one, writer)?);
        }
        self.replies.push(Output::Mended(id, outcomes));
        Ok(())
    }

    fn mend_one(
        &mut self,
        now: Now,
        work: Mend,
        writer: &mut dyn Writer,
    ) -> Result<Mended, StoreError> {
        if !matches!(work, Mend::Sum { .. }) {
            self.indexing = None;
        }
        match work {
            Mend::Replace {
                key,
                expected,
                document,
            } => self.replace(now, &key, expected, &document, writer),
            Mend::Entry { key } => {
                let head = self.header.feed.head;
                let record = mending::mend_entry(writer, &mut self.header, &key)?;
                if let Some(record) = record {
                    self.note_all(now, &record.document);
                    if self.header.feed.head > head {
                        self.tell(&key, record)?;
                    }
                }
                self.changed = true;
                Ok(Mended::Done)
            }
            Mend::Dot { dot, key } => {
                mending::mend_dot(writer, dot, &key)?;
                self.changed = true;
                Ok(Mended::Done)
            }
            Mend::Feed { position } => {
                let mended = mending::mend_feed(writer, &mut self.header, position)?;
                self.changed = true;
                Ok(mended)
            }
            Mend::Sum { id, begin, settle } => self.sum_on(id, begin, settle, writer),
        }
    }

    fn replace(
        &mut self,
        now: Now,
        key: &[u8],
        expected: Digest,
        document: &Document,
        writer: &mut dyn Writer,
    ) -> Result<Mended, StoreError> {
        let header = &mut self.header;
        let replaced = mending::replace(writer, header, key, expected, document, now.wall_ms)?;
        match replaced {
            Err(mended) => Ok(mended),
            Ok((before, record)) => {
                if let Some(sum) = &mut self.sum {
                    sum.note(key, before.as_ref(), document);
                }
                self.note_all(now, document);
                self.tell(key, record)?;
                Ok(Mended::Done)
            }
        }
    }

    /// Everything that a document rests on is in.
    fn note_all(&mut self, now: Now, document: &Document) {
        for write in document.writes() {
            let Dot { origin, seq } = write.version.dot;
            if origin == self.header.origin && seq > self.written() {
                self.begin_epoch(now);
            }
            self.note(write.version.dot);
        }
    }

    /// A change has been given the next place in the feed.
    fn tell(&mut self, key: &[u8], record: EntryRecord) -> Result<(), StoreError> {
        let ended = None;
        self.note_stored(records::decode_key(key)?, Stored { ended, record });
        Ok(())
    }

    /// Stores what a write has made of its key, as [`state::store`], and keeps a sum that is
    /// under way right.
    pub(super) fn store(
        &mut self,
        now: Now,
        writer: &mut dyn Writer,
        key: &Key,
        dot: Dot,
        merging: Merging,
    ) -> Result<Option<Stored>, StoreError> {
        if let Some(sum) = &mut self.sum
            && let (before, true) = merging.change()
        {
            sum.note(&records::encode_key(key), before, &merging.document);
        }
        if let Some(indexing) = &mut self.indexing
            && let (Some(before), true) = merging.change()
        {
            indexing.note(before, &merging.document);
        }
        let storing = self.storing(now, key);
        state::store(writer, &mut self.header, key, dot, storing, merging)
    }

    fn sum_on(
        &mut self,
        id: u64,
        begin: bool,
        settle: bool,
        writer: &mut dyn Writer,
    ) -> Result<Mended, StoreError> {
        let mut sum = match self.sum.take() {
            _ if begin => Sum {
                id,
                next: Vec::new(),
                sum: Digest::default(),
            },
            Some(sum) if sum.id == id => sum,
            other => {
                self.sum = other;
                return Ok(Mended::Lost);
            }
        };
        let mut stopped_at = None;
        let (mut rows, mut bytes) = (0, 0);
        let from = std::mem::take(&mut sum.next);
        writer.scan(Table::Entries, &from, None, &mut |key, row| {
            if rows >= STEP_ROWS || bytes >= STEP_BYTES {
                stopped_at = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            rows += 1;
            bytes += key.len() + row.len();
            if let Ok(record) = records::decode_entry(row) {
                sum.sum.add(Digest::of(key, &record.document));
            }
            ControlFlow::Continue(())
        })?;
        if let Some(next) = stopped_at {
            sum.next = next;
            self.sum = Some(sum);
            return Ok(Mended::More);
        }
        if sum.sum == self.header.digest {
            return Ok(Mended::Done);
        }
        if settle {
            self.header.digest = sum.sum;
            self.changed = true;
        }
        Ok(Mended::WasWrong)
    }
}

/// The requests for mending among inputs, to answer them if the commit fails.
pub fn mend_requests(inputs: &[Input]) -> Vec<RequestId> {
    let id = |input: &Input| match input {
        Input::Mend(id, _) => Some(*id),
        _ => None,
    };
    inputs.iter().filter_map(id).collect()
}
