//! Writes whose deletion may have been forgotten: which they are, where they come back by a
//! backup, and what becomes of those that were kept aside.
//!
//! **Backups.** A write that this replica has had is not taken in again, whether it knows of
//! a deletion or has let go of it: its vector says so. A write of a replica that was given
//! up, dated up to the floor and never seen here, is what a returning node has to leave at
//! the door (`fill.rs`), and is kept aside in the same way. A replica that was never in the
//! roster belongs to another cluster, or to one that lost all its disks: nothing of it was
//! ever deleted here, so that its writes are merged as ever. While a snapshot is taken over
//! the vector claims nothing, so that nothing can be told apart: then nothing is restored.
//!
//! **Decisions.** People say of writes that were kept aside that they are to be made again,
//! as new writes which nothing forgotten has beaten, or forgotten. Both are one transaction
//! with the removal, so that a count is never added twice. What can fail: the collection
//! takes no such write, or somebody has decided meanwhile; then nothing is done.

use super::{
    AckTarget, Decide, Now, Operation, Output, Replica, WriteReceipt, WriteRefused, WriteRequest,
};
use crate::model::Delta;
use crate::storage::{self, Reader, StoreError, Writer, state};

impl Replica {
    pub(super) fn decide(
        &mut self,
        now: Now,
        decision: Decide,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let id = decision.id;
        let outcome = self.decided(now, decision, writer)?;
        self.replies.push(Output::Reply(id, outcome));
        Ok(())
    }

    fn decided(
        &mut self,
        now: Now,
        decision: Decide,
        writer: &mut dyn Writer,
    ) -> Result<Result<WriteReceipt, WriteRefused>, StoreError> {
        let Decide { id, numbers, write } = decision;
        let mut operations = Vec::new();
        for number in &numbers {
            let Some(delta) = storage::exported_one(writer, *number)? else {
                return Ok(Err(WriteRefused::NotExported(*number)));
            };
            if write {
                operations.extend(again(now, delta, writer)?);
            }
        }
        let mut revisions = Vec::new();
        if !operations.is_empty() {
            let request = WriteRequest {
                id,
                operations,
                acks: AckTarget::Local,
                acks_timeout: std::time::Duration::ZERO,
            };
            match self.write_now(now, request, writer)? {
                Ok(written) => revisions = written,
                Err(refused) => return Ok(Err(refused)),
            }
        }
        for number in numbers {
            storage::forget_exported(writer, number)?;
            self.changed = true;
        }
        Ok(Ok(WriteReceipt {
            revisions,
            acks: 0,
            complete: true,
        }))
    }

    /// Whether nobody can tell if a write of a backup was deleted since.
    pub(super) fn is_doubtful(&self, change: &Delta) -> bool {
        let version = change.write.version;
        version.clock <= self.settled.floor
            && self.settled.is_fenced(version.dot.origin.replica)
            && !self.vector.contains(version.dot)
    }

    /// Whether a write of a backup was here, and its document was deleted since.
    pub(super) fn is_deleted_since(
        &self,
        now: Now,
        change: &Delta,
        reader: &dyn Reader,
    ) -> Result<bool, StoreError> {
        let says_something = change.write.parts.iter().any(|part| part.value.is_some());
        if !says_something || !self.vector.contains(change.dot()) {
            return Ok(false);
        }
        let entry = state::entry(reader, &change.key)?;
        Ok(entry.is_none_or(|entry| entry.document.is_tombstone(now.wall_ms)))
    }
}

/// The operation that makes a write again; none where it has nothing to do any more.
fn again(now: Now, delta: Delta, reader: &dyn Reader) -> Result<Option<Operation>, StoreError> {
    let Delta { key, write } = delta;
    let entry = state::entry(reader, &key)?.unwrap_or_default();
    let again = entry.document.again(&write, now.wall_ms);
    Ok(again.map(|again| Operation {
        ttl: again.ttl,
        ..Operation::new(key, again.action)
    }))
}

#[cfg(test)]
mod tests;
