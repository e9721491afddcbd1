//! Writes of clients that wait for the disks of peers.

use std::time::Duration;

use super::{Output, RequestId, WriteReceipt};
use crate::model::document::Revision;
use crate::model::{Dot, Seq, VersionVector};

/// A durable write whose reply waits for peers.
#[derive(Clone, Debug)]
struct Waiting {
    id: RequestId,
    revisions: Vec<Revision>,
    /// Its last operation.
    dot: Dot,
    needed: usize,
    deadline: Duration,
}

/// All that wait, in the order of their sequence numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingWrites {
    waiting: Vec<Waiting>,
}

impl WaitingWrites {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(
        &mut self,
        id: RequestId,
        revisions: Vec<Revision>,
        dot: Dot,
        needed: usize,
        deadline: Duration,
    ) {
        self.waiting.push(Waiting {
            id,
            revisions,
            dot,
            needed,
            deadline,
        });
    }

    /// Answers those that have waited long enough or have what they waited for.
    /// `acked` holds, for each peer, up to where it has our writes.
    pub(super) fn settle(&mut self, elapsed: Duration, acked: &[Seq], replies: &mut Vec<Output>) {
        self.waiting.retain(|write| {
            let acks = acked
                .iter()
                .filter(|acked| **acked >= write.dot.seq)
                .count();
            let complete = acks >= write.needed;
            if complete || elapsed >= write.deadline {
                let revisions = write.revisions.clone();
                replies.push(Output::Reply(
                    write.id,
                    Ok(WriteReceipt {
                        revisions,
                        acks,
                        complete,
                    }),
                ));
                return false;
            }
            true
        });
    }

    /// How many acknowledgements the most demanding of them waits for.
    pub(super) fn most_needed(&self) -> usize {
        let needed = self.waiting.iter().map(|write| write.needed);
        needed.max().unwrap_or(0)
    }

    /// Waits no longer: each is answered, with what it has, when they are next settled.
    pub(super) fn expire(&mut self) {
        self.waiting
            .iter_mut()
            .for_each(|write| write.deadline = Duration::ZERO);
    }

    /// Drops those that a failed transaction took back: they are answered as failed.
    /// `vector` is what is left.
    pub(super) fn forget_lost(&mut self, vector: &VersionVector) {
        self.waiting.retain(|write| vector.contains(write.dot));
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.iter().map(|write| write.deadline).min()
    }
}
