//! Documents that expire: their watchers are told, once, on each node by its own clock.
//!
//! That a document is out of sight from a moment on is a matter of its parts and of the
//! reader's clock, the same on all nodes (`model/document/view.rs`). What is done here is
//! local: at that moment the document gets a position in this node's feed. Nothing is sent.
//!
//! Owned: when the next moment comes, and where the index is to be read from
//! (`storage/expiries.rs`). In: the time ([`Input::Tick`](super::Input), which is due at
//! that moment) and documents as they are stored. Out: changes for watchers. At most
//! [`EXPIRED_MAX`] documents and about [`EXPIRED_BYTES_MAX`] in a transaction; what is left
//! is due at once, so that clients' writes come between. A write to a document whose
//! moment has come lets it expire first (`storage/state.rs`).
//!
//! A wall clock that is set forward lets documents expire early, as it does for readers;
//! when it is set back, readers see them again, and watchers are not told a second time.
//! What can fail is the store; it is tried again after [`PAUSE`].
//!
//! **Why the values stay.** It would be good to drop them now, and it would be wrong: a
//! write that was made in time on another node, say one that puts the expiry off, may come
//! later than the moment and bring back into sight what was written before. A node that
//! had dropped the values would then show something else than one that had not, and no
//! rule that looks at the document alone can tell whether such a write is on its way
//! (`model/document/tests/expiry.rs` shows one). Values go once every node has all
//! that was written up to the moment: then the document is deleted by a write (`settle.rs`).

use std::time::Duration;

use super::{Now, Replica};
use crate::model::Key;
use crate::storage::records::EntryRecord;
use crate::storage::state::{Stored, Storing};
use crate::storage::{Reader, StoreError, Writer, expiries};

/// Documents that expire in one transaction at most, ...
const EXPIRED_MAX: usize = 256;
/// ... and about how many bytes of them.
const EXPIRED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long expiring rests after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// When documents expire.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expiries {
    /// No later than the next moment, in milliseconds since 1970; `None` if there is none.
    next_ms: Option<u64>,
    /// No moment of the index is before this one.
    from_ms: u64,
    /// The last time that it was.
    at: Now,
    /// Nothing expires before.
    resumes_at: Duration,
}

impl Expiries {
    pub(super) fn load(reader: &dyn Reader) -> Result<Self, StoreError> {
        let next_ms = expiries::first(reader, 0)?;
        Ok(Self {
            next_ms,
            from_ms: next_ms.unwrap_or(0),
            ..Self::default()
        })
    }

    /// The same after a transaction has failed: `self` was true before.
    pub(super) fn after_failure(self, before: Self) -> Self {
        Self {
            at: before.at,
            resumes_at: before.at.elapsed + PAUSE,
            ..self
        }
    }

    /// When it is time to look.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let wait = Duration::from_millis(self.next_ms?.saturating_sub(self.at.wall_ms));
        Some(self.at.elapsed.saturating_add(wait).max(self.resumes_at))
    }

    fn note(&mut self, record: &EntryRecord) {
        if let Some(at_ms) = record.expires_at() {
            self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
            self.from_ms = self.from_ms.min(at_ms);
        }
    }
}

impl Replica {
    /// Lets those documents expire whose moment has come.
    pub(super) fn expire(&mut self, now: Now, writer: &mut dyn Writer) -> Result<(), StoreError> {
        self.expiries.at = now;
        let comes = |next_ms| next_ms <= now.wall_ms;
        if !self.expiries.next_ms.is_some_and(comes) || now.elapsed < self.expiries.resumes_at {
            return Ok(());
        }
        let due = expiries::due(writer, self.expiries.from_ms, now.wall_ms, EXPIRED_MAX)?;
        let mut bytes = 0;
        for due in due {
            if bytes >= EXPIRED_BYTES_MAX {
                break;
            }
            self.expiries.from_ms = due.at_ms;
            self.changed = true;
            let key = due.key()?;
            let storing = self.storing(now, &key);
            if let Some(record) = expiries::expire(writer, &mut self.header, &due, storing)? {
                bytes += record.document.weight();
                self.counters.expired += 1;
                self.note_change(key, record);
            }
        }
        self.expiries.next_ms = expiries::first(writer, self.expiries.from_ms)?;
        Ok(())
    }

    /// How changes of a key are stored now.
    pub(super) fn storing(&self, now: Now, key: &Key) -> Storing {
        Storing {
            now_ms: now.wall_ms,
            keep: self.config.policies.of(key.collection()).history,
        }
    }

    /// Notes what a write has come to, for watchers and for when it expires.
    pub(super) fn note_stored(&mut self, key: Key, stored: Stored) {
        let Stored { ended, record } = stored;
        if let Some(ended) = ended {
            self.counters.expired += 1;
            self.note_change(key.clone(), ended);
        }
        self.expiries.note(&record);
        self.note_change(key, record);
    }
}

#[cfg(test)]
mod tests;
