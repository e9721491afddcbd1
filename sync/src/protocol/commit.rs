//! Commits: what has arrived, in one transaction.
//!
//! [`stage`] takes it in and gives the pushes, [`finish`] makes it durable and gives all else,
//! [`serve`] reads for peers what is no part of it. Who needs no halves calls [`commit`]. When
//! the store fails, the replica goes back to what it holds.

use super::{Input, Now, Output, Replica, RequestId};
use crate::storage::{Storage, StoreError};

/// Handles everything that has arrived in one transaction, and returns what is to
/// be done now that it is durable.
///
/// # Errors
/// [`StoreError`]: nothing was changed. The writes among `inputs` have failed and
/// must be answered so; other inputs are made good by the protocol.
pub fn commit(
    replica: &mut Replica,
    storage: &dyn Storage,
    now: Now,
    inputs: Vec<Input>,
) -> Result<Vec<Output>, StoreError> {
    begin(replica, storage, now, inputs)?;
    let mut outputs = finish(replica, storage, now)?;
    outputs.append(&mut serve(replica, storage)?);
    Ok(outputs)
}

/// The first half of [`commit`]: all but making it durable. Returns what may be done
/// already ([`Replica::take_early`]); [`finish`] must follow before anything else.
///
/// # Errors
/// As [`commit`].
pub fn stage(
    replica: &mut Replica,
    storage: &dyn Storage,
    now: Now,
    inputs: Vec<Input>,
) -> Result<Vec<Output>, StoreError> {
    // A new link takes no push before it was told how this replica stands.
    let links = inputs.iter().any(|input| matches!(input, Input::LinkUp(_)));
    begin(replica, storage, now, inputs)?;
    Ok(match links {
        true => Vec::new(),
        false => replica.take_early(),
    })
}

fn begin(
    replica: &mut Replica,
    storage: &dyn Storage,
    now: Now,
    inputs: Vec<Input>,
) -> Result<(), StoreError> {
    // Those that nobody took.
    replica.changes.clear();
    let mut inputs = Some(inputs);
    let outcome = storage.stage(&mut |writer| {
        for input in inputs.take().into_iter().flatten() {
            replica.handle(now, input, writer)?;
        }
        replica.flush(writer)
    });
    if outcome.is_err() {
        replica.reload(storage)?;
    }
    outcome
}

/// The second half of [`commit`]: makes durable what was staged, and returns what is to be
/// done then.
///
/// # Errors
/// As [`commit`]; but the writes may be with peers already, and come back.
pub fn finish(
    replica: &mut Replica,
    storage: &dyn Storage,
    now: Now,
) -> Result<Vec<Output>, StoreError> {
    match storage.settle() {
        Ok(()) => Ok(replica.drain(now)),
        Err(error) => {
            replica.reload(storage)?;
            Err(error)
        }
    }
}

/// What follows a commit and is no part of it: reads what is to be sent of a snapshot, a chunk
/// at most. Nobody who has written should wait for that, so call it when the outputs of
/// [`finish`] have been given out.
///
/// # Errors
/// [`StoreError`]: the store could not be read; who takes over the snapshot asks again.
pub fn serve(replica: &mut Replica, storage: &dyn Storage) -> Result<Vec<Output>, StoreError> {
    if !replica.serves_snapshot() {
        return Ok(Vec::new());
    }
    let read = storage.read(&mut |reader| replica.serve_snapshots(reader));
    if read.is_err() {
        replica.snapshots.clear();
    }
    read.map(|()| std::mem::take(&mut replica.messages))
}

/// The writes among inputs, to answer them if [`commit`] fails.
pub fn write_requests(inputs: &[Input]) -> Vec<RequestId> {
    let id = |input: &Input| match input {
        Input::Write(request) => Some(request.id),
        Input::TakeIn(part) => Some(part.id),
        Input::Decide(decision) => Some(decision.id),
        _ => None,
    };
    inputs.iter().filter_map(id).collect()
}
