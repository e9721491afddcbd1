//! Writes of clients: checked, planned, merged into the store, pushed, and answered when
//! enough peers have them.
//!
//! A write takes effect as a whole or not at all, and shares a transaction with other
//! writes. So all its operations are planned first, each over what the ones before it
//! would leave; nothing is stored before the last of them is known to be good.
//!
//! **A write is newer than everything its key holds here**: dated by this replica's clock,
//! or, where the document bears a date that the clock has not taken over (`ahead.rs`), one
//! tick later than that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    AckTarget, Condition, Config, Message, Now, Operation, Output, Policy, Replica, WriteReceipt,
    WriteRefused, WriteRequest,
};
use crate::model::document::{
    Action, Context, Document, Part, PartWrite, PlanError, Revision, Write, plan,
};
use crate::model::{Delta, Dot, HybridClock, Key, Seq, Timestamp, Version};
use crate::storage::records::EntryRecord;
use crate::storage::state::{self, Merging};
use crate::storage::{Reader, StoreError, Writer};

/// What the parts of a document may take beyond the document itself, in bytes.
const PARTS_BYTES_MAX: usize = 1024 * 1024;

/// Why a document can no longer be written.
const LAST_DATE: &str = "the document bears the last date that there is, by a broken clock or a faulty node, so that nothing can be newer; write under another key";

/// One operation that is known to be good.
struct Planned {
    delta: Delta,
    /// What it makes of its key, unless an earlier operation of the same write changes that.
    merging: Option<Merging>,
    revision: Revision,
}

/// The operations of one write as they are planned.
struct Plan<'p> {
    config: &'p Config,
    reader: &'p dyn Reader,
    wall_ms: u64,
    clock: HybridClock,
    /// No write may be dated up to here.
    floor: Timestamp,
    /// The last dot given.
    dot: Dot,
    /// What the operations so far leave.
    changed: BTreeMap<Key, Document>,
    planned: Vec<Planned>,
    weight: usize,
}

impl Replica {
    pub(super) fn write(
        &mut self,
        now: Now,
        request: WriteRequest,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let id = request.id;
        let (acks, acks_timeout) = (request.acks, request.acks_timeout);
        let revisions = match self.write_now(now, request, writer)? {
            Ok(revisions) => revisions,
            Err(refused) => {
                self.replies.push(Output::Reply(id, Err(refused)));
                return Ok(());
            }
        };
        let needed = match acks {
            AckTarget::Local => 0,
            AckTarget::Peers(count) => count,
            AckTarget::All => self.peers.values().filter(|peer| peer.member).count(),
        };
        let dot = Dot {
            origin: self.header.origin,
            seq: self.written(),
        };
        let deadline = now.elapsed.saturating_add(acks_timeout);
        if needed == 0 {
            let receipt = WriteReceipt {
                revisions,
                acks: 0,
                complete: true,
            };
            self.replies.push(Output::Reply(id, Ok(receipt)));
        } else {
            self.waiting.push(id, revisions, dot, needed, deadline);
        }
        Ok(())
    }

    /// Stores a write, without an answer to it; the revisions after it, or why it cannot be
    /// done.
    pub(super) fn write_now(
        &mut self,
        now: Now,
        request: WriteRequest,
        writer: &mut dyn Writer,
    ) -> Result<Result<Vec<Revision>, WriteRefused>, StoreError> {
        let (planned, clock) = match self.plan(now, request, writer)? {
            Ok(planned) => planned,
            Err(refused) => return Ok(Err(refused)),
        };
        self.clock = clock;
        let mut revisions = Vec::with_capacity(planned.len());
        self.marks.note(self.written() + 1, now.elapsed);
        for one in planned {
            revisions.push(one.revision);
            self.put(now, one, writer)?;
            self.counters.written += 1;
        }
        Ok(Ok(revisions))
    }

    /// What a write comes to, and this replica's clock after it; or why it cannot be done.
    fn plan(
        &mut self,
        now: Now,
        request: WriteRequest,
        reader: &dyn Reader,
    ) -> Result<Result<(Vec<Planned>, HybridClock), WriteRefused>, StoreError> {
        if let Err(refused) = self.check(&request) {
            return Ok(Err(refused));
        }
        if self.header.origin == self.opened_under {
            self.begin_epoch(now);
        }
        let mut plan = Plan {
            config: &self.config,
            reader,
            wall_ms: now.wall_ms,
            clock: self.clock,
            floor: self.floor_for_writes(now),
            dot: Dot {
                origin: self.header.origin,
                seq: self.written(),
            },
            changed: BTreeMap::new(),
            planned: Vec::with_capacity(request.operations.len()),
            weight: 0,
        };
        let single = request.operations.len() == 1;
        for (index, operation) in request.operations.into_iter().enumerate() {
            match plan.operation(operation, single)? {
                Ok(()) => {}
                Err(refused) if single => return Ok(Err(refused)),
                Err(refused) => return Ok(Err(refused.of_operation(index))),
            }
        }
        Ok(Ok((plan.planned, plan.clock)))
    }

    /// Stores one operation under the next number of this replica's origin.
    fn put(
        &mut self,
        now: Now,
        planned: Planned,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let Planned { delta, merging, .. } = planned;
        self.put_delta(now, delta, merging, writer)
    }

    /// Deletes an expired document for good.
    pub(super) fn bury(
        &mut self,
        now: Now,
        key: Key,
        clock: Timestamp,
        parts: Vec<PartWrite>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        if self.header.origin == self.opened_under {
            self.begin_epoch(now);
        }
        let dot = Dot {
            origin: self.header.origin,
            seq: self.written() + 1,
        };
        let version = Version { clock, dot };
        let write = Write { version, parts };
        self.marks.note(dot.seq, now.elapsed);
        self.counters.buried += 1;
        self.put_delta(now, Delta { key, write }, None, writer)
    }

    fn put_delta(
        &mut self,
        now: Now,
        delta: Delta,
        merging: Option<Merging>,
        writer: &mut dyn Writer,
    ) -> Result<(), StoreError> {
        let merging = match merging {
            Some(merging) => merging,
            None => Merging::of(state::entry(writer, &delta.key)?, &delta.write),
        };
        let version = delta.write.version;
        let stored = self.store(now, writer, &delta.key, version.dot, merging)?;
        if let Some(stored) = stored {
            self.note_stored(delta.key.clone(), stored);
        }
        self.note(version.dot);
        self.pushes.push(delta);
        Ok(())
    }

    /// What can be said of a write without looking at the store.
    fn check(&self, request: &WriteRequest) -> Result<(), WriteRefused> {
        let operations = &request.operations;
        let most = self.config.operations_max;
        if operations.is_empty() {
            return Err(WriteRefused::Empty);
        }
        if operations.len() > most {
            return Err(WriteRefused::TooManyOperations {
                count: operations.len(),
                most,
            });
        }
        for (index, Operation { key, action, .. }) in operations.iter().enumerate() {
            if let Action::Put(body) | Action::Patch(body) = action {
                let most = self.config.policies.of(key.collection()).document_bytes_max;
                let bytes = body.len();
                if bytes > most {
                    let refused = WriteRefused::DocumentTooLarge { bytes, most };
                    return Err(match operations.len() {
                        1 => refused,
                        _ => refused.of_operation(index),
                    });
                }
            }
        }
        let bytes = operations.iter().map(Operation::weight).sum();
        let most = self.config.write_bytes_max;
        if bytes > most {
            return Err(WriteRefused::TooLarge { bytes, most });
        }
        if request.acks != AckTarget::Local && self.waiting.len() >= self.config.waiting_max {
            return Err(WriteRefused::TooManyWaiting);
        }
        Ok(())
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
                self.early
                    .push(Output::Broadcast(Message::Push { changes }));
                bytes = 0;
            }
        }
        if !changes.is_empty() {
            self.early
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

impl Plan<'_> {
    /// Plans one operation; a `single` one need not be remembered for others.
    fn operation(
        &mut self,
        operation: Operation,
        single: bool,
    ) -> Result<Result<(), WriteRefused>, StoreError> {
        let config = self.config;
        let policy = config.policies.of(operation.key.collection());
        let changed = self.changed.get(&operation.key).cloned();
        let first = changed.is_none();
        let before = match changed {
            // Its place in the feed is not known yet; it is read again when it is stored.
            Some(document) => Some(EntryRecord {
                document,
                position: 0,
                expired: false,
            }),
            None => state::entry(self.reader, &operation.key)?,
        };
        let nothing = Document::default();
        let document = before.as_ref().map_or(&nothing, |before| &before.document);
        let dot = Dot {
            seq: self.dot.seq + 1,
            ..self.dot
        };
        let ticked = self.clock.tick(self.wall_ms, config.clock_ahead_max_ms);
        let ticked = ticked.max(self.floor.successor());
        let Some(clock) = date(ticked, document) else {
            return Ok(Err(WriteRefused::Conflict(LAST_DATE.to_owned())));
        };
        self.clock
            .observe(clock, self.wall_ms, config.clock_ahead_max_ms);
        let version = Version { clock, dot };
        let write = match planned_write(&operation, policy, document, version, ticked) {
            Ok(write) => write,
            Err(refused) => return Ok(Err(refused)),
        };
        let merging = Merging::of(before, &write);
        let delta = Delta {
            key: operation.key,
            write,
        };
        if let Err(refused) = self.weigh(&delta, policy, &merging.document) {
            return Ok(Err(refused));
        }
        let Some(revision) = merging.document.revision() else {
            return Ok(Err(WriteRefused::Empty));
        };
        self.dot = version.dot;
        if !single {
            let document = merging.document.clone();
            self.changed.insert(delta.key.clone(), document);
        }
        self.planned.push(Planned {
            delta,
            merging: first.then_some(merging),
            revision,
        });
        Ok(Ok(()))
    }

    /// What is deleted may be of any size, or it could never be got rid of.
    fn weigh(
        &mut self,
        delta: &Delta,
        policy: &Policy,
        after: &Document,
    ) -> Result<(), WriteRefused> {
        self.weight += delta.weight();
        let most = self.config.write_bytes_max + PARTS_BYTES_MAX;
        if self.weight > most {
            let bytes = self.weight;
            return Err(WriteRefused::TooLarge { bytes, most });
        }
        let bytes = after.value_bytes();
        let most = policy.document_bytes_max;
        let deletes = delta.write.parts.iter().all(|part| part.value.is_none());
        if bytes > most && !deletes {
            return Err(WriteRefused::DocumentTooLarge { bytes, most });
        }
        Ok(())
    }
}

/// The date of a write over `document`, as this replica's clock would have it or later, so
/// that it is newer than all that is there; `None` if there is no later one.
fn date(ticked: Timestamp, document: &Document) -> Option<Timestamp> {
    let over = document.version().map(|version| version.clock.successor());
    let date = over.map_or(ticked, |over| over.max(ticked));
    (date <= Timestamp::LAST).then_some(date)
}

/// What an operation writes over what its key holds, `ticked` on this replica's clock.
fn planned_write(
    operation: &Operation,
    policy: &Policy,
    current: &Document,
    version: Version,
    ticked: Timestamp,
) -> Result<Write, WriteRefused> {
    let now_ms = ticked.millis();
    check_condition(operation, current, now_ms)?;
    let ttl = operation.ttl.or(match operation.action {
        Action::Put(_) => policy.ttl,
        // Counters and sets begin with a patch.
        Action::Patch(_) if current.is_tombstone(now_ms) => policy.ttl,
        Action::Patch(_) | Action::Delete => None,
    });
    let expires_at = ttl.map(|ttl| {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add(millis)
    });
    let context = Context {
        now_ms,
        dated_ms: version.clock.millis(),
        dot: version.dot,
        expires_at,
    };
    let mut parts = plan(policy.merge, &operation.action, current, context).map_err(refused)?;
    let bytes = |parts: &[PartWrite]| parts.iter().map(PartWrite::weight).sum::<usize>();
    if operation.action == Action::Delete && bytes(&parts) > PARTS_BYTES_MAX {
        // A set that grew beyond bounds by merging goes as a whole.
        parts.retain(|part| matches!(part.part, Part::Reset(_)));
        let root = PartWrite {
            part: Part::Root,
            value: None,
        };
        parts.insert(0, root);
    }
    Ok(Write { version, parts })
}

fn refused(error: PlanError) -> WriteRefused {
    let text = error.to_string();
    match error {
        PlanError::NotJson(source) => WriteRefused::Unfit(format!("{text}: {source}")),
        PlanError::FieldName(_)
        | PlanError::CounterPut
        | PlanError::CounterPatch
        | PlanError::SetPut
        | PlanError::SetPatch
        | PlanError::SetBoth(_)
        | PlanError::SetTooMany(_) => WriteRefused::Unfit(text),
        PlanError::CounterOverflow
        | PlanError::NotACounter(_)
        | PlanError::SetTooLarge(_)
        | PlanError::NotASet(_) => WriteRefused::Conflict(text),
    }
}

fn check_condition(
    operation: &Operation,
    document: &Document,
    now_ms: u64,
) -> Result<(), WriteRefused> {
    let deletes = operation.action == Action::Delete;
    if operation.condition == Condition::Always && !deletes {
        return Ok(());
    }
    let seen = !document.is_tombstone(now_ms);
    let current = document.revision().filter(|_| seen);
    let holds = match operation.condition {
        Condition::Always => true,
        Condition::Is(revision) => current == Some(revision),
        Condition::Exists => current.is_some(),
        Condition::Absent => current.is_none(),
    };
    let key = operation.key.clone();
    if !holds {
        Err(WriteRefused::ConditionFailed { key, current })
    } else if deletes && current.is_none() {
        Err(WriteRefused::NotFound(key))
    } else {
        Ok(())
    }
}
