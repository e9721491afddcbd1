//! Writes of clients: checked, put into the store, pushed, and answered when enough
//! peers have them.

use std::time::Duration;

use bytes::Bytes;

use super::{
    AckTarget, Condition, Message, Now, Operation, Output, Replica, WriteReceipt, WriteRefused,
    WriteRequest,
};
use crate::model::{Change, Dot, Entry, Key, Seq, VALUE_BYTES_MAX, Version};
use crate::storage::{Reader, StoreError, Writer, state};

impl Replica {
    pub(super) fn write(
        &mut self,
        now: Now,
        request: WriteRequest,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let id = request.id;
        if let Some(refused) = self.check(&request, writer)? {
            self.replies.push(Output::Reply(id, Err(refused)));
            return Ok(());
        }
        let mut versions = Vec::with_capacity(request.operations.len());
        for Operation { key, value, .. } in request.operations {
            versions.push(self.put(now, key, value, writer)?);
            self.counters.written += 1;
        }
        let needed = match request.acks {
            AckTarget::Local => 0,
            AckTarget::Peers(count) => count,
            AckTarget::All => self.peers.values().filter(|peer| peer.member).count(),
        };
        let seq = self.written();
        let deadline = now.elapsed.saturating_add(request.acks_timeout);
        if needed == 0 {
            let receipt = WriteReceipt {
                versions,
                acks: 0,
                complete: true,
            };
            self.replies.push(Output::Reply(id, Ok(receipt)));
        } else {
            self.waiting.push(id, versions, seq, needed, deadline);
        }
        Ok(())
    }

    /// Writes one key under the next number of this replica's origin.
    pub(super) fn put(
        &mut self,
        now: Now,
        key: Key,
        value: Option<Bytes>,
        writer: &mut dyn Writer,
    ) -> Result<Version, StoreError> {
        if self.header.origin == self.opened_under {
            self.begin_epoch(now);
        }
        let dot = Dot {
            origin: self.header.origin,
            seq: self.written() + 1,
        };
        let version = Version {
            clock: self.clock.tick(now.wall_ms),
            dot,
        };
        let change = Change {
            key,
            entry: Entry { version, value },
        };
        // The clock has observed every version in the store, so this one is newer.
        let current = state::entry(writer, &change.key)?;
        state::apply(writer, &mut self.header, &change, current)?;
        self.note(dot);
        self.pushes.push(change);
        Ok(version)
    }

    /// Why a write cannot be done, if it cannot.
    pub(super) fn check(
        &self,
        request: &WriteRequest,
        reader: &dyn Reader,
    ) -> Result<Option<WriteRefused>, StoreError> {
        let operations = &request.operations;
        let most = self.config.operations_max;
        if operations.is_empty() {
            return Ok(Some(WriteRefused::Empty));
        }
        if operations.len() > most {
            return Ok(Some(WriteRefused::TooManyOperations {
                count: operations.len(),
                most,
            }));
        }
        let size = |operation: &Operation| operation.value.as_ref().map_or(0, |value| value.len());
        if let Some(bytes) = operations
            .iter()
            .map(size)
            .find(|bytes| *bytes > VALUE_BYTES_MAX)
        {
            return Ok(Some(WriteRefused::DocumentTooLarge(bytes)));
        }
        let bytes = operations
            .iter()
            .map(|one| one.key.name().len() + size(one))
            .sum();
        let most = self.config.write_bytes_max;
        if bytes > most {
            return Ok(Some(WriteRefused::TooLarge { bytes, most }));
        }
        if request.acks != AckTarget::Local && self.waiting.len() >= self.config.waiting_max {
            return Ok(Some(WriteRefused::TooManyWaiting));
        }
        for operation in operations {
            if let Some(refused) = check_condition(operation, reader)? {
                return Ok(Some(refused));
            }
        }
        Ok(None)
    }

    /// Notes that a write is in, on the version vector.
    pub(super) fn note(&mut self, dot: Dot) {
        self.vector.insert(dot);
        self.dirty.insert(dot.origin);
        self.changed = true;
    }

    /// Makes the pushes of this transaction's own writes.
    pub(super) fn push_out(&mut self) {
        let mut changes = Vec::new();
        let mut bytes = 0;
        for change in std::mem::take(&mut self.pushes) {
            bytes += change.weight();
            changes.push(change);
            if bytes >= self.config.push_bytes {
                let changes = std::mem::take(&mut changes);
                self.messages
                    .push(Output::Broadcast(Message::Push { changes }));
                bytes = 0;
            }
        }
        if !changes.is_empty() {
            self.messages
                .push(Output::Broadcast(Message::Push { changes }));
        }
    }

    pub(super) fn settle(&mut self, elapsed: Duration) {
        if self.waiting.len() > 0 {
            let members = self.peers.values().filter(|peer| peer.member);
            let acked: Vec<Seq> = members.map(|peer| peer.acked).collect();
            self.waiting.settle(elapsed, &acked, &mut self.replies);
        }
    }
}

fn check_condition(
    operation: &Operation,
    reader: &dyn Reader,
) -> Result<Option<WriteRefused>, StoreError> {
    if operation.condition == Condition::Always && operation.value.is_some() {
        return Ok(None);
    }
    let key: &Key = &operation.key;
    let live = state::entry(reader, key)?.map(|record| record.entry);
    let current = live
        .filter(|entry| !entry.is_tombstone())
        .map(|entry| entry.version);
    let holds = match operation.condition {
        Condition::Always => true,
        Condition::Is(version) => current == Some(version),
        Condition::Exists => current.is_some(),
        Condition::Absent => current.is_none(),
    };
    Ok(if !holds {
        Some(WriteRefused::ConditionFailed {
            key: key.clone(),
            current,
        })
    } else if operation.value.is_none() && current.is_none() {
        Some(WriteRefused::NotFound(key.clone()))
    } else {
        None
    })
}
